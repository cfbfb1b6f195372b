"""Say how a search draws configurations and when it gives one up."""

import hashlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from optuna.pruners import BasePruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, TPESampler

from recsys.records import Plan
from recsys.settings import Line
from recsys.tuning.evidence import PastStudy
from recsys.tuning.space import Space
from recsys.tuning.trials import Attempt, Trials
from recsys.tuning.warm import WarmSampler

PRUNERS: Mapping[str, BasePruner] = MappingProxyType(
    {
        # Below the median of what at least three others had after the same quarter of their training.
        "screen": MedianPruner(n_startup_trials=3, n_min_trials=3),
        "refine": NopPruner(),
        "confirm": NopPruner(),
    }
)
"""What decides about running trials, by stage."""


def tpe(trials: Trials, plan: Plan, owner: Attempt, *, n_startup: int) -> BaseSampler:
    """Make the sampler of a worker's next trial.

    Its seed follows from the plan, the worker and how many trials the worker has had: the same plan gives the same
    search, another plan of the same line begins elsewhere, and a worker that starts again goes on instead of drawing
    the same once more. It sees screening trials only, because a trial is given the trials of its own stage.
    """
    had = sum(trial.user_attrs.get("owner", {}).get("map_index") == owner.map_index for trial in trials.all())
    digest = hashlib.sha256(f"{plan.plan_id}/{plan.seed}/{owner.map_index}/{had}".encode()).digest()
    return TPESampler(n_startup_trials=n_startup, seed=int.from_bytes(digest[:4], "big"))


def warm(line: Line, plan: Plan, space: Space, past: Sequence[PastStudy]) -> WarmSampler:
    """Make the sampler of a search.

    What it proposes follows from the plan, the past and the trials of the study, so a worker that starts again goes on
    where it was, and another plan of the same line begins elsewhere. It is asked in screening alone, and sees no more.
    """
    digest = hashlib.sha256(f"{plan.plan_id}/{plan.seed}".encode()).digest()
    return WarmSampler(
        past,
        space=space.distributions,
        conditions=space.conditions,
        settled=space.settled,  # where past values of it differed, they still tell what they tell
        scales=space.scales,
        start=max(4, line.search.screen.trials // 2),
        seed=int.from_bytes(digest[:4], "big"),
    )
