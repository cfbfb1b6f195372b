"""A worker is killed at planted moments of one trial, each time by itself when it logs what it was to be killed at."""

import json
import os
import subprocess
import sys

import pytest

from recsys import tuning
from recsys.models import FAMILIES
from recsys.records import dump
from recsys.tuning import Attempt
from recsys.tuning.trials import Trials

# One process imports what takes seconds, and forks every attempt.
ATTEMPTS = r"""
import importlib, json, logging, os, re, signal, sys, traceback
from recsys import tuning
from recsys.records import Plan, load
from recsys.settings import Line
from recsys.store import open_store

for module in ("onnxscript", "torch._dynamo"):
    importlib.import_module(module)

line, plan, store, studies, moments = json.loads(sys.argv[1])

class Dies(logging.Handler):
    def __init__(self, attempt, moment):
        super().__init__()
        self.attempt, self.moment = attempt, moment

    def emit(self, record):
        said = record.getMessage()
        if begun := re.match(r"Epoch (\d+) of \d+ begins", said):
            print(self.attempt, begun[1], flush=True)
        if self.moment and re.match(self.moment, said):
            os.kill(os.getpid(), signal.SIGKILL)

def work(attempt, moment):
    logging.getLogger().handlers = [Dies(attempt, moment)]
    logging.getLogger("recsys").setLevel("DEBUG")
    owner = tuning.Attempt(run="monday", map_index=0, attempt=attempt)
    tuning.work(Line.model_validate_json(line), open_store(store), load(Plan, plan), "screen", studies, owner=owner)

for attempt, moment in enumerate([*moments, None], 1):
    if not (child := os.fork()):
        try:
            work(attempt, moment)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert ended == (-signal.SIGKILL if moment else 0), (attempt, moment, ended)
"""

MOMENTS = (
    r"screen trial 0 of \S+ is begun by",
    r"Epoch 2 of 6 begins",
    r"Epoch 3 of 6: ",  # trained, and its state not yet kept
    r"Epoch 6 of 6: ",
    r"screen trial 4 of \S+: complete",  # the study knows it
)


def begin(shop, line, plan):
    tuning.open_study(line, shop.store, plan, shop.studies)
    tuning.jobs(line, shop.store, plan, "screen", shop.studies)


def test_five_deaths_cost_a_trial_one_epoch_each_at_most_and_change_nothing_of_what_it_finds(shop, retune, a_line):
    shape = {"dim": 32, "hidden": 64, "history_length": 20}
    configuration = {**FAMILIES["two_tower"].defaults, **shape, "epochs": 6}
    line = a_line(screen={"trials": 1, "share": 1.0, "epochs": 1.0}, refine={"trials": 1}, confirm={"trials": 1})
    verdict = shop.released("two_tower", configuration)
    undisturbed, plan = (retune(verdict=verdict, line=line, nonce=nonce) for nonce in ("one", "two"))
    begin(shop, line, undisturbed)
    owner = Attempt(run="monday", map_index=0, attempt=1)
    [expected, *_] = tuning.work(line, shop.store, undisturbed, "screen", shop.studies, owner=owner)

    begin(shop, line, plan)
    arguments = json.dumps([line.model_dump_json(), dump(plan), shop.store.url, shop.studies, MOMENTS])
    said = subprocess.run(
        [sys.executable, "-c", ATTEMPTS, arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    begun = [tuple(map(int, row.split())) for row in said.splitlines()]
    epochs = [[epoch for attempt, epoch in begun if attempt == number] for number in range(1, 7)]
    assert epochs == [[], [1, 2], [2, 3], [3, 4, 5, 6], [6], []]

    tuning.close(line, shop.store, plan, shop.studies)
    trials = Trials.load(plan, shop.studies).of("screen")
    assert [trial.state.name for trial in trials] == ["FAIL", "FAIL", "FAIL", "FAIL", "COMPLETE"]
    assert [trial.user_attrs.get("resumes") for trial in trials] == [None, 0, 1, 2, 3]
    assert trials[-1].value == pytest.approx(expected.ndcg_at_10, abs=1e-6)
    [steady] = Trials.load(undisturbed, shop.studies).of("screen")
    assert trials[-1].intermediate_values == pytest.approx(steady.intermediate_values, abs=1e-6)
    assert list(steady.intermediate_values) == [1, 2, 3]
