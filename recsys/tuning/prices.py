"""Say how many seconds of training each action takes, from what trials of the line have taken."""

from collections.abc import Mapping, Sequence
from statistics import median

from recsys.records import Action, Configuration, Evidence, Sentinel
from recsys.settings import Line, Stage
from recsys.tuning.forecast import Forecast, paid_before

TYPICAL = 0.5  # what an action takes is compared by the middle of what it may take


def prices(
    line: Line,
    family: str,
    configuration: Configuration,
    *,
    sentinels: Sequence[Sentinel],
    evidence: Sequence[Evidence],
    searched_s: Sequence[float],
    budget_s: float,
) -> Mapping[Action, float]:
    """Give the seconds that each action is expected to take.

    A search takes what the line's searches took, at most its budget, which is also what the first one is taken to take.
    A training of which nothing is known takes its part of the budget, by the share of users, epochs and seeds that the
    line gives the trials of a whole search. Whatever is chosen is trained once more, on everything before the holdout.

    Args:
        line: Says what each stage gives a trial.
        family: Of the configuration in production.
        configuration: That one.
        sentinels: What a short search would try beside it.
        evidence: What the line's searches found, oldest first.
        searched_s: Seconds that the line's full searches took.
        budget_s: Of the next one.
    """
    forecast = Forecast.of(paid_before(evidence))
    unit_s = budget_s * line.search.workers / _units(line)

    def trial(family: str, configuration: Configuration, stage: Stage) -> float:
        known = forecast.trial(family, configuration, stage, TYPICAL)
        return stage.share * stage.epochs * unit_s if known is None else known

    whole = Stage(trials=1)
    refit = trial(family, configuration, whole)
    screen, confirm = line.search.screen, line.search.confirm
    tried = [(family, configuration), *((s.family, s.configuration) for s in sentinels)]
    short = sum(trial(*one, screen) for one in tried)
    short += confirm.seeds * sum(sorted(trial(*one, confirm) for one in tried)[-1 - confirm.trials :])
    searched = min(budget_s, median(searched_s)) if searched_s else budget_s
    return {
        Action.NOTHING: 0.0,
        Action.REFIT: refit,
        Action.SENTINELS: min(budget_s, short / line.search.workers) + refit,
        Action.RETUNE: searched + refit,
    }


def _units(line: Line) -> float:
    """Count the trainings of a whole search in ones on all users, with all epochs."""
    search = line.search
    beside = [(search.screen, 0), (search.refine, 1), (search.confirm, 1)]  # the incumbent is tried in all
    return sum((stage.trials + own) * stage.seeds * stage.share * stage.epochs for stage, own in beside)
