"""Pick the few configurations that a short search tries: the best of the past, each unlike the others, and a probe.

The best of the past show whether something else than production's configuration has become the better one. The probe
lies where nothing has been tried: if it wins, the past was wrong, and a whole search is due.
"""

import hashlib
from collections.abc import Sequence

import numpy as np

from recsys.models import FAMILIES
from recsys.records import Plan, Sentinel
from recsys.tuning.encoding import Encoding, Points, gone_from
from recsys.tuning.evidence import COMPLETE, PastStudy, standardised
from recsys.tuning.kernel import Vector
from recsys.tuning.space import FAMILY, Space

BEST = 3  # sentinels from the past
GOOD = 0.25  # part of the past's trials, best first, among which they are looked for
DRAWN = 256  # places from which the probe is chosen


def pick(space: Space, plan: Plan, studies: Sequence[PastStudy]) -> tuple[Sentinel, ...]:
    """Pick sentinels beside the incumbent's configuration; the same plan and past give the same.

    Args:
        space: Where searches look today.
        plan: Whose incumbent they stand beside; its name draws the probe.
        studies: Earlier searches in the terms of `space`; without any, each family's defaults stand for their best.
    """
    searched = space.distributions
    gone = gone_from(searched, (trial.parameters for study in studies for trial in study.trials))
    encoding = Encoding(searched, space.conditions, scales=space.scales, gone=gone)
    own = space.parameters(plan.family, plan.configuration)
    near = encoding.points([own] if own else [])
    chosen: list[Sentinel] = []
    points, names = _good(space, encoding, studies)
    for point, because in zip(points, names, strict=True):
        if len(chosen) < BEST and _apart(encoding, point[None], near)[0] > 0:
            near = np.concatenate([near, point[None]])
            chosen.append(_sentinel(encoding, point, because))
    return (*chosen, _probe(plan, encoding, near, studies))


def _good(space: Space, encoding: Encoding, studies: Sequence[PastStudy]) -> tuple[Points, list[str]]:
    """Give the past's good trials, each moved to where may be searched: the best first, then what is least like it."""
    tried = [
        (float(rank) / study.doubt, trial.parameters, study.name)
        for study in studies
        for rank, trial in zip(standardised(study.trials), study.trials, strict=True)
        if trial.state == COMPLETE
    ]
    if not tried:
        starts = encoding.tidy(encoding.points([space.start(family) for family in space.families]))
        return starts, [f"the defaults of {family}" for family in space.families]
    tried.sort(key=lambda one: -one[0])
    left = tried[: max(BEST, round(GOOD * len(tried)))]
    points, of = encoding.possible(encoding.points([parameters for _, parameters, _ in left]))
    order = [0]
    while len(order) < len(points):
        rest = [n for n in range(len(points)) if n not in order]
        order.append(rest[int(np.argmax(_apart(encoding, points[rest], points[order])))])
    return points[order], [f"among the best of {left[of[n]][2]}" for n in order]


def _probe(plan: Plan, encoding: Encoding, near: Points, studies: Sequence[PastStudy]) -> Sentinel:
    """Take of many places that are drawn the one that lies farthest from all that was tried."""
    seed = hashlib.sha256(f"{plan.dataset_id}/{plan.release_id}/{plan.seed}".encode()).digest()
    drawn = encoding.draw(DRAWN, np.random.default_rng(list(seed)))
    tried = encoding.points([trial.parameters for study in studies for trial in study.trials])
    apart = _apart(encoding, drawn, np.concatenate([near, tried]))
    return _sentinel(encoding, drawn[int(np.argmax(apart))], "far from all that was tried")


def _apart(encoding: Encoding, points: Points, others: Points) -> Vector:
    """Give each point's distance to the nearest of the others, the mean over the parameters. Shape [n]."""
    if not len(others):
        return np.ones(len(points))
    gap = np.abs(points[:, None, :] - others[None, :, :])
    gap = np.where(encoding.categorical, gap > 0, np.minimum(gap, 1.0))
    one_lacks_it = np.isnan(points)[:, None, :] != np.isnan(others)[None, :, :]
    both_lack_it = np.isnan(points)[:, None, :] & np.isnan(others)[None, :, :]
    gap = np.where(one_lacks_it, 1.0, np.where(both_lack_it, 0.0, gap))
    nearest: Vector = gap.mean(axis=2).min(axis=1)
    return nearest


def _sentinel(encoding: Encoding, point: Vector, because: str) -> Sentinel:
    """Read a point as a configuration; what is not searched stays at the family's defaults."""
    parameters = encoding.parameters(point)
    family = str(parameters.pop(FAMILY))
    known = {name.removeprefix(f"{family}."): value for name, value in parameters.items()}
    return Sentinel(family=family, configuration={**FAMILIES[family].defaults, **known}, because=because)
