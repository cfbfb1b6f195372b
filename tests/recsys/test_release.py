import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from threading import Barrier

import numpy as np
import pytest

from recsys import bundles, channel, ledger
from recsys import dataset as datasets
from recsys.bundles import FP32, find_bundle, read_bundle
from recsys.errors import BadBundle, Held, LostRace, NoRelease
from recsys.gate import VERDICT, gate
from recsys.people import digest
from recsys.ranker import Ranker
from recsys.records import (
    Answer,
    Bundle,
    Check,
    Comparison,
    Estimate,
    LatencyResult,
    Outcome,
    Override,
    Verdict,
    dump,
)
from recsys.release import current, install_baseline, release, rollback
from recsys.settings import Approval, Gate

ITEMS = ("a", "b", "c")
REASON = "It recommends the same film to everybody."


def bundle(shop, number: int) -> Bundle:
    """The `number`th of many bundles that differ."""
    return shop.bundle(np.arange(16).reshape(4, 4) + number, ITEMS)


def verdict(candidate: Bundle, incumbent: Bundle, outcome: Outcome = Outcome.PASS) -> Verdict:
    return Verdict(
        candidate=candidate.release_id,
        incumbent=incumbent.release_id,
        outcome=outcome,
        checks=(),
        because=f"{candidate.release_id} is {outcome}.",
        by="gatekeeper",
        as_of=datetime(2026, 1, 1, tzinfo=UTC),
    )


@pytest.fixture
def compared(a_scorecard, a_comparison) -> Callable[[Bundle, Bundle], Comparison]:
    """Compare two bundles of which the candidate is much better, and as quick."""
    p50_ms, p99_ms = (Estimate(value=ms, low=ms, high=ms) for ms in (0.1, 0.2))
    times = {"p50_ms": p50_ms, "p95_ms": p99_ms, "p99_ms": p99_ms, "users_per_s": p50_ms}
    latency = (LatencyResult(graph=FP32, batch_size=1, **times),)

    def compared(candidate: Bundle, incumbent: Bundle) -> Comparison:
        cards = [
            a_scorecard(of.release_id, ndcg, dataset_id=of.dataset_id, latency=latency)
            for of, ndcg in ((candidate, 0.4), (incumbent, 0.2))
        ]
        return a_comparison(*cards, as_of=candidate.as_of)

    return compared


def entries(shop, what: str) -> list[ledger.Entry]:
    return [entry for entry in ledger.read(shop.store) if entry.what == what]


@pytest.fixture
def first(shop) -> Bundle:
    """In production."""
    made = bundle(shop, 0)
    shop.produce(made)
    return made


def spoil(shop, of: Bundle) -> None:
    at = bundles.key(of.release_id, FP32)
    shop.store.put(at, shop.store.get(at).body[:-1] + b"\x00")


def test_a_passed_candidate_goes_into_production_and_into_the_ledger(shop, first):
    second = bundle(shop, 1)
    moved = release(shop.line, shop.store, verdict(second, first))
    assert moved == current(shop.store)
    assert (moved.release_id, moved.previous, moved.generation) == (second.release_id, first.release_id, 2)
    assert (moved.family, moved.dataset_id) == (second.family, second.dataset_id)
    [entry] = entries(shop, "released")
    assert (entry.who, entry.why, entry.evidence) == ("gatekeeper", moved.reason, dump(moved))


@pytest.mark.parametrize("outcome", [Outcome.FAIL, Outcome.INCONCLUSIVE])
def test_without_a_pass_the_incumbent_stays_and_the_ledger_says_why_once(shop, first, outcome):
    held = verdict(bundle(shop, 1), first, outcome)
    for _ in range(2):
        with pytest.raises(Held, match=held.because):
            release(shop.line, shop.store, held)
    assert channel.current(shop.store).release_id == first.release_id
    assert [entry.why for entry in entries(shop, "held")] == [held.because]


def test_a_candidate_that_answers_otherwise_than_when_it_was_packaged_is_not_released(shop, first):
    second = bundle(shop, 1)
    sound = shop.with_golden(second)
    changed = shop.with_golden(second, graph_of=shop.bundle(-np.arange(16).reshape(4, 4), ITEMS))
    with pytest.raises(BadBundle, match=r"must answer the 2 requests of golden\.json"):
        release(shop.line, shop.store, verdict(changed, first))
    assert current(shop.store).release_id == first.release_id
    assert release(shop.line, shop.store, verdict(sound, first)).release_id == sound.release_id


def test_a_verdict_against_another_incumbent_loses(shop, first):
    second, third = bundle(shop, 1), bundle(shop, 2)
    release(shop.line, shop.store, verdict(second, first))
    with pytest.raises(LostRace):
        release(shop.line, shop.store, verdict(third, first))
    assert current(shop.store).release_id == second.release_id


def test_the_same_verdict_twice_is_one_move_even_after_others_have_moved_on(shop, first):
    second = bundle(shop, 1)
    passed = verdict(second, first)
    moved = release(shop.line, shop.store, passed)
    assert release(shop.line, shop.store, passed) == moved
    rollback(shop.line, shop.store, reason=REASON, by="operator")
    assert release(shop.line, shop.store, passed) == moved  # what it did is done; it does not undo the rollback
    assert current(shop.store).release_id == first.release_id
    assert len(entries(shop, "released")) == 1


def test_what_is_released_over_the_same_incumbent_again_moves_production_again(shop, first, compared):
    second = bundle(shop, 1)
    measured = compared(second, first)
    release(shop.line, shop.store, gate(shop.line, shop.store, measured, by="gatekeeper"))
    rollback(shop.line, shop.store, reason=REASON, by="operator")
    with pytest.raises(Held, match="nobody has said why it may come back"):
        release(shop.line, shop.store, gate(shop.line, shop.store, measured, by="asset"))
    for generation in (4, 6):
        anew = gate(shop.line, shop.store, measured, by="operator", again="The list was wrong.")
        assert release(shop.line, shop.store, anew).generation == generation
        assert current(shop.store).release_id == second.release_id
        rollback(shop.line, shop.store, reason=REASON, by="operator")


def test_what_was_brought_back_by_name_is_released_as_ever(shop, first, compared):
    second, third = bundle(shop, 1), bundle(shop, 2)
    release(shop.line, shop.store, verdict(second, first))
    rollback(shop.line, shop.store, reason=REASON, by="operator")
    rollback(shop.line, shop.store, to=second.release_id, reason="The list was wrong.", by="operator")
    release(shop.line, shop.store, verdict(third, second))
    assert gate(shop.line, shop.store, compared(second, third), by="asset").outcome is Outcome.PASS


def test_of_many_candidates_at_once_exactly_one_is_released(shop, first):
    rivals = [bundle(shop, number) for number in range(1, 9)]
    start = Barrier(len(rivals))

    def promote(rival: Bundle) -> str:
        start.wait()
        try:
            return release(shop.line, shop.store, verdict(rival, first)).release_id
        except LostRace:
            return "lost"

    with ThreadPoolExecutor(len(rivals)) as pool:
        ends = list(pool.map(promote, rivals))
    assert ends.count("lost") == len(rivals) - 1
    [winner] = set(ends) - {"lost"}
    assert current(shop.store).release_id == winner
    assert current(shop.store).generation == 2
    assert len(entries(shop, "released")) == 1


def test_bytes_are_verified_before_production_moves(shop, first):
    second = bundle(shop, 1)
    spoil(shop, second)
    with pytest.raises(BadBundle):
        release(shop.line, shop.store, verdict(second, first))
    assert channel.current(shop.store).release_id == first.release_id


@pytest.fixture
def third(shop, first) -> list[Bundle]:
    """Three releases, the last in production."""
    made = [first, bundle(shop, 1), bundle(shop, 2)]
    release(shop.line, shop.store, verdict(made[1], made[0]))
    release(shop.line, shop.store, verdict(made[2], made[1]))
    return made


def test_a_rollback_goes_one_release_back_and_the_next_one_further(shop, third):
    back = rollback(shop.line, shop.store, reason=REASON, by="operator")
    assert (back.release_id, back.generation, back.by, back.reason) == (third[1].release_id, 4, "operator", REASON)
    assert (back.replaced, back.previous) == (third[2].release_id, third[0].release_id)
    assert rollback(shop.line, shop.store, reason=REASON, by="operator").release_id == third[0].release_id
    with pytest.raises(NoRelease, match="it was the first"):
        rollback(shop.line, shop.store, reason=REASON, by="operator")
    assert [entry.evidence["release_id"] for entry in entries(shop, "rolled back")] == [
        third[1].release_id,
        third[0].release_id,
    ]


def test_a_rollback_of_what_is_in_production_no_longer_moves_nothing(shop, third):
    with pytest.raises(LostRace, match=f"'{third[2].release_id}' is in production, so nothing was"):
        rollback(shop.line, shop.store, expect=third[1].release_id, reason=REASON, by="operator")
    assert channel.current(shop.store).generation == 3
    moved = rollback(shop.line, shop.store, expect=third[2].release_id, reason=REASON, by="operator")
    assert moved.release_id == third[1].release_id


def test_a_rollback_to_a_name_needs_a_release_that_was_good(shop, third):
    passed, failed, unjudged = (bundle(shop, number) for number in (3, 4, 5))
    for each, outcome in ((passed, Outcome.PASS), (failed, Outcome.FAIL)):
        judged = verdict(each, third[2], outcome)
        shop.store.put(bundles.key(each.release_id, VERDICT), json.dumps(dump(judged)).encode())
    for each in (failed, unjudged):
        with pytest.raises(NoRelease, match="in production or have passed"):
            rollback(shop.line, shop.store, to=each.release_id, reason=REASON, by="operator")
    with pytest.raises(NoRelease):
        rollback(shop.line, shop.store, to="markov-of-nobody", reason=REASON, by="operator")
    assert current(shop.store).release_id == third[2].release_id
    for each in (third[0], passed):
        back = rollback(shop.line, shop.store, to=each.release_id, reason=REASON, by="operator")
        assert back.release_id == each.release_id


@pytest.mark.parametrize("golden", [True, False])
def test_what_passed_but_never_served_is_asked_its_golden_requests_where_it_has_any(shop, third, golden):
    passed = bundle(shop, 3)
    if golden:
        passed = shop.with_golden(passed, graph_of=shop.bundle(-np.arange(16).reshape(4, 4), ITEMS))
    shop.store.put(bundles.key(passed.release_id, VERDICT), json.dumps(dump(verdict(passed, third[2]))).encode())
    to = {"to": passed.release_id, "reason": REASON, "by": "operator"}
    if golden:
        with pytest.raises(BadBundle, match=r"must answer the 2 requests of golden\.json"):
            rollback(shop.line, shop.store, **to)
        assert current(shop.store).release_id == third[2].release_id
    else:
        assert rollback(shop.line, shop.store, **to).release_id == passed.release_id


def test_each_wish_to_override_what_is_broken_is_in_the_ledger_once(shop, first):
    broken = replace(
        verdict(bundle(shop, 1), first, Outcome.FAIL),
        checks=(Check(name="sanity: bytes", outcome=Outcome.FAIL, because="It has other bytes."),),
    )
    wishes = [("ann", "now"), ("ann", "please"), ("bob", "now")]
    for by, reason in [*wishes, wishes[0]]:
        with pytest.raises(Held, match=f"{by} may not override sanity: bytes.*The reason was: {reason}"):
            release(shop.line, shop.store, broken, override=Override(by=by, reason=reason))
    found = [(each.who, each.evidence["override"]["reason"]) for each in entries(shop, "held")]
    assert sorted(found) == sorted(wishes)


def test_what_is_held_again_after_another_policy_has_judged_is_in_the_ledger_again(shop, first, compared):
    measured = compared(bundle(shop, 1), first)
    strict = shop.line.model_copy(update={"gate": Gate(min_ndcg_gain=0.3)})
    for line in (strict, shop.line, strict):
        judged = gate(line, shop.store, measured, by="gatekeeper")
        if judged.outcome is Outcome.FAIL:
            for _ in range(2):
                with pytest.raises(Held):
                    release(line, shop.store, judged)
    assert [each.evidence["outcome"] for each in entries(shop, "gated")] == ["fail", "pass", "fail"]
    assert len(entries(shop, "held")) == 2


def test_a_rollback_verifies_bytes_before_it_moves(shop, third):
    spoil(shop, third[1])
    with pytest.raises(BadBundle):
        rollback(shop.line, shop.store, reason=REASON, by="operator")
    assert current(shop.store).release_id == third[2].release_id


def test_the_same_rollback_carried_out_again_goes_no_further(shop, third):
    one = rollback(shop.line, shop.store, reason=REASON, by="operator", nonce="run-7")
    assert rollback(shop.line, shop.store, reason=REASON, by="operator", nonce="run-7") == one
    assert current(shop.store).release_id == third[1].release_id
    assert len(entries(shop, "rolled back")) == 1


def test_whenever_a_rollback_dies_carrying_it_out_again_writes_it_down_once(shop, third, dies):
    def back(store):
        rollback(shop.line, store, reason=REASON, by="operator", nonce="run-7")

    writes = 0
    while dies(shop.store, writes, back):
        writes += 1
    assert writes == 2  # the pointer and the ledger
    moved = current(shop.store)
    assert moved.release_id == third[1].release_id
    [entry] = entries(shop, "rolled back")
    assert (entry.who, entry.why, entry.at, entry.evidence) == ("operator", REASON, moved.at, dump(moved))


def test_a_rollback_is_written_down_even_if_others_have_moved_on_since_it_died(shop, third, dies):
    assert dies(shop.store, 1, lambda store: rollback(shop.line, store, reason=REASON, by="operator", nonce="run-7"))
    rollback(shop.line, shop.store, to=third[0].release_id, reason="Further.", by="operator")
    again = rollback(shop.line, shop.store, reason=REASON, by="operator", nonce="run-7")
    assert again.release_id == third[1].release_id
    assert current(shop.store).release_id == third[0].release_id
    assert [entry.why for entry in entries(shop, "rolled back")] == [REASON, "Further."]


@pytest.mark.parametrize("nonce", ["manual__2026-01-05/../..", "n" * 300, ".", "ü\n"])
def test_a_rollback_may_be_called_anything(shop, third, nonce):
    one = rollback(shop.line, shop.store, reason=REASON, by="operator", nonce=nonce)
    assert rollback(shop.line, shop.store, reason=REASON, by="operator", nonce=nonce) == one
    assert [entry.evidence["release_id"] for entry in entries(shop, "rolled back")] == [third[1].release_id]


@pytest.mark.parametrize(("reason", "by"), [("not \udcff text", "operator"), (REASON, "not \udcff text")])
def test_what_the_ledger_cannot_take_does_not_move_production(shop, third, reason, by):
    with pytest.raises(ValueError, match="surrogates"):
        rollback(shop.line, shop.store, reason=reason, by=by)
    assert current(shop.store).release_id == third[2].release_id


@pytest.mark.parametrize(("reason", "by"), [("", "operator"), (" ", "operator"), (REASON, "")])
def test_a_rollback_must_say_why_and_by_whom(shop, third, reason, by):
    with pytest.raises(ValueError, match="must say why and by whom"):
        rollback(shop.line, shop.store, reason=reason, by=by)


def test_what_is_in_production_is_no_place_to_go_back_to(shop, third):
    with pytest.raises(ValueError, match="another release"):
        rollback(shop.line, shop.store, to=third[2].release_id, reason=REASON, by="operator")


def test_there_is_nothing_to_roll_back_from_before_the_first_release(shop):
    assert current(shop.store) is None
    with pytest.raises(NoRelease, match="must have a release"):
        rollback(shop.line, shop.store, reason=REASON, by="operator")


def test_the_baseline_is_popularity_before_the_holdout_installed_once(shop):
    installed = install_baseline(shop.line, shop.store, shop.dataset, by="schedule")
    assert (installed.family, installed.generation, installed.previous) == ("popularity", 1, None)
    assert install_baseline(shop.line, shop.store, shop.dataset, by="schedule") == installed == current(shop.store)
    assert len(entries(shop, "released")) == 1
    known = datasets.load(shop.store, shop.dataset).before_holdout
    ranker = Ranker.open(shop.store, installed.release_id)
    best = ranker.vocabulary[int(np.argmax(np.bincount(known.items)[1:]))]
    assert ranker.recommend([], k=1).items == [best]


def test_whenever_the_baseline_s_installation_dies_doing_it_again_writes_it_down_once(shop, dies):
    def install(store):
        install_baseline(shop.line, store, shop.dataset, by="schedule")

    writes = 0
    while dies(shop.store, writes, install):
        writes += 1
    assert writes > 5  # weights, files, manifest, both entries of the ledger and the pointer
    installed = current(shop.store)
    [entry] = entries(shop, "released")
    assert (entry.who, entry.why, entry.at) == ("schedule", installed.reason, installed.at)
    [packaged] = entries(shop, "packaged")
    assert packaged.evidence["release_id"] == installed.release_id


class Rival:
    """A store in which somebody else installs a release just before the first pointer is written."""

    def __init__(self, shop, other: Bundle) -> None:
        self._shop = shop
        self._other = other

    def __getattr__(self, name: str):
        return getattr(self._shop.store, name)

    def create(self, key: str, body: bytes) -> str:
        if key == channel.KEY:
            self._shop.produce(self._other)
        return self._shop.store.create(key, body)


def test_a_baseline_that_comes_second_leaves_what_came_first(shop):
    other = bundle(shop, 0)
    installed = install_baseline(shop.line, Rival(shop, other), shop.dataset, by="schedule")
    assert installed.release_id == other.release_id == current(shop.store).release_id
    assert installed.generation == 1


def test_what_is_in_production_is_left_alone_by_the_baseline(shop, first):
    assert install_baseline(shop.line, shop.store, shop.dataset, by="schedule").release_id == first.release_id
    assert find_bundle(shop.store, first.release_id) == read_bundle(shop.store, first.release_id)[0]


# --- people

WISH = Override(by="operator", reason="The shop closes tomorrow.")


@pytest.fixture
def asking(shop):
    """The line, where ann must approve."""
    return shop.line.model_copy(update={"approval": Approval(users=("ann",))})


def answer(to: Verdict, **said) -> Answer:
    known = {"approved": True, "by": "ann", "name": "Ann", "asked_by": "operator", "run": "r", "of": digest(to)}
    return Answer(**{**known, "at": datetime(2026, 1, 2, tzinfo=UTC), **said})


@pytest.mark.parametrize("outcome", [Outcome.FAIL, Outcome.INCONCLUSIVE])
def test_a_person_overrides_a_verdict_once_and_the_ledger_has_the_verdict(shop, first, outcome):
    held = verdict(bundle(shop, 1), first, outcome)
    moved = release(shop.line, shop.store, held, override=WISH)
    assert release(shop.line, shop.store, held, override=WISH) == moved
    assert (current(shop.store).release_id, moved.by) == (held.candidate, "operator")
    [entry] = entries(shop, "overridden")
    assert (entry.who, entry.why) == ("operator", moved.reason)
    assert entry.why.endswith(f"although the verdict is {outcome}: The shop closes tomorrow.")
    assert entry.evidence["verdict"] == dump(held)
    assert len(entries(shop, "released")) == 1


def test_an_override_of_a_pass_is_a_release_like_any_other(shop, first):
    release(shop.line, shop.store, verdict(bundle(shop, 1), first), override=WISH)
    assert entries(shop, "overridden") == []


def test_what_is_broken_stays_out_whoever_wants_it(shop, first):
    broken = verdict(bundle(shop, 1), first, Outcome.FAIL)
    checks = (Check(name="sanity", outcome=Outcome.FAIL, because="No score is a number."),)
    for _ in range(2):
        with pytest.raises(Held, match=r"operator may not override sanity.* No score is a number."):
            release(shop.line, shop.store, replace(broken, checks=checks), override=WISH)
    assert current(shop.store).release_id == first.release_id
    assert [entry.who for entry in entries(shop, "held")] == ["operator"]


def test_bytes_that_are_not_the_bundles_stay_out_whoever_wants_them(shop, first):
    second = bundle(shop, 1)
    spoil(shop, second)
    with pytest.raises(BadBundle):
        release(shop.line, shop.store, verdict(second, first, Outcome.FAIL), override=WISH)
    assert current(shop.store).release_id == first.release_id


@pytest.mark.parametrize("override", [None, WISH])
def test_where_people_are_asked_nothing_is_released_without_their_answer(shop, asking, first, override):
    judged = verdict(bundle(shop, 1), first, Outcome.FAIL if override else Outcome.PASS)
    with pytest.raises(Held, match=r"only the DAG promote_shop can ask"):
        release(asking, shop.store, judged, override=override)
    assert current(shop.store).release_id == first.release_id
    assert len(entries(shop, "held")) == 1


def test_what_people_approve_is_released_and_what_they_said_is_written_down_once(shop, asking, first):
    judged = verdict(bundle(shop, 1), first)
    for _ in range(2):
        moved = release(asking, shop.store, judged, answer=answer(judged))
    assert moved.release_id == judged.candidate
    [entry] = entries(shop, "approved")
    assert (entry.who, entry.evidence["answer"]["asked_by"]) == ("ann", "operator")


@pytest.mark.parametrize(
    ("said", "why"),
    [({"approved": False}, "Ann rejected it"), ({"asked_by": "ann"}, "Ann approved it, but had started the run")],
)
def test_what_people_reject_is_held_and_the_ledger_says_by_whom(shop, asking, first, said, why):
    judged = verdict(bundle(shop, 1), first)
    with pytest.raises(Held, match=why):
        release(asking, shop.store, judged, answer=answer(judged, **said))
    assert current(shop.store).release_id == first.release_id
    assert [entry.who for entry in entries(shop, "rejected")] == ["ann"]


def test_no_rollback_leads_to_what_passed_and_was_not_approved(shop, asking, first, compared):
    second, third = bundle(shop, 1), bundle(shop, 2)
    gate(shop.line, shop.store, compared(third, first), by="asset")
    release(shop.line, shop.store, verdict(second, first))
    with pytest.raises(NoRelease, match="must have been in production, but has not"):
        rollback(asking, shop.store, to=third.release_id, reason=REASON, by="operator")
    assert rollback(shop.line, shop.store, to=third.release_id, reason=REASON, by="operator").generation == 3
