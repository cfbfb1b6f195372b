"""Say whether a rung of a search ranks configurations as the rungs above it do."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from recsys.records import Agreement, Estimate, TrialEvidence
from recsys.settings import Line, Stage
from recsys.tuning.evidence import COMPLETE
from recsys.tuning.promotion import STAGES
from recsys.tuning.ranking import identity

LEAST = 8  # configurations on both rungs, over all searches; with fewer an interval says nothing
NO_RANKING = 0.3  # a rung whose interval ends below this does not rank as the one above
DRAWS, LEVEL = 2000, 0.95  # of the bootstrap

Vector = NDArray[np.float64]


def agreements(line: Line, searches: Iterable[Sequence[TrialEvidence]]) -> tuple[Agreement, ...]:
    """Compare every two rungs whose shares or epochs differ, the lowest first.

    Args:
        line: Says what each rung gives a trial; trials that were given anything else are left out.
        searches: The trials of each search. Configurations are compared within a search alone, because scores of
            different datasets cannot be.
    """
    known = list(searches)
    return tuple(
        agreement(line, lower, upper, known) for lower, upper in combinations(STAGES, 2) if differ(line, lower, upper)
    )


def agreement(line: Line, lower: str, upper: str, searches: Iterable[Sequence[TrialEvidence]]) -> Agreement:
    """Compare how two rungs ranked the configurations that have ended on both.

    The measure is Kendall's tau-b (Kendall 1945, "The treatment of ties in ranking problems") over all pairs of
    configurations of one search, with the percentile interval of a bootstrap that draws configurations. Only the best
    of a rung go up, and the best are hard to tell apart, so tau is lower than it would be over all.
    """
    pairs = [pair for trials in searches if len((pair := _both(line, lower, upper, trials))[0])]
    n = sum(len(low) for low, _ in pairs)
    tau = tau_b(pairs) if n >= LEAST else None
    if tau is None:
        said = f"{lower} with {upper}: too few to tell ({n} configurations on both, and it takes {LEAST})"
    else:
        said = f"{lower} with {upper}: {tau.value:.2f} [{tau.low:.2f}, {tau.high:.2f}] over {n} configurations"
    return Agreement(lower=lower, upper=upper, configurations=n, tau=tau, because=said)


def tau_b(pairs: Sequence[tuple[Vector, Vector]]) -> Estimate | None:
    """Give Kendall's tau-b over all pairs within each search, with its interval; None where everything is tied.

    Args:
        pairs: For each search, the values of its configurations on the lower rung and on the upper.

    >>> two = tau_b([(np.array([1.0, 2.0, 3.0]), np.array([0.1, 0.3, 0.2]))])
    >>> round(two.value, 3)  # of three pairs two are in the same order
    0.333
    """
    signs = [(np.sign(low[:, None] - low), np.sign(high[:, None] - high)) for low, high in pairs]
    rng = np.random.default_rng(0)
    once, drawn = np.zeros(3), np.zeros((3, DRAWS))
    for low, high in signs:
        n = len(low)
        times = rng.multinomial(n, np.full(n, 1 / n), DRAWS)  # [DRAWS, n]
        for at, product in enumerate((low * high, low**2, high**2)):
            once[at] += product.sum()
            drawn[at] += ((times @ product) * times).sum(1)
    if once[1] * once[2] == 0:
        return None
    told = drawn[1] * drawn[2] > 0  # a draw of one configuration alone ranks nothing
    values = drawn[0][told] / np.sqrt(drawn[1][told] * drawn[2][told])
    low_end, high_end = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(value=float(once[0] / np.sqrt(once[1] * once[2])), low=float(low_end), high=float(high_end))


def differ(line: Line, lower: str, upper: str) -> bool:
    """Whether two rungs give a trial different shares or epochs."""
    one, other = (getattr(line.search, stage) for stage in (lower, upper))
    return (one.share, one.epochs) != (other.share, other.epochs)


def _both(line: Line, lower: str, upper: str, trials: Sequence[TrialEvidence]) -> tuple[Vector, Vector]:
    """Give what the configurations that have ended on both rungs reached on each, in one order."""
    low, high = _reached(line, lower, trials), _reached(line, upper, trials)
    names = sorted(set(low) & set(high))
    return np.array([low[name] for name in names]), np.array([high[name] for name in names])


def _reached(line: Line, stage: str, trials: Iterable[TrialEvidence]) -> dict[str, float]:
    """Give the mean over seeds of each configuration that is complete in a stage."""
    rung: Stage = getattr(line.search, stage)
    found: dict[str, list[float]] = defaultdict(list)
    for trial in trials:
        own = (trial.stage, trial.share, trial.epochs) == (stage, rung.share, rung.epochs)
        if own and trial.state == COMPLETE and trial.ndcg_at_10 is not None:
            found[identity(trial.family, trial.configuration)].append(trial.ndcg_at_10)
    return {name: sum(values) / len(values) for name, values in found.items()}
