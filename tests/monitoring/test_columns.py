"""What is compared, laid out by hand."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from monitoring.columns import HISTORY, MISSING, OTHER, POPULARITY, SCORE, Window, compare
from recsys.settings import Column

NUMBER = Column(role="label", type="number")
CATEGORY = Column(role="context", type="category", nullable=True)


def window(n: int = 100, *, lengths=(1,), scores=(0.5,), **columns) -> Window:
    events = {"item_id": ["a"] * n} | columns
    return Window(events=pa.table(events), lengths=np.array(lengths), scores=np.array(scores, np.float32))


def compare_columns(columns, reference: Window, current: Window, top_items: int = 10):
    return compare(columns, reference, current, top_items=top_items)


def test_every_declared_column_is_compared_and_what_is_derived_besides():
    both = window(rating=[1.0] * 100, device=["phone"] * 100)
    compared = compare_columns({"rating": NUMBER, "device": CATEGORY}, both, both)
    assert compared.names == ["rating", "device", POPULARITY, HISTORY, SCORE]
    assert compared.numbers == ["rating", SCORE]
    assert compared.categories == ["device", POPULARITY, HISTORY]


def test_items_outside_the_references_top_are_one():
    before = window(item_id=["a"] * 50 + ["b"] * 30 + ["c"] * 20)
    now = window(item_id=["a"] * 10 + ["new"] * 90)
    compared = compare_columns({}, before, now, top_items=2)
    assert compared.reference[POPULARITY].value_counts().to_dict() == {"a": 50, "b": 30, OTHER: 20}
    assert compared.current[POPULARITY].value_counts().to_dict() == {OTHER: 90, "a": 10}


def test_of_items_with_as_many_events_the_first_by_name_is_compared():
    both = window(item_id=["b", "c", "a", "d"] * 25)
    compared = compare_columns({}, both, both, top_items=2)
    assert set(compared.reference[POPULARITY]) == {"a", "b", OTHER}


def test_values_too_rare_for_the_smaller_window_are_one():
    # A share of 4 % is 40 events of 1,000, but only 4 of the 100 that the smaller window holds: fewer than 5.
    before = window(1000, device=["phone"] * 960 + ["watch"] * 40)
    now = window(100, device=["phone"] * 50 + ["watch"] * 50)
    compared = compare_columns({"device": CATEGORY}, before, now)
    assert compared.reference["device"].value_counts().to_dict() == {"phone": 960, OTHER: 40}
    assert compared.current["device"].dropna().value_counts().to_dict() == {"phone": 50, OTHER: 50}


def test_a_missing_category_is_a_value_of_its_own():
    both = window(device=["phone"] * 50 + [None] * 50)
    compared = compare_columns({"device": CATEGORY}, both, both)
    assert compared.current["device"].value_counts().to_dict() == {"phone": 50, MISSING: 50}


def test_of_a_number_that_may_be_missing_it_is_compared_whether_it_is():
    nullable = Column(role="context", type="number", nullable=True)
    compared = compare_columns({"price": nullable}, window(price=[1.0] * 100), window(price=[1.0] * 70 + [None] * 30))
    assert compared.current["price"].notna().sum() == 70
    assert compared.current["price, given or not"].value_counts().to_dict() == {OTHER: 30, "given": 70}


def test_an_outlier_stretches_no_bins():
    before = window(rating=[float(n) for n in range(100)])
    now = window(rating=[float(n) for n in range(99)] + [1e12])
    compared = compare_columns({"rating": NUMBER}, before, now)
    low, high = np.quantile(range(100), [0.01, 0.99])
    assert compared.reference["rating"].max() == compared.current["rating"].max() == pytest.approx(high)
    assert compared.reference["rating"].min() == pytest.approx(low)


@pytest.mark.parametrize("values", [None, [None] * 100], ids=["absent", "empty"])
def test_a_column_without_values_in_one_window_is_left_out(values):
    columns = {} if values is None else {"rating": pa.array(values, pa.float64())}
    compared = compare_columns({"rating": NUMBER}, window(**columns), window(rating=[1.0] * 100))
    assert compared.names == [POPULARITY, HISTORY, SCORE]


def test_columns_of_different_length_end_in_nothing():
    both = window(100, lengths=[0, 1, 2], scores=[0.1, 0.2])
    compared = compare_columns({}, both, both)
    assert list(compared.current.notna().sum()) == [100, 3, 2]


def test_integers_are_ordered_numbers():
    ages = pa.array([20, 30] * 50, pa.int64())
    compared = compare_columns({"age": Column(role="context", type="integer")}, window(age=ages), window(age=ages))
    assert "age" in compared.numbers
    assert pd.api.types.is_float_dtype(compared.current["age"])
