"""Decide which weights a plan's trainings may begin from, and how the incumbent's configuration is tried then."""

import math
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from recsys.bundles import find_bundle
from recsys.dataset import dataset
from recsys.errors import BadBundle, NoRelease
from recsys.models import COLD, FAMILIES, INCUMBENT, TRAINING
from recsys.records import Action, Bundle, Configuration, Dataset, Plan, Sentinel, Weights
from recsys.settings import Line
from recsys.store import Store
from recsys.transfer import usable_weights
from recsys.tuning.space import search_space

BRIEF = 0.25  # of the epochs that it took cold, with which the incumbent's configuration is tried from its weights


def with_weights(line: Line, store: Store, plan: Plan, incumbent: Bundle) -> Plan:
    """Say in the plan which weights its trainings may begin from.

    Trials may begin from weights of the incumbent that have learned nothing from the first validation window or later;
    the last training, which learns up to the holdout, from weights that have learned nothing from the holdout or later.
    Where trials may, the incumbent's configuration begins from its weights, and the same trained cold is its control.
    Where they may not, it is trained cold. What began from weights may have taken few epochs and small steps, with
    which nothing would come of a cold start; so a cold one is given the epochs and steps with which the line of its
    ancestors began. What has learned most of it already may need few epochs more, so the incumbent's configuration is
    also tried from its weights with a quarter of those epochs, unless it has as few itself or the line allows no such
    training. Sentinels that would begin
    from weights which there are not begin cold.

    Args:
        line: Whose search.
        store: The line's part of the store.
        plan: To search or to refit; another is given back as it is.
        incumbent: The bundle in production.

    Raises:
        NoFeedback: The plan's dataset is gone.
    """
    if plan.action is Action.NOTHING:
        return plan
    last, why_not = _usable(store, incumbent, plan, lambda cut: cut.holdout.begins)
    made = replace(plan, refit_weights=last)
    if plan.action.searches:
        may, because = _searched(line)
        weights, why_not = (
            _usable(store, incumbent, plan, lambda cut: cut.windows[0].begins) if may else (None, because)
        )
        made = replace(made, weights=weights, cold_because=why_not)
    if made.weights is None:
        made = replace(made, sentinels=tuple(_begun_cold(sentinel) for sentinel in plan.sentinels))
    begins = plan.configuration.get("start", COLD)
    if made.weights and "start" in plan.configuration:
        warm = {**plan.configuration, "start": INCUMBENT if begins == COLD else begins}
        control = _cold(store, incumbent, plan)
        made = replace(made, configuration=warm, control=control)
        brief = _brief(warm, control)
        searched = search_space(line, made).parameters(plan.family, brief) if brief else None
        return replace(made, brief=brief) if searched is not None else made
    if begins != COLD and (plan.action.searches or last is None):
        return replace(made, configuration=_cold(store, incumbent, plan), cold_because=why_not)
    return made


def _brief(warm: Configuration, cold: Configuration) -> Configuration:
    """Shorten what begins from weights to a part of what it takes cold; nothing where it is no longer than that."""
    epochs = math.ceil(BRIEF * int(cold["epochs"]))
    return {**warm, "epochs": epochs} if epochs < int(warm["epochs"]) else {}


def _begun_cold(sentinel: Sentinel) -> Sentinel:
    if sentinel.configuration.get("start", COLD) == COLD:
        return sentinel
    return replace(sentinel, configuration={**sentinel.configuration, "start": COLD})


def _usable(
    store: Store, incumbent: Bundle, plan: Plan, judged_from: Callable[[Dataset], datetime]
) -> tuple[Weights | None, str]:
    if not incumbent.configuration.get("epochs"):
        return None, f"the incumbent, {incumbent.family}, has learned nothing by steps"
    return usable_weights(store, incumbent, before=judged_from(dataset(store, plan.dataset_id)))


def _searched(line: Line) -> tuple[bool, str]:
    """Whether the line searches anything that may begin from weights, and if not though it could, why."""
    able = [own["start"] for own in search_space(line).families.values() if "start" in own]
    if any(not start.single() or start.choices != (COLD,) for start in able):  # type: ignore[attr-defined]
        return True, ""
    return False, "the line's search.space allows nothing else" if able else ""


def _cold(store: Store, incumbent: Bundle, plan: Plan) -> Configuration:
    """Give the plan's configuration with a cold start, and with what its nearest cold ancestor was trained with."""
    if plan.configuration.get("start", COLD) == COLD:
        return plan.configuration
    return {**plan.configuration, **_ancestral(store, incumbent, plan.family), "start": COLD}


def _ancestral(store: Store, bundle: Bundle, family: str) -> dict[str, int | float | str | bool]:
    """Read how the nearest release was trained that began cold; the family's defaults where that is not known."""
    found, defaults = bundle, FAMILIES[family].defaults
    try:
        while found.begun is not None:
            found = find_bundle(store, found.begun.weights.release_id)
    except (NoRelease, BadBundle):
        return {name: defaults[name] for name in TRAINING}
    known = found.configuration if found.family == family else defaults
    return {name: known.get(name, defaults[name]) for name in TRAINING}
