"""Measure how far a model's probabilities are right: of the items that were shown, how many were what came next.

Each shown item is a prediction, by the softmax of the scores over the catalogue, that it is taken next. Predictions are
laid into bins of equal mass (Nguyen and O'Connor 2015, "Posterior Calibration and Exploratory Analysis for Natural
Language Processing Models"); the expected calibration error is the mean over them of how far predicted and observed
share lie apart (Naeini, Cooper and Hauskrecht 2015, "Obtaining Well Calibrated Probabilities Using Bayesian Binning").
Noise in a bin can only add to it, so an interval around it that takes no account of that misses a model that is right.
Here the interval follows from the bins' gaps, which have no such bias: the error differs from the true one by the sum
of the gaps' own errors at most, and how large that sum is, a bootstrap over users tells.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from recsys.metrics import Evaluation, Scorer, resampled
from recsys.records import CalibrationResult, Estimate, Reliability, ReliabilityBin

BINS = 15  # of equal mass
RESAMPLES = 1000


@dataclass(slots=True)
class Normalising:
    """Passes a model's scores on, and remembers by how much each row must be lowered to be log probabilities."""

    scorer: Scorer
    _rows: list[NDArray[np.float64]] = field(default_factory=list)

    @property
    def history_length(self) -> int:
        """How many items of history the model reads."""
        return self.scorer.history_length

    def __call__(self, history: NDArray[np.int64]) -> NDArray[np.float32]:
        """Score the catalogue. Shapes [B, L] to [B, N + 1]."""
        scores = self.scorer(history)
        known = scores[:, 1:].astype(np.float64)
        best = known.max(1)
        with np.errstate(invalid="ignore"):  # scores that are no numbers give none, and are found elsewhere
            self._rows.append(best + np.log(np.exp(known - best[:, None]).sum(1)))
        return scores

    def probabilities(self, found: Evaluation) -> NDArray[np.float64]:
        """Give the probability of each item that was recommended, after all cases have been scored in their order.

        Returns:
            Shape [C, k]; 0 where nothing was left to recommend, or where the model gives no numbers.
        """
        with np.errstate(invalid="ignore"):
            return np.nan_to_num(np.exp(found.scores - np.concatenate(self._rows)[:, None]), nan=0.0)


@dataclass(frozen=True, slots=True)
class Predictions:
    """Probabilities of what was shown, and what of it came next."""

    probabilities: NDArray[np.float64]  # [C, k]
    shown: NDArray[np.bool_]  # [C, k]
    taken: NDArray[np.bool_]  # [C, k]
    users: NDArray[np.int64]  # [C]

    @classmethod
    def of(cls, probabilities: NDArray[np.float64], found: Evaluation) -> "Predictions":
        """Hold probabilities against what came next, which stands at its rank if it was shown."""
        places = np.arange(1, found.recommended.shape[1] + 1)
        return cls(probabilities, found.recommended > 0, found.ranks[:, None] == places, found.users)


def measure(
    candidate: tuple[str, Predictions | str], incumbent: tuple[str, Predictions | str], *, level: float, seed: int
) -> CalibrationResult:
    """Measure two models on the same cases.

    Args:
        candidate: Its release id, and its predictions or why it makes none.
        incumbent: The same of the incumbent.
        level: Share of intervals that hold the true error, at least.
        seed: Fixes the draws, which are the same users for both.
    """
    (ours, our_noise), (theirs, their_noise) = (_reliability(*each, level, seed) for each in (candidate, incumbent))
    rise = None
    if ours.ece and theirs.ece and our_noise is not None and their_noise is not None:
        apart = ours.ece.value - theirs.ece.value
        off = float(np.quantile(our_noise + their_noise, level))
        rise = Estimate(value=apart, low=apart - off, high=apart + off)
    return CalibrationResult(candidate=ours, incumbent=theirs, rise=rise)


def gaps(predictions: Predictions) -> tuple[NDArray[np.float64], tuple[ReliabilityBin, ...]]:
    """Lay predictions into bins of equal mass.

    Returns:
        For each case and bin, what predicted and observed differ by there, so that the mean over cases is a bin's gap
        times its share of the predictions, shape [C, BINS]; and the bins that hold any, by rising probability.
    """
    shown = predictions.shown
    flat = predictions.probabilities[shown]
    edges = np.quantile(flat, np.arange(1, BINS) / BINS, method="inverted_cdf")
    which = np.where(shown, np.searchsorted(edges, predictions.probabilities), BINS)
    differ = np.where(shown, predictions.probabilities - predictions.taken, 0.0)
    per_list = shown.sum() / len(shown)
    per_case = np.column_stack([np.where(which == at, differ, 0.0).sum(1) for at in range(BINS)]) / per_list
    bins = (which == at for at in range(BINS))
    return per_case, tuple(
        ReliabilityBin(
            shown=int(inside.sum()),
            predicted=float(predictions.probabilities[inside].mean()),
            observed=float(predictions.taken[inside].mean()),
        )
        for inside in bins
        if inside.any()
    )


def _reliability(
    release_id: str, predictions: Predictions | str, level: float, seed: int
) -> tuple[Reliability, NDArray[np.float64] | None]:
    """Give the reliability of one model, and by how much its error may be off in each draw of users."""
    if isinstance(predictions, str):
        return Reliability(release_id=release_id, missing=predictions), None
    if not predictions.shown.any():
        return Reliability(release_id=release_id, missing="nothing was shown"), None
    per_case, curve = gaps(predictions)
    found = per_case.mean(0)
    drawn = resampled(per_case, predictions.users, seed=seed, resamples=RESAMPLES)  # [R, BINS]
    noise = np.abs(drawn - found).sum(1)
    ece, off = float(np.abs(found).sum()), float(np.quantile(noise, level))
    return (
        Reliability(
            release_id=release_id, ece=Estimate(value=ece, low=max(ece - off, 0.0), high=ece + off), curve=curve
        ),
        noise,
    )
