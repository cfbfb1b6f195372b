import os
import signal

import numpy as np
import psutil
import pytest

from recsys.bundles import FP32, read_bundle
from recsys.errors import BadBundle, NotServed
from recsys.latency.orders import Arriving, Closed
from recsys.latency.server import Served, Server, serving

ITEMS = ("a", "b", "c", "d")
TABLE = np.arange(25.0).reshape(5, 5)
HISTORIES = [["a"], ["b", "c"], ["d", "a", "b"]]
CORE = [min(os.sched_getaffinity(0))]


@pytest.fixture
def served(shop):
    bundle, files = read_bundle(shop.store, shop.bundle(TABLE, ITEMS).release_id)
    return Served(bundle=bundle, files=files, graph=FP32)


def test_a_fresh_process_answers_on_its_core_and_ends_with_its_owner(served):
    with Server(served, HISTORIES, cores=CORE) as server:
        process = psutil.Process(server.pid)
        assert process.cpu_affinity() == CORE
        assert server.pid != os.getpid()
        timed = server.carry_out(Closed(np.array([[0], [2], [1]])))
        assert timed.ms.shape == (3,)
        assert (timed.ms > 0).all()
        assert timed.ms.sum() <= timed.wall_ms
        assert server.started.cold_start_s > 0
        assert 0 < server.started.rss_mib <= server.peak_mib
    assert not process.is_running()


def test_requests_that_arrive_count_from_when_they_were_due(served):
    with Server(served, HISTORIES, cores=CORE) as server:
        at_once = server.carry_out(Arriving(np.zeros((50, 1), np.int64), np.zeros(50, np.int64)))
        spread = server.carry_out(Arriving(np.zeros((50, 1), np.int64), np.arange(50) * 2_000_000))
    assert (np.diff(at_once.ms) > 0).all()  # each waits for all before it
    assert spread.wall_ms >= 98
    assert np.median(spread.ms) < np.median(at_once.ms)


def test_a_bundle_that_cannot_be_served_is_refused_with_its_reason(served):
    broken = Served(bundle=served.bundle, files={**served.files, FP32: b"no graph"}, graph=FP32)
    with pytest.raises(BadBundle, match=rf"{FP32} of {served.bundle.release_id} must be a graph that runs") as refused:
        Server(broken, HISTORIES, cores=CORE)
    assert refused.value.file == FP32


def test_a_process_that_dies_says_so(served):
    with Server(served, HISTORIES, cores=CORE) as server:
        os.kill(server.pid, signal.SIGKILL)
        with pytest.raises(
            NotServed, match=rf"serves {FP32} of {served.bundle.release_id} must go on, but ended as -9"
        ):
            server.carry_out(Closed(np.array([[0]])))


def test_where_one_process_does_not_come_up_none_is_left(served):
    broken = Served(bundle=served.bundle, files={**served.files, FP32: b"no graph"}, graph=FP32)
    with pytest.raises(BadBundle), serving({"good": served, "bad": broken}, HISTORIES):
        pass
    own = [child for child in psutil.Process().children() if "recsys.latency.server" in " ".join(child.cmdline())]
    assert own == []


def test_all_processes_share_as_many_cores_as_the_most_threads_that_one_has(served):
    with serving({"one": served, "other": served}, HISTORIES) as servers:
        cores = [psutil.Process(server.pid).cpu_affinity() for server in servers.values()]
    assert cores == [[max(os.sched_getaffinity(0))]] * 2
