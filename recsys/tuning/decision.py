"""Decide what to do about a drift verdict: nothing, train the incumbent's configuration again, or search."""

import hashlib
import json
import logging
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from recsys import ledger
from recsys.bundles import find_bundle
from recsys.dataset import dataset
from recsys.dataset import load as load_dataset
from recsys.errors import NotFound
from recsys.models import FAMILIES
from recsys.records import Action, Bundle, Configuration, DriftVerdict, Plan, dump, parse, to_json
from recsys.settings import Line
from recsys.store import Store
from recsys.studies import key
from recsys.tuning.constraints import Costs
from recsys.tuning.past import before, recall
from recsys.tuning.rungs import raised
from recsys.tuning.space import search_space

log = logging.getLogger(__name__)


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
    """Choose between nothing, a refit and a retune, and write the plan down.

    By itself: retune if there is a reason to and the line has rested for `schedule.rest_days` since its last search.
    Reasons are that the incumbent is of a family that the line does not search, as the popularity baseline is, and
    that the line has drifted. Else refit if the incumbent is older than `schedule.refit_after_days`; else nothing.
    The same verdict, line and arguments give the same plan, whatever has been searched since.

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
    if budget_s is not None and budget_s <= 0:
        raise ValueError(f"budget_s must be positive but is {budget_s}.")
    incumbent = find_bundle(store, verdict.release_id)
    own_family, own_configuration = _completed(incumbent, family, configuration or {})
    name = partial(_identify, line, verdict, own_family, own_configuration, budget_s, nonce)
    if action is None:
        taken, because = _by_itself(line, store, verdict, incumbent, search_id=name(Action.RETUNE))
    else:
        taken, because = action, ""
    if reason:
        because = f"{because} The run's reason: {reason}" if because else reason
    misses: tuple[str, ...] = ()
    if taken is Action.REFIT:
        _refuse_untrainable(own_family, own_configuration)
        misses = _misses(line, store, verdict, own_family, own_configuration, prefix=key(name(taken), "costs"))
    if misses:
        because = f"{_sentence(because)} It is trained although serving it would miss a budget: {'; '.join(misses)}."
    made = Plan(
        plan_id=name(taken),
        action=taken,
        because=because,
        dataset_id=verdict.dataset_id,
        release_id=verdict.release_id,
        family=own_family,
        configuration=own_configuration,
        budget_s=budget_s or line.search.budget_s,
        seed=line.search.seed,
        by=by,
        as_of=verdict.as_of,
    )
    if taken is Action.RETUNE and line.search.warm:
        made = replace(made, past=recall(line, store, made, search_space(line)).carried)
    if taken is Action.RETUNE:
        made = replace(made, rungs=raised(line, before(store, made)))
    return _keep(store, made, misses)


def plan(store: Store, plan_id: str) -> Plan:
    """Give the plan called `plan_id`.

    Raises:
        NotFound: There is none.
    """
    at = key(plan_id, "plan.json")
    return parse(Plan, at, store.get(at).body)


def _by_itself(
    line: Line, store: Store, verdict: DriftVerdict, incumbent: Bundle, *, search_id: str
) -> tuple[Action, str]:
    """Choose by the rule that `decide` states; `search_id` is what the plan of a search would be called."""
    found, detail = _reason_to_search(line, verdict, incumbent)
    if found:
        rested = _days_since_search(store, verdict, search_id)
        if rested is None or rested >= line.schedule.rest_days:
            return Action.RETUNE, f"{found}{detail}"
        found += (
            f", but the line's last search was {rested:.1f} days of feedback ago and it rests "
            f"for {line.schedule.rest_days:g}"
        )
    else:
        found = "Nothing has drifted"
    if incumbent.family not in FAMILIES:
        return Action.NOTHING, f"{found}; the incumbent is {incumbent.family}, which nothing here can train again."
    age = verdict.as_of - dataset(store, incumbent.dataset_id).as_of
    days, limit = age / timedelta(days=1), line.schedule.refit_after_days
    if days > limit:
        return Action.REFIT, f"{found}; the incumbent is {days:.1f} days old, which is over {limit:g}."
    return Action.NOTHING, f"{found}; the incumbent is {days:.1f} days old, which is not over {limit:g}."


def _reason_to_search(line: Line, verdict: DriftVerdict, incumbent: Bundle) -> tuple[str, str]:
    """Say why a search would be due, and the detail of it; two empty texts where nothing asks for one."""
    if incumbent.family not in line.search.families:
        searched = ", ".join(line.search.families)
        return f"The incumbent is {incumbent.family}, which is not among what is searched ({searched})", "."
    if verdict.drifted:
        return "The line has drifted", f": {verdict.because}"
    return "", ""


def _days_since_search(store: Store, verdict: DriftVerdict, search_id: str) -> float | None:
    """Count the days of feedback between the newest search that ended and this verdict.

    Returns:
        The days; 0 where the search saw what the verdict is about, or newer feedback. None where there was no search,
        or where the search that `verdict` asks for has been decided already, so that it is not asked of once more.
    """
    if _is_decided(store, search_id):
        return None
    ended = [entry.evidence for entry in ledger.read(store, what="searched")]
    seen = [datetime.fromisoformat(str(facts["as_of"])) for facts in ended if facts["plan_id"] != search_id]
    return max(0.0, (verdict.as_of - max(seen)) / timedelta(days=1)) if seen else None


def _is_decided(store: Store, plan_id: str) -> bool:
    try:
        plan(store, plan_id)
    except NotFound:
        return False
    return True


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
        budget_s,
        nonce,
    ]
    digest = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()
    return f"r{verdict.as_of:%Y%m%d}-{digest[:8]}"


def _keep(store: Store, made: Plan, misses: tuple[str, ...]) -> Plan:
    """Write the plan down once; who decides the same again gets the plan that is there."""
    try:
        return plan(store, made.plan_id)
    except NotFound:
        pass
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
                **({"misses": list(misses)} if made.action is Action.REFIT else {}),
            },
            id=f"decided-{made.plan_id}",
        ),
    )
    store.put(key(made.plan_id, "plan.json"), to_json(made))
    return made
