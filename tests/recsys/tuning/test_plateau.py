"""When screening has nothing better to expect, from trials that were written by hand."""

import pytest
from optuna.trial import TrialState, create_trial

from recsys.models import FAMILIES
from recsys.tuning.outcomes import LOST, NOT_BEGUN
from recsys.tuning.plateau import find, noise_of
from recsys.tuning.trials import Entry, Trials

TOWER = {**FAMILIES["two_tower"].defaults, "dim": 32}


def trial(value, *, given=False, state=TrialState.COMPLETE, **facts):
    ended = state is TrialState.COMPLETE
    return create_trial(
        state=state,
        value=value if ended else None,
        user_attrs={"stage": "screen", "family": "two_tower", "given": given, **facts},
    )


def waiting(n, **facts):
    return [trial(None, state=TrialState.WAITING, **facts)] * n


FLAT = [trial(0.1000 + n / 100_000) for n in range(12)]  # they differ by far less than seeds do
WIDE = [trial(0.05 + n / 100) for n in range(12)]


def test_where_proposals_differ_less_than_seeds_screening_ends():
    found = find([trial(0.1, given=True), *FLAT, *waiting(20)], noise=0.02)
    assert (found.ended, found.next) == (12, 8)
    assert found.chance < 0.05
    assert found.margin == pytest.approx(2**0.5 * 0.02 * 0.10011)
    assert found.said.startswith(
        "Screening ended at a plateau after 12 proposals: the chance that any of the next 8 would exceed the best by "
        "more than 0.0028, the noise of seeds, was "
    )


def test_where_better_is_to_be_expected_it_goes_on():
    assert find([trial(0.1, given=True), *WIDE, *waiting(20)], noise=0.02) is None


def test_the_chance_follows_from_students_distribution():
    # 0.08, 0.10 four times each: the middle 0.09, the better half 0.01 above it, so a deviation of 0.01 / 0.798.
    values = [trial(0.08), trial(0.10)] * 4
    found = find([trial(0.16, given=True), *values, *waiting(1)], noise=0.0)
    # (0.16 - 0.09) / (0.01253 * sqrt(9 / 8)) is 5.27: beyond it lie 0.0581 % of t with 7 degrees of freedom.
    assert found.next == 1
    assert found.chance == pytest.approx(0.9 * 0.000581, rel=0.01)


@pytest.mark.parametrize(
    "trials",
    [
        [*FLAT[:7], *waiting(9)],
        [*FLAT],
        [*FLAT, *waiting(9), trial(None, given=True, state=TrialState.RUNNING)],
        [*FLAT, *waiting(9), *waiting(1, given=True)],
    ],
    ids=["too few proposals", "nothing left", "the incumbent runs", "a default waits"],
)
def test_no_plateau_is_called_too_early(trials):
    assert find(trials, noise=0.02) is None


def test_what_was_lost_with_its_worker_says_nothing():
    lost = [trial(None, state=TrialState.FAIL, **{LOST: True})] * 50
    found = find([*FLAT, *lost, *waiting(9)], noise=0.02)
    assert found.ended == 12


def test_the_noise_is_that_of_seeds_in_earlier_searches_beside_a_guess(trial_evidence, search_evidence):
    def tried(seed, ndcg, *, stage="confirm", **configuration):
        return trial_evidence("two_tower", {**TOWER, **configuration}, ndcg, stage=stage, seed=seed)

    assert noise_of([]) == pytest.approx(0.02)
    once = search_evidence(tried(0, 0.10), tried(0, 0.20, lr=0.05), tried(0, 0.30, stage="refine"))
    assert noise_of([once]) == pytest.approx(0.02)
    # Means 0.10 and 0.20, deviations 0.01 and 0.02: 10 % each, one pair each, beside four pairs of 2 %.
    repeated = search_evidence(
        tried(0, 0.10 - 0.005 * 2**0.5),
        tried(1, 0.10 + 0.005 * 2**0.5),
        tried(0, 0.20 - 0.01 * 2**0.5, lr=0.05),
        tried(1, 0.20 + 0.01 * 2**0.5, lr=0.05),
    )
    assert noise_of([repeated]) == pytest.approx(((4 * 0.02**2 + 2 * 0.1**2) / 6) ** 0.5)


def test_what_waits_is_left_but_not_what_a_dead_worker_had_begun(a_plan, tmp_path):
    trials = Trials.create(a_plan(), str(tmp_path / "journal"))
    trials.enter("screen", [Entry(name=f"{n}", seed=n) for n in range(2)])
    trials._storage.set_trial_state_values(trials.all()[0]._trial_id, TrialState.RUNNING)
    trials.take_back("screen", because="the stage screen began anew")
    assert trials.plateau is None
    found = find([*FLAT, *waiting(9)], noise=0.02)
    trials.level_off("screen", found)
    lost, left, again = trials.all()
    assert [t.state.name for t in (lost, left, again)] == ["FAIL", "FAIL", "WAITING"]
    assert left.user_attrs[NOT_BEGUN]
    assert left.user_attrs["reason"] == f"not begun: {found.said}"
    assert Trials.load(a_plan(), str(tmp_path / "journal")).plateau == found
