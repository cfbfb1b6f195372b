import gc
from contextlib import nullcontext
from functools import partial

import numpy as np
import pytest

from recsys.latency import ENOUGH, MOST, ROUNDS, WARM_UP, Latencies, measure_latency, run_delay

HISTORIES = np.arange(12).reshape(6, 2)


class Clock:
    """A wall clock and a clock of delays that only the scorers below move."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.waited_ns = 0

    def __call__(self) -> int:
        return self.now_ns

    def delays(self):
        return nullcontext(lambda: self.waited_ns)


class Scorer:
    """Takes the milliseconds that `takes` draws, of which others have the core for `waits`."""

    history_length = 2

    def __init__(self, clock: Clock, takes, waits: float = 0.0) -> None:
        self.clock, self.takes, self.waits = clock, takes, waits
        self.seen = []

    def __call__(self, history):
        self.seen.append(history)
        self.clock.now_ns += round(1e6 * (self.takes() + self.waits))
        self.clock.waited_ns += round(1e6 * self.waits)


def requests(scorer: Scorer):
    return lambda which: partial(scorer, HISTORIES[which])


def measured(clock: Clock, seed: int = 1, seconds: float = 1.0, batch_size: int = 1, **scorers: Scorer) -> Latencies:
    return measure_latency(
        {name: requests(scorer) for name, scorer in scorers.items()},
        n_histories=len(HISTORIES),
        batch_size=batch_size,
        seconds=seconds,
        seed=seed,
        clock=clock,
        delays=clock.delays,
    )


def test_graphs_of_constant_cost_have_their_milliseconds_and_ratio_without_doubt():
    clock = Clock()
    found = measured(clock, quick=Scorer(clock, lambda: 1.0), slow=Scorer(clock, lambda: 3.0))
    # A second for 40 rounds of both, at 4 ms for a request of each: 1000 / (40 x 4) = 6 requests in a block.
    assert {name: blocks.shape for name, blocks in found.blocks.items()} == {"quick": (ROUNDS, 6), "slow": (ROUNDS, 6)}
    slow = found.result("slow")
    for estimate, value in (
        (slow.p50_ms, 3.0),
        (slow.p99_ms, 3.0),
        (found.ratio("slow", "quick"), 3.0),
        (found.ratio("quick", "slow", quantile=0.5), 1 / 3),
    ):
        assert [estimate.value, estimate.low, estimate.high] == pytest.approx([value] * 3)
    assert (slow.graph, slow.batch_size) == ("slow", 1)


def test_time_that_others_had_the_core_is_told_apart_and_not_counted():
    clock = Clock()
    found = measured(clock, one=Scorer(clock, lambda: 1.0, waits=3.0), other=Scorer(clock, lambda: 1.0))
    assert found.ratio("one", "other").value == pytest.approx(1.0)
    assert found.waited_share == pytest.approx(3 / 5)  # 3 of the 1 + 3 + 1 milliseconds of a pair of requests


def test_every_round_times_each_graph_once_on_the_same_rows_in_an_order_that_changes():
    clock = Clock()
    order = []
    scorers = {}
    for name in ("a", "b"):
        scorer = Scorer(clock, lambda: 2.0)
        scorers[name] = scorer
        scorer.takes = lambda name=name: (order.append(name), 2.0)[1]
    found = measured(clock, batch_size=3, **scorers)
    n_requests = found.blocks["a"].shape[1]
    assert all(np.array_equal(a, b) for a, b in zip(scorers["a"].seen, scorers["b"].seen, strict=True))
    assert {request.shape for request in scorers["a"].seen} == {(3, 2)}
    timed = order[2 * WARM_UP :]
    rounds = [tuple(timed[at : at + 2 * n_requests : n_requests]) for at in range(0, len(timed), 2 * n_requests)]
    assert len(rounds) == ROUNDS
    assert set(rounds) == {("a", "b"), ("b", "a")}


def test_the_seed_fixes_rows_and_intervals():
    def run(seed):
        clock = Clock()
        rng = np.random.default_rng(9)
        scorer = Scorer(clock, lambda: rng.lognormal())
        return measured(clock, seed, graph=scorer).result("graph"), np.array(scorer.seen)

    (one, rows), (again, same_rows), (_, other_rows) = run(1), run(1), run(2)
    assert one == again
    assert np.array_equal(rows, same_rows)
    assert not np.array_equal(rows, other_rows)


def test_a_run_that_is_out_of_time_ends_with_enough_rounds_and_a_quick_one_is_not_endless():
    clock = Clock()
    assert measured(clock, seconds=1.0, graph=Scorer(clock, lambda: 50.0)).blocks["graph"].shape == (ENOUGH, 5)
    clock = Clock()
    assert measured(clock, seconds=9.0, graph=Scorer(clock, lambda: 0.001)).blocks["graph"].shape == (ROUNDS, MOST)


class Machine:
    """Makes latencies with a long tail and, once in ten requests, a hiccup; whole stretches are slower than others."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.pace = 1.0

    def takes(self, cost_ms: float) -> float:
        self.pace = min(max(self.pace + self.rng.normal(0, 0.02), 0.7), 1.5)
        return cost_ms * self.pace * self.rng.lognormal(0, 0.2) * (3.0 if self.rng.random() < 0.1 else 1.0)


def test_identical_graphs_are_not_told_apart_and_a_slower_one_is():
    covered, caught = 0, 0
    for seed in range(12):
        clock, machine = Clock(), Machine(seed)
        alike, twin, slower = (Scorer(clock, partial(machine.takes, cost)) for cost in (1.0, 1.0, 1.5))
        found = measured(clock, seed, seconds=2.0, alike=alike, twin=twin, slower=slower)
        ratio = found.ratio("twin", "alike")
        covered += ratio.low <= 1 <= ratio.high
        caught += found.ratio("slower", "alike", quantile=0.5).low > 1
    assert covered >= 10  # 95 % intervals: fewer than 10 of 12 would come once in fifty such tests
    assert caught == 12


def test_the_collector_of_garbage_works_again_afterwards():
    clock = Clock()
    enabled = []
    measured(clock, graph=Scorer(clock, lambda: (enabled.append(gc.isenabled()), 50.0)[1]))
    assert not any(enabled)
    assert gc.isenabled()


def test_the_delay_of_this_thread_never_shrinks():
    with run_delay() as delay:
        before = delay()
        assert delay() >= before >= 0
