"""Weigh what could be done about a drift verdict: what each action is expected to gain, to take, and to be worth."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta

from recsys import ledger
from recsys.dataset import dataset
from recsys.records import Action, Bundle, DriftVerdict, Evidence, Option, Plan, Sentinel
from recsys.settings import Line
from recsys.store import Store
from recsys.tuning import prices, sentinels
from recsys.tuning.gains import Conditions, expect, seen_of
from recsys.tuning.past import everything, recall
from recsys.tuning.space import search_space

TOLD = ("decided", "searched", "chosen", "packaged", "measured")
"""What the ledger keeps of gains and seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """What could be done about a verdict."""

    under: Conditions
    options: tuple[Option, ...]  # by what each is worth, the most first
    sentinels: tuple[Sentinel, ...]  # that a short search would try
    has_past: bool  # whether any earlier trial could be carried into a new search
    carried: tuple[str, ...]  # what becomes of each earlier search in a new one
    evidence: tuple[Evidence, ...]  # what they found, oldest first


def weigh(
    line: Line,
    store: Store,
    verdict: DriftVerdict,
    plan: Plan,
    incumbent: Bundle,
    barred: Mapping[Action, str],
    *,
    but: Collection[str] = (),
) -> Weighed:
    """Say what each action is expected to gain and to take; the same verdict, line and ledger give the same.

    Args:
        line: Says in `decision.percent_worth_s` what a gain is worth.
        store: The line's part of the store.
        verdict: What drift found.
        plan: As far as it is settled: dataset, configuration in production or to refit, budget.
        incumbent: What is in production.
        barred: Why the loop may not choose an action by itself.
        but: Plans of which nothing is taken into account: those that answer this very question.

    Raises:
        LineError: The line's space is not a part of its families'.
    """
    age_days = (verdict.as_of - dataset(store, incumbent.dataset_id).as_of) / timedelta(days=1)
    under = Conditions.of(verdict, age_days)
    told = [entry for what in TOLD for entry in ledger.read(store, what=what)]
    entries = [entry for entry in told if entry.evidence.get("plan_id") not in but]
    gains = expect(seen_of(entries, line.search.families, line.gate.confidence), under)
    left: list[str] = []
    kept = everything(store, left=left)
    evidence = [found for found in kept if found.as_of <= plan.as_of and found.plan_id not in but]
    space = search_space(line)
    past = recall(line, store, plan, space, evidence)
    few = sentinels.pick(space, plan, past.studies)
    seconds = prices.prices(
        line,
        plan.family,
        plan.configuration,
        sentinels=few,
        evidence=evidence,
        searched_s=_full_searches(entries, plan.budget_s),
        budget_s=plan.budget_s,
    )
    options = [
        Option(
            action=action,
            gain=gains[action],
            seconds=seconds[action],
            score=100 * gains[action].value * line.decision.percent_worth_s - seconds[action],
            barred=barred.get(action, ""),
        )
        for action in Action
    ]
    return Weighed(
        under=under,
        options=tuple(sorted(options, key=lambda option: -option.score)),
        sentinels=few,
        has_past=bool(past.studies),
        carried=(*past.carried, *left),
        evidence=tuple(evidence),
    )


def _full_searches(entries: list[ledger.Entry], budget_s: float) -> list[float]:
    """Give the seconds of the searches that were no shorter by their budget than the next one would be."""
    of = {str(entry.evidence["plan_id"]): entry.evidence for entry in entries if entry.what == "decided"}
    full = {name for name, facts in of.items() if facts["action"] == Action.RETUNE}
    return [
        float(str(entry.evidence["seconds"]))
        for entry in entries
        if entry.what == "searched"
        and entry.evidence["plan_id"] in full
        and float(str(entry.evidence["budget_s"])) >= budget_s
        and float(str(entry.evidence["seconds"])) > 0
    ]
