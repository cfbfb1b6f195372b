"""Divide what the surrogate foresees between two configurations among the knobs that changed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import norm

from recsys.models import FAMILIES
from recsys.records import Configuration, Estimate, Evidence, KnobShare
from recsys.settings import Past
from recsys.tuning.encoding import Encoding, gone_from
from recsys.tuning.evidence import PastStudy
from recsys.tuning.importance import LEAST
from recsys.tuning.kernel import Vector
from recsys.tuning.past import assemble, translate
from recsys.tuning.shapley import Game
from recsys.tuning.space import FAMILY, Space
from recsys.tuning.warm import gather

SEED = 0  # of the orders that are drawn

Named = tuple[str, Configuration]
"""A family and a configuration of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Divided:
    """A foreseen difference, and what it is made of."""

    shares: tuple[KnobShare, ...]  # the largest first, those that nothing can be said of last
    total: Estimate | None  # of NDCG@10; None: too little has been tried
    orders: int  # that were drawn; 0: all of them count
    trials: int  # that tell
    studies: tuple[str, ...]


def divide(
    before: Named, after: Named, evidence: Sequence[Evidence], edits: Mapping[str, Past], *, confidence: float
) -> Divided:
    """Divide the difference that is foreseen between two configurations among what changed.

    A change of family is one change: the family with its defaults. What the new configuration has other than these are
    changes beside it, which do nothing without it. Shares are linear in what is foreseen, so their intervals are those
    of the surrogate's own doubt, with no sampling; that the surrogate may be wrong as a whole is not in them.

    Args:
        before: Of a family that is known today.
        after: Likewise.
        evidence: What the line's searches left, oldest first.
        edits: How old names and values read today, by the family's name of then.
        confidence: Of the intervals.
    """
    changes = _changes(before, after)
    seen = [name for name in changes if name == FAMILY or name in FAMILIES[after[0]].space]
    space = Space({name: family.space for name, family in FAMILIES.items()})
    studies = _studies(evidence, space, edits)
    trials = sum(trial.value is not None for study in studies for trial in study.trials)
    told = Divided(
        shares=tuple(_share(name, before, after, None) for name in changes),
        total=None,
        orders=0,
        trials=trials,
        studies=tuple(study.name for study in studies),
    )
    if trials < LEAST or not seen:
        return told
    game = Game.of(len(seen), seed=SEED)
    mean, covariance = _foreseen([_made(before, after, _names(seen, row)) for row in game.sets], space, studies)
    whole = np.zeros(len(mean))
    whole[0], whole[-1] = -1.0, 1.0
    estimates = _estimates(np.vstack([game.weights, whole]), mean, covariance, confidence)
    by_name = dict(zip(seen, estimates[:-1], strict=True))
    shares = [_share(name, before, after, by_name.get(name)) for name in changes]
    shares.sort(key=lambda share: -abs(share.change.value) if share.change else 0.0)
    told_first = sorted(shares, key=lambda share: share.change is None)
    return Divided(
        shares=tuple(told_first), total=estimates[-1], orders=game.orders, trials=trials, studies=told.studies
    )


def _changes(before: Named, after: Named) -> list[str]:
    """Name what changed and does anything."""
    family, configuration = after
    own = FAMILIES[family]
    base = before[1] if before[0] == family else own.defaults
    knobs = [
        name
        for name in own.defaults
        if configuration[name] != base[name] and (own.matters(name, configuration) or own.matters(name, base))
    ]
    return knobs if before[0] == family else [FAMILY, *knobs]


def _names(seen: Sequence[str], row: np.ndarray) -> set[str]:
    return {name for name, there in zip(seen, row.tolist(), strict=True) if there}


def _made(before: Named, after: Named, changed: set[str]) -> Named:
    """Give the configuration in which only these changes have been made."""
    family, configuration = after
    if before[0] != family and FAMILY not in changed:
        return before
    base = before[1] if before[0] == family else FAMILIES[family].defaults
    return family, {**base, **{name: configuration[name] for name in changed if name != FAMILY}}


def _studies(evidence: Sequence[Evidence], space: Space, edits: Mapping[str, Past]) -> tuple[PastStudy, ...]:
    """Put all searches together as they look from the newest."""
    if not evidence:
        return ()
    newest = evidence[-1]
    return assemble(evidence, space, edits, asking=newest, now=newest.popularity).studies


def _foreseen(configurations: Sequence[Named], space: Space, studies: Sequence[PastStudy]) -> tuple[Vector, np.ndarray]:
    """Give NDCG@10 that is expected of each configuration, up to a constant, and the covariance of the doubt."""
    tried = {trial.parameters[FAMILY] for study in studies for trial in study.trials}
    families = {name: space.families[name] for name in tried | {family for family, _ in configurations}}
    narrow = Space(families)
    gone = gone_from(narrow.distributions, (trial.parameters for study in studies for trial in study.trials))
    encoding = Encoding(narrow.distributions, narrow.conditions, gone=gone)
    past = gather(encoding, studies)
    assert past is not None, "the caller has seen that there are trials"
    parameters: list[dict[str, Any]] = [translate(narrow, *named)[0] for named in configurations]
    mean, covariance = past.model.joint(encoding.points(parameters))
    return past.scale * mean, past.scale**2 * covariance


def _estimates(weights: np.ndarray, mean: Vector, covariance: np.ndarray, confidence: float) -> list[Estimate]:
    values = weights @ mean
    deviations = np.sqrt(np.maximum(np.einsum("im,mk,ik->i", weights, covariance, weights), 0.0))
    reach = float(norm.ppf((1 + confidence) / 2)) * deviations
    return [
        Estimate(value=float(value), low=float(value - half), high=float(value + half))
        for value, half in zip(values, reach, strict=True)
    ]


def _share(name: str, before: Named, after: Named, change: Estimate | None) -> KnobShare:
    if name == FAMILY:
        return KnobShare(knob=name, was=before[0], now=after[0], change=change)
    base = before[1] if before[0] == after[0] else FAMILIES[after[0]].defaults
    return KnobShare(knob=name, was=base[name], now=after[1][name], change=change)
