"""Define what trainings may begin from, and what one began from."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """A checkpoint of a release, from which trainings may begin."""

    release_id: str
    file: str  # of its bundle
    sha256: str
    learned_before: datetime  # nothing that happened then or later has been learned


@dataclass(frozen=True, slots=True, kw_only=True)
class Covered:
    """How much of a network was taken over from another one's weights."""

    parameters: float  # share of the numbers that are learned
    items: float  # share of the items whose rows were found
    interactions: float  # share of the interactions with known items that are with these


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """What a training began from."""

    weights: Weights
    covered: Covered
