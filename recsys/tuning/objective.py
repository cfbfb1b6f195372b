"""Run one trial: check what serving would cost, train on what lies before the windows, and measure on them."""

import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.exceptions import OptunaError
from optuna.trial import TrialState
from torch import nn

from recsys.dataset import Frozen
from recsys.errors import RecsysError, StoreError
from recsys.metrics import Evaluation, evaluate
from recsys.models import FAMILIES, Family, TorchScorer
from recsys.records import AblationPlan, Configuration, Plan, dump
from recsys.settings import Budgets, Stage
from recsys.split import moment
from recsys.store import Store
from recsys.studies import key
from recsys.subsample import portion
from recsys.training import Training, train
from recsys.transfer import Start, early_key, save_early
from recsys.tuning.budget import epochs
from recsys.tuning.checkpoint import CarriedCheckpoint, checkpoint_key
from recsys.tuning.constraints import Cost, Costs
from recsys.tuning.curves import Foresight
from recsys.tuning.detectors import examine
from recsys.tuning.outcomes import CONSTRAINTS, OUT_OF_TIME, SEEN_AT
from recsys.tuning.reuse import Known, Lookup, training_id
from recsys.tuning.space import Space

log = logging.getLogger(__name__)

SIGN_S = 1.0  # between two signs of life: writing one takes some milliseconds

QUARTERS = 4  # trials are compared after each quarter of their own training: equal epochs are not equal progress,
# because the learning rate falls along a cosine over a configuration's own number of epochs


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What all trials of a worker in one stage share."""

    store: Store
    plan: Plan | AblationPlan
    space: Space
    stage: Stage
    budgets: Budgets
    frozen: Frozen
    costs: Costs
    results: Lookup  # of earlier trials, so that nothing is trained twice
    device: str
    left_s: Callable[[], float]  # seconds that the stage has left, by what is known at the moment
    prunes: bool  # whether trials are compared before they end
    start: Start | None = None  # the weights that trials may begin from
    keeps: bool = False  # whether what complete trials have learned is kept until one is chosen
    foresight: Foresight | None = None  # what earlier searches' curves say of a trial before it ends


@dataclass(slots=True)
class Ending:
    """How a trial ends, and what is known of it by then."""

    state: TrialState = TrialState.FAIL
    value: float | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)  # by cause
    cpu_seconds: dict[str, float] = field(default_factory=dict)  # of all threads of this process, by cause
    checkpoint: str | None = None  # key of what nobody needs once the study knows how the trial ended
    evaluations: Sequence[Evaluation] = ()  # of the validation windows, oldest first, where they were asked for

    @contextmanager
    def timing(self, cause: str) -> Iterator[None]:
        """Count the seconds spent inside towards `cause`."""
        began, cpu_began = time.monotonic(), time.process_time()
        try:
            yield
        finally:
            self.seconds[cause] = self.seconds.get(cause, 0.0) + time.monotonic() - began
            self.cpu_seconds[cause] = self.cpu_seconds.get(cause, 0.0) + time.process_time() - cpu_began

    @property
    def all_facts(self) -> Mapping[str, Any]:
        """The facts with the seconds."""
        clocks = {"seconds": self.seconds, "cpu_seconds": self.cpu_seconds}
        return {
            **self.facts,
            **{name: {cause: round(s, 4) for cause, s in clock.items()} for name, clock in clocks.items()},
        }


def run(trial: optuna.Trial, bench: Bench) -> Ending:
    """Run `trial` to its end, which is not yet told to the study.

    A trial that raises has failed, with its reason, and the search goes on; only what says that the store, the study
    or this process is broken is raised.

    Raises:
        StoreError: The store did not do what was asked.
        OptunaError: The study did not; `UpdateFinishedTrialError` means that a later attempt has the trial.
    """
    ending = Ending()
    try:
        _run(trial, bench, ending)
    except (StoreError, OptunaError):
        raise
    except Exception as error:  # whatever a configuration does to PyTorch or ONNX is a finding about the configuration
        ending.state, ending.value = TrialState.FAIL, None
        ending.facts["reason"] = f"{type(error).__name__}: {error}"
        expected = isinstance(error, RecsysError | ValueError | MemoryError | torch.OutOfMemoryError)
        log.warning("trial %d failed: %s", trial.number, ending.facts["reason"], exc_info=not expected)
        if bench.device != "cpu":
            torch.cuda.empty_cache()  # the next trial shall not meet what this one left
    return ending


def training_of(facts: Mapping[str, Any], bench: Bench, family: Family, whole: Configuration) -> str:
    """Name the training of a trial, of which these are the facts, by all that decides its result."""
    return training_id(
        family,
        {**whole, "epochs": epochs(whole, bench.stage)},
        seed=int(facts["seed"]),
        share=bench.stage.share,
        dataset_id=bench.plan.dataset_id,
        device=bench.device,
        weights=bench.start.sha256 if bench.start else "",
    )


def _run(trial: optuna.Trial, bench: Bench, ending: Ending) -> None:
    family, whole = _configuration(trial, bench.space)
    family.check(whole)
    configuration = {**whole, "epochs": epochs(whole, bench.stage)}
    with ending.timing("lookup"):
        training = training_of(trial.user_attrs, bench, family, whole)
        known = bench.results.find(training)
    cost = _cost(bench, family, whole, known, ending)
    for name, excess in cost.excesses(bench.budgets).items():
        trial.set_constraint(name, excess)
    ending.facts |= {"size_mib": cost.size_mib, "p50_ms": cost.p50_ms, "p99_ms": cost.p99_ms}
    if missed := cost.misses(bench.budgets):
        ending.state, ending.facts["infeasible"] = TrialState.PRUNED, missed
        ending.facts["reason"] = "not trained, because serving it would cost too much"
        return
    ending.facts["training"] = training
    if known:
        ending.state, ending.value = TrialState.COMPLETE, known.ndcg_at_10
        ending.facts |= {"reused": known.source, "saved_s": known.seconds}
        return
    _train_and_measure(trial, bench, family, configuration, ending)


def _cost(bench: Bench, family: Family, configuration: Configuration, known: Known | None, ending: Ending) -> Cost:
    """Say what serving a configuration costs, of a known result as it was measured for that one."""
    earlier = key(known.plan_id, "costs") if known and known.plan_id else ""
    with ending.timing("lookup"):
        found = bench.costs.known(family, configuration, earlier=earlier)
    if found is None:
        with ending.timing(CONSTRAINTS):
            found = bench.costs.of(family, configuration)
    return found


def _configuration(trial: optuna.Trial, space: Space) -> tuple[Family, Configuration]:
    """Take the configuration that the trial was listed with, or let the sampler choose one."""
    facts = trial.user_attrs
    if "configuration" not in facts:
        name, configuration = space.suggest(trial)
        trial.set_user_attr("family", name)
        trial.set_user_attr("configuration", configuration)
        return FAMILIES[name], configuration
    name, configuration = facts["family"], facts["configuration"]
    if name not in FAMILIES:
        raise ValueError(f"A trial's family must be one of {sorted(FAMILIES)} but is {name!r}.")
    if space.parameters(name, configuration) is not None:
        space.suggest(trial)  # the listed values, so that the sampler learns from them
    return FAMILIES[name], configuration


def _train_and_measure(
    trial: optuna.Trial, bench: Bench, family: Family, configuration: Configuration, ending: Ending
) -> None:
    stage, seed = bench.stage, int(trial.user_attrs["seed"])
    network = family.build(configuration, n_items=bench.frozen.train.n_items)
    ending.checkpoint = checkpoint = checkpoint_key(
        bench.plan.plan_id, trial.user_attrs["entry"], family.name, configuration, seed=seed, share=stage.share
    )
    with tempfile.TemporaryDirectory() as folder:
        carried = CarriedCheckpoint(bench.store, checkpoint, Path(folder))
        carried.fetch()
        watch = _Watch(trial, bench, int(configuration["epochs"]), ending)
        training = train(
            network,
            bench.frozen.train,
            configuration,
            seed=seed,
            device=bench.device,
            share=stage.share,
            start=bench.start,
            checkpoint=carried.folder,
            on_checkpoint=carried.keep,
            on_epoch=watch,
        )
        ending.seconds["checkpoints"] = carried.seconds
    inside_s = sum(ending.seconds.get(cause, 0.0) for cause in ("checkpoints", "evaluation"))
    ending.seconds["training"] = max(0.0, training.seconds - inside_s)
    ending.cpu_seconds["training"] = max(0.0, training.cpu_seconds - ending.cpu_seconds.get("evaluation", 0.0))
    done = training.epochs - training.resumed_after
    if done or not configuration["epochs"]:
        ending.facts["units"] = stage.share * max(1, done)
    ending.facts |= {"epochs_done": training.epochs, "resumed_after": training.resumed_after}
    if training.covered:
        ending.facts["covered"] = dump(training.covered)
    _judge(bench, network, training, watch, ending)
    if ending.state is TrialState.COMPLETE:
        with ending.timing("detectors"):
            fresh = family.build(configuration, n_items=bench.frozen.train.n_items)
            _examine(trial, bench, network, training, fresh, ending)
    if ending.state is TrialState.COMPLETE and bench.keeps and configuration["epochs"]:
        with ending.timing("keeping"):
            _keep(bench, ending.facts["training"], network)


def _keep(bench: Bench, training: str, network: nn.Module) -> None:
    """Keep what a trial has learned: later searches may begin from it, because it knows nothing of the windows."""
    save_early(
        bench.store,
        early_key(bench.plan.plan_id, training),
        network,
        vocabulary=bench.frozen.vocabulary[: bench.frozen.train.n_items],
        learned_before=moment(bench.frozen.begins[0]),
    )


def _judge(bench: Bench, network: nn.Module, training: Training, watch: "_Watch", ending: Ending) -> None:
    """Say what the training came to."""
    if training.stopped == "finished":
        with ending.timing("evaluation"):
            ending.evaluations = evaluations(bench.frozen, network)
        windows = [_mean(evaluation) for evaluation in ending.evaluations]
        ending.state, ending.value = TrialState.COMPLETE, sum(windows) / len(windows)
        ending.facts["windows"] = windows
        return
    ending.state = TrialState.PRUNED
    ending.facts["reason"] = f"stopped after {training.epochs} of {watch.n_epochs} epochs: {watch.stopped_because}"


def _examine(
    trial: optuna.Trial, bench: Bench, network: nn.Module, training: Training, fresh: nn.Module, ending: Ending
) -> None:
    """Mark a trial whose network is unsound: what it reached means nothing.

    It is compared with fresh weights wherever it began: one that began from the incumbent's was never close to them, so
    that it cannot be taken for merely short when its training has spoilt what it was given.
    """
    seed = int(trial.user_attrs["seed"])
    learned = portion(bench.frozen.train, bench.stage.share, seed=seed)
    if training.losses:
        fresh.prepare(learned, seed)  # type: ignore[operator]
    signs = examine(network, learned, bench.frozen.windows[0], losses=training.losses, fresh=fresh)
    for sign in signs:
        trial.set_constraint(sign.name, sign.excess)
    if unsound := tuple(sign.said for sign in signs if sign.excess > 0):
        ending.state, ending.facts["infeasible"] = TrialState.PRUNED, unsound
        ending.facts["reason"] = "what it reached is not counted, because what it learned is unsound"


def measure(frozen: Frozen, network: nn.Module) -> list[float]:
    """Give NDCG@10 in each validation window, oldest first; each case's history is all that the user did before it."""
    return [_mean(evaluation) for evaluation in evaluations(frozen, network)]


def evaluations(frozen: Frozen, network: nn.Module) -> list[Evaluation]:
    """Give all that is measured of a network in each validation window, oldest first."""
    scorer = TorchScorer(network)
    return [evaluate(scorer, window, k=10) for window in frozen.windows]


def _mean(evaluation: Evaluation) -> float:
    return float(evaluation.ndcg.mean())


class _Watch:
    """Looks at a training after each epoch: reports each quarter, and stops what is hopeless or out of time."""

    def __init__(self, trial: optuna.Trial, bench: Bench, n_epochs: int, ending: Ending) -> None:
        self._trial, self._bench, self.n_epochs, self._ending = trial, bench, n_epochs, ending
        self.stopped_because = ""
        self._silent_until = time.monotonic() + SIGN_S
        facts = trial.user_attrs
        self._may_stop = not facts["incumbent"] and not facts.get("sentinel")  # with these, the others are compared
        self._family = facts["family"]
        # Of a trial that is taken up again, these are there already; the last of them may come a second time.
        self._reported = set(trial.storage.get_trial(trial._trial_id).intermediate_values)

    def __call__(self, epoch: int, network: nn.Module) -> bool:
        if epoch < self.n_epochs:
            if self._out_of_time():
                self.stopped_because = "the time of its stage was over"
                self._ending.facts[OUT_OF_TIME] = True
            else:
                self.stopped_because = self._objection(epoch, network)
        return bool(self.stopped_because)

    def _out_of_time(self) -> bool:
        """Give a sign of life and look at the clock, now and then.

        The study refuses the sign, and this worker stops, if a later attempt has the trial.
        """
        if time.monotonic() < self._silent_until:
            return False
        self._trial.set_user_attr(SEEN_AT, time.time())
        self._silent_until = time.monotonic() + SIGN_S
        return self._bench.left_s() <= 0

    def _objection(self, epoch: int, network: nn.Module) -> str:
        """Measure and report after each quarter, and say why the trial is not worth going on with, if it is not."""
        quarter = QUARTERS * epoch // self.n_epochs
        if not self._bench.prunes or quarter == QUARTERS * (epoch - 1) // self.n_epochs:
            return ""
        with self._ending.timing("evaluation"):
            windows = measure(self._bench.frozen, network)
        self._ending.value = sum(windows) / len(windows)
        if quarter not in self._reported:
            self._trial.report(self._ending.value, quarter)
        if not self._may_stop:
            return ""
        foresight = self._bench.foresight
        if foresight and (said := foresight.objection(self._family, quarter, self._ending.value)):
            return said
        return "below the median of the others" if self._trial.should_prune() else ""
