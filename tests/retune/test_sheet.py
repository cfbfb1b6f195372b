"""How a table looks on terminals of several widths; each expected text is written out by hand."""

from io import StringIO

import pytest
from rich.console import Console

from retune.sheet import Sheet

KNOBS = Sheet(
    ("knob", "range", "meaning"),
    [
        ("lr", "0.001 to 0.01, log", "How far each step goes"),
        ("dim", "32, 64", "How many numbers an item's vector has in every layer"),
        ("start", "cold", ""),
    ],
)


def shown(sheet: Sheet, width: int) -> list[str]:
    console = Console(file=StringIO(), width=width)
    console.print(sheet)
    text = console.file.getvalue()
    assert all(len(line) <= width for line in text.splitlines())
    return [line.rstrip() for line in text.splitlines()]


def test_where_there_is_room_all_columns_stand_side_by_side() -> None:
    assert shown(KNOBS, 80) == [
        "knob   range               meaning",
        "lr     0.001 to 0.01, log  How far each step goes",
        "dim    32, 64              How many numbers an item's vector has in every layer",
        "start  cold",
    ]


def test_the_last_column_is_wrapped_while_a_line_of_it_can_be_read() -> None:
    assert shown(KNOBS, 60)[2:4] == [
        "dim    32, 64              How many numbers an item's vector",
        "                           has in every layer",
    ]


def test_where_its_lines_would_be_too_short_it_moves_below_the_others() -> None:
    assert shown(KNOBS, 58) == [
        "knob   range",
        "  meaning",
        "lr     0.001 to 0.01, log",
        "  How far each step goes",
        "dim    32, 64",
        "  How many numbers an item's vector has in every layer",
        "start  cold",
    ]


def test_no_cell_is_cut_however_narrow_it_gets() -> None:
    assert shown(KNOBS, 15) == [
        "knob   range",
        "  meaning",
        "lr     0.001 to",
        "       0.01,",
        "       log",
        "  How far each",
        "  step goes",
        "dim    32, 64",
        "  How many",
        "  numbers an",
        "  item's vector",
        "  has in every",
        "  layer",
        "start  cold",
    ]
    assert shown(Sheet(("",), [("neighbours",)]), 4) == ["neig", "hbou", "rs"]


@pytest.mark.parametrize("width", [12, 80])
def test_cells_and_title_are_shown_as_they_stand(width: int) -> None:
    assert shown(Sheet(("", ""), [("[b]x[/b]", "1\n2")], "[i]"), width)[0] == "[i]"
    assert "[b]x[/b]" in shown(Sheet(("", ""), [("[b]x[/b]", "1\n2")]), width)[0]
