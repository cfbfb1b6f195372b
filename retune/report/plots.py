"""Draw a story's quality, drift and latency."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from recsys.records import ColumnDrift, Comparison, Estimate, LatencyResult, Scorecard
from retune.report.chapters import Ending, Round, Story, Turn
from retune.report.marks import Mark, Plot, lay, legend, name_rows, picture
from retune.report.phrases import days, interval, mebibytes, milliseconds, short, title
from retune.report.svg import INK

POPULARITY = Mark(label="popularity", marker="s", colour="grey")
MARKOV = Mark(label="Markov", marker="D", colour="amber")
INCUMBENT = Mark(label="incumbent", colour="accent", filled=False)
RELEASED = Mark(label="candidate, released", colour="accent")
NOT_RELEASED = Mark(label="candidate, held", marker="X", colour="bad")

INT8 = Mark(label="int8", marker="s", colour="accent")
FP32 = Mark(label="fp32", marker="s", colour="grey")
P50 = Mark(label="p50", colour="ink", filled=False)
P99 = Mark(label="p99", colour="ink")

MOST_NUMBERED = (12, 6)  # judgements whose cells have room for a number, on a wide and on a narrow picture
MOST_DATED = (14, 6)
WIDEST_LINEAR = 20  # where the slowest takes more times as long as the fastest, milliseconds are drawn on a log scale


def quality(story: Story) -> Plot | None:
    """Draw NDCG@10 of every measured candidate beside the incumbent, popularity and Markov on the same holdout."""
    measured = _measured(story)
    if not measured:
        return None
    rows = [_cards(found, comparison) for found, comparison in measured]

    def on(figure: Figure, narrow: bool) -> None:
        ax = figure.subplots()
        for row, cards in enumerate(rows):
            for place, (mark, card) in enumerate(cards):
                lay(ax, card.ndcg_at_10, row + (place - (len(cards) - 1) / 2) * 0.18, mark)
        name_rows(ax, [(_name(found), _holdout(found)) for found, _ in measured], narrow=narrow)
        ax.set_xlim(left=0)
        ax.set_xlabel("NDCG@10 on the holdout")
        outcomes = {cards[-1][0].label for cards in rows}
        marks = [POPULARITY, MARKOV, INCUMBENT, *(m for m in (RELEASED, NOT_RELEASED) if m.label in outcomes)]
        legend(figure, marks, narrow=narrow)

    says = "NDCG@10 with intervals. " + " ".join(
        f"{_name(found)}, {_holdout(found)}: "
        + ", ".join(f"{mark.label} {interval(card.ndcg_at_10)}" for mark, card in cards)
        + "."
        for (found, _), cards in zip(measured, rows, strict=True)
    )
    return picture("quality", on, (0.85 * len(rows) + 0.9, 0.98 * len(rows) + 1.5), says=says)


def drift(story: Story) -> Plot | None:
    """Draw how far each column has moved from the incumbent's reference, judgement by judgement."""
    judged = [(turn, turn.drift) for turn in story.turns if turn.drift is not None and turn.drift.columns]
    if not judged:
        return None
    columns = list(dict.fromkeys(column.column for _, verdict in judged for column in verdict.columns))

    def on(figure: Figure, narrow: bool) -> None:
        ax = figure.subplots()
        for x, (_, verdict) in enumerate(judged):
            for column in verdict.columns:
                numbered = len(judged) <= MOST_NUMBERED[narrow]
                _cell(ax, x, columns.index(column.column), column, numbered=numbered)
            if verdict.drifted:
                ax.plot(x, -0.82, marker="v", color=INK["bad"], markersize=6, clip_on=False)
        _dates(ax, [turn for turn, _ in judged], most=MOST_DATED[narrow])
        ax.set_yticks(range(len(columns)), [short(name.replace("_", " ")) for name in columns])
        ax.set(xlim=(-0.5, len(judged) - 0.5), ylim=(len(columns) - 0.5, -1.1))
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)

    often = {name: sum(c.drifted for _, v in judged for c in v.columns if c.column == name) for name in columns}
    says = f"Drift of {len(columns)} columns, judged {len(judged)} times. Times beyond the threshold: " + (
        ", ".join(f"{name} {times}" for name, times in often.items()) + "."
    )
    return picture("drift", on, (0.36 * len(columns) + 0.75, 0.4 * len(columns) + 0.9), says=says)


def latency(story: Story) -> Plot | None:
    """Draw p50 and p99 of every measured bundle's graphs at the line's first batch size, with the line's budget."""
    measured = [
        (found, comparison.candidate, [*comparison.candidate.latency[:1], *comparison.other_latency[:1]])
        for found, comparison in _measured(story)
    ]
    timed = [(card, graph) for _, card, graphs in measured for graph in graphs]
    if not timed:
        return None
    budget_ms = story.line.budgets.p99_ms

    def on(figure: Figure, narrow: bool) -> None:
        ax = figure.subplots()
        for row, (found, _, graphs) in enumerate(measured):
            for place, graph in enumerate(graphs):
                _graph(ax, found, graph, row + (place - (len(graphs) - 1) / 2) * 0.36)
        _budget(ax, budget_ms)
        name_rows(ax, [(_name(found), card.release_id) for found, card, _ in measured], narrow=narrow)
        _milliseconds(ax, [end for *_, graph in timed for end in (graph.p50_ms, graph.p99_ms)], budget_ms)
        legend(figure, [INT8, FP32, P50, P99], narrow=narrow)

    says = f"Latency against the budget of {budget_ms:g} ms. " + " ".join(
        f"{card.release_id} {graph.graph}: p50 {milliseconds(graph.p50_ms)}, p99 {milliseconds(graph.p99_ms)}."
        for card, graph in timed
    )
    return picture("latency", on, (0.72 * len(measured) + 1.0, 0.83 * len(measured) + 1.5), says=says)


# --- quality


def _measured(story: Story) -> list[tuple[Round, Comparison]]:
    return [(found, found.comparison) for found in story.rounds if found.comparison is not None]


def _cards(found: Round, comparison: Comparison) -> list[tuple[Mark, Scorecard]]:
    """Pair what was measured with how it looks, top to bottom."""
    references = [
        (mark, comparison.references[name])
        for name, mark in (("popularity", POPULARITY), ("markov", MARKOV))
        if name in comparison.references
    ]
    outcome = RELEASED if found.ending is Ending.RELEASED else NOT_RELEASED
    return [*references, (INCUMBENT, comparison.incumbent), (outcome, comparison.candidate)]


def _name(found: Round) -> str:
    return f"{title(found.family)}, {found.ending}"


def _holdout(found: Round) -> str:
    """Name a holdout by its dates, or where these are not known by its dataset."""
    return f"holdout {days(found.dataset.holdout)}" if found.dataset else f"dataset {found.plan.dataset_id}"


# --- drift


def _cell(ax: Axes, x: int, y: int, column: ColumnDrift, *, numbered: bool) -> None:
    """Fill a cell the more, the further its column has moved; beyond the threshold it is red."""
    ratio = column.distance / column.threshold
    colour, share = ("bad", 0.2 + min(ratio / 10, 0.4)) if column.drifted else ("grey", min(ratio, 1) * 0.4)
    style = "round,pad=0,rounding_size=0.06"
    at = (x - 0.47, y - 0.43)
    ax.add_patch(FancyBboxPatch(at, 0.94, 0.86, boxstyle=style, facecolor=INK[colour], alpha=share, linewidth=0))
    if numbered:
        weight = "bold" if column.drifted else "normal"
        ax.text(x, y, f"{column.distance:.2f}", ha="center", va="center", weight=weight)


def _dates(ax: Axes, turns: Sequence[Turn], *, most: int) -> None:
    """Date the columns of a picture, leaving out so many dates that the others fit."""
    step = -(-len(turns) // most)
    ax.set_xticks(range(0, len(turns), step), [f"{turn.as_of.day} {turn.as_of:%b}" for turn in turns[::step]])


# --- latency


def _graph(ax: Axes, found: Round, graph: LatencyResult, y: float) -> None:
    """Draw p50 and p99 of a graph, joined by a thin line, with the graph's size beside them."""
    colour = (INT8 if "int8" in graph.graph else FP32).colour
    ends = [graph.p50_ms.value, graph.p99_ms.value]
    ax.plot(ends, [y, y], color=INK[colour], linewidth=0.8, alpha=0.5)
    lay(ax, graph.p50_ms, y, Mark(colour=colour, filled=False))
    lay(ax, graph.p99_ms, y, Mark(colour=colour))
    file = found.bundle.files.get(graph.graph) if found.bundle else None
    if file is not None:
        _beside(ax, mebibytes(file.size_bytes), (graph.p99_ms.high, y))


def _beside(ax: Axes, text: str, at: tuple[float, float]) -> None:
    ax.annotate(text, at, xytext=(5, 0), textcoords="offset points", va="center", color=INK["muted"])


def _budget(ax: Axes, budget_ms: float) -> None:
    ax.axvline(budget_ms, color=INK["bad"], linewidth=1.2, linestyle=(0, (4, 3)))
    ax.annotate(
        f"budget {budget_ms:g} ms",
        (budget_ms, 1),
        xycoords=("data", "axes fraction"),
        xytext=(0, 3),
        textcoords="offset points",
        ha="center",
        color=INK["bad"],
    )


def _milliseconds(ax: Axes, estimates: Sequence[Estimate], budget_ms: float) -> None:
    """Scale the axis so that the fastest and the slowest can both be read, with room for the sizes."""
    least, most = min(e.low for e in estimates), max(budget_ms, *(e.high for e in estimates))
    if least > 0 and most / least > WIDEST_LINEAR:
        ax.set_xscale("log")
        ax.set_xlim(least / 1.5, most * 2.5)
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    else:
        ax.set_xlim(0, most * 1.2)
    ax.set_xlabel("milliseconds a request")
