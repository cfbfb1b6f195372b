"""Define what is known of what a model shows to whom, and of how far its probabilities can be believed."""

from dataclasses import dataclass

from recsys.records.paired import Paired
from recsys.records.values import Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class ExposureResult:
    """One measure of the lists of ten that two models gave the same users."""

    measure: str  # coverage, tail share, diversity or popularity
    candidate: float
    incumbent: float
    paired: Paired  # of both by user; of coverage, what the jackknife has in place of users' totals


@dataclass(frozen=True, slots=True, kw_only=True)
class ReliabilityBin:
    """Shown items of about the same predicted probability."""

    shown: int  # how many
    predicted: float  # their mean probability of being what is taken next
    observed: float  # share of them that was


@dataclass(frozen=True, slots=True, kw_only=True)
class Reliability:
    """How far the probabilities of one model are right."""

    release_id: str
    missing: str = ""  # why there are none; empty: there are
    ece: Estimate | None = None  # expected calibration error of the shown items, in units of probability
    curve: tuple[ReliabilityBin, ...] = ()  # by rising probability


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationResult:
    """Reliability of candidate and incumbent on the same cases."""

    candidate: Reliability
    incumbent: Reliability
    rise: Estimate | None = None  # candidate's error less the incumbent's; None: one of them has no probabilities
