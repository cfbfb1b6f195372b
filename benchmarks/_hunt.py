"""Run one search while its workers are killed with kill -9, and judge from outside what became of its trials.

The search runs through the functions that the DAGs' tasks call, with a process for each worker. One that was killed is
started again as the next attempt of its task. What a worker did is known from the lines that it logged, which reach us
through a pipe, and from no checkpoint.
"""

import logging
import re
import signal
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from recsys.records import Plan
from recsys.tuning.outcomes import NOT_BEGUN, RESUMES
from recsys.tuning.trials import Attempt, Trials
from retune import stages

SAID = {
    "taken a trial": re.compile(r"\w+ trial (\d+) of \S+ is begun by "),
    "begun an epoch": re.compile(r"Epoch (\d+) of \d+ begins"),
    "ended an epoch": re.compile(r"Epoch (\d+) of \d+: "),
    "ended a trial": re.compile(r"\w+ trial (\d+) of \S+: "),
}
"""What is heard of a worker, and the lines of its log that say so, each with the number of the trial or epoch."""

STARTED = "started"
WAITS_S = {STARTED: 2.0, "taken a trial": 0.3, "begun an epoch": 0.2, "ended an epoch": 0.03, "ended a trial": 0.03}
"""How long after something was heard of a worker it may be killed: about as long as what comes next takes."""

PRELOADED = ["torch.onnx", "torch._dynamo", "onnxscript", "optuna", "psycopg", "recsys.tuning", "retune.stages"]
PROCESSES = get_context("forkserver")  # as Airflow's workers do, each begins with the heavy modules imported
PROCESSES.set_forkserver_preload(PRELOADED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """When a worker is killed: so long after something was heard of it for the nth time."""

    after: str
    nth: int
    wait_s: float


@dataclass(slots=True)
class Worker:
    """A worker's process and what was heard of it."""

    process: Any
    pipe: Connection
    owner: Attempt
    moment: Moment | None
    heard: list[tuple[str, int]] = field(default_factory=list)  # with the number of the trial or epoch
    dies_at: float | None = None  # instant of the monotonic clock, once the moment is known
    deaf: bool = False  # the pipe is at its end

    def hear(self) -> None:
        """Take in what the worker has said since."""
        while not self.deaf and self.pipe.poll():
            try:
                self.note(*self.pipe.recv())
            except EOFError:
                self.deaf = True

    def note(self, what: str, number: int) -> None:
        """Keep one thing that was heard, and the moment if it follows from it."""
        self.heard.append((what, number))
        times = sum(said == what for said, _ in self.heard)
        if self.moment and (self.moment.after, self.moment.nth) == (what, times):
            self.dies_at = time.monotonic() + self.moment.wait_s


@dataclass(slots=True)
class Findings:
    """What one search showed."""

    trials: list[FrozenTrial]
    kills: list[str]  # what was last heard of each worker that was killed
    stuck: int
    lost: int
    dropped: int  # entries of the list that nobody finished
    repeated: list[int]  # epochs that each trial trained which an earlier owner of it had begun
    epochs: int  # that were begun


class Hunt:
    """One search whose workers are killed."""

    def __init__(self, site: stages.Site, plan: Plan, *, kills: int, rng: np.random.Generator) -> None:
        self._site, self._plan, self._left, self._rng = site, plan, kills, rng
        self._workers: list[Worker] = []  # all that ever were
        self._kills: list[str] = []
        self._finished: dict[int, tuple[Any, ...]] = {}  # what was seen of trials that had ended before a kill

    def run(self) -> Findings:
        """Search, kill, start again, close, and judge."""
        stages.open_search(self._site, self._plan)
        self._trials = Trials.load(self._plan, self._site.studies)
        for stage in stages.SEARCH_STAGES:
            at_work = [self._start(stage, job["worker"], 1) for job in stages.jobs(self._site, self._plan, stage)]
            while at_work:
                _sleep(at_work)
                at_work = [heir for worker in at_work if (heir := self._look_after(stage, worker))]
        stages.close_search(self._site, self._plan)
        return self._judge(self._trials.all())

    def _start(self, stage: str, number: int, attempt: int) -> Worker:
        owner = Attempt(run="kill", map_index=number, attempt=attempt)
        pipe, speaker = PROCESSES.Pipe(duplex=False)
        process = PROCESSES.Process(target=_work, args=(self._site, self._plan, stage, owner, speaker))
        process.start()
        speaker.close()
        worker = Worker(process, pipe, owner, draw(self._rng) if self._left > 0 else None)
        worker.note(STARTED, 0)
        self._workers.append(worker)
        return worker

    def _look_after(self, stage: str, worker: Worker) -> Worker | None:
        """Hear a worker, kill it when its moment has come, and give who goes on in its place."""
        worker.hear()
        if worker.dies_at is not None and time.monotonic() >= worker.dies_at:
            worker.dies_at = None
            if self._left > 0:
                self._note_finished()
                worker.process.kill()
                worker.process.join()
        if worker.process.exitcode is None:
            return worker
        worker.hear()
        if worker.process.exitcode == 0:
            return None
        if worker.process.exitcode != -signal.SIGKILL:
            raise SystemExit(f"{worker.owner} must end by itself or be killed, but ended as {worker.process.exitcode}.")
        self._left -= 1
        self._kills.append(worker.heard[-1][0])
        return self._start(stage, worker.owner.map_index, worker.owner.attempt + 1)

    def _note_finished(self) -> None:
        self._finished |= {trial.number: known(trial) for trial in self._trials.all() if trial.state.is_finished()}

    def _judge(self, trials: Sequence[FrozenTrial]) -> Findings:
        now = {trial.number: known(trial) for trial in trials}
        begun, ended = self._epochs("begun an epoch"), self._epochs("ended an epoch")
        entries = chains(trials)
        for chain in entries:
            whole = {epoch for trial in chain for epoch in ended[trial.number]}
            done = chain[-1].user_attrs.get("epochs_done")
            if done is not None and whole != set(range(1, done + 1)):
                raise SystemExit(f"Trial {chain[-1].number} says it trained {done} epochs, but heard were {whole}.")
        return Findings(
            trials=list(trials),
            kills=self._kills,
            stuck=sum(trial.state in (TrialState.RUNNING, TrialState.WAITING) for trial in trials),
            lost=sum(now.get(number) != known for number, known in self._finished.items()),
            dropped=sum(chain[-1].state not in (TrialState.COMPLETE, TrialState.PRUNED) for chain in entries),
            repeated=[n for chain in entries for n in repeated([begun[t.number] for t in chain])],
            epochs=sum(map(len, begun.values())),
        )

    def _epochs(self, what: str) -> defaultdict[int, list[int]]:
        """Give the epochs of each trial of which this was heard."""
        found: defaultdict[int, list[int]] = defaultdict(list)
        for worker in self._workers:
            trial = -1
            for said, number in worker.heard:
                if said == "taken a trial":
                    trial = number
                elif said == what:
                    found[trial].append(number)
        return found


def draw(rng: np.random.Generator) -> Moment:
    """Draw a moment of a worker's life; every part of it is as likely as any other, however short it is."""
    after = str(rng.choice(list(WAITS_S)))
    return Moment(
        after=after,
        nth=1 if after == STARTED else int(rng.integers(1, 4)),
        wait_s=float(rng.uniform(0, WAITS_S[after])),
    )


def _work(site: stages.Site, plan: Plan, stage: str, owner: Attempt, pipe: Connection) -> None:
    logging.getLogger().handlers = [_Speaker(pipe)]
    logging.getLogger("recsys").setLevel(logging.INFO)
    logging.getLogger("recsys.training").setLevel(logging.DEBUG)
    stages.work(site, plan, stage, owner=owner)


class _Speaker(logging.Handler):
    """Says to whoever listens what of the log is about trials and epochs."""

    def __init__(self, pipe: Connection) -> None:
        super().__init__()
        self._pipe = pipe

    def emit(self, record: logging.LogRecord) -> None:
        said = record.getMessage()
        for what, pattern in SAID.items():
            if match := pattern.match(said):
                self._pipe.send((what, int(match[1])))  # one write, so that it arrives whole or not at all


def _sleep(at_work: Sequence[Worker]) -> None:
    """Wait until one of the workers says something or ends, or until its moment has come."""
    moments = [worker.dies_at for worker in at_work if worker.dies_at is not None]
    timeout = max(0.0, min(moments) - time.monotonic()) if moments else None
    pipes = [worker.pipe for worker in at_work if not worker.deaf]
    wait([*pipes, *(worker.process.sentinel for worker in at_work)], timeout)


def known(trial: FrozenTrial) -> tuple[Any, ...]:
    facts = (trial.user_attrs.get(name) for name in ("stage", "entry", "seed", "family", "configuration"))
    return (trial.state, trial.values, trial.params, *facts)


def chains(trials: Sequence[FrozenTrial]) -> list[list[FrozenTrial]]:
    """Give each entry that was begun as the trials that it took, each of which resumes the one before.

    Two workers who list the same entry at once leave a copy of it, which nobody may begin.
    """
    by_entry: dict[str, list[FrozenTrial]] = defaultdict(list)
    for trial in trials:
        chain = by_entry[trial.user_attrs["entry"]]
        if chain and RESUMES not in trial.user_attrs and NOT_BEGUN in trial.user_attrs:
            continue
        chain.append(trial)
    for entry, chain in by_entry.items():
        resumed = [trial.user_attrs.get(RESUMES) for trial in chain]
        if resumed != [None, *(trial.number for trial in chain[:-1])]:
            raise SystemExit(f"The trials of {entry} must resume one another, but resume {resumed}.")
    return [chain for chain in by_entry.values() if NOT_BEGUN not in chain[-1].user_attrs]


def repeated(begun: Sequence[Sequence[int]]) -> Iterator[int]:
    """Count for each owner of a trial after the first the epochs that it trained although somebody had begun them."""
    known = set(begun[0])
    for epochs in begun[1:]:
        yield len(epochs) - len(set(epochs) - known)
        known |= set(epochs)
