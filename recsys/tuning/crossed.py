"""Say what a block of trials tells of pairs of knobs, and of which pairs nothing is told yet."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

import numpy as np
from scipy.stats import false_discovery_control
from scipy.stats import t as student

from recsys.records import Block, Configuration, Estimate, Evidence, Findings, PairEffect, TrialEvidence
from recsys.settings import Past
from recsys.tuning.evidence import COMPLETE
from recsys.tuning.ranking import identity
from recsys.tuning.readings import edit, unseen
from recsys.tuning.trials import REPEAT, RUN

CONFIDENCE = 0.9  # of the intervals, as of all others in a review
FALSE = 0.05  # share of what is said to be above the noise that may be wrong (Benjamini and Hochberg 1995)
LARGE = 0.1  # share of what tells trials apart that a pair might explain: less is not worth trials


def blocks(evidence: Iterable[Evidence], edits: Mapping[str, Past]) -> list[Block]:
    """Read the block of each search that had one.

    What a pair does is half of how much the effect of one knob, from its low to its high level, differs between the
    levels of the other. Its interval is Student's, from what seeds do to the incumbent at the same share and epochs.

    Args:
        evidence: What searches left, oldest first.
        edits: How old names and values read today, by the family's name of then.
    """
    return [_block(found, edits) for found in evidence if any(trial.block == RUN for trial in found.trials)]


def untold(over: Findings, told: Sequence[Block]) -> list[tuple[str, str]]:
    """List the pairs that might matter and of which neither all trials nor a block can tell, the least known first.

    A pair might matter if it may explain a tenth or more, and if one of its knobs matters by itself: interactions
    without that are rare (Box, Hunter and Hunter 2005, section 6.6).

    Args:
        over: What the trials of a family say.
        told: The blocks that there have been.
    """
    known = {frozenset(e.parameters) for block in told if block.family == over.family for e in block.effects}
    mattering = {importance.parameter for importance in over.importances if importance.above_chance}
    doubtful = [
        interaction
        for interaction in over.interactions
        if not interaction.above_chance
        and interaction.share.high >= LARGE
        and frozenset(interaction.parameters) not in known
        and mattering & set(interaction.parameters)
    ]
    return [found.parameters for found in sorted(doubtful, key=lambda found: -found.share.high)]


def _block(found: Evidence, edits: Mapping[str, Past]) -> Block:
    """Read one search's block, in names of today."""
    runs = _read([trial for trial in found.trials if trial.block == RUN], unseen(edits, found))
    family = runs[0][0]
    levels = _levels([configuration for _, configuration, _ in runs])
    complete = {
        identity(family, configuration): (configuration, value) for _, configuration, value in runs if value is not None
    }
    noise = _repeated(found)
    effects = _effects(levels, list(complete.values()), noise)
    return Block(
        plan_id=found.plan_id,
        family=family,
        levels=levels,
        runs=len(complete),
        repeats=len(noise),
        deviation=_deviation(noise) if len(noise) > 1 else None,
        effects=tuple(effects),
        because=_sum_up(levels, len(complete), len(noise), effects),
    )


def _read(trials: Sequence[TrialEvidence], edits: Mapping[str, Past]) -> list[tuple[str, Configuration, float | None]]:
    """Give family, configuration and value of each trial, as they read today; of one that did not end, no value."""
    found: list[tuple[str, Configuration, float | None]] = []
    for trial in trials:
        family, configuration, _ = edit(edits.get(trial.family, Past()), trial.family, trial.configuration)
        found.append((family, configuration, trial.ndcg_at_10 if trial.state == COMPLETE else None))
    return found


def _levels(configurations: Sequence[Configuration]) -> dict[str, tuple[int | float | str | bool, ...]]:
    """Give the two values of each knob that varies, smaller ones first."""
    values = {
        name: sorted({configuration[name] for configuration in configurations}, key=lambda v: (isinstance(v, str), v))
        for name in configurations[0]
    }
    return {name: tuple(known) for name, known in values.items() if len(known) == 2}


def _repeated(found: Evidence) -> list[float]:
    """Give what the incumbent reached with each seed, its own trial in the same stage included."""
    own = identity(found.family, found.configuration)
    stages = {trial.stage for trial in found.trials if trial.block == REPEAT}
    reached = {
        trial.seed: trial.ndcg_at_10
        for trial in found.trials
        if trial.stage in stages
        and trial.block != RUN
        and trial.state == COMPLETE
        and trial.ndcg_at_10 is not None
        and identity(trial.family, trial.configuration) == own
    }
    return list(reached.values())


def _effects(
    levels: Mapping[str, tuple[int | float | str | bool, ...]],
    runs: Sequence[tuple[Configuration, float]],
    noise: Sequence[float],
) -> list[PairEffect]:
    """Fit single knobs and pairs to the runs; nothing where these are too few, or nothing says what chance does."""
    pairs = list(combinations(range(len(levels)), 2))
    signs = np.array([[1.0 if c[name] == high else -1.0 for name, (_, high) in levels.items()] for c, _ in runs])
    if not pairs or len(noise) < 2 or len(runs) < 1 + len(levels) + len(pairs):
        return []
    crossed = np.column_stack([signs[:, a] * signs[:, b] for a, b in pairs])
    columns = np.column_stack([np.ones(len(runs)), signs, crossed])  # [runs, 1 + knobs + pairs]
    if np.linalg.matrix_rank(columns) < columns.shape[1]:
        return []
    inverse = np.linalg.inv(columns.T @ columns)
    effects = 2 * (inverse @ columns.T @ np.array([value for _, value in runs]))[-len(pairs) :]
    errors = 2 * _deviation(noise) * np.sqrt(np.diag(inverse))[-len(pairs) :]
    freedom = len(noise) - 1
    reach = float(student.ppf((1 + CONFIDENCE) / 2, freedom)) * errors
    p = [_p(effect, error, freedom) for effect, error in zip(effects.tolist(), errors.tolist(), strict=True)]
    sure = (false_discovery_control(p) <= FALSE).tolist()
    names = list(levels)
    found = [
        PairEffect(
            parameters=(names[a], names[b]),
            effect=Estimate(value=effect, low=effect - half, high=effect + half),
            p=chance,
            above_noise=above,
        )
        for (a, b), effect, half, chance, above in zip(pairs, effects.tolist(), reach.tolist(), p, sure, strict=True)
    ]
    return sorted(found, key=lambda each: -abs(each.effect.value))


def _deviation(noise: Sequence[float]) -> float:
    return float(np.std(noise, ddof=1)) if len(set(noise)) > 1 else 0.0  # equals leave nothing to round


def _p(effect: float, error: float, freedom: int) -> float:
    if error == 0:  # what is only counted, on everything, comes out the same with every seed
        return 1.0 if effect == 0 else 0.0
    return float(2 * student.sf(abs(effect) / error, freedom))


def _sum_up(levels: Mapping[str, object], runs: int, repeats: int, effects: Sequence[PairEffect]) -> str:
    tried = f"{runs} complete runs on {', '.join(levels)}, and the incumbent with {repeats} seeds"
    if not effects:
        return f"{tried}: too few to tell pairs apart."
    found = [f"{' and '.join(each.parameters)} ({each.effect.value:+.4f})" for each in effects if each.above_noise]
    alone = len(effects) - len(found)
    said = [f"{', '.join(found)} work together"] * bool(found)
    said += [f"{alone} pairs do no more together than seeds do"] * bool(alone)
    return f"{tried}: {'; '.join(said)}."
