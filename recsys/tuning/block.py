"""List the block of trials that tells apart what pairs of knobs do, where that is not known."""

import logging
from collections.abc import Sequence

from recsys.errors import BadObject
from recsys.models import FAMILIES, Family
from recsys.models.knob import FIRST
from recsys.records import Configuration, Plan, Review, parse
from recsys.settings import Line
from recsys.store import Store
from recsys.tuning.crossed import untold
from recsys.tuning.factorial import MOST, Levels, changed, knobs_for, levels, runs
from recsys.tuning.review import FOLDER
from recsys.tuning.space import Space
from recsys.tuning.trials import REPEAT, RUN, Entry

log = logging.getLogger(__name__)


def block(line: Line, store: Store, plan: Plan, space: Space) -> list[Entry]:
    """List runs at two levels around the incumbent, and the incumbent with other seeds, as many as the line allows.

    The knobs are those of the pairs that the line's newest review could not tell apart, the least known first; without
    a review, those of the first tier. Nothing is listed where the line wants no block, where the incumbent's family is
    not searched, or where the review has told all pairs.

    Args:
        line: Says in `search.interactions` how many trials there may be.
        store: The line's part of the store.
        plan: Of the search.
        space: Where it looks.
    """
    most = knobs_for(line.search.interactions)
    if not most or plan.family not in space.families or plan.family not in FAMILIES:
        return []
    family = FAMILIES[plan.family]
    found = _levels(family, plan.configuration, space, _wanted(store, plan, space), most)
    if len(found) < 2:
        return []
    laid_out = runs(found)
    repeats = min(MOST, line.search.interactions - len(laid_out))
    log.info("%s: %d runs and %d repeats tell apart %s", plan.plan_id, len(laid_out), repeats, dict(found))
    configurations = [changed(plan.configuration, run) for run in laid_out]
    listed = [(f"block-{n}", plan.seed, made, RUN) for n, made in enumerate(configurations)]
    listed += [(f"block-repeat-{n}", plan.seed + n, plan.configuration, REPEAT) for n in range(1, repeats + 1)]
    return [
        Entry(
            name=name,
            seed=seed,
            family=plan.family,
            configuration=configuration,
            parameters=space.parameters(plan.family, configuration),
            sentinel=True,  # a block tells nothing if some of it is missing
            given=True,
            block=kind,
        )
        for name, seed, configuration, kind in listed
    ]


def newest_review(store: Store, plan: Plan) -> Review | None:
    """Give the newest review that was made before the search of `plan`; one that cannot be read is passed over."""
    found = []
    for entry in store.list(FOLDER):
        try:
            made = parse(Review, entry.key, store.get(entry.key).body)
        except BadObject as error:
            log.warning("a review is passed over: %s", error)
            continue
        if made.plan_id != plan.plan_id and made.as_of <= plan.as_of:
            found.append(made)
    return max(found, key=lambda review: (review.as_of, review.plan_id), default=None)


def _wanted(store: Store, plan: Plan, space: Space) -> list[str]:
    """Name the knobs worth telling apart, the least known first."""
    review = newest_review(store, plan)
    over = [found for found in review.over_studies if found.family == plan.family] if review else []
    if review is not None and over and over[0].importances:
        pairs = untold(over[0], review.blocks)
        return list(dict.fromkeys(name for pair in pairs for name in pair))
    knobs = FAMILIES[plan.family].knobs
    return [name for name in space.families[plan.family] if knobs[name].tier == FIRST]


def _levels(family: Family, configuration: Configuration, space: Space, wanted: Sequence[str], most: int) -> Levels:
    """Give two levels of each knob that is taken: it does something, and all combinations can be built."""
    taken: dict[str, tuple[int | float | str | bool, int | float | str | bool]] = {}
    for name in wanted:
        distribution = space.families[family.name].get(name)
        if distribution is None or len(taken) == most:
            continue
        pair = levels(distribution, configuration[name])
        if pair is not None and _all_built(family, configuration, {**taken, name: pair}):
            taken[name] = pair
    return taken


def _all_built(family: Family, configuration: Configuration, found: Levels) -> bool:
    """Whether every run can be built, and every knob does something in each."""
    for run in runs(found) if len(found) > 1 else [{name: at} for name, pair in found.items() for at in pair]:
        made = changed(configuration, run)
        if not all(family.matters(name, made) for name in found):
            return False
        try:
            family.sketch(made, n_items=1)  # whatever the catalogue: no rule is about its size
        except ValueError:
            return False
    return True
