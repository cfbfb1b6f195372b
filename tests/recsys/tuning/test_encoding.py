import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from recsys.tuning.encoding import Encoding, gone_from, place, value

KIND = CategoricalDistribution(["flat", "deep"])
SPACE = {
    "kind": KIND,
    "lr": FloatDistribution(0.001, 0.1, log=True),
    "layers": IntDistribution(1, 5),
}
ENCODING = Encoding(SPACE, {"layers": ("kind", "deep")})


@pytest.mark.parametrize(
    ("distribution", "number", "at"),
    [
        (FloatDistribution(0.001, 0.1, log=True), 0.01, 0.5),
        (FloatDistribution(2, 4), 5.0, 1.5),  # from a wider range of before
        (IntDistribution(0, 10), 5, 0.5),
        (FloatDistribution(3, 3), 3.0, 0.5),
        (KIND, "deep", 1.0),
        (KIND, "wide", 2.0),  # a choice that is gone is like no other
        (CategoricalDistribution([1, 2]), True, 2.0),  # no number, although it equals one
        (CategoricalDistribution([0, 0.2, 0.4]), 0.0, 0.0),
        (CategoricalDistribution([16, 32]), 32.0, 1.0),
    ],
)
def test_a_value_has_a_place_on_its_own_scale(distribution, number, at):
    assert place(distribution, number) == pytest.approx(at)


@pytest.mark.parametrize("wrong", ["many", True, -1.0])
def test_what_is_no_such_number_has_no_place(wrong):
    assert np.isnan(place(FloatDistribution(0.001, 0.1, log=True), wrong))


@pytest.mark.parametrize(
    ("distribution", "at", "number"),
    [
        (FloatDistribution(0.001, 0.1, log=True), 0.5, 0.01),
        (FloatDistribution(2, 4), 1.5, 4.0),
        (IntDistribution(0, 10, step=5), 0.3, 5),
        (IntDistribution(1, 3), 0.74, 2),
        (KIND, 1.0, "deep"),
        (KIND, 7.0, "deep"),
    ],
)
def test_a_place_is_rounded_to_a_value_that_can_be_taken(distribution, at, number):
    found = value(distribution, at)
    assert found == pytest.approx(number) if isinstance(number, float) else found == number
    assert type(found) is type(number)


def test_what_hangs_on_another_value_exists_only_beside_it():
    points = ENCODING.points([{"kind": "flat", "lr": 0.01}, {"kind": "deep", "lr": 0.1, "layers": 3}])
    assert points == pytest.approx(np.array([[0, 0.5, np.nan], [1, 1, 0.5]]), nan_ok=True)
    assert [ENCODING.parameters(point) for point in points] == [
        {"kind": "flat", "lr": pytest.approx(0.01)},
        {"kind": "deep", "lr": pytest.approx(0.1), "layers": 3},
    ]


def test_a_value_left_over_from_another_choice_counts_for_nothing():
    assert np.isnan(ENCODING.points([{"kind": "flat", "lr": 0.01, "layers": 3}])[0, 2])


def test_drawn_points_cover_the_space_and_can_be_taken():
    drawn = ENCODING.draw(400, np.random.default_rng(0))
    deep = drawn[:, 0] == 1
    assert 150 < deep.sum() < 250
    assert np.isnan(drawn[~deep, 2]).all()
    assert not np.isnan(drawn[deep, 2]).any()
    assert set(drawn[deep, 2]) == {0.0, 0.25, 0.5, 0.75, 1.0}
    assert 0.45 < drawn[:, 1].mean() < 0.55
    assert np.array_equal(ENCODING.tidy(drawn), drawn, equal_nan=True)


def test_points_are_tidied_as_if_each_was_read_as_parameters_and_written_again():
    rng = np.random.default_rng(0)
    mess = np.column_stack([rng.integers(0, 2, 50), rng.normal(0.5, 1, 50), rng.normal(0.5, 1, 50)])
    again = ENCODING.points([ENCODING.parameters(point) for point in mess])
    np.testing.assert_allclose(ENCODING.tidy(mess), again)


def test_what_is_settled_is_never_drawn_but_tells_past_trials_apart():
    encoding = Encoding({**SPACE, "old": FloatDistribution(0, 1)}, ENCODING.conditions, {"old": 0.25})
    assert set(encoding.draw(20, np.random.default_rng(0))[:, 3]) == {0.25}
    past = encoding.points([{"kind": "flat", "lr": 0.01, "old": 0.75}])
    assert past[0, 3] == 0.75
    assert encoding.parameters(past[0])["old"] == 0.25


STEPS = Encoding(
    {"steps": CategoricalDistribution([3, 5, 9]), "rate": CategoricalDistribution([0.001, 0.01, 0.1])},
    scales={"steps": IntDistribution(1, 17), "rate": FloatDistribution(0.001, 1.0, log=True)},
)


def test_a_list_of_numbers_lies_on_its_scale_and_a_value_beside_it_is_read_back_as_the_nearest():
    tried = [{"steps": steps, "rate": 0.01} for steps in (2, 4.0, 8, 16, 5)]
    points = STEPS.points(tried)
    assert points[:, 0] == pytest.approx(np.array([1, 3, 7, 15, 4]) / 16)
    assert points[:, 1] == pytest.approx(np.full(5, 1 / 3))
    assert not STEPS.categorical.any()
    assert [STEPS.parameters(point)["steps"] for point in points] == [3, 3, 9, 9, 5]
    assert STEPS.tidy(points)[:, 0] == pytest.approx(np.array([2, 2, 8, 8, 4]) / 16)


def test_numbers_of_a_list_on_a_log_scale_are_near_by_their_logarithm():
    assert STEPS.parameters(STEPS.points([{"steps": 3, "rate": 0.04}])[0])["rate"] == 0.1  # 0.4 of a decade, and 0.6


def test_drawn_numbers_are_those_of_the_list():
    drawn = STEPS.draw(60, np.random.default_rng(0))
    assert {STEPS.parameters(point)["steps"] for point in drawn} == {3, 5, 9}
    assert np.array_equal(STEPS.tidy(drawn), drawn)


def test_choices_that_are_gone_are_neither_each_other_nor_one_that_there_is():
    tried = [{"kind": kind} for kind in ("wide", "deep", "tall", "wide")]
    encoding = Encoding({"kind": KIND}, gone=gone_from({"kind": KIND}, tried))
    assert encoding.points(tried)[:, 0].tolist() == [3.0, 1.0, 2.0, 3.0]


def test_where_a_choice_is_gone_each_one_that_there_is_may_stand_for_it():
    tried = [{"kind": "wide", "lr": 0.01}, {"kind": "flat", "lr": 0.1}]
    encoding = Encoding({"kind": KIND, "lr": SPACE["lr"]}, gone=gone_from({"kind": KIND}, tried))
    points, of = encoding.possible(encoding.points(tried))
    assert points == pytest.approx(np.array([[0, 0.5], [1, 0.5], [0, 1.0]]))
    assert of.tolist() == [0, 0, 1]


def test_a_number_that_is_gone_from_a_list_without_a_scale_is_read_back_as_the_nearest():
    dim = {"dim": CategoricalDistribution([32, 64])}
    encoding = Encoding(dim, gone=gone_from(dim, [{"dim": 16}, {"dim": 128}]))
    points = encoding.points([{"dim": 16}, {"dim": 128.0}])
    assert sorted(points[:, 0]) == [2.0, 3.0]
    assert [encoding.parameters(point)["dim"] for point in points] == [32, 64]
    assert encoding.possible(points)[0][:, 0].tolist() == [0.0, 1.0]
