"""Say where the best trials crowd at the end of a range, and which choices are never among them."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from scipy.stats import binom, hypergeom

from recsys.records import Edge, Findings
from recsys.tuning.encoding import place
from recsys.tuning.evidence import COMPLETE, PastTrial
from recsys.tuning.importance import Tried
from recsys.tuning.kernel import Vector
from recsys.tuning.space import FAMILY, Value

Near = Callable[[Vector, float], NDArray[np.bool_]]

BEST = 5  # the best fifth of each study
FEWEST = 5  # best trials from which anything is said
NEAR = 0.2  # of a range, on its own scale: how near to an end the best trials lie at it
AT = 0.1  # and how near to it the parameter is expected to be best, so that it still gains towards the end
RARE = 0.01  # chance must look like as much less often


def edges(found: Tried, over: Findings) -> list[Edge]:
    """Compare where the best trials of a family lie with where chance would put them.

    Args:
        found: What was tried, of all studies that count.
        over: What that says of the parameters; the best trials may lie anywhere where one explains no more than chance.
    """
    complete = np.array([trial.state == COMPLETE for trial in found.trials], bool)
    best = _best(found.values, found.searches, complete)
    made: list[Edge] = []
    mattering = {importance.parameter: importance.best for importance in over.importances if importance.above_chance}
    for column, name in enumerate(found.names):
        if name in mattering:
            here = found.points[:, column]
            expected = place(found.distribution(name), mattering[name])
            made += _ends(found, name, here[complete & ~np.isnan(here)], here[best & ~np.isnan(here)], expected)
            made += _never(found, name, here[complete & ~np.isnan(here)], here[best & ~np.isnan(here)])
    return made


def losing_families(studies: Mapping[str, Sequence[PastTrial]], incumbent: str) -> list[Edge]:
    """Find the families that are never among the best trials of any, production's aside.

    Args:
        studies: What each search tried, by plan.
        incumbent: The family of the configuration in production.
    """
    known = [
        (number, trial.parameters[FAMILY], trial.value)
        for number, trials in enumerate(studies.values())
        for trial in trials
        if trial.state == COMPLETE and trial.value is not None
    ]
    values = np.array([value for _, _, value in known])
    best = _best(values, np.array([number for number, _, _ in known], int), np.ones(len(known), bool))
    family = np.array([of for _, of, _ in known])
    return [
        _missing(one, FAMILY, one, n=len(known), has=int((family == one).sum()), best=int(best.sum()))
        for one in sorted(set(family) - {incumbent})
        if not (best & (family == one)).any() and _rare(len(known), int((family == one).sum()), int(best.sum()))
    ]


def _best(values: Vector, searches: NDArray[np.int64], complete: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Mark the best fifth of the complete trials of each study. Shape [n]."""
    best = np.zeros(len(values), bool)
    for study in np.unique(searches):
        own = np.flatnonzero((searches == study) & complete)
        order = own[np.argsort(-values[own], kind="stable")]
        best[order[: len(own) // BEST]] = True
    return best


def _ends(found: Tried, name: str, all_of: Vector, best: Vector, expected: float) -> list[Edge]:
    """Compare how many of the best lie at the end where a parameter gains with how many others would.

    Others are evenly drawn ones and, because a search may hardly have been there, those that were tried; looking at
    both, chance has two tries.
    """
    if len(best) < FEWEST:
        return []
    made = []
    for end, (value, near, share) in _at_ends(found, name).items():
        n, tried = int(near(best, NEAR).sum()), int(near(all_of, NEAR).sum())
        drawn = float(binom.sf(n - 1, len(best), share))
        p = min(1.0, 2 * min(drawn, float(hypergeom.sf(n - 1, len(all_of), tried, len(best)))))
        chance = len(best) * min(share, tried / len(all_of))
        if p <= RARE and near(np.array([expected]), AT).all():
            made.append(
                Edge(
                    family=found.family,
                    parameter=name,
                    kind=end,
                    value=value,
                    best=n,
                    of=len(best),
                    by_chance=chance,
                    p=p,
                    because=f"{n} of the {len(best)} best trials lie at its {end} end {value:g}, "
                    f"where chance would put {chance:.1f}",
                )
            )
    return made


def _at_ends(found: Tried, name: str) -> dict[str, tuple[int | float, Near, float]]:
    """Give, for each end, its value, what says which places are near to it, and the share of the space that is."""
    distribution, places = found.distribution(name), found.axes[name].places
    if isinstance(distribution, CategoricalDistribution):
        if not ordered(distribution):
            return {}
        numbers = [float(choice) for choice in distribution.choices]  # type: ignore[arg-type]
        at = {"low": numbers.index(min(numbers)), "high": numbers.index(max(numbers))}
        return {end: (distribution.choices[n], _is(n), 1 / len(numbers)) for end, n in at.items()}  # type: ignore[misc]
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    return {
        "low": (distribution.low, _at_most, float(_at_most(places, NEAR).mean())),
        "high": (distribution.high, _at_least, float(_at_least(places, NEAR).mean())),
    }


def _at_most(places: Vector, share: float) -> NDArray[np.bool_]:
    near: NDArray[np.bool_] = places <= share
    return near


def _at_least(places: Vector, share: float) -> NDArray[np.bool_]:
    near: NDArray[np.bool_] = places >= 1 - share
    return near


def _is(choice: int) -> Near:
    def near(places: Vector, _: float) -> NDArray[np.bool_]:
        there: NDArray[np.bool_] = places == choice
        return there

    return near


def ordered(distribution: CategoricalDistribution) -> bool:
    """Whether all choices are numbers, so that there is a smallest and a largest."""
    return all(isinstance(choice, int | float) and not isinstance(choice, bool) for choice in distribution.choices)


def _never(found: Tried, name: str, all_of: Vector, best: Vector) -> list[Edge]:
    """Find choices that were tried and are among none of the best, more often than the luck of so few explains."""
    distribution = found.distribution(name)
    if not isinstance(distribution, CategoricalDistribution) or len(best) < FEWEST:
        return []
    return [
        _missing(found.family, name, choice, n=len(all_of), has=int((all_of == at).sum()), best=len(best))  # type: ignore[arg-type]
        for at, choice in enumerate(distribution.choices)
        if not (best == at).any() and _rare(len(all_of), int((all_of == at).sum()), len(best))
    ]


def _rare(n: int, has: int, best: int) -> bool:
    return best >= FEWEST and float(hypergeom.pmf(0, n, has, best)) <= RARE


def _missing(family: str, name: str, value: Value, *, n: int, has: int, best: int) -> Edge:
    return Edge(
        family=family,
        parameter=name,
        kind="never",
        value=value,
        best=0,
        of=best,
        by_chance=best * has / n,
        p=float(hypergeom.pmf(0, n, has, best)),
        because=f"none of the {best} best trials has {value!r}, which {has} of all {n} have: chance would put "
        f"{best * has / n:.1f} among them",
    )
