"""Say what each stage of a search tries: the incumbent always, and the best of the stage before."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence

from recsys.records import Action, Configuration, Plan, TrialResult
from recsys.settings import Line, Stage
from recsys.tuning.ranking import Standing, identity, rank
from recsys.tuning.space import Space, Value, search_space
from recsys.tuning.tiers import Tiers
from recsys.tuning.trials import RUN, Entry

STAGES = ("screen", "refine", "confirm")
"""Successive halving in three rungs: many configurations on little data, the best on more, the finalists on all.

The best of a rung are promoted while it still runs. The sampler of the first sees the trials of its own rung alone, so
that values of another fidelity never mislead it.
"""

SENTINELS = 4  # one in so many screening trials of a warm search has its full length, beside each family's defaults
LEAST_ETA = 2  # a rung of which more than one in so many go up selects too little to guess who will


def entries(
    line: Line,
    plan: Plan,
    stage: str,
    results: Sequence[TrialResult],
    *,
    tiers: Tiers | None = None,
    block: Sequence[Entry] = (),
) -> list[Entry]:
    """List what `stage` tries.

    Args:
        line: Whose search.
        plan: Says which configuration is the incumbent's.
        stage: One of `STAGES`.
        results: What ended before it.
        tiers: What the trials of a cold search may not vary; None: the search is warm, and its sampler chooses all.
        block: What screening tries right after the incumbent, beside `screen.trials`, to tell interactions apart.
    """
    if plan.action is Action.SENTINELS and stage != "confirm":
        return _sentinels(plan, search_space(line, plan)) if stage == "screen" else []
    if stage == "screen":
        return _screened(line, plan, search_space(line, plan), tiers, block)
    rung: Stage = getattr(line.search, stage)
    best = promoted(plan, stage, rung, contenders(plan, results, before=stage))
    return _tried(plan, stage, rung, best, search_space(line, plan))


def due(
    line: Line,
    plan: Plan,
    stage: str,
    results: Sequence[TrialResult],
    *,
    at_once: Sequence[Configuration] | None = None,
) -> list[Entry]:
    """List what is to be tried in `stage` although the one before it has not ended.

    When n challengers have ended in the stage before, the best n / eta of them are due, where eta is how many of its
    challengers go to one of `stage`; with them, and before them, the incumbent. Where eta is less than 2,
    nothing of that is due, and neither is anything of a short search, whose sentinels are too few.

    In the last stage the incumbent is due with its first seed as soon as the first stage has its value, and its brief
    training from its weights at once, because they are confirmed whatever the others reach, and say what they have to.

    Args:
        line: Whose search.
        plan: Says which configuration is the incumbent's.
        stage: One of `STAGES`, but the first.
        results: What ended, other than by the death of a worker.
        at_once: Configurations of the incumbent that there is time to confirm before anything else; None: all.
    """
    lower = STAGES[STAGES.index(stage) - 1]
    below: Stage = getattr(line.search, lower)
    rung: Stage = getattr(line.search, stage)
    blocked = {identity(r.family, r.configuration) for r in results if r.stage == lower and r.block == RUN}
    # The incumbent is one of those that screening counts, and a block is beside them.
    challengers = below.trials - (lower == STAGES[0]) + len(blocked)
    if plan.action is Action.SENTINELS:
        return []
    searched = search_space(line, plan)
    may = own_confirmed(plan) if at_once is None else at_once
    first = _confirmed_first(plan, rung, results, searched, may) if stage == STAGES[-1] else []
    if challengers < LEAST_ETA * rung.trials:
        return first
    over = ended(results, lower, below) - set(_own(plan))
    ranked = [s for s in rank(results, lower) if is_own(plan, s) or identity(s.family, s.configuration) in over]
    up = rung.model_copy(update={"trials": rung.trials * len(over) // challengers})
    best = promoted(plan, stage, up, ranked)
    if all(identity(*which) in _own(plan) for which in best):
        return first
    return [*first, *(entry for entry in _tried(plan, stage, rung, best, searched) if entry not in first)]


def own_confirmed(plan: Plan) -> list[Configuration]:
    """Give what is confirmed of the incumbent whatever others reach, the briefest first; its control is not."""
    return [*([plan.brief] if plan.brief else []), plan.configuration]


def _confirmed_first(
    plan: Plan, rung: Stage, results: Sequence[TrialResult], searched: Space, may: Sequence[Configuration]
) -> list[Entry]:
    """The incumbent's first entries in the last stage: the brief one at once, the other when it has been screened."""
    screened = any(is_incumbent(plan, standing) for standing in rank(results, STAGES[0]))
    own = [which for which in own_confirmed(plan) if which in may and (screened or which == plan.brief)]
    seeds = rung.model_copy(update={"seeds": 1})
    return _tried(plan, STAGES[-1], seeds, [(plan.family, which) for which in own], searched)


def ended(results: Iterable[TrialResult], stage: str, rung: Stage) -> set[str]:
    """Give the identities of the configurations that have ended in `stage` with every seed, however they ended."""
    trials = Counter(identity(r.family, r.configuration) for r in results if r.stage == stage)
    once = {identity(r.family, r.configuration) for r in results if not r.configuration.get("epochs")}
    return {name for name, times in trials.items() if times >= (1 if name in once else rung.seeds)}


def promoted(plan: Plan, stage: str, rung: Stage, ranked: Sequence[Standing]) -> list[tuple[str, Configuration]]:
    """Pick what a stage tries: the incumbent, its control beside it, and after them the best challengers.

    The incumbent comes first because a challenger's value in a stage says little without the incumbent's beside it, and
    the budget may end the stage at any trial. In the last stage its brief training comes before all else, which takes
    so little that no stage before need choose it.
    """
    brief = [(plan.family, plan.brief)] if plan.brief and stage == STAGES[-1] else []
    own = sorted((s for s in ranked if is_own(plan, s)), key=lambda standing: not is_incumbent(plan, standing))
    best = [*own, *[standing for standing in ranked if not is_own(plan, standing)][: rung.trials]]
    tried = [*brief, *((standing.family, standing.configuration) for standing in best)]
    return list({identity(*which): which for which in tried}.values())  # a sampler may have drawn the brief one, too


def contenders(plan: Plan, results: Sequence[TrialResult], *, before: str | None = None) -> list[Standing]:
    """Rank what the last stage reached in which a challenger has a complete trial, else the incumbent alone.

    A stage in which the incumbent's brief training has the only value compares nothing, and counts where nothing else
    does.

    Args:
        plan: Says which configuration is the incumbent's.
        results: All trials that ended.
        before: Look only at the stages before this one.

    Returns:
        Standings of one stage, the best first; none where no trial is complete.
    """
    stages = STAGES[: STAGES.index(before)] if before else STAGES
    ranked = [standings for stage in reversed(stages) if (standings := rank(results, stage))]
    compared = [standings for standings in ranked if any(not _is_brief(plan, s) for s in standings)]
    challenged = [standings for standings in compared if any(not is_own(plan, s) for s in standings)]
    return next(iter(challenged or compared or ranked), [])


def is_incumbent(plan: Plan, standing: Standing) -> bool:
    """Whether the configuration is the one that the plan came with."""
    return identity(standing.family, standing.configuration) == identity(plan.family, plan.configuration)


def is_own(plan: Plan, standing: Standing) -> bool:
    """Whether the configuration is the incumbent's, as the plan came with it, as its control, or briefly trained."""
    return identity(standing.family, standing.configuration) in _own(plan)


def _is_brief(plan: Plan, standing: Standing) -> bool:
    return bool(plan.brief) and identity(standing.family, standing.configuration) == identity(plan.family, plan.brief)


def _own(plan: Plan) -> list[str]:
    brief = [plan.brief] if plan.brief else []
    return [identity(plan.family, configuration) for configuration in (*_arms(plan), *brief)]


def _arms(plan: Plan) -> list[Configuration]:
    """Give the incumbent's configuration and, where that begins from its weights, the same trained cold."""
    return [plan.configuration, *([plan.control] if plan.control else [])]


def _screened(line: Line, plan: Plan, searched: Space, tiers: Tiers | None, block: Sequence[Entry]) -> list[Entry]:
    """The incumbent with its control, the plan's sentinels, a block, families' defaults, and what the sampler draws.

    The control is listed beside the line's number of trials: it asks something else than they do.
    """
    own = [searched.parameters(plan.family, configuration) for configuration in _arms(plan)]
    fresh = [family for family in line.search.families if searched.start(family) not in own]
    first = [*_sentinels(plan, searched), *block]
    listed = sum(not entry.incumbent and not entry.block for entry in first)
    return first + [
        Entry(
            name=f"screen-{listed + number}",
            seed=plan.seed,
            parameters=_start(searched, number, fresh, tiers),
            sentinel=tiers is None and (number <= len(fresh) or not number % SENTINELS),
            given=number <= len(fresh),
        )
        for number in range(1, line.search.screen.trials - listed)
    ]


def _sentinels(plan: Plan, searched: Space) -> list[Entry]:
    """The incumbent, then the plan's sentinels; a short search goes from these to the last stage at once."""
    own = _own(plan)
    others = [sentinel for sentinel in plan.sentinels if identity(sentinel.family, sentinel.configuration) not in own]
    return _incumbent(plan, searched) + [
        Entry(
            name=f"screen-{number}",
            seed=plan.seed,
            family=sentinel.family,
            configuration=sentinel.configuration,
            parameters=searched.parameters(sentinel.family, sentinel.configuration),
            sentinel=True,
            given=True,
        )
        for number, sentinel in enumerate(others, start=1)
    ]


def _incumbent(plan: Plan, searched: Space) -> list[Entry]:
    """The incumbent's configuration, and its control where it has one."""
    return [
        Entry(
            name=name,
            seed=plan.seed,
            family=plan.family,
            configuration=configuration,
            parameters=searched.parameters(plan.family, configuration),
            incumbent=True,
            given=True,
        )
        for name, configuration in zip(("screen-0", "screen-control"), _arms(plan), strict=False)
    ]


def _start(searched: Space, number: int, fresh: Sequence[str], tiers: Tiers | None) -> dict[str, Value]:
    """Parameters that a screening trial is given: a family's defaults, or later what it may not vary."""
    if number <= len(fresh):
        return searched.start(fresh[number - 1])
    return tiers.held(number) if tiers else {}


def _tried(
    plan: Plan, stage: str, rung: Stage, which: Sequence[tuple[str, Configuration]], searched: Space
) -> list[Entry]:
    """Each with the first seed before any gets the second.

    What is only counted comes out the same with every seed, so it is tried once. An entry is named by its
    configuration, so that it is the same entry whenever it is listed.
    """
    own = _own(plan)
    return [
        Entry(
            name=f"{stage}-{_digest(family, configuration)}-seed-{seed}",
            seed=seed,
            family=family,
            configuration=configuration,
            parameters=searched.parameters(family, configuration),
            incumbent=identity(family, configuration) in own,
        )
        for seed in range(plan.seed, plan.seed + rung.seeds)
        for family, configuration in which
        if seed == plan.seed or configuration["epochs"]
    ]


def _digest(family: str, configuration: Configuration) -> str:
    return hashlib.sha256(identity(family, configuration).encode()).hexdigest()[:12]
