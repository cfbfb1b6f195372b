import hashlib
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from recsys import decisions
from recsys.bundles import FP32, key
from recsys.decision_page import number, picture, render
from recsys.gate import gate, keep
from recsys.records import Check, Comparison, Estimate, LatencyResult, Outcome, Said, Verdict, to_json
from recsys.settings import Gate

ITEMS = ("a", "b", "c")
ATTACK = "<script>alert('x')</script>"


@pytest.fixture
def compared(shop, a_scorecard, a_comparison) -> Comparison:
    """A candidate that is much better than what is in production, and as quick, kept where measuring keeps it."""
    first, second = (shop.bundle(np.arange(16).reshape(4, 4) + n, ITEMS) for n in (0, 1))
    shop.produce(first)
    p50_ms, p95_ms, p99_ms, per_s = (Estimate(value=at, low=at, high=at) for at in (0.1, 0.15, 0.2, 9000))
    latency = (LatencyResult(graph=FP32, batch_size=1, p50_ms=p50_ms, p95_ms=p95_ms, p99_ms=p99_ms, users_per_s=per_s),)
    cards = [
        a_scorecard(of.release_id, ndcg, dataset_id=of.dataset_id, latency=latency)
        for of, ndcg in ((second, 0.4), (first, 0.2))
    ]
    made = a_comparison(*cards, as_of=second.as_of, seconds=7.5)
    shop.store.put(key(second.release_id, "comparisons/x.json"), to_json(made))
    return made


def strict(shop):
    return shop.line.model_copy(update={"gate": Gate(min_ndcg_gain=0.3)})


def records(shop, compared):
    return decisions.records(shop.store, compared.candidate.release_id)


def test_a_gating_leaves_its_record_and_its_page_beside_the_bundle(shop, compared):
    judged = gate(shop.line, shop.store, compared, by="ann")
    [record] = records(shop, compared)
    assert record.verdict == judged
    assert (record.line, record.dataset_id, record.look) == ("shop", shop.dataset.dataset_id, compared.look)
    assert record.policy == {
        "gate": shop.line.gate.model_dump(mode="json"),
        "budgets": shop.line.budgets.model_dump(mode="json"),
        "approval": None,
    }
    assert record.measured_s == 7.5
    assert record.judged_s > 0
    lies = key(compared.candidate.release_id, "comparisons/x.json")
    assert record.comparison_key == lies
    assert record.comparison_sha256 == hashlib.sha256(shop.store.get(lies).body).hexdigest()
    [at] = decisions.where(shop.store, compared.candidate.release_id)
    assert judged.because in shop.store.get(decisions.page_key(at)).body.decode().replace("&#39;", "'")


def test_the_same_gating_again_leaves_nothing_more(shop, compared):
    gate(shop.line, shop.store, compared, by="ann")
    before = list(shop.store.list(""))
    gate(shop.line, shop.store, compared, by="bob")
    assert list(shop.store.list("")) == before


def test_each_policy_has_a_record_of_its_own_and_the_newest_comes_first(shop, compared):
    for line in (shop.line, strict(shop), shop.line):
        gate(line, shop.store, compared, by="ann")
    assert [record.verdict.outcome for record in records(shop, compared)] == [Outcome.PASS, Outcome.FAIL, Outcome.PASS]
    assert records(shop, compared)[1].policy["gate"]["min_ndcg_gain"] == 0.3


def test_what_people_say_is_added_once_and_to_the_record_of_their_verdict(shop, compared):
    passed = gate(shop.line, shop.store, compared, by="ann")
    failed = gate(strict(shop), shop.store, compared, by="ann")
    said = Said(what="overridden", who="ann", why=ATTACK, at=compared.as_of)
    for _ in range(2):
        added = decisions.add(shop.store, failed, said)
    newest, older = records(shop, compared)
    assert (added, newest.said, older.said) == (newest, (said,), ())
    later = replace(said, at=said.at + timedelta(hours=1))
    assert decisions.add(shop.store, passed, later).verdict.outcome is Outcome.PASS
    page = shop.store.get(decisions.page_key(decisions.where(shop.store, passed.candidate)[0])).body.decode()
    assert ATTACK not in page
    assert "&lt;script&gt;" in page


def test_a_verdict_without_a_record_has_nothing_to_add_to(shop, compared):
    judged = gate(shop.line, shop.store, compared, by="ann")
    said = Said(what="approved", who="ann", why="x", at=compared.as_of)
    assert decisions.add(shop.store, replace(judged, because="another"), said) is None


def test_a_comparison_that_was_not_kept_is_said_to_be_so(shop, compared):
    shop.store.delete(key(compared.candidate.release_id, "comparisons/x.json"))
    gate(shop.line, shop.store, compared, by="ann")
    [record] = records(shop, compared)
    assert record.comparison_key == ""
    assert "was not kept" in render(record)


def test_of_a_bundle_that_is_not_sound_the_record_says_that_nothing_was_measured(shop):
    made = shop.bundle(np.arange(16).reshape(4, 4), ITEMS)
    check = Check(name="sanity: bytes", outcome=Outcome.FAIL, because="model.onnx has other bytes.")
    found = Verdict(
        candidate=made.release_id,
        incumbent="popularity-0",
        outcome=Outcome.FAIL,
        checks=(check,),
        because=check.because,
        by="schedule",
        as_of=made.as_of,
    )
    for _ in range(2):
        assert keep(shop.line, shop.store, found, dataset_id=made.dataset_id) == found
    [record] = decisions.records(shop.store, made.release_id)
    assert (record.comparison_key, record.comparison_sha256, record.look, record.measured_s) == ("", "", None, None)
    page = shop.store.get(decisions.page_key(decisions.where(shop.store, made.release_id)[0])).body.decode()
    assert "none: the bundle is not sound, so nothing was measured" in page


def test_the_page_loads_and_runs_nothing_and_puts_what_failed_first(shop, compared):
    gate(strict(shop), shop.store, compared, by=ATTACK)
    page = render(records(shop, compared)[0])
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert "default-src 'none'" in page
    assert page.index("<th>quality</th>") < page.index("<th>novelty</th>")


def test_the_interval_and_its_limit_are_drawn_in_proportion():
    check = Check(name="x", outcome=Outcome.PASS, because="", evidence={"value": 2, "low": 1, "high": 3, "limit": 5})
    drawn = picture(check)  # from 1 to 5, within 0.08 to 0.92
    assert [round(at, 4) for at in (drawn.low, drawn.value, drawn.high, drawn.limit)] == [0.08, 0.29, 0.5, 0.92]


@pytest.mark.parametrize(
    "evidence", [{}, {"value": 1, "limit": 2}, dict.fromkeys(("value", "low", "high", "limit"), 1)]
)
def test_what_has_no_width_is_not_drawn(evidence):
    assert picture(Check(name="x", outcome=Outcome.PASS, because="", evidence=evidence)) is None


def test_a_number_that_is_not_finite_is_shown_as_it_is():
    assert number(float("inf")) == "inf"
