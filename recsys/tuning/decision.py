"""Decide what to do about a drift verdict: nothing, a refit, a refit beside a few sentinels, or a search."""

import hashlib
import json
import logging
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

from recsys import ledger
from recsys.bundles import find_bundle
from recsys.dataset import dataset
from recsys.dataset import load as load_dataset
from recsys.errors import NotFound
from recsys.models import FAMILIES
from recsys.records import Action, Bundle, Configuration, DriftVerdict, Option, Plan, Sentinel, dump, parse, to_json
from recsys.settings import Line
from recsys.store import Store
from recsys.studies import key
from recsys.tuning.beginnings import with_weights
from recsys.tuning.constraints import Costs
from recsys.tuning.gains import Conditions
from recsys.tuning.past import everything, remember
from recsys.tuning.rungs import raised
from recsys.tuning.weighing import Weighed, weigh

log = logging.getLogger(__name__)

ROOM_FOR_SENTINELS = 8  # screening trials of a search that lists sentinels before its sampler is asked
ROOM_FOR_PROBE = 3  # trials that must be left to its sampler where fewer list the probe alone

SPARE = 2.0  # a short search may take so many times what it is expected to


def decide(
    line: Line,
    store: Store,
    verdict: DriftVerdict,
    *,
    by: str,
    reason: str | None = None,
    action: Action | None = None,
    family: str | None = None,
    configuration: Configuration | None = None,
    budget_s: float | None = None,
    nonce: str = "",
) -> Plan:
    """Choose between nothing, a refit, sentinels and a retune, and write the plan down.

    By itself: a retune where the incumbent is of a family that the line does not search, as the popularity baseline is.
    Where the line has drifted, whatever is worth most: the expected gain at the line's `decision.percent_worth_s`, less
    the expected seconds. Both are put off until the line has rested for `schedule.rest_days` since its last search.
    Else a refit if the incumbent is older than `schedule.refit_after_days`; else nothing. What every action is expected
    to gain and to take stands in the plan, whichever is chosen. The same verdict, line and arguments give the same
    plan, whatever has been searched since. Which weights its trainings may begin from is said in
    `recsys.tuning.beginnings`.

    A refit is trained whatever serving it would cost, because it is what a person wants to see or what is in production
    already; the gate judges it. Where its untrained graph misses a budget of the line, the plan says so beforehand.

    Args:
        line: Whose search, budgets and schedule.
        store: The line's part of the store.
        verdict: What drift found; names dataset and incumbent.
        by: Who decides; a person, or `schedule`.
        reason: Why a person decides otherwise.
        action: What the person wants.
        family: With a refit, the family to train; None: the incumbent's.
        configuration: With a refit, the values that differ from the incumbent's, or from the defaults of another
            `family`.
        budget_s: Seconds the search may take; None: the line's.
        nonce: Tells apart plans that are otherwise the same, such as the id of a run by hand.

    Raises:
        ValueError: An override without a reason, a configuration without a refit, or one that its family cannot have.
        NoRelease: The incumbent has no bundle.
        NoFeedback: The dataset that the incumbent was made from is gone.
    """
    if (action or budget_s) and not (reason or "").strip():
        raise ValueError("reason must say why a decision is taken by hand, but is missing.")
    if (family or configuration) and action is not Action.REFIT:
        raise ValueError(f"family and configuration belong to a refit, but action is {action}.")
    if budget_s is not None and not 0 < budget_s < math.inf:
        raise ValueError(f"budget_s must be positive and finite but is {budget_s}.")
    incumbent = find_bundle(store, verdict.release_id)
    own_family, own_configuration = _completed(incumbent, family, configuration or {})
    name = partial(_identify, line, verdict, own_family, own_configuration, budget_s, nonce)
    asked = [name(possible) for possible in Action]
    if action is None and (kept := _decided_before(store, asked)):
        return kept
    draft = Plan(
        plan_id="",
        action=action or Action.NOTHING,
        because="",
        dataset_id=verdict.dataset_id,
        release_id=verdict.release_id,
        family=own_family,
        configuration=own_configuration,
        budget_s=budget_s or line.search.budget_s,
        seed=line.search.seed,
        by=by,
        as_of=verdict.as_of,
        ordered=action is not None,
    )
    bars = _bars(line, store, verdict, incumbent, but=asked)
    weighed = weigh(line, store, verdict, draft, incumbent, bars.barred, but=asked)
    taken, because = (action, "") if action else _by_itself(bars, weighed.options)
    if reason:
        because = f"{because} The run's reason: {reason}" if because else reason
    misses: tuple[str, ...] = ()
    if taken is Action.REFIT:
        _refuse_untrainable(own_family, own_configuration)
        misses = _misses(line, store, verdict, own_family, own_configuration, prefix=key(name(taken), "costs"))
    if misses:
        because = f"{_sentence(because)} It is trained although serving it would miss a budget: {'; '.join(misses)}."
    made = replace(
        draft,
        plan_id=name(taken),
        action=taken,
        because=because,
        budget_s=_budget_s(draft, taken, weighed.options) if budget_s is None else budget_s,
        past=weighed.carried if taken is Action.RETUNE and line.search.warm else (),
        rungs=raised(line, weighed.evidence) if taken is Action.RETUNE else (),
        options=weighed.options,
        sentinels=_sentinels(line, taken, weighed),
    )
    made = with_weights(line, store, made, incumbent)
    if (configuration or {}).get("start") not in (None, made.configuration.get("start")):
        raise ValueError(f"start cannot be {(configuration or {})['start']!r}, because {made.cold_because}.")
    own = (own_family, own_configuration) == _completed(incumbent, None, {})
    return _keep(store, made, weighed.under, of_incumbent=own, misses=misses)


def _sentinels(line: Line, taken: Action, weighed: Weighed) -> tuple[Sentinel, ...]:
    """Give what is tried beside the incumbent before anything else is.

    A search that starts from the past first tries the best of it, and the probe that can prove it wrong. A small one
    leaves the best to its sampler, and a very small one the probe, too, since each family's defaults take a trial.
    """
    if taken is Action.SENTINELS:
        return weighed.sentinels
    begins_warm = taken is Action.RETUNE and line.search.warm and weighed.has_past
    if not begins_warm:
        return ()
    best, probe = weighed.sentinels[0], weighed.sentinels[-1]
    if line.search.screen.trials >= ROOM_FOR_SENTINELS:
        return (best, probe)
    drawn = line.search.screen.trials - len(line.search.families) - 1  # less the incumbent, the defaults and the probe
    return (probe,) if drawn >= ROOM_FOR_PROBE else ()


def plan(store: Store, plan_id: str) -> Plan:
    """Give the plan called `plan_id`.

    Raises:
        NotFound: There is none.
    """
    at = key(plan_id, "plan.json")
    return parse(Plan, at, store.get(at).body)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bars:
    """What the loop may not do by itself, and why."""

    barred: Mapping[Action, str]  # by what rule; what is not there may be chosen
    found: str  # what is so, without its full stop
    detail: str = ""  # of it


def _bars(line: Line, store: Store, verdict: DriftVerdict, incumbent: Bundle, *, but: Collection[str]) -> _Bars:
    """Apply the rules that stand before all weighing; a search of one of the plans `but` is none to rest from."""
    searched, trainable = incumbent.family in line.search.families, incumbent.family in FAMILIES
    days, limit = _age_days(store, verdict, incumbent), line.schedule.refit_after_days
    found, detail = _reason_to_act(line, verdict, incumbent)
    rested = _days_since_search(store, verdict, but) if found else None
    if found and (rested is None or rested >= line.schedule.rest_days):
        if searched:
            return _Bars(barred={}, found=found, detail=detail)
        only = f"{incumbent.family} is not searched, and only a search can replace it"
        others = (Action.NOTHING, Action.REFIT, Action.SENTINELS)
        return _Bars(barred=dict.fromkeys(others, only), found=found, detail=detail)
    rests = f"the line rests for {line.schedule.rest_days:g} days after a search"
    barred = dict.fromkeys((Action.SENTINELS, Action.RETUNE), rests if found else "nothing has drifted")
    if found:
        found += (
            f", but the line's last search was {rested:.1f} days of feedback ago and it rests "
            f"for {line.schedule.rest_days:g}"
        )
    else:
        found = "Nothing has drifted"
    if not trainable:
        barred[Action.REFIT] = f"{incumbent.family} cannot be trained again"
        found += f"; the incumbent is {incumbent.family}, which nothing here can train again"
    elif days > limit:
        barred[Action.NOTHING] = f"the incumbent is over {limit:g} days old"
        found += f"; the incumbent is {days:.1f} days old, which is over {limit:g}"
    else:
        barred[Action.REFIT] = f"the incumbent is not over {limit:g} days old"
        found += f"; the incumbent is {days:.1f} days old, which is not over {limit:g}"
    return _Bars(barred=barred, found=found)


def _by_itself(bars: _Bars, options: Sequence[Option]) -> tuple[Action, str]:
    """Take of what is not barred what is worth most, and say why."""
    best, *others = [option for option in options if not option.barred]
    because = f"{bars.found}{bars.detail or '.'}"
    if not others:
        return best.action, because
    said = [f"{option.action} {_worth(option)}" for option in others]
    return best.action, f"{_sentence(because)} Of all, {best.action} is worth most: {_worth(best)}; {', '.join(said)}."


def _budget_s(draft: Plan, taken: Action, options: Sequence[Option]) -> float:
    """Say what may be taken: the line's budget, of which a few sentinels get twice what they are expected to take."""
    if taken is not Action.SENTINELS:
        return draft.budget_s
    expected = next(option.seconds for option in options if option.action is taken)
    return min(draft.budget_s, SPARE * expected)


def _worth(option: Option) -> str:
    """Say in a few words what an option is expected to bring."""
    return f"{100 * option.gain.value:+.1f} % for {option.seconds:.0f} s"


def _reason_to_act(line: Line, verdict: DriftVerdict, incumbent: Bundle) -> tuple[str, str]:
    """Say why something would be due, and the detail of it; two empty texts where nothing is."""
    if incumbent.family not in line.search.families:
        searched = ", ".join(line.search.families)
        return f"The incumbent is {incumbent.family}, which is not among what is searched ({searched})", "."
    if verdict.drifted:
        return "The line has drifted", f": {verdict.because}"
    return "", ""


def _days_since_search(store: Store, verdict: DriftVerdict, but: Collection[str]) -> float | None:
    """Count the days of feedback between the newest search that ended, of other plans than `but`, and this verdict.

    Returns:
        The days; 0 where the search saw what the verdict is about, or newer feedback. None where there was no search.
    """
    ended = [entry.evidence for entry in ledger.read(store, what="searched")]
    seen = [datetime.fromisoformat(str(facts["as_of"])) for facts in ended if facts["plan_id"] not in but]
    return max(0.0, (verdict.as_of - max(seen)) / timedelta(days=1)) if seen else None


def _age_days(store: Store, verdict: DriftVerdict, incumbent: Bundle) -> float:
    return (verdict.as_of - dataset(store, incumbent.dataset_id).as_of) / timedelta(days=1)


def _decided_before(store: Store, plan_ids: Iterable[str]) -> Plan | None:
    """Find what was decided about the same question, whatever it was."""
    for plan_id in plan_ids:
        try:
            return plan(store, plan_id)
        except NotFound:
            continue
    return None


def _completed(incumbent: Bundle, family: str | None, given: Configuration) -> tuple[str, Configuration]:
    """Fill up what is given from the incumbent, or from the family's defaults.

    An incumbent that an older version made may lack a parameter or have one that is gone; the defaults fill that too.
    One that cannot be built for all that is only searched beside others: its trial will say so.
    """
    chosen = family or incumbent.family
    old: Configuration = incumbent.configuration if chosen == incumbent.family else {}
    if chosen not in FAMILIES:
        return chosen, {**old, **given}
    defaults = FAMILIES[chosen].defaults
    return chosen, {**defaults, **{name: value for name, value in old.items() if name in defaults}, **given}


def _refuse_untrainable(family: str, configuration: Configuration) -> None:
    if family not in FAMILIES:
        raise ValueError(f"family must be one of {sorted(FAMILIES)} but is {family!r}.")
    FAMILIES[family].sketch(configuration, n_items=1)  # whatever the catalogue: no rule is about its size


def _misses(
    line: Line, store: Store, verdict: DriftVerdict, family: str, configuration: Configuration, *, prefix: str
) -> tuple[str, ...]:
    """Say which budgets of the line the untrained graph misses, as a search says it of its trials."""
    frozen = load_dataset(store, dataset(store, verdict.dataset_id))
    costs = Costs(
        store,
        prefix=prefix,
        n_items=frozen.before_holdout.n_items,
        budgets=line.budgets,
        cases=frozen.windows[-1],
    )
    return costs.of(FAMILIES[family], configuration).misses(line.budgets)


def _sentence(said: str) -> str:
    return said if said.endswith((".", "!", "?")) else f"{said}."


def _identify(
    line: Line,
    verdict: DriftVerdict,
    family: str,
    configuration: Configuration,
    budget_s: float | None,
    nonce: str,
    action: Action,
) -> str:
    made_of = [
        line.name,
        verdict.dataset_id,
        verdict.release_id,
        action,
        [family, dict(configuration)],
        line.search.model_dump(mode="json"),
        line.budgets.model_dump(mode="json"),
        line.decision.model_dump(mode="json"),
        [line.schedule.rest_days, line.schedule.refit_after_days],
        budget_s,
        nonce,
    ]
    digest = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()
    return f"r{verdict.as_of:%Y%m%d}-{digest[:8]}"


def _keep(store: Store, made: Plan, under: Conditions, *, of_incumbent: bool, misses: tuple[str, ...]) -> Plan:
    """Write the plan down once; who decides the same again gets the plan that is there."""
    if kept := _decided_before(store, [made.plan_id]):
        return kept
    log.log(logging.WARNING if misses else logging.INFO, "plan %s: %s. %s", made.plan_id, made.action, made.because)
    ledger.append(
        store,
        ledger.Entry(
            what="decided",
            who=made.by,
            why=made.because,
            evidence={
                "plan_id": made.plan_id,
                "action": made.action,
                "dataset_id": made.dataset_id,
                "release_id": made.release_id,
                "family": made.family,
                "configuration": dict(made.configuration),
                "budget_s": made.budget_s,
                **({"rungs": [dump(rung) for rung in made.rungs]} if made.rungs else {}),
                "drift": under.drift,
                "age_days": under.age_days,
                "of_incumbent": of_incumbent,
                "options": [dump(option) for option in made.options],
                **({"misses": list(misses)} if made.action is Action.REFIT else {}),
            },
            id=f"decided-{made.plan_id}",
        ),
    )
    if made.action.searches:
        remember(store, made, everything(store))
    store.put(key(made.plan_id, "plan.json"), to_json(made))
    return made
