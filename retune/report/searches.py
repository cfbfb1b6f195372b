"""Draw what every trial of every search cost and what it was worth."""

from collections.abc import Sequence
from dataclasses import replace

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from recsys.records import Candidate, Plan, Study, TrialResult
from retune.report.chapters import Round, Story, fate
from retune.report.marks import Mark, Plot, legend, look, picture
from retune.report.phrases import day, trials
from retune.report.svg import INK

STAGES = ("screen", "refine", "confirm")
ACROSS = {1: 1, 2: 2, 4: 2}  # so many searches stand side by side on a wide picture, else three

FINISHED = Mark(colour="confirm")
INCUMBENT = Mark(label="incumbent's configuration", marker="*", colour="confirm", size=10)
CHOSEN = Mark(label="chosen", colour="accent", filled=None, size=12)
PRUNED = Mark(label="pruned", marker="v", colour="muted", filled=False, size=5)
OVER_BUDGET = Mark(label="over budget", marker="s", colour="bad", filled=False, size=5)
UNSOUND = Mark(label="unsound", marker="D", colour="bad", filled=False, size=5)
FAILED = Mark(label="failed", marker="X", colour="bad")
MEANINGS = (
    *(replace(FINISHED, label=stage, colour=stage) for stage in STAGES),
    *(INCUMBENT, CHOSEN, PRUNED, OVER_BUDGET, UNSOUND, FAILED),
)


def searches(story: Story) -> Plot | None:
    """Draw a panel for each search; None where nothing was searched."""
    searched = [(found, found.study) for found in story.rounds if found.study is not None and found.study.trials]
    if not searched:
        return None
    across = ACROSS.get(len(searched), 3)
    down = -(-len(searched) // across)
    floor = _floor([study for _, study in searched])

    def on(figure: Figure, narrow: bool) -> None:
        grid = figure.subplots(*((len(searched), 1) if narrow else (down, across)), squeeze=False, sharey=True)
        for ax, (found, study) in zip(grid.flat, searched, strict=False):
            _panel(ax, found, study, floor)
        for ax in grid.flat[len(searched) :]:
            ax.set_visible(False)
        for ax in grid[:, 0]:
            ax.set_ylabel("NDCG@10, validation")
        figure.supxlabel("seconds that the trial took", color=INK["muted"])
        legend(figure, MEANINGS, narrow=narrow)

    says = "Trials by seconds and validation NDCG@10. " + " ".join(
        f"{day(found.plan.as_of)}: {trials(study)}." for found, study in searched
    )
    return picture("searches", on, (2.5 * down + 0.8, 2.5 * len(searched) + 1.3), says=says)


def _panel(ax: Axes, found: Round, study: Study, floor: float) -> None:
    """Scatter the trials of one study; those without a value lie on the floor."""
    alike: dict[Mark, list[tuple[float, float]]] = {}
    for trial in study.trials:
        at = (trial.seconds, floor if trial.ndcg_at_10 is None else trial.ndcg_at_10)
        alike.setdefault(_mark(trial, found.plan), []).append(at)
        if found.candidate and trial.stage == STAGES[-1] and _same(trial, found.candidate):
            alike.setdefault(CHOSEN, []).append(at)
    for mark, points in alike.items():
        seconds, values = zip(*points, strict=True)
        ax.plot(seconds, values, clip_on=False, **look(mark))
    ax.axhline(floor, color=INK["rule"], linewidth=0.8, linestyle=(0, (3, 3)))
    ax.set_xlim(left=0)
    ax.margins(x=0.06)
    ax.grid(axis="y")
    ax.set_title(f"{day(found.plan.as_of)}, {len(study.trials)} trials, {found.ending}")


def _mark(trial: TrialResult, plan: Plan) -> Mark:
    colour = trial.stage if trial.stage in STAGES else "muted"
    match fate(trial):
        case "over budget":
            return OVER_BUDGET
        case "unsound":
            return UNSOUND
        case "failed":
            return FAILED
        case "pruned":
            return replace(PRUNED, colour=colour)
    return replace(INCUMBENT if _same(trial, plan) else FINISHED, colour=colour)


def _same(trial: TrialResult, other: Plan | Candidate) -> bool:
    return trial.family == other.family and dict(trial.configuration) == dict(other.configuration)


def _floor(studies: Sequence[Study]) -> float:
    """Say where trials without a value are drawn: below the worst value."""
    values = [trial.ndcg_at_10 for study in studies for trial in study.trials if trial.ndcg_at_10 is not None]
    if not values:
        return 0.0
    return min(values) - 0.15 * ((max(values) - min(values)) or max(values) or 1.0)
