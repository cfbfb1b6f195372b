"""Whom `down` ends, and whom it leaves alone."""

import json
import signal
import subprocess
import sys
from dataclasses import asdict, replace

import psutil
import pytest

from retune.lease import AlreadySupervised, Holder, Lease
from retune.shutdown import down

TAKES = """
import signal, sys
from pathlib import Path
from retune.lease import Lease

if sys.argv[2] == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
lease = Lease.take(Path(sys.argv[1]))
print("taken", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def start():
    started = []

    def start(*arguments):
        process = subprocess.Popen(
            [sys.executable, "-c", *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout.readline() == "taken\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(("kind", "ended_by"), [("gentle", signal.SIGTERM), ("deaf", signal.SIGKILL)])
def test_a_supervisor_that_has_no_more_than_its_lease_is_ended(tmp_path, start, kind, ended_by):
    supervisor = start(TAKES, str(tmp_path / "home"), kind)
    assert down(tmp_path / "home", within_s=0.5) is True
    assert supervisor.wait(timeout=5) == -ended_by
    assert down(tmp_path / "home") is False


@pytest.mark.parametrize("noted", [True, False], ids=["with a note", "without"])
def test_a_process_that_has_an_ended_supervisors_number_is_left_alone(tmp_path, start, noted):
    stranger = start("print('taken', flush=True); input()")
    number = replace(Holder.of(psutil.Process(stranger.pid)), started_s=0.0)  # as another process once had it
    lease = Lease.take(tmp_path)  # somebody else's by now, who is about to write so
    (tmp_path / "supervisor.lock").write_text(json.dumps(asdict(number)))
    if noted:
        note = {"holder": asdict(number), "url": "http://127.0.0.1:1", "components": {}, "restarts": {}}
        (tmp_path / "supervisor.json").write_text(json.dumps(note))
    with pytest.raises(AlreadySupervised, match="not to be found here"):
        down(tmp_path, within_s=0.3)
    lease.give_back()
    assert down(tmp_path) is False
    assert stranger.poll() is None
