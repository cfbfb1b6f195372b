import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from recsys import bundles
from recsys.bundles import FP32, VOCABULARY, identify, refer
from recsys.errors import BadBundle, NoRelease
from recsys.ranker import LOWEST, Ranker, Recommended, Translated, last_known

ITEMS = ("a", "b", "c", "d")
# Scores of (nothing), a, b, c, d after each newest item; the first column means nothing.
TABLE = np.array(
    [
        [9, 4, 3, 2, 1],  # after none: a b c d
        [9, 0, 1, 2, 3],  # after a: d c b
        [9, 5, 0, 5, 1],  # after b: a and c alike, then d
        [9, 1, 1, 0, 1],
        [9, 0, 7, 8, 0],
    ]
)


@pytest.fixture
def ranker(shop):
    return Ranker.open(shop.store, shop.bundle(TABLE, ITEMS).release_id)


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ([], ["a", "b", "c"]),  # nobody is known, popularity answers
        (["a"], ["d", "c", "b"]),
        (["d", "a"], ["c", "b"]),  # d was had before and is not given again, though it scores best
        (["a", "film of next year"], ["d", "c", "b"]),  # passed over
        (["film of next year"], ["a", "b", "c"]),
        (["b"], ["a", "c", "d"]),  # a and c score alike: the earlier one first
        (["a", "b", "c", "d"], []),
    ],
)
def test_the_best_items_come_first_without_those_seen(ranker, history, expected):
    row = TABLE[ITEMS.index(known[-1]) + 1 if (known := [i for i in history if i in ITEMS]) else 0]
    scores = [row[ITEMS.index(item) + 1] for item in expected]
    for _ in range(2):  # what one answer leaves out does not spoil the next one's scores
        assert ranker.recommend(history, k=3) == Recommended(
            release_id=ranker.bundle.release_id, items=expected, scores=scores
        )


def test_more_than_there_is_gives_what_there_is(ranker):
    assert ranker.recommend(["a"], k=100).items == ["d", "c", "b"]


def test_of_a_history_longer_than_the_graph_s_the_newest_known_items_are_read_and_none_is_given_again(shop):
    ranker = Ranker.open(shop.store, shop.bundle(TABLE, ITEMS, length=1).release_id)
    assert ranker.recommend(["b", "c", "a", "film of next year"], k=3).items == ["d"]
    ranker = Ranker.open(shop.store, shop.bundle(TABLE, ITEMS, length=5).release_id)
    assert ranker.recommend(["d", "a"], k=3).items == ["c", "b"]


def test_only_the_graph_that_is_asked_for_is_opened(shop):
    bundle = shop.bundle(TABLE, ITEMS)
    assert Ranker.open(shop.store, bundle.release_id, graph=FP32).graph == FP32
    with pytest.raises(BadBundle, match=r"model\.int8\.onnx"):
        Ranker.open(shop.store, bundle.release_id, graph="model.int8.onnx")
    with pytest.raises(NoRelease):
        Ranker.open(shop.store, "markov-of-nobody")


def rewritten(shop, bundle, name: str, body: bytes) -> str:
    """Keep the same bundle with another file, correctly signed."""
    files = {**bundles.read_bundle(shop.store, bundle.release_id)[1], name: body}
    refs = {each: refer(found) for each, found in files.items()}
    release_id = identify(
        family=bundle.family,
        configuration=bundle.configuration,
        dataset_id=bundle.dataset_id,
        history_length=bundle.history_length,
        files=refs,
    )
    bundles.keep_bundle(shop.store, replace(bundle, release_id=release_id, files=refs), files)
    return release_id


@pytest.mark.parametrize("items", [["a", "b", "c"], ["a", "b", "c", "c"], ["a", "b", "c", "d", "e"]])
def test_a_vocabulary_of_another_size_or_with_repetitions_is_refused(shop, items):
    release_id = rewritten(shop, shop.bundle(TABLE, ITEMS), VOCABULARY, json.dumps(items).encode())
    with pytest.raises(BadBundle, match="4 different items") as refused:
        Ranker.open(shop.store, release_id)
    assert refused.value.file == VOCABULARY


def test_a_graph_of_another_shape_or_none_at_all_is_refused(shop):
    bundle = shop.bundle(TABLE, ITEMS)
    smaller = bundles.read_bundle(shop.store, shop.bundle(TABLE[:4, :4], ITEMS[:3]).release_id)[1][FP32]
    for graph, reason in ((smaller, "shapes"), (b"", "runs")):
        with pytest.raises(BadBundle, match=reason):
            Ranker.open(shop.store, rewritten(shop, bundle, FP32, graph))


def test_another_vocabulary_is_answered_item_by_item_of_the_same_name(shop):
    ranker = Ranker.open(shop.store, shop.bundle(TABLE, ITEMS).release_id)
    # The asker knows d, x and a as 1, 2 and 3. After its 3, which is a here, d scores 3, a scores 0, and x is unknown.
    asked = Translated.into(ranker, ["d", "x", "a"])
    after_a = np.zeros((1, asked.history_length), np.int64)
    after_a[0, -1] = 3
    assert asked(after_a)[0, 1:].tolist() == [3, LOWEST, 0]
    # What the ranker does not know is passed over, so that the newest item that it knows answers: x changes nothing.
    after_a[0, -3:] = [3, 2, 2]
    assert asked.own_histories(after_a).tolist() == [[0, 1]]
    assert asked(after_a)[0, 1:].tolist() == [3, LOWEST, 0]


def test_so_many_histories_are_scored_at_once_as_are_asked_for_and_nothing_else_changes(shop, monkeypatch):
    ranker = Ranker.open(shop.store, shop.bundle(TABLE, ITEMS).release_id)
    whole = Translated.into(ranker, ITEMS)
    histories = np.zeros((5, whole.history_length), np.int64)
    histories[:, -1] = [1, 2, 3, 4, 1]
    sizes = []
    score = type(ranker.scorer).__call__

    def counted(self, history):
        sizes.append(len(history))
        return score(self, history)

    monkeypatch.setattr(type(ranker.scorer), "__call__", counted)
    assert np.array_equal(Translated.into(ranker, ITEMS, at_once=2)(histories), whole(histories))
    assert sizes == [2, 2, 1, 5]
    assert Translated.into(ranker, ITEMS, at_once=2)(histories[:0]).shape == (0, 5)


@given(
    arrays.arrays(np.int64, st.tuples(st.integers(1, 4), st.integers(1, 9)), elements=st.integers(0, 3)),
    st.integers(1, 12),
)
def test_the_last_known_items_are_those_a_loop_would_take(history, length):
    for row, packed in zip(history, last_known(history, length), strict=True):
        known = [item for item in row if item][-length:]
        assert packed.tolist() == [0] * (length - len(known)) + known
