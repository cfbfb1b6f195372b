from functools import partial

import numpy as np
import pytest

from recsys.latency.blocks import BLOCK_MS, FIRST, LOOKS, MOST, P50, ROUNDS, WARM_UP, measure_latency


@pytest.fixture
def measured(clock):
    def measure(seed=1, seconds=1.0, batch_size=1, enough=None, **servers):
        return measure_latency(
            servers,
            enough=enough,
            n_histories=6,
            batch_size=batch_size,
            seconds=seconds,
            seed=seed,
            clock=clock,
        )

    return measure


def test_graphs_of_constant_cost_have_their_milliseconds_and_ratio_without_doubt(measured, process):
    found = measured(quick=process(lambda: 1.0), slow=process(lambda: 3.0), batch_size=4)
    slow = found.result("slow")
    for estimate, value in (
        (slow.p50_ms, 3.0),
        (slow.p95_ms, 3.0),
        (slow.p99_ms, 3.0),
        (slow.users_per_s, 4000 / 3),
        (found.ratio(("slow",), ("quick",)), 3.0),
        (found.ratio(("quick",), ("slow",), quantiles=P50), 1 / 3),
    ):
        assert [estimate.value, estimate.low, estimate.high] == pytest.approx([value] * 3)
    assert (slow.graph, slow.batch_size) == ("slow", 4)


def test_time_that_others_had_the_core_is_told_apart_and_not_counted(measured, process):
    found = measured(one=process(lambda: 1.0, waits=3.0), other=process(lambda: 1.0))
    assert found.ratio(("one",), ("other",)).value == pytest.approx(1.0)
    assert found.waited_share == pytest.approx(3 / 5)  # 3 of the 1 + 3 + 1 milliseconds of a pair of requests


def test_every_round_times_each_once_on_the_same_rows_in_an_order_that_changes(measured, process):
    order = []
    servers = {}
    for name in ("a", "b"):
        servers[name] = process(lambda name=name: (order.append(name), 2.0)[1])
    found = measured(batch_size=3, **servers)
    warm = found.warm_up
    timed = {name: [o.rows for o in server.orders][warm[name] // WARM_UP :] for name, server in servers.items()}
    assert all(np.array_equal(a, b) for a, b in zip(timed["a"], timed["b"], strict=True))
    n_requests = found.blocks["a"].shape[1]
    assert {rows.shape for rows in timed["a"]} == {(FIRST + n_requests, 3)}
    assert n_requests == int(BLOCK_MS / 2.0)
    firsts = order[sum(warm.values()) :: 2 * (FIRST + n_requests)]
    assert set(firsts) == {"a", "b"}


def test_the_seed_fixes_rows_and_intervals(clock, process, measured):
    def run(seed):
        rng = np.random.default_rng(9)
        server = process(rng.lognormal)
        found = measured(seed, graph=server).result("graph")
        return found, np.concatenate([order.rows for order in server.orders])

    (one, rows), (again, same_rows), (_, other_rows) = run(1), run(1), run(2)
    assert one == again
    assert np.array_equal(rows, same_rows)
    assert not np.array_equal(rows[: len(other_rows)], other_rows[: len(rows)])


def test_what_is_enough_ends_the_rounds_at_a_look_and_otherwise_all_the_time_is_used(measured, process):
    asked = []

    def after(looks):
        def enough(found):
            asked.append(sum(blocks.sum() for blocks in found.blocks.values()) / 1000)
            return len(asked) == looks

        return enough

    def pair():
        return {name: process(lambda: 1.0) for name in ("one", "other")}

    early = measured(seconds=20.0, enough=after(1), **pair())
    assert asked == [pytest.approx(LOOKS[0] * 20, rel=0.15)]  # the seconds that counted, without first requests
    assert early.seconds == pytest.approx(LOOKS[0] * 20, rel=0.1)
    asked.clear()
    assert measured(seconds=20.0, enough=after(99), **pair()).seconds == pytest.approx(20, rel=0.1)
    assert len(asked) == len(LOOKS) - 1  # at the end nobody has to be asked
    assert measured(seconds=3.0, **pair()).seconds == pytest.approx(3, rel=0.2)
    assert len(measured(seconds=0.01, enough=after(99), **pair()).blocks["one"]) == ROUNDS


def test_first_requests_of_a_block_do_not_count(measured, process):
    asked = iter(range(10_000_000))
    server = process(lambda: 1.0)
    found = measured(graph=server)
    block = FIRST + found.blocks["graph"].shape[1]
    before = found.warm_up["graph"]

    def takes():
        at = next(asked) - before
        return 9.0 if at >= 0 and at % block < FIRST else 1.0

    again = measured(graph=process(takes))
    assert again.blocks["graph"].shape[1] == block - FIRST
    assert again.blocks["graph"].max() == 1.0


def test_rounds_in_which_others_used_the_machine_do_not_count(measured, process):
    class Disturbed:
        """Every third block others have the core, and what follows takes twice as long."""

        def __init__(self, quiet, crowded):
            self.quiet, self.crowded, self.blocks = quiet, crowded, 0

        def carry_out(self, order):
            self.blocks += 1
            return (self.quiet if self.blocks % 3 else self.crowded).carry_out(order)

    found = measured(graph=Disturbed(process(lambda: 1.0), process(lambda: 2.0, waits=0.5)))
    assert found.blocks["graph"].max() == 1.0
    assert 0.2 < found.disturbed / (found.disturbed + len(found.blocks["graph"])) < 0.45
    assert found.waited_share > 0.05


def test_processes_of_a_role_are_taken_together(measured, process):
    """Half of the requests take 1 ms and half 3, so that the median is the 1 and the p99 the 3."""
    found = measured(one=process(lambda: 1.0), again=process(lambda: 3.0), other=process(lambda: 2.0))
    together = found.result("one", "again")
    assert (together.graph, together.p50_ms.value, together.p99_ms.value) == ("one", 1.0, 3.0)
    assert together.users_per_s.value == pytest.approx(500.0)
    assert found.ratio(("one", "again"), ("other",), quantiles=P50).value == pytest.approx(0.5)
    assert found.ratio(("one", "again"), ("other",)).value == pytest.approx(1.5)


def test_a_run_on_a_crowded_machine_ends_by_the_wall_clock(measured, process):
    found = measured(seconds=1.0, graph=process(lambda: 0.2, waits=2.0))
    assert len(found.blocks["graph"]) >= ROUNDS
    assert found.blocks["graph"].sum() < 1000
    assert found.blocks["graph"].shape[1] == 150  # 30 ms at 0.2 ms each, the waits not being the graph's
    assert measured(seconds=0.1, graph=process(lambda: 0.001)).blocks["graph"].shape[1] == MOST


def test_slow_first_requests_are_none_of_those_that_count(measured, process):
    counted = iter(range(10_000_000))
    found = measured(graph=process(lambda: 9.0 if next(counted) < 70 else 1.0))
    assert found.warm_up["graph"] == 200  # after 100 most of them were slow
    assert found.blocks["graph"].max() == 1.0


class Machine:
    """Makes latencies with a long tail and, once in ten requests, a hiccup; whole stretches are slower than others."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.pace = 1.0

    def takes(self, cost_ms: float) -> float:
        self.pace = min(max(self.pace + self.rng.normal(0, 0.02), 0.7), 1.5)
        return cost_ms * self.pace * self.rng.lognormal(0, 0.2) * (3.0 if self.rng.random() < 0.1 else 1.0)


def test_identical_graphs_are_not_told_apart_and_a_slower_one_is(measured, process):
    covered, caught = 0, 0
    for seed in range(12):
        machine = Machine(seed)
        alike, twin, slower = (process(partial(machine.takes, cost)) for cost in (1.0, 1.0, 1.5))
        found = measured(seed, seconds=2.0, alike=alike, twin=twin, slower=slower)
        ratio = found.ratio(("twin",), ("alike",))
        covered += ratio.low <= 1 <= ratio.high
        caught += found.ratio(("slower",), ("alike",), quantiles=P50).low > 1
    assert covered >= 10  # 95 % intervals: fewer than 10 of 12 would come once in fifty such tests
    assert caught == 12
