"""Measure how soon a release that is clicked less is found, and how often one that is not is taken back.

Windows are drawn as `monitoring.served` would read them: so many impressions, of which each is clicked with the same
chance, or with one that also differs from day to day. Beside the watch stand two rules that are usual: a z-test of each
window at 5 %, and a fall by so much as matters in any window.
"""

import argparse
from collections.abc import Callable, Mapping

import numpy as np
from scipy.special import ndtr

from benchmarks._table import show
from monitoring.served import Windows
from monitoring.watch import compare
from recsys.settings import Watch, WatchedValue

RATE, FALLEN = 0.1, 0.095
IMPRESSIONS = 20_000  # of a window
PAST = Watch().past_windows
YEAR = 365
WITHIN = 5  # windows
DAYS = (0.0, 0.01, 0.02)  # standard deviation by which days' rates differ, as a share
RELEASES, YEARS = 2000, 2000
LEVEL = Watch().error_budget
VALUE = WatchedValue(column="clicked")

Rule = Callable[[Windows, Windows], int | None]
"""Gives the first window, from 0, in which a release is said to do worse."""


def main() -> None:
    """Print the table and write the figures."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    rows: list[list[object]] = []
    figures: dict[str, float] = {}
    for beside in (False, True):
        for days in DAYS:
            for name, rule in RULES.items():
                if beside and name != "watch":
                    continue
                found = _share_within(rule, days, beside=beside)
                false = _false_per_century(rule, days, beside=beside)
                rows.append([name, "same windows" if beside else "windows before", f"{days:.0%}", found, false])
                if name == "watch":
                    suffix = ("_beside" if beside else "") + (f"_days_{days:g}" if days else "")
                    figures |= {f"found{suffix}": found, f"false_rollbacks{suffix}": false}
    show(
        "watch",
        title=(
            f"Releases whose click rate falls from {RATE:.0%} to {FALLEN:.1%} at {IMPRESSIONS} impressions a window, "
            f"{RELEASES} each, and {YEARS} release-years without a fall (seeds 0 and 1)"
        ),
        columns=["rule", "compared with", "days differ by", f"found within {WITHIN}", "false in 100 release-years"],
        rows=rows,
        figures=figures,
    )


def _share_within(rule: Rule, days: float, *, beside: bool) -> float:
    rng = np.random.default_rng(0)
    said = [rule(*_drawn(rng, FALLEN, WITHIN, days, beside=beside)) for _ in range(RELEASES)]
    return float(np.mean([at is not None for at in said]))


def _false_per_century(rule: Rule, days: float, *, beside: bool) -> float:
    """Count alarms as a rollback follows each, after which a release that is no better serves on."""
    rng = np.random.default_rng(1)
    said = [rule(*_drawn(rng, RATE, YEAR, days, beside=beside)) for _ in range(YEARS)]
    return 100 * float(np.mean([at is not None for at in said]))


def _drawn(
    rng: np.random.Generator, rate: float, windows: int, days: float, *, beside: bool
) -> tuple[Windows, Windows]:
    """Draw a release's windows and those of the release before, which serve before it or beside it."""
    of_days = 1 + days * rng.standard_normal(PAST + windows)
    clicked = rng.binomial(IMPRESSIONS, np.clip(RATE * of_days, 0, 1))
    own = _windows(PAST + 1 + np.arange(windows), rng.binomial(IMPRESSIONS, np.clip(rate * of_days[PAST:], 0, 1)))
    before = _windows(np.arange(PAST), clicked[:PAST])
    return own, _windows(own.numbers, clicked[PAST:]) if beside else before


def _windows(numbers: np.ndarray, clicked: np.ndarray) -> Windows:
    means = clicked / IMPRESSIONS
    return Windows(numbers, np.full(len(numbers), IMPRESSIONS), means, means * (1 - means) / IMPRESSIONS)


def _watch(own: Windows, other: Windows) -> int | None:
    found = compare(VALUE, own, other, since=PAST + 1, level=LEVEL)
    assert found is not None
    return found.evidence.first(LEVEL)


def _z_test(own: Windows, other: Windows) -> int | None:
    """Test each window by itself at 5 %."""
    before, variance = other.means.mean(), other.variances.mean() / len(other.means)
    return _first(ndtr((own.means - before) / np.sqrt(own.variances + variance)) < 0.05)


def _threshold(own: Windows, other: Windows) -> int | None:
    """Alarm at any window that falls by the change that matters."""
    return _first(own.means < (1 - VALUE.change) * other.means.mean())


def _first(said: np.ndarray) -> int | None:
    at = np.flatnonzero(said)
    return int(at[0]) if len(at) else None


RULES: Mapping[str, Rule] = {"watch": _watch, "z-test": _z_test, "threshold": _threshold}


if __name__ == "__main__":
    main()
