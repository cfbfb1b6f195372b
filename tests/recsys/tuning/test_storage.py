import json
import select
import signal
import subprocess
import sys
import time

import optuna

from recsys.tuning import storage
from recsys.tuning.storage import KernelLock, open_storage

# The module alone: importing the whole package would take seconds in each process.
ALONE = f"""
import importlib.util, sys, time
from pathlib import Path
spec = importlib.util.spec_from_file_location("storage", {storage.__file__!r})
storage = importlib.util.module_from_spec(spec)
spec.loader.exec_module(storage)
path = Path(sys.argv[1])
"""

DIES_WRITING = """
storage.KernelLock(path).acquire()
with path.open("ab") as journal:
    journal.write(b'{"op_code": 0, "stu')
print("held", flush=True)
time.sleep(600)
"""

WAITS = """
print("waiting", flush=True)
storage.KernelLock(path).acquire()
print("in", flush=True)
"""

ADDS = """
import optuna
study = optuna.load_study(study_name="s", storage=storage.open_storage(str(path)))
for _ in range(10):
    study.add_trial(optuna.trial.create_trial(value=float(sys.argv[2])))
"""


def start(script, path, *arguments):
    command = [sys.executable, "-c", ALONE + script, str(path), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def study(path):
    return optuna.create_study(study_name="s", storage=open_storage(str(path)), load_if_exists=True)


def test_a_writer_that_is_killed_holds_nobody_up_and_leaves_no_half_line(tmp_path):
    path = tmp_path / "journal"
    study(path).add_trial(optuna.trial.create_trial(value=1.0))
    with start(DIES_WRITING, path) as process:
        assert process.stdout.readline() == "held\n"
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert not path.read_text().endswith("\n")

    began = time.monotonic()
    study(path).add_trial(optuna.trial.create_trial(value=2.0))
    assert time.monotonic() - began < 20  # Optuna's own lock takes 30 s
    assert [trial.value for trial in study(path).trials] == [1.0, 2.0]
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_processes_that_write_at_once_lose_nothing(tmp_path):
    path = tmp_path / "journal"
    study(path)
    processes = [start(ADDS, path, str(worker)) for worker in range(3)]
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    values = [trial.value for trial in study(path).trials]
    assert sorted(values) == [0.0] * 10 + [1.0] * 10 + [2.0] * 10


def test_the_lock_keeps_others_out_until_it_is_released(tmp_path):
    path = tmp_path / "journal"
    path.touch()
    lock = KernelLock(path)
    lock.acquire()
    with start(WAITS, path) as process:
        assert process.stdout.readline() == "waiting\n"
        assert select.select([process.stdout], [], [], 0.2)[0] == []
        lock.release()
        assert process.stdout.readline() == "in\n"


def test_a_relative_path_means_the_same_wherever_a_process_goes_later(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one = optuna.create_study(study_name="s", storage=open_storage("var/studies.journal"))
    monkeypatch.chdir("/")
    one.add_trial(optuna.trial.create_trial(value=1.0))
    assert (tmp_path / "var" / "studies.journal").stat().st_size > 0
