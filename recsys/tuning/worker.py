"""Work on one stage of a search until its list or its time is at an end, whatever became of those who worked before."""

import importlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from optuna.exceptions import UpdateFinishedTrialError
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, Trial, TrialState

from recsys.dataset import dataset
from recsys.dataset import load as load_dataset
from recsys.records import Action, Evidence, Plan, TrialResult
from recsys.settings import Line
from recsys.store import Store
from recsys.studies import key
from recsys.transfer import Start
from recsys.tuning import cases
from recsys.tuning.constraints import Costs
from recsys.tuning.contract import Contract
from recsys.tuning.curves import Foresight
from recsys.tuning.findings import keep_so_far
from recsys.tuning.halving import promote, sources
from recsys.tuning.objective import Bench, run
from recsys.tuning.outcomes import CONSTRAINTS, result
from recsys.tuning.past import before, curves, everything, recall
from recsys.tuning.plateau import find, noise_of
from recsys.tuning.promotion import STAGES
from recsys.tuning.reuse import Results
from recsys.tuning.rungs import fitted
from recsys.tuning.sampler import PRUNERS, tpe, warm
from recsys.tuning.space import Space, search_space
from recsys.tuning.stages import check_stage
from recsys.tuning.trials import Attempt, Trials, waited_s
from recsys.tuning.usage import Meter

log = logging.getLogger(__name__)


def work(
    line: Line,
    store: Store,
    plan: Plan,
    stage: str,
    studies: str,
    *,
    owner: Attempt,
    on_trial: Callable[[TrialResult], None] | None = None,
) -> list[TrialResult]:
    """Run trials of `stage` until none is left that can end in time, and before each what is due on the rungs above.

    What earlier attempts of the same task left running is ended and taken up again from its checkpoint. A worker whose
    trial has been taken from it in this way stops.

    Args:
        line: Whose search.
        store: The line's part of the store.
        plan: What `decide` gave.
        stage: One of `STAGES`, which `jobs` has begun.
        studies: Where the study lies.
        owner: Which attempt of which task works.
        on_trial: Called with each trial that ended here.

    Returns:
        The trials that this call ended.

    Raises:
        ValueError: The study has not been opened, or there is no such stage.
        StoreError: The store did not do what was asked.
    """
    check_stage(stage)
    if not plan.action.searches:
        return []
    line, trials = fitted(line, plan), Trials.load(plan, studies)
    for rung in STAGES[STAGES.index(stage) :]:
        trials.supersede(rung, owner)
    ended: list[TrialResult] = []
    with threads(line.search.workers):
        for found in _ended_trials(line, store, plan, stage, trials, owner):
            ended.append(found)
            if on_trial is not None:
                on_trial(found)
    return ended


def _ended_trials(
    line: Line, store: Store, plan: Plan, stage: str, trials: Trials, owner: Attempt
) -> Iterator[TrialResult]:
    wake()
    frozen = load_dataset(store, dataset(store, plan.dataset_id))
    costs = Costs(
        store,
        prefix=key(plan.plan_id, "costs"),
        n_items=frozen.before_holdout.n_items,  # what is served in the end knows all of them
        budgets=line.budgets,
        cases=frozen.windows[-1],
    )
    searched = search_space(line, plan)
    start = Start.read(store, plan.weights, frozen.vocabulary) if plan.weights else None
    kept = everything(store)
    evidence = before(store, plan, kept)
    sampler = _sampler(line, store, plan, trials, owner, searched, evidence)
    contract = Contract(line, plan, trials, evidence)
    results = Results(plan.plan_id, trials.all, [found for found in kept if found.ended])  # equal is equal, whenever
    foresight = _foresight(line, store, plan, trials, evidence) if line.search.warm else None
    noise = noise_of(evidence)
    while True:
        if stage == STAGES[0] and plan.action is Action.RETUNE and trials.plateau is None:
            _look_for_plateau(trials, stage, noise)
        claimed = _claim(line, plan, stage, trials, owner, sampler, contract)
        if claimed is None:
            return
        own, trial = claimed
        bench = Bench(
            store=store,
            plan=plan,
            space=searched,
            stage=getattr(line.search, own),
            budgets=line.budgets,
            frozen=frozen,
            costs=costs,
            results=results,
            start=start,
            keeps=own != STAGES[0],
            device="cuda" if torch.cuda.is_available() else "cpu",
            left_s=partial(contract.left_s, own),
            prunes=own == STAGES[0],
            foresight=foresight if own == STAGES[0] else None,
        )
        found = carry_out(trial, bench, trials, owner, keeps_cases=own == STAGES[-1])
        if found is None:
            return
        keep_so_far(line, store, plan, trials.results, kept)
        yield found


def carry_out(trial: Trial, bench: Bench, trials: Trials, owner: Attempt, *, keeps_cases: bool) -> TrialResult | None:
    """Run a trial that has been claimed, and tell the study how it ended.

    Args:
        trial: Which.
        bench: What it needs.
        trials: The study's.
        owner: Who has claimed it.
        keeps_cases: Whether what each user saw is kept, if the trial is complete.

    Returns:
        How it ended; nothing where a later attempt has taken it, so that the caller must stop.
    """
    plan_id = bench.plan.plan_id
    try:
        meter = Meter(bench.device)
        with meter.running():
            ending = run(trial, bench)
        meter.of_gpu(ending.seconds, ("training", "evaluation", "detectors"))
        ending.facts["use"] = {**meter.used, "waited_s": waited_s(trial)}
        if keeps_cases and ending.state is TrialState.COMPLETE and ending.evaluations:
            cases.keep(
                bench.store,
                bench.plan.dataset_id,
                ending.facts["training"],
                ending.evaluations,
                source=f"trial {trial.number} of {plan_id}",
                seconds=sum(seconds for cause, seconds in ending.seconds.items() if cause != CONSTRAINTS),
            )
        trials.end(trial, ending.state, ending.value, ending.all_facts)
        if ending.checkpoint:
            bench.store.delete(ending.checkpoint)
    except UpdateFinishedTrialError:
        log.warning("trial %d has been taken from %s, which therefore stops", trial.number, owner)
        return None
    found = result(trials.all()[trial.number])
    log.info("%s trial %d of %s: %s %s", found.stage, trial.number, plan_id, found.state, found.ndcg_at_10)
    return found


def _claim(
    line: Line,
    plan: Plan,
    stage: str,
    trials: Trials,
    owner: Attempt,
    sampler: Callable[[], BaseSampler],
    contract: Contract,
) -> tuple[str, Trial] | None:
    """Take the next trial of a worker of `stage`, with the stage that it is of: the highest rung comes first."""
    promote(line, plan, stage, trials, at_once=contract.confirmed_at_once)
    fitting = {name: contract.fitting(name) for name in STAGES[STAGES.index(stage) :]}

    def fits(name: str, waiting: FrozenTrial) -> bool:
        return fitting[name](waiting)

    for name in sources(stage, trials, fits):
        draw = sampler if name == STAGES[0] else partial(RandomSampler, seed=plan.seed)  # the others leave nothing open
        if trial := trials.claim(name, owner, sampler=draw, pruner=PRUNERS[name], fits=fitting[name]):
            return name, trial
    return None


def _look_for_plateau(trials: Trials, stage: str, noise: float) -> None:
    """End the stage's list where nothing better is to be expected of it."""
    if found := find(trials.of(stage), noise=noise):
        trials.level_off(stage, found)


def _sampler(
    line: Line,
    store: Store,
    plan: Plan,
    trials: Trials,
    owner: Attempt,
    space: Space,
    evidence: Sequence[Evidence],
) -> Callable[[], BaseSampler]:
    """Say what fills the trials that a stage leaves open."""
    if not line.search.warm:
        return partial(tpe, trials, plan, owner, n_startup=max(4, line.search.screen.trials // 2))
    made = warm(line, plan, space, recall(line, store, plan, space, evidence).studies)
    return lambda: made


def _foresight(line: Line, store: Store, plan: Plan, trials: Trials, evidence: Sequence[Evidence]) -> Foresight:
    """Say what earlier searches' curves tell of a screening trial before it ends."""
    return Foresight(
        plan=plan,
        stage=STAGES[0],
        goes_on=line.search.refine.trials,
        past=curves(line, store, plan, STAGES[0], evidence),
        results=trials.settled,
    )


def wake() -> None:
    """Import what the first export and the first optimiser would: those seconds are of the worker, not of its trial."""
    for module in ("onnxscript", "torch._dynamo"):
        importlib.import_module(module)


@contextmanager
def threads(workers: int) -> Iterator[None]:
    """Share this machine's cores with the other workers: two trials on one thread each beat one trial on two.

    A process that was given fewer threads, as by `OMP_NUM_THREADS`, keeps to those.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, min(before, _cores() // workers)))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _cores() -> int:
    """Count the cores that this process may use, which a container or an administrator may have limited."""
    if hasattr(os, "sched_getaffinity"):  # Linux alone has it
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
