"""Work on one stage of a search until its list or its time is at an end, whatever became of those who worked before."""

import importlib
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from statistics import median

import torch
from optuna.exceptions import UpdateFinishedTrialError
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, Trial

from recsys.dataset import dataset
from recsys.dataset import load as load_dataset
from recsys.records import Action, Plan, TrialResult
from recsys.settings import Line, Stage
from recsys.store import Store
from recsys.studies import key
from recsys.tuning.budget import Forecast, fits, left_s
from recsys.tuning.constraints import Costs
from recsys.tuning.curves import Foresight
from recsys.tuning.halving import promote, sources
from recsys.tuning.objective import Bench, run
from recsys.tuning.outcomes import paid, result
from recsys.tuning.past import curves, readable, recall
from recsys.tuning.promotion import STAGES, contenders, ended, is_incumbent, promoted
from recsys.tuning.ranking import identity
from recsys.tuning.reuse import Results
from recsys.tuning.rungs import fitted
from recsys.tuning.sampler import PRUNERS, tpe, warm
from recsys.tuning.space import Space, search_space
from recsys.tuning.stages import check_stage
from recsys.tuning.trials import Attempt, Trials

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
    if plan.action is not Action.RETUNE:
        return []
    line, trials = fitted(line, plan), Trials.load(plan, studies)
    for rung in STAGES[STAGES.index(stage) :]:
        trials.supersede(rung, owner)
    ended: list[TrialResult] = []
    with _threads(line.search.workers):
        for found in _ended_trials(line, store, plan, stage, trials, owner):
            ended.append(found)
            if on_trial is not None:
                on_trial(found)
    return ended


def _ended_trials(
    line: Line, store: Store, plan: Plan, stage: str, trials: Trials, owner: Attempt
) -> Iterator[TrialResult]:
    _wake()
    frozen = load_dataset(store, dataset(store, plan.dataset_id))
    costs = Costs(
        store,
        prefix=key(plan.plan_id, "costs"),
        n_items=frozen.before_holdout.n_items,  # what is served in the end knows all of them
        budgets=line.budgets,
        cases=frozen.windows[-1],
    )
    searched = search_space(line)
    sampler = _sampler(line, store, plan, trials, owner, searched)
    results = Results(plan.plan_id, trials.all, readable(store))
    foresight = _foresight(line, store, plan, trials) if line.search.warm else None
    while True:
        claimed = _claim(line, plan, stage, trials, owner, sampler)
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
            device="cuda" if torch.cuda.is_available() else "cpu",
            left_s=partial(_left_s, line, plan, own, trials),
            prunes=own == STAGES[0],
            foresight=foresight if own == STAGES[0] else None,
        )
        try:
            ending = run(trial, bench)
            trials.end(trial, ending.state, ending.value, ending.all_facts)
            if ending.checkpoint:
                store.delete(ending.checkpoint)
        except UpdateFinishedTrialError:
            log.warning("trial %d has been taken from %s, which therefore stops", trial.number, owner)
            return
        found = result(trials.all()[trial.number])
        log.info("%s trial %d of %s: %s %s", own, trial.number, plan.plan_id, found.state, found.ndcg_at_10)
        yield found


def _claim(
    line: Line,
    plan: Plan,
    stage: str,
    trials: Trials,
    owner: Attempt,
    sampler: Callable[[], BaseSampler],
) -> tuple[str, Trial] | None:
    """Take the next trial of a worker of `stage`, with the stage that it is of: the highest rung comes first."""
    promote(line, plan, stage, trials)
    forecast = Forecast.of(paid(trials.all()))
    left = {name: _left_s(line, plan, name, trials) for name in STAGES[STAGES.index(stage) :]}

    def fit(name: str, waiting: FrozenTrial) -> bool:
        return _fits(getattr(line.search, name), name, trials, forecast, left[name], waiting)

    for name in sources(stage, trials, fit):
        draw = sampler if name == STAGES[0] else partial(RandomSampler, seed=plan.seed)  # the others leave nothing open
        if trial := trials.claim(name, owner, sampler=draw, pruner=PRUNERS[name], fits=partial(fit, name)):
            return name, trial
    return None


def _sampler(
    line: Line, store: Store, plan: Plan, trials: Trials, owner: Attempt, space: Space
) -> Callable[[], BaseSampler]:
    """Say what fills the trials that a stage leaves open."""
    if not line.search.warm:
        return partial(tpe, trials, plan, owner, n_startup=max(4, line.search.screen.trials // 2))
    made = warm(line, plan, space, recall(line, store, plan, space).studies)
    return lambda: made


def _foresight(line: Line, store: Store, plan: Plan, trials: Trials) -> Foresight:
    """Say what earlier searches' curves tell of a screening trial before it ends."""
    return Foresight(
        plan=plan,
        stage=STAGES[0],
        goes_on=line.search.refine.trials,
        past=curves(line, store, plan, STAGES[0]),
        results=trials.settled,
    )


def _left_s(line: Line, plan: Plan, stage: str, trials: Trials) -> float:
    """Say how many seconds `stage` has left, what is foreseen for the stages after it being set aside."""
    after = STAGES[STAGES.index(stage) + 1 :]
    results = trials.settled()
    ranked = contenders(plan, results, before=after[0] if after else None)
    if after and all(is_incumbent(plan, standing) for standing in ranked):
        return left_s(plan.budget_s, trials.spent_s, None)
    forecast = Forecast.of(paid(trials.all()))
    reserves_s = []
    for name in after:
        rung: Stage = getattr(line.search, name)
        done = ended(results, name, rung)
        awaited = [s for s in promoted(plan, ranked, rung) if identity(s.family, s.configuration) not in done]
        reserves_s.append(forecast.stage(awaited, rung, workers=line.search.workers))
    return left_s(plan.budget_s, trials.spent_s, reserves_s)


def _fits(rung: Stage, stage: str, trials: Trials, forecast: Forecast, left: float, waiting: FrozenTrial) -> bool:
    """Whether a waiting trial would end in time; one that the sampler is to fill is taken for the stage's median."""
    facts = waiting.user_attrs
    if "configuration" in facts:
        return fits(forecast.trial(facts["family"], facts["configuration"], rung), left)
    seconds = [found.seconds for found in trials.results() if found.stage == stage and not found.reused]
    return fits(median(seconds) if seconds else None, left)


def _wake() -> None:
    """Import what the first export and the first optimiser would: those seconds are of the worker, not of its trial."""
    for module in ("onnxscript", "torch._dynamo"):
        importlib.import_module(module)


@contextmanager
def _threads(workers: int) -> Iterator[None]:
    """Share this machine's cores with the other workers: two trials on one thread each beat one trial on two."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, _cores() // workers))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _cores() -> int:
    """Count the cores that this process may use, which a container or an administrator may have limited."""
    if hasattr(os, "sched_getaffinity"):  # Linux alone has it
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
