"""Simulate a year of daily gates, and single ones, on real scores: how often noise is promoted, and what is found.

Users are drawn from the 6,040 of MovieLens-1M with the scores that real models reached on their newest ratings. Where a
candidate shall be no better, the differences are real ones less their mean; where it shall be better or worse, the
incumbent's own scores are added to them in proportion. Of `MIXED` users some have one rating in the holdout and some
up to ten, three in the mean.

Shape legend: U users of the population, H users of a holdout, D days.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr
from scipy.stats import beta

from benchmarks._gate_scores import CASES, scores
from benchmarks._table import Table
from recsys.looks import level
from recsys.records import CohortResult, Look, Outcome
from recsys.regressions import checks
from recsys.settings import Cohort, Gate
from recsys.significance import pair

DAYS, ROLLS = 365, 14  # of a year; until all users of a holdout have been replaced
YEARS, GATES, RETRIED, COHORT_GATES, TAIL_GATES = 1000, 2000, 200, 400, 100_000  # simulated
BOOTSTRAPPED, RESAMPLES = 4000, 2000  # holdouts on which the bootstrap is tried, and draws of each
MIXED = 0  # ratings of each user: another number for each
SEEDS = ("sasrec, seed 1", "sasrec, seed 0")  # candidate and incumbent of one configuration
FAMILIES = ("sasrec, seed 0", "markov")
BUDGET, GAIN, LOSS = 0.05, 0.05, 0.2
_BEGINS = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Users:
    """Totals of all users over their cases in the holdout."""

    gained: NDArray[np.float64]  # [U] candidate less incumbent, whose mean over users is 0
    incumbent: NDArray[np.float64]  # [U]
    cases: NDArray[np.int64]  # [U]


@cache
def users_of(models: tuple[str, str], cases: int) -> Users:
    """Take so many of each user's newest cases, `MIXED` another number of each user's."""
    known = scores()
    candidate, incumbent = (known[name] for name in models)
    counts = np.full(len(incumbent), cases)
    if cases == MIXED:
        counts = np.minimum(np.random.default_rng(7).geometric(0.3, len(incumbent)), CASES)
    inside = np.arange(CASES) >= CASES - counts[:, None]
    gained = ((candidate - incumbent) * inside).sum(1)
    return Users(gained - counts * gained.sum() / counts.sum(), (incumbent * inside).sum(1), counts)


class Year(NamedTuple):
    """Whether each rule promoted anything within a year that had nothing to promote."""

    ours: bool
    fixed: bool
    per_run: bool


def tables() -> Iterator[Table]:
    """Give what each part shows."""
    yield false_promotions()
    yield power()
    yield cohorts()
    yield tails_far_out()


def tails_far_out() -> Table:
    """Count how often candidates that are no better exceed a level, in units of the level."""
    rows: list[list[Any]] = []
    rng = np.random.default_rng(1)
    levels = (0.05, 0.01, 0.001)
    real = {
        " less ".join(models[::sign]): sign * users_of(models, MIXED).gained
        for models, sign in product((SEEDS, FAMILIES), (1, -1))
    }
    made = 1 - rng.exponential(1, len(real[" less ".join(SEEDS)]))
    populations = {**real, "made, skewness -2": made - made.mean()}
    for (name, gained), users in product(populations.items(), (250, 1000)):
        found: dict[str, list[NDArray[np.float64]]] = {test: [] for test in TESTS}
        for _ in range(TAIL_GATES // 4000):
            drawn = gained[rng.integers(0, len(gained), (4000, users))]
            for test, p in p_values(drawn).items():
                found[test] += [p]
        if users == 250:
            drawn = gained[rng.integers(0, len(gained), (BOOTSTRAPPED, users))]
            found["percentile-t"] = [np.array([percentile_t(rng, each) for each in drawn])]
        rows += [
            [name, users, test] + [float(np.mean(np.concatenate(p) <= each) / each) for each in levels]
            for test, p in found.items()
        ]
    ours = [row[-1] for row in rows if row[2] == "ours" and row[0] in real]
    return Table(
        title=(
            f"Chance of an error over the level, {TAIL_GATES:,} holdouts each of what is no better "
            f"({BOOTSTRAPPED:,} of percentile-t)"
        ),
        columns=["candidate less incumbent", "users", "test", *(f"at {each:g}" for each in levels)],
        rows=rows,
        figures={"tail_ratio_largest": round(max(ours), 2), "tail_ratio_mean": round(float(np.mean(ours)), 2)},
    )


TESTS = ("t", "Hall's", "ours")


def p_values(totals: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Test many holdouts at once whether the mean of the users' totals exceeds 0. Shape [..., H] to [...]."""
    n = totals.shape[-1]
    mean = totals.mean(-1)
    apart = totals - mean[..., None]
    variance = (apart**2).mean(-1)
    t = mean / np.sqrt(variance / (n - 1))
    a = (apart**3).mean(-1) / variance**1.5 / (3 * np.sqrt(n))
    found = {name: stdtr(n - 1, -corrected(t, slope)) for name, slope in (("t", 0 * a), ("Hall's", a))}
    return {**found, "ours": np.maximum(found["t"], stdtr(n - 1, -corrected(t, np.minimum(a, 0))))}


def percentile_t(rng: np.random.Generator, totals: NDArray[np.float64]) -> float:
    """Test one holdout by a studentised bootstrap over its users (Efron and Tibshirani 1993, chapter 12)."""
    apart = totals - totals.mean()
    drawn = apart[rng.integers(0, len(apart), (RESAMPLES, len(apart)))]
    found = drawn.mean(1) / drawn.std(1)
    return float((1 + np.sum(found >= totals.mean() / totals.std())) / (1 + RESAMPLES))


def corrected(t: NDArray[np.float64], a: NDArray[np.float64]) -> NDArray[np.float64]:
    """Remove skewness; `a` is it over 3 root n."""
    return t + a * t**2 + a**2 * t**3 / 3 + a / 2


def daily_levels(days: int = DAYS) -> NDArray[np.float64]:
    """Give the levels that a line spends which looks once a day. Shape [D]."""
    taken: list[Look] = []
    for day in range(days):
        at = _BEGINS + timedelta(days=day)
        spends = level(taken, at, budget=BUDGET, looks_a_year=DAYS)
        known = {"who": "schedule", "dataset_id": str(day), "candidate": "c", "incumbent": "i"}
        taken.append(Look(number=day + 1, at=at, level=spends, budget=BUDGET, looks_a_year=DAYS, **known))
    return np.array([look.level for look in taken])


def false_promotions() -> Table:
    """Gate candidates that are no better for many years, by three rules."""
    rows: list[list[Any]] = []
    promoted: list[NDArray[np.float64]] = []
    for lives, users in ((1, 500), (7, 500), (DAYS, 500)):
        rng = np.random.default_rng([2, lives, users])
        years = [_year(rng, lives, users) for _ in range(YEARS)]
        shares = np.mean(years, axis=0)
        each = {1: "each day another", DAYS: "one all year"}.get(lives, f"another after {lives} days")
        low, high = _between(round(shares[0] * YEARS), YEARS)
        rows.append([each, users, *map(float, shares), f"{low:.3f}-{high:.3f}"])
        promoted.append(shares)
    ours, fixed, per_run = (round(float(share), 4) for share in np.max(promoted, axis=0))
    return Table(
        title=f"Chance of any false promotion in {DAYS} daily gates of what is no better, {YEARS:,} years each",
        columns=["candidate", "users", "ours", "gain over 0.5 %", "5 % a run", "ours, 95 %"],
        rows=rows,
        figures={
            "false_promotion_year": ours,
            "false_promotion_year_fixed": fixed,
            "false_promotion_year_per_run": per_run,
        },
    )


def _year(rng: np.random.Generator, lives: int, users: int) -> Year:
    """Gate once a day; a fourteenth of the holdout's users is replaced each day, and a candidate lives so many days."""
    pairs = [(users_of(models, MIXED), sign) for models, sign in product((SEEDS, FAMILIES), (1, -1))]
    n = len(pairs[0][0].cases)
    entered = (np.arange(DAYS)[:, None] + np.arange(users) % ROLLS) // ROLLS  # [D, H] how often each place was refilled
    who = rng.integers(0, n, (entered.max() + 1, users))[entered, np.arange(users)]
    gained, gain = np.empty((DAYS, users)), np.empty(DAYS)
    for begin in range(0, DAYS, lives):
        days = slice(begin, begin + lives)
        known, sign = pairs[rng.integers(len(pairs))]
        theirs = (who[days] + rng.integers(n)) % n  # another candidate gains by other users
        gained[days] = sign * known.gained[theirs]
        gain[days] = gained[days].sum(1) / known.incumbent[theirs].sum(1)
    p = p_values(gained)["ours"]
    return Year(ours=bool((p <= _LEVELS).any()), fixed=bool((gain > 0.005).any()), per_run=bool((p <= 0.05).any()))


def power() -> Table:
    """Gate candidates that are better by 5 % on 5,000 users, at once and day by day."""
    rows: list[list[Any]] = []
    figures: dict[str, float] = {}
    rng = np.random.default_rng(3)
    for models, cases in product((SEEDS, FAMILIES), (1, 2, 3, 5, 10, MIXED)):
        known = users_of(models, cases)
        better = known.gained + GAIN * known.incumbent
        p = np.concatenate([_gated(rng, better) for _ in range(GATES // 20)])
        first, thirtieth, last = (float(np.mean(p <= _LEVELS[look])) for look in (0, 29, DAYS - 1))
        passed = [_retried(rng, better, 30) for _ in range(RETRIED)]
        week, month = (float(np.mean([day < days for day in passed])) for days in (7, 30))
        rows.append([" less ".join(models), cases or "1 to 10", first, thirtieth, last, week, month])
        name = "power_quality" + ("" if models == SEEDS else "_families")
        if cases == MIXED:
            figures[name] = round(min(first, thirtieth, last), 4)
        if cases == 1:
            figures |= {f"{name}_one_case": round(min(first, thirtieth, last), 4), f"{name}_one_case_month": month}
    return Table(
        title=f"Chance that a gain of {GAIN:.0%} on 5,000 users is promoted, of a line that looks once a day",
        columns=[
            "candidate less incumbent",
            "cases a user",
            "first look",
            "look 30",
            "look 365",
            "retried for 7 days",
            "for 30 days",
        ],
        rows=rows,
        figures=figures,
    )


def _gated(rng: np.random.Generator, gained: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the p-values of twenty holdouts."""
    return p_values(gained[rng.integers(0, len(gained), (20, 5000))])["ours"]


def _retried(rng: np.random.Generator, gained: NDArray[np.float64], days: int) -> int:
    """Gate the same candidate day by day while the holdout rolls; give the day on which it passes, or `days`."""
    places = np.arange(5000)
    entered = (np.arange(days)[:, None] + places % ROLLS) // ROLLS
    who = rng.integers(0, len(gained), (entered.max() + 1, 5000))[entered, places]
    passed = p_values(gained[who])["ours"] <= _LEVELS[:days]
    return int(np.argmax(passed)) if passed.any() else days


def cohorts() -> Table:
    """Gate candidates of which one loses a fifth in one cohort of 1,000 users, and others nothing anywhere."""
    rows: list[list[Any]] = []
    figures: dict[str, float] = {}
    for models, cases in ((SEEDS, 1), (SEEDS, MIXED), (FAMILIES, MIXED)):
        found = {name: _cohort_gates(models, cases, lost, margin) for name, lost, margin in _PLANTED}
        rows.append([" less ".join(models), cases or "1 to 10", *(round(share, 3) for share in found.values())])
        if cases == MIXED:
            suffix = "" if models == SEEDS else "_families"
            figures |= {f"cohort_power{suffix}": found["power"], f"cohort_false{suffix}": found["false"]}
    return Table(
        title=f"Cohorts: 5,000 users in 5 devices of 1,000 and 3 groups of activity, {COHORT_GATES} gates each",
        columns=["candidate less incumbent", "cases a user", "a loss of 20 % found", "any false alarm"],
        rows=rows,
        figures=figures,
    )


_PLANTED = (("power", LOSS, 0.05), ("false", 0.0, 0.0))  # a margin of 0 is where false alarms are likeliest
_COHORTS = ("device", "activity")


def _cohort_gates(models: tuple[str, str], cases: int, lost: float, margin: float) -> float:
    """Give the share of the gates in which the first device is found, or without a loss any group at all."""
    known, rng = users_of(models, cases), np.random.default_rng([4, cases])
    activity = np.argsort(np.argsort(known.cases + rng.random(len(known.cases)))) * 3 // len(known.cases)
    gained = known.gained.copy()
    for third in range(3):  # nobody gains or loses in any of them
        inside = activity == third
        gained[inside] -= known.cases[inside] * gained[inside].sum() / known.cases[inside].sum()
    declared = {name: Cohort(by="popularity", margin=margin) for name in _COHORTS}
    gate = Gate(cohorts=declared)
    return float(
        np.mean([_alarmed(gate, _drawn(rng, known, gained, activity, lost), lost) for _ in range(COHORT_GATES)])
    )


def _drawn(
    rng: np.random.Generator,
    known: Users,
    gained: NDArray[np.float64],
    activity: NDArray[np.int64],
    lost: float,
) -> list[CohortResult]:
    who, device = rng.integers(0, len(gained), 5000), np.repeat(np.arange(5), 1000)
    incumbent = known.incumbent[who]
    candidate = incumbent + gained[who] - lost * incumbent * (device == 0)
    return [
        CohortResult(
            cohort=name, group=str(group), paired=pair(candidate[inside], incumbent[inside], np.arange(sum(inside)))
        )
        for name, groups in zip(_COHORTS, (device, activity[who]), strict=True)
        for group in np.unique(groups)
        for inside in [groups == group]
    ]


def _alarmed(gate: Gate, results: Sequence[CohortResult], lost: float) -> bool:
    failed = [check.name for check in checks(gate, results) if check.outcome is Outcome.FAIL]
    return "cohort device: 0" in failed if lost else bool(failed)


def _between(found: int, of: int) -> tuple[float, float]:
    """Give the 95 % interval of a share (Clopper and Pearson 1934)."""
    return (
        float(beta.ppf(0.025, found, of - found + 1)) if found else 0.0,
        float(beta.ppf(0.975, found + 1, of - found)),
    )


_LEVELS = daily_levels()
