import numpy as np
import pytest

from recsys.latency.arrivals import LEAST_TURNS, measure_arrivals


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
    assert found.rounds == len(first) == 60
    assert {order.rows.shape for order in first} == {(50, 2)}


def test_quantiles_and_ratios_come_with_intervals(measured, process):
    found = measured(quick=process(lambda: 1.0), slow=process(lambda: 3.0))
    slow = found.result("slow")
    assert (slow.per_s, slow.batch_size, slow.p99_ms.value, slow.p99_ms.low) == (100.0, 2, 3.0, 3.0)
    assert found.ratio("slow", "quick").value == 3.0


def test_few_arrivals_still_come_in_enough_turns(measured, process):
    found = measured(seconds=1.0, per_s=2.0, graph=process(lambda: 1.0))
    assert found.rounds == LEAST_TURNS


def test_a_rate_that_is_none_is_refused(measured, process):
    with pytest.raises(ValueError, match=r"per_s must be above 0 but is 0\.0"):
        measured(per_s=0.0, graph=process(lambda: 1.0))
