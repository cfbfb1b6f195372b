import json
import os
import subprocess
import sys
from dataclasses import replace

import psutil
import pytest

from retune.lease import AlreadySupervised, Holder, Lease, Running, last_supervisor, running, supervised

RUNS = {"url": "http://127.0.0.1:8080", "components": {"scheduler": 4712}, "restarts": {"scheduler": 1}}
US = Holder.of(psutil.Process())


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


def test_a_home_has_one_supervisor_and_the_second_is_told_who_it_is(home):
    lease = Lease.take(home)
    lease.write(**RUNS)
    with pytest.raises(AlreadySupervised, match=f"supervised already by process {os.getpid()} at http:"):
        Lease.take(home)
    lease.give_back()
    Lease.take(home).give_back()


def test_what_is_running_can_be_read_only_while_the_lease_is_held(home):
    assert running(home) is None
    lease = Lease.take(home)
    lease.write(**RUNS)
    assert running(home) == Running(holder=US, **RUNS)
    lease.give_back()
    assert running(home) is None
    assert last_supervisor(home) == Running(holder=US, **RUNS)


def test_who_has_just_taken_the_lease_is_known_whatever_the_last_ones_note_says(home):
    home.mkdir()
    last = Running(holder=Holder(pid=1, started_s=0.0), url="http://127.0.0.1:8080")
    (home / "supervisor.json").write_text(
        json.dumps({"holder": {"pid": 1, "started_s": 0.0}, "url": last.url, "components": {}, "restarts": {}})
    )
    lease = Lease.take(home)
    assert running(home) == Running(holder=US)
    assert last_supervisor(home) == last  # its port is wanted again
    with pytest.raises(AlreadySupervised, match=rf"supervised already by process {os.getpid()}; `retune down`"):
        Lease.take(home)
    lease.give_back()


@pytest.mark.parametrize("said", ["", json.dumps({"pid": os.getpid(), "started_s": 1.0})], ids=["nobody", "another"])
def test_a_holder_that_has_not_said_yet_who_it_is_is_nobody(home, said):
    lease = Lease.take(home)
    (home / "supervisor.lock").write_text(said)
    assert supervised(home)
    assert running(home) is None
    lease.give_back()
    assert not supervised(home)


def test_a_process_is_told_from_others_that_have_its_number():
    assert US.process() == psutil.Process()
    assert replace(US, started_s=US.started_s - 60).process() is None
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        other = Holder.of(psutil.Process(child.pid))
        assert other.process().pid == child.pid
    assert other.process() is None
