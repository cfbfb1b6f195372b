import time

import numpy as np
import pytest

from recsys.latency.arrivals import LEAST_TURNS, measure_arrivals
from recsys.latency.orders import Arriving, Here, Timed


@pytest.fixture
def measured(clock):
    def measure(seed=1, seconds=8.0, per_s=100.0, **servers):
        return measure_arrivals(
            servers, n_histories=6, batch_size=2, per_s=per_s, seconds=seconds, seed=seed, clock=clock
        )

    return measure


def test_requests_arrive_at_random_as_often_as_they_should_and_the_same_for_all(measured, process):
    servers = {name: process(lambda: 1.0) for name in ("a", "b")}
    found = measured(seconds=60.0, **servers)
    first, second = (server.orders for server in servers.values())
    for one, other in zip(first, second, strict=True):
        assert np.array_equal(one.due_ns, other.due_ns)
        assert np.array_equal(one.rows, other.rows)
    gaps = np.concatenate([np.diff(order.due_ns, prepend=0) for order in first]) / 1e9
    assert gaps.mean() == pytest.approx(1 / 100, rel=0.05)
    assert gaps.std() == pytest.approx(1 / 100, rel=0.05)  # as of an exponential, whose deviation is its mean
    assert (found.rounds, len(first)) == (50, 60)  # the first sixth of the turns does not count
    assert {order.rows.shape for order in first} == {(50, 2)}


def test_quantiles_and_ratios_come_with_intervals(measured, process):
    found = measured(quick=process(lambda: 1.0), slow=process(lambda: 3.0))
    slow = found.result("slow")
    assert (slow.per_s, slow.batch_size, slow.p99_ms.value) == (100.0, 2, 3.0)
    assert slow.p99_ms.low == pytest.approx(3.0)
    assert found.ratio("slow", "quick").value == pytest.approx(3.0)
    assert slow.busy == pytest.approx(0.3, rel=0.2)  # 3 ms, a hundred times a second


def test_few_arrivals_still_come_in_enough_turns(measured, process):
    found = measured(seconds=1.0, per_s=2.0, graph=process(lambda: 1.0))
    assert found.rounds == LEAST_TURNS * 5 / 6


def test_a_rate_that_is_none_is_refused(measured, process):
    with pytest.raises(ValueError, match=r"per_s must be above 0 but is 0\.0"):
        measured(per_s=0.0, graph=process(lambda: 1.0))


class Queue:
    """Answers in `ms` each what arrives, one after the other, and knows when it is done."""

    def __init__(self, ms: float) -> None:
        self.ms = ms
        self.behind_ms: list[float] = []

    def carry_out(self, order: Arriving) -> Timed:
        self.behind_ms.append(order.behind_ns / 1e6)
        free, took = order.behind_ns / 1e6, []
        for due in order.due_ns / 1e6:
            free = max(free, due) + self.ms
            took.append(free - due)
        wall_ms = free - order.behind_ns / 1e6
        return Timed(ms=np.array(took), waited_ms=0.0, wall_ms=wall_ms, busy_ms=self.ms * len(took))


def test_a_queue_is_carried_into_the_next_turn(measured):
    crowded, quick = Queue(9.0), Queue(1.0)
    found = measured(seconds=400.0, crowded=crowded, quick=quick)
    assert max(crowded.behind_ms) > 9.0
    assert max(quick.behind_ms) < 4.0
    assert found.busy["crowded"] == pytest.approx(0.9, abs=0.03)
    assert found.busy["quick"] == pytest.approx(0.1, abs=0.01)
    # Pollaczek-Khinchine: the mean time in a queue of constant service s at load r is s + s r / (2 (1 - r)).
    for role, ms, load in (("quick", 1.0, 0.1), ("crowded", 9.0, 0.9)):
        assert found.turns[role].mean() == pytest.approx(ms + ms * load / (2 * (1 - load)), rel=0.3), role


def test_a_process_that_cannot_keep_up_is_busy_all_the_time_and_its_queue_grows(measured):
    late = Queue(11.0)
    found = measured(seconds=60.0, late=late)
    assert found.result("late").busy == 1.0
    assert late.behind_ms[-1] > 10 * late.behind_ms[2] > 0


def test_requests_that_are_behind_wait_from_when_they_were_due():
    asked = []
    rows = np.arange(3).reshape(3, 1)
    due_ns = np.array([0, 1_000_000, 2_000_000])
    timed = Here(lambda row: lambda: asked.append(int(row[0]))).carry_out(Arriving(rows, due_ns, behind_ns=10_000_000))
    assert asked == [0, 1, 2]
    assert timed.ms[0] >= 10
    assert timed.ms[2] >= 8
    assert timed.busy_ms < timed.ms[0]


def test_nothing_is_answered_before_it_is_due():
    began = time.perf_counter_ns()
    at = []
    rows = np.zeros((2, 1), np.int64)
    Here(lambda _: lambda: at.append(time.perf_counter_ns() - began)).carry_out(
        Arriving(rows, np.array([0, 20_000_000]))
    )
    assert at[1] - at[0] >= 0
    assert at[1] >= 20_000_000 - 5_000_000  # less what others had the core, which does not pass
