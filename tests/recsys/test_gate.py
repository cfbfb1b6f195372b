import json
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from recsys import channel, ledger
from recsys.bundles import FP32, INT8
from recsys.errors import NoRelease
from recsys.gate import gate, judge, verdict
from recsys.records import CohortResult, Comparison, Estimate, LatencyResult, Look, Outcome, Ratios, Scorecard
from recsys.settings import Budgets, Cohort, Gate
from recsys.significance import pair
from recsys.store.memory import MemoryStore

PASS, FAIL, INCONCLUSIVE = Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE


def around(value: float, low: float, high: float) -> Estimate:
    return Estimate(value=value, low=low, high=high)


def latency(graph: str, low: float, high: float) -> LatencyResult:
    times = {"p50_ms": around(1.0, 0.9, 1.1), "p95_ms": around(low, low, high), "p99_ms": around(low, low, high)}
    return LatencyResult(graph=graph, batch_size=1, users_per_s=around(1000, 900, 1100), **times)


def gaining(gain: float, spread: float = 0.01):
    """What two models reached on 100 users of one case each, half of whom gain `spread` more, half less.

    At the level 0.001, Student's t of 99 degrees is 3.175, so the interval is the gain and 0.319 times the spread.
    """
    incumbent = np.full(100, 0.11)
    return pair(incumbent + gain + np.tile([-spread, spread], 50), incumbent, np.arange(100))


DOUBTFUL = gaining(0.01, 0.05)
CANDIDATE = Scorecard(
    release_id="candidate",
    dataset_id="d",
    ndcg_at_10=around(0.11, 0.10, 0.12),
    recall_at_10=around(0.2, 0.1, 0.3),
    mrr=around(0.1, 0.0, 0.2),
    coverage=0.5,
    tail_share=0.5,
    cases=100,
    users=100,
    finite_share=1.0,
    constant_share=0.0,
    size_bytes=2**20,
    latency=(latency(FP32, 2.0, 3.0),),
    arrivals=None,
    memory_mib=100.0,
    cold_start_s=1.0,
    per_case_key="k",
)
GOOD = Comparison(
    candidate=CANDIDATE,
    incumbent=replace(CANDIDATE, release_id="incumbent"),
    references={},
    ndcg_gain=around(0.01, 0.004, 0.016),
    ratios=Ratios(p50=around(1.2, 1.1, 1.3), p99=around(1.2, 1.1, 1.3)),
    control=Ratios(p50=around(1.0, 0.98, 1.02), p99=around(1.0, 0.97, 1.03)),
    other_latency=(),
    quantisation_loss=None,
    by="tests",
    as_of=datetime(2026, 1, 1, tzinfo=UTC),
    paired=gaining(0.01),
    look=Look(
        number=1,
        at=datetime(2026, 1, 1, tzinfo=UTC),
        who="tests",
        dataset_id="d",
        candidate="candidate",
        incumbent="incumbent",
        level=0.001,
        budget=0.05,
        looks_a_year=50,
    ),
)


@pytest.fixture
def line(shop_line):
    """p99 within 8 ms, 8 MiB, a gain above 0.002, at most twice the incumbent's p99, at most 2 % for int8."""
    return shop_line.model_copy(
        update={
            "budgets": Budgets(p99_ms=8.0, size_mib=8.0),
            "gate": Gate(min_ndcg_gain=0.002, max_p99_ratio=2.0, max_quantisation_loss=0.02),
        }
    )


def served(**changes) -> Comparison:
    return replace(GOOD, candidate=replace(CANDIDATE, **changes))


def slower(p99: Estimate) -> Ratios:
    return replace(GOOD.ratios, p99=p99)


def with_ratio(low: float, high: float, p99_high: float = 7.0) -> Comparison:
    return replace(served(latency=(latency(FP32, 5.0, p99_high),)), ratios=slower(around(low, low, high)))


def with_loss(value: float, low: float, high: float, graph: str = INT8) -> Comparison:
    return replace(served(latency=(latency(graph, 2.0, 3.0),)), quantisation_loss=around(value, low, high))


@pytest.mark.parametrize(
    ("comparison", "check", "outcome"),
    [
        (GOOD, "novelty", PASS),
        (served(release_id="incumbent"), "novelty", FAIL),
        (GOOD, "sanity", PASS),
        (served(finite_share=0.99), "sanity", FAIL),
        (served(constant_share=0.01), "sanity", FAIL),
        # Of fewer than a hundred users no interval is believed, however clear it is.
        (GOOD, "users", PASS),
        (served(users=99), "users", INCONCLUSIVE),
        (served(users=1), "users", INCONCLUSIVE),
        # The gain must be shown to lie above 0.002: not by its value, by its whole interval.
        (GOOD, "quality", PASS),
        (replace(GOOD, paired=gaining(0.010, 0.024)), "quality", PASS),
        (replace(GOOD, paired=gaining(0.010, 0.026)), "quality", INCONCLUSIVE),
        (replace(GOOD, paired=gaining(0.001, 0.004)), "quality", INCONCLUSIVE),
        (replace(GOOD, paired=gaining(0.001, 0.003)), "quality", FAIL),
        (replace(GOOD, paired=gaining(-0.01)), "quality", FAIL),
        (replace(GOOD, paired=gaining(0.01, 0.0)), "quality", INCONCLUSIVE),  # where nobody differs, nothing is tested
        (replace(GOOD, paired=None), "quality", INCONCLUSIVE),
        (replace(GOOD, look=None), "quality", INCONCLUSIVE),
        (replace(GOOD, look=replace(GOOD.look, level=0.0)), "quality", INCONCLUSIVE),
        (served(latency=(latency(FP32, 7.0, 8.0),)), "p99", PASS),
        (served(latency=(latency(FP32, 7.0, 8.1),)), "p99", INCONCLUSIVE),
        (served(latency=(latency(FP32, 8.1, 9.0),)), "p99", FAIL),
        (with_ratio(1.5, 2.16), "p99_ratio", PASS),  # a margin of 8 % does not matter
        (with_ratio(1.5, 2.17), "p99_ratio", INCONCLUSIVE),
        (with_ratio(2.1, 2.5), "p99_ratio", FAIL),
        # However quick the incumbent is, a p99 that surely is within half of the budget of 8 ms is quick enough.
        (with_ratio(90.0, 110.0, p99_high=4.0), "p99_ratio", PASS),
        (with_ratio(90.0, 110.0, p99_high=4.1), "p99_ratio", FAIL),
        (served(size_bytes=8 * 2**20), "size", PASS),
        (served(size_bytes=8 * 2**20 + 1), "size", FAIL),
        (GOOD, "quantisation", PASS),
        (with_loss(0.02, -0.01, 0.05), "quantisation", PASS),
        (with_loss(0.03, 0.01, 0.05), "quantisation", INCONCLUSIVE),
        (with_loss(0.05, 0.03, 0.07), "quantisation", FAIL),
        (with_loss(0.05, 0.03, 0.07, graph=FP32), "quantisation", PASS),  # what does not serve does no harm
    ],
)
def test_each_check_follows_its_threshold(line, comparison, check, outcome):
    [found] = [each for each in judge(line, comparison, by="tests").checks if each.name == check]
    assert found.outcome is outcome
    assert found.because.endswith(".")


@pytest.mark.parametrize(
    ("comparison", "outcome"),
    [
        (GOOD, PASS),
        (served(size_bytes=9 * 2**20), FAIL),
        (replace(GOOD, paired=DOUBTFUL), INCONCLUSIVE),
        (replace(served(size_bytes=9 * 2**20), paired=DOUBTFUL), FAIL),
        (served(users=1), INCONCLUSIVE),
        (served(users=1, size_bytes=9 * 2**20), FAIL),
        (replace(served(latency=(latency(FP32, 7.0, 9.0),)), paired=DOUBTFUL), INCONCLUSIVE),
    ],
)
def test_one_failure_fails_and_one_doubt_leaves_the_incumbent(line, comparison, outcome):
    found = judge(line, comparison, by="tests")
    assert found.outcome is outcome
    assert (found.candidate, found.incumbent, found.by) == ("candidate", "incumbent", "tests")


def test_where_the_line_trades_quality_a_candidate_that_loses_little_passes(line):
    # 0.0017 of 0.11 are 1.5 %, and the interval reaches 0.319 times the spread of 1 % further: to 1.8 %.
    traded = line.model_copy(update={"gate": Gate(quality="non-inferiority", max_ndcg_loss=0.02)})
    lost = replace(GOOD, paired=gaining(-0.0165 * 0.1, 0.0011))
    [found] = [each for each in judge(traded, lost, by="tests").checks if each.name == "quality"]
    assert found.outcome is PASS
    assert (found.evidence["value"], found.evidence["limit"]) == (pytest.approx(-0.015), -0.02)
    assert found.evidence["low"] == pytest.approx(-0.015 - 0.00319, abs=1e-5)
    assert judge(line, lost, by="tests").outcome is FAIL
    stricter = line.model_copy(update={"gate": Gate(quality="non-inferiority", max_ndcg_loss=0.016)})
    assert judge(stricter, lost, by="tests").outcome is INCONCLUSIVE
    nothing = replace(GOOD, paired=pair(np.ones(100), np.zeros(100), np.arange(100)))
    assert judge(traded, nothing, by="tests").outcome is INCONCLUSIVE


def test_a_cohort_that_loses_fails_the_candidate(line):
    gate = line.gate.model_copy(update={"cohorts": {"device": Cohort(column="device")}})
    groups = tuple(
        CohortResult(cohort="device", group=group, paired=paired)
        for group, paired in (("app", gaining(0.02)), ("phone", gaining(-0.02)))
    )
    found = judge(line.model_copy(update={"gate": gate}), replace(GOOD, cohorts=groups), by="tests")
    assert found.outcome is FAIL
    assert found.because.startswith("candidate fails cohort device: phone, so incumbent stays: NDCG@10 of 100 users")
    assert judge(line, replace(GOOD, cohorts=groups), by="tests").outcome is PASS  # the line no longer declares it


def test_the_sentence_names_what_decided_with_its_numbers(line):
    passed = judge(line, GOOD, by="tests").because
    assert passed == (
        "candidate may replace incumbent: NDCG@10 changes by +0.0100 [+0.0068, +0.0132], p99 is 2 [2, 3] ms, "
        "and every budget is kept."
    )
    failed = judge(
        line,
        replace(served(size_bytes=9 * 2**20, latency=(latency(FP32, 9, 10),)), ratios=slower(around(1, 1, 1))),
        by="x",
    ).because
    assert failed == (
        "candidate fails p99 and size, so incumbent stays: p99 is 9 [9, 10] ms at batch 1, and the budget is 8 ms. "
        "The served graph has 9.00 MiB, and the budget is 8 MiB."
    )
    undecided = judge(line, replace(GOOD, paired=DOUBTFUL), by="tests").because
    assert undecided.startswith("candidate does not show quality, so incumbent stays: NDCG@10 changes by +0.0100 [")
    assert judge(line, served(users=27), by="tests").because == (
        "candidate was tried on a holdout with too few users, so incumbent stays: "
        "The holdout has 27 users, and intervals are believed from 100 on."
    )
    both = judge(line, replace(served(users=27), paired=DOUBTFUL), by="tests").because
    assert both.startswith(
        "candidate does not show quality and was tried on a holdout with too few users, so incumbent stays: The holdout"
    )


@pytest.fixture
def given_up() -> MemoryStore:
    """A store in whose channel the candidate followed the incumbent and was rolled back."""
    store, named = MemoryStore(), None
    for to, nonce in (("incumbent", "1"), ("candidate", "2"), ("incumbent", f"{channel.ROLLBACK}3")):
        channel.move(store, to=to, expect=named, by="operator", reason="It repeats itself.", nonce=nonce)
        named = to
    return store


def test_what_a_person_rolled_back_is_held_however_good_it_measures(line, given_up):
    found = gate(line, given_up, GOOD, by="asset")
    assert found.outcome is FAIL
    assert found.because == (
        "candidate fails novelty, so incumbent stays: operator rolled the candidate back in generation 3 (It repeats "
        "itself), and nobody has said why it may come back."
    )
    assert gate(line, given_up, served(release_id="another"), by="asset").outcome is PASS


def test_a_person_who_says_why_brings_back_what_was_rolled_back(line, given_up):
    found = gate(line, given_up, GOOD, by="operator", again="The list was wrong.")
    assert found.outcome is PASS
    assert found.because.endswith(", and every budget is kept. The list was wrong.")
    assert gate(line, given_up, served(finite_share=0.5), by="operator", again="It is quick.").outcome is FAIL
    with pytest.raises(ValueError, match="again must say why"):
        gate(line, given_up, GOOD, by="operator", again=" ")


def test_who_asks_the_same_again_gets_the_same_verdict(line, given_up):
    found = gate(line, given_up, served(release_id="another"), by="schedule")
    assert gate(line, given_up, served(release_id="another"), by="somebody") == found
    assert len(ledger.read(given_up)) == 1
    stricter = line.model_copy(update={"gate": line.gate.model_copy(update={"min_ndcg_gain": 0.5})})
    assert gate(stricter, given_up, served(release_id="another"), by="somebody").outcome is FAIL
    assert [entry.who for entry in ledger.read(given_up)] == ["schedule", "somebody"]


def test_the_verdict_lies_beside_the_bundle_and_in_the_ledger(line):
    store = MemoryStore()
    with pytest.raises(NoRelease):
        verdict(store, "candidate")
    found = gate(line, store, GOOD, by="somebody")
    assert verdict(store, "candidate") == found
    assert json.loads(store.get("releases/candidate/verdict.json").body)["outcome"] == "pass"
    [entry] = ledger.read(store)
    assert (entry.what, entry.who, entry.why) == ("gated", "somebody", found.because)
    evidence = {check["name"]: check["evidence"] for check in entry.evidence["checks"]}
    quality = {name: round(value, 4) for name, value in evidence["quality"].items()}
    assert quality == {"value": 0.01, "low": 0.0068, "high": 0.0132, "limit": 0.002, "p": 0, "level": 0.001, "look": 1}
    assert evidence["users"] == {"value": 100, "limit": 100}
