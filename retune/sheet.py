"""Lay rows out below heads, so that people can read them however narrow their terminal is."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

READABLE = 32  # characters that a line of the last column needs
GAP = 2  # characters between columns, and before what has moved below


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table whose last column, where sentences stand, moves below the others if it has too little room beside them.

    Args:
        heads: One a column; they are left out where all are empty.
        rows: Every cell is shown as it stands, and none is cut.
        title: Stands above them; empty: none does.
    """

    heads: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    title: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Choose the layout by how many characters a line has."""
        if self.title:
            yield Text(self.title, style="table.title")
        lines = [*([_texts(self.heads, "table.header")] if any(self.heads) else []), *map(_texts, self.rows)]
        *others, last = (max(map(_width, column)) for column in zip(*lines, strict=True))
        left = options.max_width - sum(others) - GAP * len(others)
        if not others or left >= min(last, READABLE):
            yield _table([*others, min(last, left)], lines)
        else:
            yield from _stacked(_narrowed(others, options.max_width), lines)


Line = tuple[Text, ...]


def _texts(cells: tuple[str, ...], style: str = "") -> Line:
    return tuple(Text(cell, style=style, overflow="fold") for cell in cells)


def _width(cell: Text) -> int:
    return max(map(cell_len, cell.plain.split("\n")))


def _table(widths: Sequence[int], lines: Sequence[Line]) -> Table:
    columns = (Column(width=width, overflow="fold") for width in widths)
    laid_out = Table(*columns, show_header=False, box=None, pad_edge=False, padding=(0, GAP, 0, 0))
    for line in lines:
        laid_out.add_row(*line)
    return laid_out


def _stacked(widths: Sequence[int], lines: Sequence[Line]) -> Iterator[RenderableType]:
    for *others, last in lines:
        yield _table(widths, [tuple(others)])
        if last.plain:
            yield Padding(last, (0, 0, 0, GAP), expand=False)


def _narrowed(widths: Sequence[int], room: int) -> list[int]:
    """Take from the widest, one character after the other, until all fit.

    >>> _narrowed([4, 30, 10], 40)
    [4, 22, 10]
    """
    narrow = list(widths)
    while sum(narrow) + GAP * (len(narrow) - 1) > room and max(narrow) > 1:
        narrow[narrow.index(max(narrow))] -= 1
    return narrow
