import hashlib
import io
import json
import math
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from recsys import bundles, channel, ledger
from recsys import dataset as datasets
from recsys.bundles import FP32, INT8
from recsys.errors import BadBundle, BadObject, NoRelease, Unsound
from recsys.gate import judge
from recsys.holdout import load_holdout
from recsys.ranker import Ranker, Translated
from recsys.records import Outcome, TableVersion, dump, to_json
from recsys.scorecard import Seen, comparison, measure
from recsys.settings import Budgets, Gate
from recsys.store import open_store

HOLDOUT = "holdout/holdout.parquet"


@pytest.fixture(scope="module")
def frozen(frozen_shop):
    folder, dataset = frozen_shop
    return datasets.load(open_store((folder / "shop").as_uri()), dataset)


def transitions(frozen) -> np.ndarray:
    """Count what followed each item before the holdout, popularity where nothing is known."""
    known = frozen.before_holdout
    table = np.zeros((known.n_items + 1, known.n_items + 1))
    for begin, end in zip(known.offsets[:-1], known.offsets[1:], strict=True):
        for before, after in zip(known.items[begin : end - 1], known.items[begin + 1 : end], strict=True):
            table[before, after] += 1
    popularity = np.bincount(known.items, minlength=known.n_items + 1)
    table += popularity / popularity.sum()
    return table


def popularity(frozen) -> np.ndarray:
    known = frozen.before_holdout
    counts = np.bincount(known.items, minlength=known.n_items + 1)
    return np.tile(counts, (known.n_items + 1, 1))


def reordered(table: np.ndarray, vocabulary, *, without: int) -> tuple[np.ndarray, list[str]]:
    """Say the same in another order of ids, without some items and with one that nobody else knows."""
    order = np.random.default_rng(5).permutation(len(vocabulary))[without:]
    old = np.concatenate([[0], order + 1])
    size = len(order) + 2
    changed = np.zeros((size, size))
    changed[: size - 1, : size - 1] = table[np.ix_(old, old)]
    changed[:, -1] = table.max() + 1  # what nobody else knows would be the first to be recommended
    return changed, [*(vocabulary[at] for at in order), "of the incumbent alone"]


def ranked_by_hand(table, vocabulary, frozen, cases) -> Iterator[tuple[str | None, list[str]]]:
    """Give target and ten best by name, one case after the other, as a reader of the definition would."""
    ids = {item: at for at, item in enumerate(vocabulary, start=1)}
    for position, user in zip(cases.positions, cases.users, strict=True):
        begin = cases.sequences.offsets[user]
        history = [frozen.vocabulary[i - 1] for i in cases.sequences.items[begin:position] if i]
        target = cases.sequences.items[position]
        newest = next((ids[item] for item in reversed(history) if item in ids), 0)
        ranked = sorted(
            (item for item in frozen.vocabulary if item in ids and item not in history),
            key=lambda item: -np.float32(table[newest, ids[item]]),
        )[:10]
        yield frozen.vocabulary[target - 1] if target else None, ranked


def ndcg_by_hand(table, vocabulary, frozen, cases) -> list[float]:
    return [
        1 / math.log2(2 + ranked.index(name)) if name in ranked else 0.0
        for name, ranked in ranked_by_hand(table, vocabulary, frozen, cases)
    ]


def per_case(store, card) -> np.ndarray:
    return pq.read_table(io.BytesIO(store.get(card.per_case_key).body))["ndcg"].to_numpy()


def quickly(line, store, bundle, *, by="measurer"):
    gate = line.gate.model_copy(update={"latency_s": 0.2})
    return measure(line.model_copy(update={"gate": gate}), store, bundle, by=by)


@pytest.fixture(scope="module")
def measured(frozen, shop_at, tmp_path_factory):
    """A candidate that counted transitions against popularity of another vocabulary."""
    shop = shop_at(tmp_path_factory.mktemp("measured") / "shop")
    before, items = reordered(popularity(frozen), frozen.vocabulary, without=7)
    shop.produce(shop.bundle(before, items, name="popularity"))
    candidate = shop.bundle(transitions(frozen), frozen.vocabulary)
    return shop, candidate, quickly(shop.line, shop.store, candidate)


def test_both_are_measured_on_the_same_cases_each_in_its_own_vocabulary(measured, frozen):
    shop, candidate, found = measured
    cases = load_holdout(shop.store, shop.dataset, by="by hand", why="to count")
    expected = ndcg_by_hand(transitions(frozen), frozen.vocabulary, frozen, cases)
    assert per_case(shop.store, found.candidate) == pytest.approx(expected)
    before, items = reordered(popularity(frozen), frozen.vocabulary, without=7)
    theirs = ndcg_by_hand(before, items, frozen, cases)
    assert per_case(shop.store, found.incumbent) == pytest.approx(theirs)
    assert found.candidate.ndcg_at_10.value == pytest.approx(np.mean(expected))
    assert found.ndcg_gain.value == pytest.approx(np.mean(expected) - np.mean(theirs))
    assert 0 < found.ndcg_gain.low < found.ndcg_gain.value < found.ndcg_gain.high
    assert found.candidate.cases == found.incumbent.cases == len(cases)
    assert (found.candidate.release_id, found.candidate.dataset_id) == (candidate.release_id, shop.dataset.dataset_id)


def test_the_interval_of_the_gain_is_that_of_differences_and_not_of_two_scores(measured):
    _, _, found = measured
    apart = math.hypot(
        found.candidate.ndcg_at_10.high - found.candidate.ndcg_at_10.low,
        found.incumbent.ndcg_at_10.high - found.incumbent.ndcg_at_10.low,
    )
    assert found.ndcg_gain.high - found.ndcg_gain.low < apart


def test_popularity_and_a_tuned_markov_are_shown_beside_them(measured):
    shop, _, found = measured
    assert set(found.references) == {"popularity", "markov"}
    assert all(len(per_case(shop.store, card)) == found.candidate.cases for card in found.references.values())
    assert found.references["markov"].ndcg_at_10.value > found.references["popularity"].ndcg_at_10.high
    assert found.references["markov"].latency == ()


def test_the_holdout_is_read_once_and_the_ledger_says_what_for(measured):
    shop, candidate, found = measured
    reads = [e for e in ledger.read(shop.store) if e.what == "holdout read" and e.who == "measurer"]
    assert len(reads) == 1
    assert candidate.release_id in reads[0].why
    assert found.incumbent.release_id in reads[0].why
    [entry] = [entry for entry in ledger.read(shop.store) if entry.what == "measured"]
    assert (entry.who, found.by) == ("measurer", "measurer")
    assert entry.evidence["ndcg_gain"]["value"] == found.ndcg_gain.value


def test_the_look_is_counted_before_the_holdout_is_read_and_its_level_follows_the_line(measured):
    shop, candidate, found = measured
    said = [entry.what for entry in ledger.read(shop.store) if entry.who == "measurer"]
    assert said == ["looked", "holdout read", "measured"]
    look = found.look
    pair = (shop.dataset.dataset_id, candidate.release_id, found.incumbent.release_id)
    assert (look.dataset_id, look.candidate, look.incumbent) == pair
    assert (look.number, look.who, look.budget, look.looks_a_year) == (1, "measurer", 0.05, 52)


def test_measuring_a_pair_by_other_settings_reads_the_holdout_again_and_is_the_same_look(shop, frozen):
    shop.produce(shop.bundle(popularity(frozen), frozen.vocabulary, name="popularity"))
    candidate = shop.bundle(transitions(frozen), frozen.vocabulary)
    first = quickly(shop.line, shop.store, candidate)
    gate = {**shop.line.gate.model_dump(), "cohorts": {"head": {"by": "popularity"}}, "error_budget": 0.2}
    other = shop.line.model_copy(update={"gate": Gate.model_validate(gate)})
    second = quickly(other, shop.store, candidate)
    assert len(ledger.read(shop.store, what="holdout read")) == 2
    assert second.look == first.look
    assert len(ledger.read(shop.store, what="looked")) == 1
    third = quickly(other, shop.store, shop.bundle(transitions(frozen) + 1, frozen.vocabulary))
    assert third.look.number == 2


def test_what_is_kept_of_users_and_cohorts_sums_to_what_was_reached(shop, frozen):
    shop.produce(shop.bundle(popularity(frozen), frozen.vocabulary, name="popularity"))
    cohorts = {"device": {"column": "device"}, "catalogue": {"by": "popularity"}}
    line = shop.line.model_copy(update={"gate": Gate.model_validate({"cohorts": cohorts})})
    found = quickly(line, shop.store, shop.bundle(transitions(frozen), frozen.vocabulary))
    reached = per_case(shop.store, found.candidate).sum(), per_case(shop.store, found.incumbent).sum()
    assert found.paired.users == found.candidate.users
    assert found.paired.first == pytest.approx((*reached, found.candidate.cases))
    assert {(each.cohort, each.group) for each in found.cohorts} == {
        ("device", "desktop"),
        ("device", "phone"),
        ("catalogue", "head"),
        ("catalogue", "tail"),
    }
    for name in cohorts:
        parts = [each.paired.first for each in found.cohorts if each.cohort == name]
        assert np.sum(parts, axis=0) == pytest.approx(found.paired.first)
    assert [check.name for check in judge(line, found, by="tests").checks if check.name.startswith("cohort")] == [
        "cohort device: desktop",
        "cohort device: phone",
        "cohort catalogue: head",
        "cohort catalogue: tail",
    ]


def test_soundness_exposure_and_calibration_are_part_of_the_comparison_and_of_the_verdict(measured):
    shop, candidate, found = measured
    assert len(found.sanity) == 6
    assert {check.outcome for check in found.sanity} == {Outcome.PASS}
    shown = {result.measure: (result.candidate, result.incumbent) for result in found.exposure}
    assert shown["coverage"] == (found.candidate.coverage, found.incumbent.coverage)
    assert shown["tail share"] == pytest.approx((found.candidate.tail_share, found.incumbent.tail_share))
    assert shown["diversity"][0] != shown["diversity"][1]
    assert shown["popularity"][0] < shown["popularity"][1]  # the incumbent shows everybody the most popular
    assert found.calibration.candidate.release_id == candidate.release_id
    assert found.calibration.candidate.missing == "scores of markov are no probabilities"
    names = [check.name for check in judge(shop.line, found, by="tests").checks]
    assert names[1:7] == [check.name for check in found.sanity]
    assert {"coverage", "tail share", "diversity", "popularity", "calibration"} <= set(names)


def test_a_model_of_probabilities_is_measured_by_them(shop, frozen):
    """The table is what would be measured of any family; this one says that its scores are log probabilities."""
    incumbent = shop.bundle(np.log(popularity(frozen) + 1), frozen.vocabulary, name="sasrec")
    shop.produce(incumbent)
    found = quickly(shop.line, shop.store, shop.bundle(np.log(transitions(frozen) + 1), frozen.vocabulary))
    ece, curve = found.calibration.incumbent.ece, found.calibration.incumbent.curve
    weights = popularity(frozen)[0, 1:] + 1  # whatever the history
    assert all(weights.min() <= weights.sum() * each.predicted <= weights.max() for each in curve)
    assert sum(each.shown for each in curve) == 10 * found.incumbent.cases
    apart = [each.shown * abs(each.predicted - each.observed) for each in curve]
    assert ece.value == pytest.approx(sum(apart) / (10 * found.incumbent.cases))
    assert found.calibration.rise is None  # the candidate makes no probabilities


def test_the_comparison_lies_beside_the_bundle(measured):
    shop, candidate, found = measured
    assert comparison(shop.store, candidate.release_id) == found
    with pytest.raises(NoRelease, match="must have been measured"):
        comparison(shop.store, found.incumbent.release_id)


def test_the_same_bundle_and_incumbent_are_measured_once_and_another_incumbent_anew(shop, frozen):
    incumbent, other = (shop.bundle(popularity(frozen) + n, frozen.vocabulary, name="popularity") for n in (0, 1))
    bundle = shop.bundle(transitions(frozen), frozen.vocabulary)

    def told(what: str) -> int:
        return len(ledger.read(shop.store, what=what))

    shop.produce(incumbent)
    first = quickly(shop.line, shop.store, bundle)
    stricter = shop.line.model_copy(update={"gate": shop.line.gate.model_copy(update={"min_ndcg_gain": 0.5})})
    for line in (shop.line, stricter):  # what judges is no part of what is measured
        assert quickly(line, shop.store, bundle, by="somebody else") == first
    assert (told("holdout read"), told("measured")) == (1, 1)
    shop.produce(other)
    second = quickly(shop.line, shop.store, bundle)
    assert second.incumbent.release_id == other.release_id
    assert comparison(shop.store, bundle.release_id) == second
    assert (told("holdout read"), told("measured")) == (2, 2)
    channel.move(
        shop.store, to=incumbent.release_id, expect=other.release_id, by="tests", reason="by hand", nonce="back"
    )
    assert quickly(shop.line, shop.store, bundle) == first == comparison(shop.store, bundle.release_id)
    surer = shop.line.model_copy(update={"gate": shop.line.gate.model_copy(update={"confidence": 0.6})})
    assert quickly(surer, shop.store, bundle).ndcg_gain.low > first.ndcg_gain.low
    assert (told("holdout read"), told("measured")) == (3, 3)


def test_whenever_a_measurement_dies_doing_it_again_writes_it_down_once(shop, frozen, dies):
    shop.produce(shop.bundle(popularity(frozen), frozen.vocabulary, name="popularity"))
    bundle = shop.bundle(transitions(frozen), frozen.vocabulary)
    writes = 0
    while dies(shop.store, writes, lambda store: quickly(shop.line, store, bundle)):
        writes += 1
    found = comparison(shop.store, bundle.release_id)
    assert writes >= 3  # the comparison, the ledger and the newest
    [entry] = ledger.read(shop.store, what="measured")
    told = hashlib.sha256(to_json(found)).hexdigest()
    assert entry.evidence == {**dump(found), "sha256": told}


def test_a_comparison_that_was_edited_is_refused_and_one_that_is_gone_comes_back_from_the_ledger(shop, frozen):
    shop.produce(shop.bundle(popularity(frozen), frozen.vocabulary, name="popularity"))
    bundle = shop.bundle(transitions(frozen), frozen.vocabulary)
    found = quickly(shop.line, shop.store, bundle)
    [kept] = shop.store.list(bundles.key(bundle.release_id, "comparisons/"))
    newest = bundles.key(bundle.release_id, "comparison.json")
    true = shop.store.get(kept.key).body
    forged = to_json(replace(found, ndcg_gain=replace(found.ndcg_gain, low=0.9)))
    for at in (kept.key, newest):
        shop.store.put(at, forged)
    refusal = f"must have the SHA-256 {hashlib.sha256(true).hexdigest()}.* but has {hashlib.sha256(forged).hexdigest()}"
    with pytest.raises(BadObject, match=refusal):
        quickly(shop.line, shop.store, bundle)
    with pytest.raises(BadObject, match=refusal):
        comparison(shop.store, bundle.release_id)
    shop.store.delete(kept.key)
    assert quickly(shop.line, shop.store, bundle) == found == comparison(shop.store, bundle.release_id)
    assert shop.store.get(kept.key).body == true
    assert len(ledger.read(shop.store, what="holdout read")) == 1


def test_an_incumbent_that_has_lost_a_file_is_named_with_what_to_run(shop, frozen):
    incumbent = shop.bundle(popularity(frozen), frozen.vocabulary, name="popularity")
    shop.produce(incumbent)
    shop.store.delete(bundles.key(incumbent.release_id, FP32))
    with pytest.raises(BadBundle, match=f"^The incumbent .*{FP32} of {incumbent.release_id} .*`retune promote --plan"):
        quickly(shop.line, shop.store, shop.bundle(transitions(frozen), frozen.vocabulary))
    assert not ledger.read(shop.store, what="looked")


def test_a_release_against_itself_gains_exactly_nothing(shop, frozen):
    bundle = shop.bundle(transitions(frozen), frozen.vocabulary)
    shop.produce(bundle)
    found = quickly(shop.line, shop.store, bundle)
    assert (found.ndcg_gain.value, found.ndcg_gain.low, found.ndcg_gain.high) == (0.0, 0.0, 0.0)
    assert judge(shop.line, found, by="tests").outcome is Outcome.FAIL


def test_a_planted_slow_graph_fails_its_budget_and_the_quick_one_of_the_same_model_keeps_it(shop, frozen):
    """The slow graph needs 8000 products with 60 x 60 numbers; the budget lies far from what both were seen to take."""
    shop.produce(shop.bundle(popularity(frozen), frozen.vocabulary, name="popularity"))
    quick = shop.bundle(transitions(frozen), frozen.vocabulary)
    slow = shop.bundle(transitions(frozen), frozen.vocabulary, slow=8000)
    line = shop.line.model_copy(update={"budgets": Budgets(p99_ms=1000, size_mib=5.0, batch_sizes=(32,))})
    found = {bundle.release_id: quickly(line, shop.store, bundle) for bundle in (quick, slow)}
    typical = [each.candidate.latency[0].p50_ms.value for each in found.values()]
    budget = Budgets(p99_ms=math.sqrt(math.prod(typical)), size_mib=5.0, batch_sizes=(32,))
    outcomes = {}
    for release_id, measured in found.items():
        judged = judge(line.model_copy(update={"budgets": budget}), measured, by="tests")
        [outcomes[release_id]] = [check.outcome for check in judged.checks if check.name == "p99"]
        assert measured.candidate.latency[0].graph == FP32
        assert measured.candidate.latency[0].batch_size == 32
    assert outcomes[slow.release_id] is Outcome.FAIL
    assert outcomes[quick.release_id] is not Outcome.FAIL
    assert found[slow.release_id].ratios.p50.low > 2


def test_each_batch_size_is_timed_and_so_are_requests_that_come_by_themselves(shop, frozen):
    bundle = shop.bundle(transitions(frozen), frozen.vocabulary)
    shop.produce(bundle)
    budgets = Budgets(p99_ms=100, size_mib=5.0, batch_sizes=(1, 8), arrivals_per_s=200)
    found = quickly(shop.line.model_copy(update={"budgets": budgets}), shop.store, bundle)
    for card in (found.candidate, found.incumbent):
        one, eight = card.latency
        assert (one.batch_size, eight.batch_size) == (1, 8)
        assert one.p50_ms.value <= one.p95_ms.value <= one.p99_ms.value
        assert eight.users_per_s.value > one.users_per_s.value  # eight users at once share what a request costs
        assert (card.arrivals.per_s, card.arrivals.batch_size) == (200, 1)
        assert card.memory_mib > 20  # Python, numpy and ONNX Runtime alone
        assert card.cold_start_s > 0.05
    assert found.other_latency == ()
    assert found.control != found.ratios


@pytest.mark.parametrize("head_share", [0.2, 0.5])
def test_the_tail_is_all_but_the_line_s_head_before_the_holdout(shop, head_share):
    split = shop.line.split.model_copy(update={"head_share": head_share})
    version = TableVersion(
        version=shop.dataset.table_version, batch_id="b", rows_added=0, rows=0, refused=(), as_of=shop.dataset.as_of
    )
    line = shop.line.model_copy(update={"split": split})
    other = replace(shop, line=line, dataset=datasets.freeze(line, shop.store, version))
    frozen = datasets.load(shop.store, other.dataset)
    shop.produce(other.bundle(popularity(frozen), frozen.vocabulary, name="popularity"))
    found = quickly(line, shop.store, other.bundle(transitions(frozen), frozen.vocabulary)).candidate
    taken = Counter(frozen.before_holdout.items.tolist())
    by_popularity = sorted(range(1, len(frozen.vocabulary) + 1), key=lambda item: (-taken[item], item))
    head = {frozen.vocabulary[item - 1] for item in by_popularity[: math.ceil(head_share * len(by_popularity))]}
    cases = load_holdout(shop.store, other.dataset, by="by hand", why="to count")
    ranked = ranked_by_hand(transitions(frozen), frozen.vocabulary, frozen, cases)
    given = [item for _, items in ranked for item in items]
    assert found.tail_share == pytest.approx(sum(item not in head for item in given) / len(given))


def test_latency_is_that_of_whole_requests_and_not_of_the_graph_alone(shop, frozen):
    """At batch 64 this graph takes a small part of what it takes to look 64 users up and to rank for them."""
    bundle = shop.bundle(transitions(frozen), frozen.vocabulary)
    shop.produce(bundle)
    line = shop.line.model_copy(update={"budgets": Budgets(p99_ms=100, size_mib=5.0, batch_sizes=(64,))})
    [found] = quickly(line, shop.store, bundle).candidate.latency
    ranker = Ranker.open(shop.store, bundle.release_id)
    rows, spent_ms = np.ones((64, 2), np.int64), []
    for _ in range(50):
        began = time.thread_time_ns()
        ranker.scorer(rows)
        spent_ms.append((time.thread_time_ns() - began) / 1e6)
    assert found.p50_ms.value > 2 * np.median(spent_ms)


def test_one_user_s_holdout_releases_nothing_however_much_is_gained(shop, frozen):
    """With one user all resamples are alike, so that the interval has no width."""
    cases = load_holdout(shop.store, shop.dataset, by="by hand", why="to choose a user")
    user = int(np.bincount(cases.users).argmax())
    holdout = pq.read_table(io.BytesIO(shop.store.get(f"datasets/{shop.dataset.dataset_id}/{HOLDOUT}").body))
    sink = io.BytesIO()
    pq.write_table(holdout.filter(pc.field("user") == user), sink)
    files = {**shop.dataset.files, HOLDOUT: hashlib.sha256(sink.getvalue()).hexdigest()}
    lonely = replace(shop, dataset=replace(shop.dataset, dataset_id="lonely", files=files))
    for name in files:
        body = shop.store.get(f"datasets/{shop.dataset.dataset_id}/{name}").body
        shop.store.put(f"datasets/lonely/{name}", sink.getvalue() if name == HOLDOUT else body)
    shop.store.put("datasets/lonely/dataset.json", json.dumps(dump(lonely.dataset)).encode())
    shop.produce(lonely.bundle(-popularity(frozen), frozen.vocabulary, name="popularity"))
    found = quickly(shop.line, shop.store, lonely.bundle(transitions(frozen), frozen.vocabulary))
    assert found.candidate.users == 1
    assert found.ndcg_gain.low == found.ndcg_gain.high > 0
    verdict = judge(shop.line, found, by="tests")
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert [check.name for check in verdict.checks if check.outcome is not Outcome.PASS] == ["users", "quality"]


def test_both_graphs_of_a_bundle_are_measured_and_the_loss_is_relative_to_fp32(shop, frozen):
    shop.produce(shop.bundle(popularity(frozen), frozen.vocabulary, name="popularity"))
    good = shop.bundle(transitions(frozen), frozen.vocabulary)
    poor = shop.bundle(popularity(frozen), frozen.vocabulary)
    files = bundles.read_bundle(shop.store, good.release_id)[1]
    files[INT8] = bundles.read_bundle(shop.store, poor.release_id)[1][FP32]  # as if it had lost all but popularity
    refs = {name: bundles.refer(body) for name, body in files.items()}
    release_id = bundles.identify(
        family=good.family,
        configuration=good.configuration,
        dataset_id=good.dataset_id,
        history_length=good.history_length,
        files=refs,
    )
    cases = load_holdout(shop.store, shop.dataset, by="by hand", why="to count")
    by_graph = {
        FP32: np.mean(ndcg_by_hand(transitions(frozen), frozen.vocabulary, frozen, cases)),
        INT8: np.mean(ndcg_by_hand(popularity(frozen), frozen.vocabulary, frozen, cases)),
    }
    for serves in (INT8, FP32):
        for made in (bundles.MANIFEST, "comparisons/"):  # as if the other graph had been found the better one
            for entry in list(shop.store.list(bundles.key(release_id, made))):
                shop.store.delete(entry.key)
        for entry in [each for each in shop.store.list("ledger/") if "-measured-" in each.key]:
            shop.store.delete(entry.key)  # from which the comparison would come back
        both = bundles.keep_bundle(shop.store, replace(good, release_id=release_id, files=refs, serves=serves), files)
        found = quickly(shop.line, shop.store, both)
        assert [each.graph for each in found.candidate.latency] == [serves]
        assert [each.graph for each in found.other_latency] == [FP32 if serves == INT8 else INT8]
        assert found.candidate.size_bytes == refs[serves].size_bytes
        assert found.candidate.ndcg_at_10.value == pytest.approx(by_graph[serves])
        assert found.quantisation_loss.value == pytest.approx(1 - by_graph[INT8] / by_graph[FP32])
        [check] = [each for each in judge(shop.line, found, by="tests").checks if each.name == "quantisation"]
        assert check.outcome is (Outcome.FAIL if serves == INT8 else Outcome.PASS)


def test_scores_that_are_no_numbers_or_all_alike_are_counted(shop, frozen):
    cases = load_holdout(shop.store, shop.dataset, by="by hand", why="to count")
    newest = cases.histories(np.arange(len(cases)), 1)[:, 0]
    table = transitions(frozen)
    table[1, 5] = np.nan
    table[2] = 3.0
    bundle = shop.bundle(table, frozen.vocabulary)
    found = Seen.by(Translated.into(Ranker.open(shop.store, bundle.release_id), frozen.vocabulary), cases)
    assert found.finite_share == pytest.approx(1 - np.mean(newest == 1))
    assert found.constant_share == pytest.approx(np.mean(newest == 2))
    assert 0 < found.finite_share < 1
    assert 0 < found.constant_share < 1


def test_a_bundle_of_other_bytes_is_not_measured(shop, frozen):
    shop.produce(shop.bundle(popularity(frozen), frozen.vocabulary, name="popularity"))
    bundle = shop.bundle(transitions(frozen), frozen.vocabulary)
    at = bundles.key(bundle.release_id, FP32)
    shop.store.put(at, shop.store.get(at).body + b"\x00")
    with pytest.raises(Unsound) as unsound:
        quickly(shop.line, shop.store, bundle)
    verdict = unsound.value.verdict
    assert (verdict.candidate, verdict.outcome, verdict.by) == (bundle.release_id, Outcome.FAIL, "measurer")
    assert [(check.name, check.outcome) for check in verdict.checks] == [("sanity: bytes", Outcome.FAIL)]
    assert verdict.because.startswith(
        f"{bundle.release_id} fails sanity: bytes, so it was not measured and popularity-"
    )
    assert bundle.files[FP32].sha256 in verdict.because
    assert {entry.what for entry in ledger.read(shop.store)}.isdisjoint({"looked", "holdout read", "measured"})


def test_without_an_incumbent_nothing_is_measured(shop, frozen):
    bundle = shop.bundle(transitions(frozen), frozen.vocabulary)
    with pytest.raises(NoRelease, match="must be an incumbent"):
        quickly(shop.line, shop.store, bundle)
    assert {entry.what for entry in ledger.read(shop.store)}.isdisjoint({"holdout read", "measured"})
    with pytest.raises(NoRelease, match="must have been measured"):
        comparison(shop.store, bundle.release_id)
