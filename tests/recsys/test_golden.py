import json
from dataclasses import replace

import numpy as np
import pytest

from recsys import golden
from recsys.bundles import FP32, GOLDEN, INT8, identify, keep_bundle, read_bundle, refer
from recsys.errors import BadBundle, BadObject
from recsys.ranker import Ranker
from recsys.records import Golden, GoldenRequest, parse, to_json
from recsys.sequences import Cases, Sequences

ITEMS = tuple("abcdefghijkl")
N = len(ITEMS)
TABLE = np.vstack([np.arange(N + 1)[::-1], *(np.roll(np.arange(N + 1), by) for by in range(N))]).astype(float)


@pytest.fixture
def cases() -> Cases:
    """Three users who had 1, then 2 and 3, then nothing."""
    items = np.array([1, 4, 2, 3, 5, 6], np.int32)
    sequences = Sequences(items=items, times=np.arange(6), offsets=np.array([0, 2, 5, 6]), n_items=N)
    return Cases(sequences=sequences, positions=np.array([1, 4, 5]))


@pytest.fixture
def packaged(shop, cases):
    """A bundle with golden requests, and its files."""
    bundle = shop.bundle(TABLE, ITEMS)
    made, files = golden.added(bundle, read_bundle(shop.store, bundle.release_id)[1], cases)
    return keep_bundle(shop.store, made, files), files


def served_otherwise(packaged, lookup, table):
    """Give the bundle as if its runtime scored by another table."""
    bundle, files = packaged
    other = {**files, FP32: lookup(table)}
    return Ranker.of(replace(bundle, history_length=1), other), other


def asked(*scores: float, tolerance: float = 0.1, history=("a",)) -> GoldenRequest:
    return GoldenRequest(history=history, items=ITEMS[1 : 1 + len(scores)], scores=scores, tolerance=tolerance)


def test_the_real_histories_and_the_empty_one_are_kept_with_their_ten_best(packaged):
    bundle, files = packaged
    kept = parse(Golden, GOLDEN, files[GOLDEN])
    assert kept.graph == bundle.serves == FP32
    assert [request.history for request in kept.requests] == [(), ("a",), ("b", "c"), ()]
    assert kept.requests[0].items == ITEMS[:10]
    assert kept.requests[0].scores == tuple(range(11, 1, -1))
    assert kept.requests[0].tolerance == pytest.approx(1e-4 * 11)  # of scores from 11 to 0
    assert "a" not in kept.requests[1].items


def test_the_bundle_is_named_by_its_golden_requests_too(packaged):
    bundle, files = packaged
    what = {"family": bundle.family, "configuration": bundle.configuration, "dataset_id": bundle.dataset_id}
    assert bundle.files[GOLDEN] == refer(files[GOLDEN])
    assert bundle.release_id == identify(**what, history_length=2, files=bundle.files)


def test_the_same_graph_answers_the_same_here_and_in_a_process_of_its_own(packaged):
    bundle, files = packaged
    assert golden.require(Ranker.of(bundle, files), files) == 4
    assert golden.require_elsewhere(bundle, files) == 4


def test_a_bundle_that_was_packaged_without_any_is_held_to_nothing(shop):
    bundle = shop.bundle(TABLE, ITEMS)
    files = read_bundle(shop.store, bundle.release_id)[1]
    assert golden.require(Ranker.of(bundle, files), files) == 0
    assert golden.require_elsewhere(bundle, files) == 0


def test_another_item_among_the_ten_is_refused_with_request_place_and_scores(packaged, lookup):
    changed = TABLE.copy()
    changed[1, [4, 12]] = changed[1, [12, 4]]  # after a: d and l have changed places
    ranker, files = served_otherwise(packaged, lookup, changed)
    with pytest.raises(
        BadBundle, match=r"golden.json as when it was packaged, but does not answer 1; the first"
    ) as found:
        golden.require(ranker, files)
    assert found.value.file == GOLDEN
    assert "after ['a'] has 'd' with 12 in place 1 instead of 'l' with 12" in str(found.value)


def test_other_scores_of_the_same_ten_are_refused(packaged, lookup):
    ranker, files = served_otherwise(packaged, lookup, TABLE + 0.01)
    with pytest.raises(BadBundle, match=r"does not answer 4; the first after no history has .a. with 11\.01"):
        golden.require(ranker, files)


def test_what_is_wrong_in_a_process_of_its_own_is_said_here(packaged, lookup):
    bundle, files = packaged
    changed = TABLE.copy()
    changed[0, 12] = 50.0
    spoilt = {**files, FP32: lookup(changed)}
    with pytest.raises(BadBundle, match=r"after no history has 'l' with 50 in place 1 instead of 'a'") as found:
        golden.require_elsewhere(replace(bundle, history_length=1), spoilt)
    assert found.value.file == GOLDEN


def test_a_graph_that_does_not_open_elsewhere_is_refused(packaged):
    bundle, files = packaged
    with pytest.raises(BadBundle, match="must be a graph that runs"):
        golden.require_elsewhere(bundle, {**files, FP32: b"\x08\x0a"})


def test_answers_of_another_graph_are_refused(packaged):
    bundle, files = packaged
    other = {**files, GOLDEN: to_json(replace(parse(Golden, GOLDEN, files[GOLDEN]), graph=INT8))}
    with pytest.raises(BadBundle, match=r"must be of the graph that serves, model\.onnx, but is of model\.int8\.onnx"):
        golden.require(Ranker.of(bundle, other), other)


@pytest.mark.parametrize(
    ("items", "scores", "same"),
    [
        ("bcd", (3.0, 2.0, 1.0), True),
        ("bcd", (3.05, 1.95, 1.0), True),  # rounding
        ("bcd", (3.2, 2.0, 1.0), False),
        ("cbd", (3.0, 2.0, 1.0), False),  # another order
        ("bce", (3.0, 2.0, 1.0), True),  # one that tied for the last place
        ("bed", (3.0, 2.0, 1.0), False),  # a stranger in the middle
        ("bc", (3.0, 2.0), False),
    ],
)
def test_items_may_change_places_only_where_their_scores_are_the_same(packaged, items, scores, same):
    found = replace(Ranker.of(*packaged).recommend([]), items=list(items), scores=list(scores))
    assert (golden._difference(asked(3.0, 2.0, 1.0), found) == "") is same


def test_ties_may_change_places(packaged):
    found = replace(Ranker.of(*packaged).recommend([]), items=["c", "b"], scores=[2.02, 1.98])
    assert golden._difference(asked(2.05, 1.95), found) == ""


def test_golden_requests_that_are_no_record_are_refused(packaged):
    bundle, files = packaged
    with pytest.raises(BadObject, match=r"golden\.json of .* must hold a record of kind Golden"):
        golden.require(Ranker.of(bundle, files), {**files, GOLDEN: json.dumps({"graph": 3}).encode()})
