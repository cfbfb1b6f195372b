"""Evidently's numbers against hand computation, and chance against simulation."""

import math

import numpy as np
import pandas as pd
import pytest

from monitoring.columns import Compared
from monitoring.distance import FALSE_ALARMS, chance, measure


def compared(before, now, *, numbers: bool) -> Compared:
    names = ["x"]
    return Compared(
        reference=pd.DataFrame({"x": before}),
        current=pd.DataFrame({"x": now}),
        numbers=names if numbers else [],
        categories=[] if numbers else names,
    )


def distance(both: Compared, max_psi: float = 0.1) -> float:
    [column], _ = measure(both, max_psi=max_psi)
    assert column.column == "x"
    assert column.method == "psi"
    return column.distance


def test_evidently_gives_the_psi_computed_by_hand_for_a_category():
    both = compared(["a"] * 60 + ["b"] * 40, ["a"] * 30 + ["b"] * 70, numbers=False)
    by_hand = (0.6 - 0.3) * math.log(0.6 / 0.3) + (0.4 - 0.7) * math.log(0.4 / 0.7)
    assert by_hand == pytest.approx(0.37583, abs=1e-5)
    assert distance(both) == pytest.approx(by_hand, rel=1e-9)


def test_evidently_gives_the_psi_computed_by_hand_for_a_number_in_equal_bins():
    before = np.repeat(np.arange(32.0), 4)  # 128 values, 32 of them different, so that bins are laid
    now = np.repeat(np.arange(32.0), [6] * 16 + [2] * 16)
    # Sturges: log2(256) + 1 = 9 bins over 0..31, each of width 31 / 9.
    bins = np.minimum((np.arange(32) * 9) // 31, 8)
    p = np.bincount(bins, weights=np.full(32, 4)) / 128
    q = np.bincount(bins, weights=[6] * 16 + [2] * 16) / 128
    assert distance(compared(before, now, numbers=True)) == pytest.approx(float(((p - q) * np.log(p / q)).sum()))


def test_equal_windows_are_at_distance_nought():
    assert distance(compared(["a", "b"] * 50, ["b", "a"] * 50, numbers=False)) == 0


def test_nothing_at_the_end_of_a_column_counts_for_nothing():
    before = pd.Series(["a"] * 60 + ["b"] * 40)
    now = pd.Series(["a"] * 30 + ["b"] * 70 + [np.nan] * 900)
    assert distance(compared(before, now, numbers=False)) == pytest.approx(0.37583, abs=1e-5)


def test_what_is_handed_on_is_plain_json():
    [column], report = measure(compared(["a", "b"] * 50, ["a", "b"] * 50, numbers=False), max_psi=0.1)
    assert type(column.distance) is float
    assert type(column.threshold) is float
    assert '"metrics"' in report.json()


def test_chance_is_the_formula_of_the_paper():
    both = compared(["a"] * 60 + ["b"] * 40, ["a"] * 100 + ["b"] * 100, numbers=False)
    assert chance(both, "x") == pytest.approx(10.828 * (1 / 100 + 1 / 200), rel=1e-4)  # chi-squared table, 1 degree


def test_a_threshold_is_never_below_the_lines_own():
    many = ["a", "b"] * 50_000
    [column], _ = measure(compared(many, many, numbers=False), max_psi=0.1)
    assert column.threshold == 0.1


def test_chance_is_exceeded_as_rarely_as_it_says():
    rng = np.random.default_rng(7)
    shares = np.arange(20, 0, -1) / 210
    n, m, draws = 2_000, 3_000, 2_000
    p, q = rng.multinomial(n, shares, draws) / n, rng.multinomial(m, shares, draws) / m
    psi = ((p - q) * np.log(p / q)).sum(1)
    values = [f"v{bin}" for bin in range(20)]
    both = compared(rng.permutation(values * 100), rng.permutation(values * 150), numbers=False)
    alarms = (psi > chance(both, "x")).mean()
    assert alarms <= 5 * FALSE_ALARMS
    assert (psi > chance(both, "x") / 2).mean() > 10 * FALSE_ALARMS  # and not because it is far too large
