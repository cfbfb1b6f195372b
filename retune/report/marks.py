"""Draw a picture for wide and for narrow screens, from points that look alike on all pictures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from recsys.records import Estimate
from retune.report.phrases import short
from retune.report.svg import INK, draw

WIDE_IN, NARROW_IN = 10.0, 4.3  # letters are 12 px high where a picture is shown 960 px wide, 10 px at 344 px


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """A picture in two widths, and what it shows in words, for who cannot see it."""

    wide: str
    narrow: str
    says: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """How a series of points looks.

    Args:
        label: What the legend says.
        marker: Shape, as matplotlib names it.
        colour: One of `svg.INK`.
        filled: None lets what lies beneath be seen.
        size: Width in points.
    """

    label: str = ""
    marker: str = "o"
    colour: str
    filled: bool | None = True
    size: float = 6


def picture(name: str, on: Callable[[Figure, bool], None], heights_in: tuple[float, float], *, says: str) -> Plot:
    """Draw a picture twice.

    Args:
        name: Unique on the page.
        on: Draws on the figure it is given; the second argument says whether that is the narrow one.
        heights_in: Heights of the wide and of the narrow picture.
        says: What is to be seen, in words.
    """
    wide_in, narrow_in = heights_in
    return Plot(
        wide=draw(f"{name}-wide", lambda figure: on(figure, False), width_in=WIDE_IN, height_in=wide_in),
        narrow=draw(f"{name}-narrow", lambda figure: on(figure, True), width_in=NARROW_IN, height_in=narrow_in),
        says=says,
    )


def lay(ax: Axes, estimate: Estimate, y: float, mark: Mark) -> None:
    """Draw an estimate as a point on its interval, at the height `y`."""
    colour = INK[mark.colour]
    ax.plot([estimate.low, estimate.high], [y, y], color=colour, linewidth=1.6, solid_capstyle="round")
    ax.plot(estimate.value, y, **look(mark))


def look(mark: Mark) -> dict[str, Any]:
    """Say in matplotlib's words how points look."""
    return {
        "marker": mark.marker,
        "linestyle": "none",
        "markersize": mark.size,
        "markerfacecolor": {True: INK[mark.colour], False: INK["card"], None: "none"}[mark.filled],
        "markeredgecolor": INK[mark.colour],
        "markeredgewidth": 0.6 if mark.filled else 1.3,
    }


def legend(figure: Figure, marks: Sequence[Mark], *, narrow: bool) -> None:
    """Say above a picture what its marks mean."""
    handles = [Line2D([], [], label=mark.label, **look(replace(mark, size=min(mark.size, 9)))) for mark in marks]
    figure.legend(
        handles=handles,
        loc="outside upper left",
        ncols=3 if narrow and len(marks) > 4 else len(marks),
        frameon=False,
        handlelength=1.4,
        handletextpad=0.2,
        columnspacing=1.4,
        borderpad=0,
        borderaxespad=0.3,
    )


def name_rows(ax: Axes, names: Sequence[tuple[str, str]], *, narrow: bool) -> None:
    """Give a picture rows, each with a name and a note: beside the axis, or on a narrow picture above the points."""
    lift = 0.3 * narrow
    ax.set_ylim(len(names) - 0.5, -0.5 - lift)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.grid(axis="x")
    for row, (name, note) in enumerate((short(name), short(note, 40)) for name, note in names):
        if row:
            ax.axhline(row - 0.5 - lift, color=INK["rule"], linewidth=0.7)
        if narrow:
            _write(ax, name, (0, row - 0.5), (0, 0), weight="bold")
            _write(ax, note, (1, row - 0.5), (0, 0), ha="right", color=INK["muted"])
        else:
            _write(ax, name, (0, row), (-10, 7), ha="right", weight="bold")
            _write(ax, note, (0, row), (-10, -7), ha="right", color=INK["muted"])


def _write(ax: Axes, text: str, at: tuple[float, float], offset_pt: tuple[float, float], **style: str) -> None:
    """Write at a row; `at` counts in shares of the axis across and in rows down."""
    within = ax.get_yaxis_transform()
    ax.annotate(text, at, xytext=offset_pt, xycoords=within, textcoords="offset points", va="center", **style)  # type: ignore[arg-type]
