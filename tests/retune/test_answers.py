"""What people and programs read of a command's answer."""

import pytest

from retune import answers
from retune.sheet import Sheet


def test_a_cell_is_shown_as_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    answers.show(False, {}, "[bold]said[/bold]", Sheet(("what",), [("[red]left[/red]",)]))
    assert capsys.readouterr().out.split() == ["[bold]said[/bold]", "what", "[red]left[/red]"]


def test_a_table_without_rows_and_a_head_without_words_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    answers.show(False, {}, "said", Sheet(("what", "why"), []), Sheet(("", ""), [("a", "b")]))
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [["said"], ["a", "b"]]


def test_programs_get_the_data_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    answers.show(True, {"outcome": "done"}, "said", Sheet(("what",), [("left",)]))
    assert capsys.readouterr().out == '{"outcome": "done"}\n'
