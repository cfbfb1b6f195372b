"""Take a configuration apart: train it without one component at a time, and say what each of them is worth."""

import hashlib
import json
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from optuna.pruners import NopPruner
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, TrialState
from pydantic import JsonValue

import recsys
from recsys import channel, ledger
from recsys.bundles import find_bundle
from recsys.dataset import dataset
from recsys.dataset import load as load_dataset
from recsys.errors import NoRelease, NotFound
from recsys.models import FAMILIES
from recsys.records import (
    Ablation,
    AblationPlan,
    Begun,
    Configuration,
    Dataset,
    TrialResult,
    Weights,
    parse,
    to_json,
)
from recsys.settings import Budgets, Line, Stage
from recsys.store import Store
from recsys.studies import key
from recsys.transfer import Start, usable_weights
from recsys.tuning import cases
from recsys.tuning.budget import fits, left_s
from recsys.tuning.choice import candidate
from recsys.tuning.comparison import compared, without
from recsys.tuning.components import components
from recsys.tuning.constraints import Costs
from recsys.tuning.forecast import Forecast, Paid, paid_before
from recsys.tuning.objective import Bench, training_of
from recsys.tuning.outcomes import measured, paid
from recsys.tuning.past import everything
from recsys.tuning.ranking import identity
from recsys.tuning.reuse import Known, code_digest
from recsys.tuning.space import Space, search_space
from recsys.tuning.trials import Attempt, Entry, Trials
from recsys.tuning.worker import carry_out, threads, wake

log = logging.getLogger(__name__)

STAGE = "ablate"
WHOLE = "whole"

_UNLIMITED = Budgets(p99_ms=1e9, size_mib=1e9)


def plan_ablation(
    line: Line,
    store: Store,
    *,
    by: str,
    release_id: str | None = None,
    of_candidate: bool = False,
    dataset_id: str | None = None,
    seeds: int | None = None,
    budget_s: float | None = None,
) -> AblationPlan:
    """Say what there is to take apart and how it is measured.

    The same line, release, dataset, code and arguments give the same plan, so that to ask again takes up what was
    ended, or gives what is known.

    Args:
        line: Whose search, budgets and confidence.
        store: The line's part of the store.
        by: Who asks.
        release_id: A release, or a bundle that was held; None: what is in production.
        of_candidate: Take the newest candidate instead.
        dataset_id: On which data; None: the newest.
        seeds: Trainings of each variant; None: as many as `search.confirm.seeds` asks for, at least 2.
        budget_s: Seconds that trials may run; None: the line's `search.budget_s`.

    Raises:
        ValueError: Both a release and the candidate are asked for, a number is not positive, the family is none that
            can be trained here, or it began from weights that know what would judge its variants.
        NoRelease: There is no such release, or none in production.
        NoCandidate: There is no candidate.
        NoFeedback: There is no such dataset.
    """
    if release_id and of_candidate:
        raise ValueError(f"Either a release or the candidate can be taken apart, but both are asked for: {release_id}.")
    seeds = max(2, line.search.confirm.seeds) if seeds is None else seeds
    budget_s = line.search.budget_s if budget_s is None else budget_s
    if seeds < 1 or not 0 < budget_s < math.inf:
        raise ValueError(f"seeds and budget_s must be positive and finite but are {seeds} and {budget_s}.")
    of, family, found, begun = _of(store, release_id, of_candidate=of_candidate)
    if family not in FAMILIES:
        raise ValueError(f"{of} must be of a family that can be trained, one of {sorted(FAMILIES)}, but is {family!r}.")
    defaults = FAMILIES[family].defaults
    configuration = {**defaults, **{name: value for name, value in found.items() if name in defaults}}
    apart = tuple(components(FAMILIES[family], configuration))
    on = dataset(store, dataset_id)
    weights = _weights(store, of, begun, on) if begun else None
    made_of = [
        line.name,
        of,
        on.dataset_id,
        identity(family, configuration),
        [dict(component.changes) for component in apart],
        [seeds, line.search.seed, budget_s, line.gate.confidence],
        line.budgets.model_dump(mode="json"),
        weights.sha256 if weights else "",
        code_digest(Path(recsys.__path__[0])),
    ]
    digest = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()
    return AblationPlan(
        plan_id=f"a{on.as_of:%Y%m%d}-{digest[:8]}",
        of=of,
        dataset_id=on.dataset_id,
        family=family,
        configuration=configuration,
        components=apart,
        seeds=seeds,
        seed=line.search.seed,
        budget_s=budget_s,
        by=by,
        as_of=on.as_of,
        weights=weights,
    )


def ablation(store: Store, plan_id: str) -> Ablation:
    """Give the record of an ablation that came to its end.

    Raises:
        NotFound: There is none.
        BadObject: It cannot be read.
    """
    at = key(plan_id, "ablation.json")
    return parse(Ablation, at, store.get(at).body)


def ablation_jobs(line: Line, store: Store, plan: AblationPlan, studies: str) -> list[dict[str, int]]:
    """Open the study of an ablation, list its trials, and say which workers it needs.

    Call it before the workers start, and never beside them; to call it again after they died does no harm, and gives
    the budget anew.

    Returns:
        One entry a worker; none where the ablation has come to its end.
    """
    if _closed(store, plan):
        return []
    trials = Trials.create(plan, studies)
    trials.take_back(STAGE, because="the ablation was begun anew")
    trials.enter(STAGE, _entries(plan, search_space(line)))
    n_workers = min(line.search.workers, len(trials.of(STAGE, TrialState.WAITING)))
    log.info("ablation %s of %s: %d workers", plan.plan_id, plan.of, n_workers)
    return [{"worker": number} for number in range(n_workers)]


def work_ablation(
    line: Line,
    store: Store,
    plan: AblationPlan,
    studies: str,
    *,
    owner: Attempt,
    on_trial: Callable[[TrialResult], None] | None = None,
) -> list[TrialResult]:
    """Train variants until none is left that can end in time.

    Each learns from `train` alone and is asked for the validation windows. A training that has been done before, whose
    cases are kept, is not done again. Variants that serving could not afford are not trained, as in a search; the whole
    is, whatever it costs, since there is nothing to compare with otherwise.

    Args:
        line: Whose budgets.
        store: The line's part of the store.
        plan: What `plan_ablation` gave.
        studies: Where the study lies.
        owner: Which attempt of which task works.
        on_trial: Called with each trial that ended here.

    Returns:
        The trials that this call ended.

    Raises:
        ValueError: `ablation_jobs` has not been called.
        StoreError: The store did not do what was asked.
    """
    trials = Trials.load(plan, studies)
    trials.supersede(STAGE, owner)
    ended: list[TrialResult] = []
    with threads(line.search.workers):
        bench = _bench(line, store, plan, trials)
        before = paid_before(everything(store))
        while trial := trials.claim(
            STAGE,
            owner,
            sampler=lambda: RandomSampler(seed=plan.seed),  # is never asked: every trial is listed whole
            pruner=NopPruner(),
            fits=partial(_fits, bench, _forecast(before, trials.all()), bench.left_s()),
        ):
            budgets = _UNLIMITED if trial.user_attrs["incumbent"] else line.budgets
            found = carry_out(trial, replace(bench, budgets=budgets), trials, owner, keeps_cases=True)
            if found is None:
                break
            if found.reused:
                cases.renew(store, plan.dataset_id, found.training)
            ended.append(found)
            if on_trial is not None:
                on_trial(found)
    return ended


def close_ablation(line: Line, store: Store, plan: AblationPlan, studies: str) -> Ablation:
    """Compare all that was trained, whatever became of the workers, and keep the record.

    Returns:
        The record, which also lies in the store; that of an earlier call where there was one.

    Raises:
        ValueError: `ablation_jobs` has not been called.
    """
    if found := _closed(store, plan):
        return found
    trials = Trials.load(plan, studies)
    trials.end_stage(STAGE, because="the ablation was closed")
    made = compared(store, plan, trials.results(), confidence=line.gate.confidence, seconds=trials.taken_s)
    for entry in store.list(key(plan.plan_id, "checkpoints/")):
        store.delete(entry.key)
    cases.sweep(store)
    _tell_ledger(store, made)
    store.put(key(plan.plan_id, "ablation.json"), to_json(made))
    log.info("ablation %s: %s", plan.plan_id, made.because)
    return made


def _of(store: Store, release_id: str | None, *, of_candidate: bool) -> tuple[str, str, Configuration, Begun | None]:
    """Give the name, family and configuration of what is taken apart, and what it began from."""
    if of_candidate:
        chosen = candidate(store)
        return chosen.candidate_id, chosen.family, chosen.configuration, chosen.begun
    if release_id is None:
        now = channel.current(store)
        if now is None:
            raise NoRelease("There must be a release in production to take apart, but nothing is released.")
        release_id = now.release_id
    bundle = find_bundle(store, release_id)
    return release_id, bundle.family, bundle.configuration, bundle.begun


def _weights(store: Store, of: str, begun: Begun, on: Dataset) -> Weights:
    """Give weights of the release that it began from which know nothing of the windows that judge its variants."""
    bundle = find_bundle(store, begun.weights.release_id)
    found, why_not = usable_weights(store, bundle, before=on.windows[0].begins)
    if found is None:
        raise ValueError(f"{of} began from weights, and cannot be taken apart on {on.dataset_id}, because {why_not}.")
    return found


def _closed(store: Store, plan: AblationPlan) -> Ablation | None:
    try:
        return ablation(store, plan.plan_id)
    except NotFound:
        return None


def _entries(plan: AblationPlan, space: Space) -> list[Entry]:
    """The whole and then each variant, all with one seed before any of them has the next.

    What is only counted comes out the same with every seed, so it is tried once.
    """
    variants = [(WHOLE, plan.configuration), *((c.name, without(plan, c)) for c in plan.components)]
    return [
        Entry(
            name=f"{name}-seed-{seed}",
            seed=seed,
            family=plan.family,
            configuration=configuration,
            parameters=space.parameters(plan.family, configuration),
            incumbent=name == WHOLE,
        )
        for seed in range(plan.seed, plan.seed + plan.seeds)
        for name, configuration in variants
        if seed == plan.seed or configuration["epochs"]
    ]


@dataclass(frozen=True, slots=True, eq=False)
class _Measured:
    """The trainings whose cases are kept, of this ablation and of whatever came before."""

    store: Store
    dataset_id: str

    def find(self, training: str) -> Known | None:
        kept = cases.find(self.store, self.dataset_id, training)
        return None if kept is None else Known(ndcg_at_10=kept.objective, source=kept.source, seconds=kept.seconds)


def _bench(line: Line, store: Store, plan: AblationPlan, trials: Trials) -> Bench:
    wake()
    frozen = load_dataset(store, dataset(store, plan.dataset_id))
    return Bench(
        store=store,
        plan=plan,
        space=search_space(line),
        stage=Stage(trials=1 + len(plan.components), seeds=plan.seeds),
        budgets=line.budgets,
        frozen=frozen,
        costs=Costs(
            store,
            prefix=key(plan.plan_id, "costs"),
            n_items=frozen.before_holdout.n_items,
            budgets=line.budgets,
            cases=frozen.windows[-1],
        ),
        results=_Measured(store, plan.dataset_id),
        device="cuda" if torch.cuda.is_available() else "cpu",
        left_s=lambda: left_s(plan.budget_s, trials.spent_s, []),
        prunes=False,
        start=Start.read(store, plan.weights, frozen.vocabulary) if plan.weights else None,
    )


def _forecast(before: Sequence[Paid], trials: Sequence[FrozenTrial]) -> Forecast:
    return Forecast.of([*before, *paid(trials)], measured(trials))


def _fits(bench: Bench, forecast: Forecast, left: float, waiting: FrozenTrial) -> bool:
    """Whether a waiting trial may begin: the whole while there is time at all, what has been trained before always."""
    facts = waiting.user_attrs
    if facts["incumbent"]:
        return fits(None, left)
    family, configuration = facts["family"], facts["configuration"]
    if bench.results.find(training_of(facts, bench, FAMILIES[family], configuration)):
        return True
    return fits(forecast.trial(family, configuration, bench.stage), left)


def _tell_ledger(store: Store, made: Ablation) -> None:
    plan, reached = made.plan, made.ndcg_at_10
    evidence: dict[str, JsonValue] = {
        "plan_id": plan.plan_id,
        "of": plan.of,
        "dataset_id": plan.dataset_id,
        "ndcg_at_10": reached.value if reached else None,
        "changes": {part.component.name: part.change.value if part.change else None for part in made.parts},
        "significant": [part.component.name for part in made.parts if part.significant],
        "seconds": made.seconds,
        "budget_s": plan.budget_s,
    }
    entry = ledger.Entry(what="ablated", who=plan.by, why=made.because, evidence=evidence, id=f"ablated-{plan.plan_id}")
    ledger.append(store, entry)
