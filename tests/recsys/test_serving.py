import logging
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest

from recsys import bundles, channel
from recsys.bundles import FP32
from recsys.errors import BadBundle, NoRelease
from recsys.ranker import Recommended
from recsys.serving import Scorer

ITEMS = ("a", "b", "c")
FORWARDS = np.tile([0, 3, 2, 1], (4, 1))  # a b c, whatever the history
BACKWARDS = np.tile([0, 1, 2, 3], (4, 1))


@pytest.fixture
def forwards(shop):
    made = shop.bundle(FORWARDS, ITEMS)
    shop.produce(made)
    return made


def test_production_is_served_and_followed(shop, forwards):
    scorer = Scorer.from_channel(shop.store)
    assert scorer.release_id == forwards.release_id
    whole = Recommended(release_id=forwards.release_id, items=["a", "b", "c"], scores=[3.0, 2.0, 1.0])
    assert scorer.recommend([], k=3) == whole
    assert scorer.recommend(["b", "unheard of"], k=3).items == ["a", "c"]
    assert not scorer.refresh()  # nothing has moved
    backwards = shop.bundle(BACKWARDS, ITEMS)
    shop.produce(backwards)
    assert scorer.recommend([], k=3) == whole  # not before it is told to look
    assert scorer.refresh()
    assert scorer.release_id == backwards.release_id
    assert scorer.recommend([], k=3) == Recommended(
        release_id=backwards.release_id, items=["c", "b", "a"], scores=[3.0, 2.0, 1.0]
    )


def test_several_users_are_answered_at_once_as_each_would_be_alone(shop, forwards):
    scorer = Scorer.from_channel(shop.store)
    histories = [[], ["b", "unheard of"], ["c", "a", "b"]]
    together = scorer.recommend_batch(histories, k=2)
    assert together == [scorer.recommend(history, k=2) for history in histories]
    assert [answer.items for answer in together] == [["a", "b"], ["a", "c"], []]
    assert scorer.recommend_batch([]) == []


@pytest.mark.parametrize("k", [0, -1])
def test_a_list_of_no_items_cannot_be_asked_for(shop, forwards, k):
    scorer = Scorer.from_channel(shop.store)
    with pytest.raises(ValueError, match=f"k must be at least 1 but got {k}"):
        scorer.recommend([], k=k)
    with pytest.raises(ValueError, match=f"k must be at least 1 but got {k}"):
        scorer.recommend_batch([[], ["a"]], k=k)


def test_one_release_can_be_served_whatever_production_is(shop, forwards):
    backwards = shop.bundle(BACKWARDS, ITEMS)
    scorer = Scorer.from_release(shop.store, backwards.release_id)
    assert not scorer.refresh()
    assert scorer.recommend([], k=1).items == ["c"]


def test_nothing_in_production_cannot_be_served(shop):
    with pytest.raises(NoRelease, match="must have a release in production"):
        Scorer.from_channel(shop.store)


def test_bytes_that_are_not_the_manifests_are_not_served(shop, forwards):
    at = bundles.key(forwards.release_id, FP32)
    shop.store.put(at, shop.store.get(at).body + b"\x00")
    with pytest.raises(BadBundle):
        Scorer.from_channel(shop.store)


def test_a_release_that_answers_as_when_it_was_packaged_is_served(shop, forwards):
    made = shop.with_golden(forwards)
    shop.produce(made)
    assert Scorer.from_channel(shop.store).release_id == made.release_id


def test_a_release_that_answers_otherwise_is_not_served(shop, forwards):
    other = shop.with_golden(forwards, graph_of=shop.bundle(BACKWARDS, ITEMS))
    shop.produce(other)
    for start in (Scorer.from_channel, partial(Scorer.from_release, release_id=other.release_id)):
        with pytest.raises(BadBundle, match=r"must answer the 2 requests of golden\.json as when it was packaged"):
            start(shop.store)


def test_a_release_without_golden_requests_is_served_and_that_is_said(shop, forwards, caplog):
    caplog.set_level(logging.INFO)
    assert Scorer.from_channel(shop.store).release_id == forwards.release_id
    assert f"{forwards.release_id} was packaged without golden.json" in caplog.text


def test_while_production_answers_otherwise_the_last_good_one_is_served_on(shop, forwards, caplog):
    scorer = Scorer.from_channel(shop.store)
    shop.produce(shop.with_golden(forwards, graph_of=shop.bundle(BACKWARDS, ITEMS)))
    assert not scorer.refresh()
    assert (scorer.release_id, scorer.recommend([], k=1).items) == (forwards.release_id, ["a"])
    assert f"{forwards.release_id} is served on" in caplog.text
    assert "golden.json" in caplog.text


@pytest.mark.parametrize("harm", ["bytes", "gone", "channel"])
def test_whatever_is_wrong_with_the_next_release_the_last_good_one_is_served_on(shop, forwards, harm, caplog):
    caplog.set_level(logging.ERROR)
    scorer = Scorer.from_channel(shop.store)
    broken = shop.bundle(BACKWARDS, ITEMS)
    shop.produce(broken)
    match harm:
        case "bytes":
            at = bundles.key(broken.release_id, FP32)
            whole = shop.store.get(at).body
            shop.store.put(at, whole[:-1])
        case "gone":
            at = bundles.key(broken.release_id, bundles.MANIFEST)
            whole = shop.store.get(at).body
            shop.store.delete(at)
        case "channel":
            at = channel.KEY
            whole = shop.store.get(at).body
            shop.store.put(at, b"no pointer")
    assert not scorer.refresh()
    assert (scorer.release_id, scorer.recommend([], k=1).items) == (forwards.release_id, ["a"])
    assert "is served on" in caplog.text
    shop.store.put(at, whole)  # once it is mended, it is taken up
    assert scorer.refresh()
    assert scorer.recommend([], k=1).items == ["c"]


def test_every_answer_names_the_release_that_gave_it_while_production_moves(shop, forwards):
    scorer = Scorer.from_channel(shop.store)
    bundle_of = [forwards, shop.bundle(BACKWARDS, ITEMS)]

    def ask(_: int) -> set[tuple[str, ...]]:
        both = scorer.recommend_batch([[], []], k=3)
        return {(answer.release_id, *answer.items) for answer in (*both, scorer.recommend([], k=3))}

    with ThreadPoolExecutor(4) as pool:
        answers = pool.map(ask, range(400))
        for turn in range(6):
            shop.store.delete(channel.KEY)
            shop.produce(bundle_of[(turn + 1) % 2])
            assert scorer.refresh()
        assert set().union(*answers) <= {
            (forwards.release_id, "a", "b", "c"),
            (bundle_of[1].release_id, "c", "b", "a"),
        }
