"""Say when screening has come to a plateau: when what is left of it will hardly find anything better.

What the next trials will reach is foreseen from what the search's own proposals have reached: their better half, as if
the values were normal, because how bad the worse ones are tells nothing of where the best lie. Better is only what
exceeds the best by more than two seeds of one configuration differ.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from recsys.records import Evidence, TrialResult
from recsys.tuning.evidence import COMPLETE, PRUNED
from recsys.tuning.outcomes import LOST, NOT_BEGUN, result
from recsys.tuning.ranking import identity
from recsys.tuning.regression import Foreseen

CHANCE = 0.05  # below this chance of an improvement, screening ends
NEXT = 8  # trials that get the chance, or all that are left where those are fewer
LEAST = 8  # proposals that have ended; with fewer, nothing is foreseen
NOISE, TRUST = 0.02, 4  # seeds differ by 2 % of what is reached, a guess that counts four pairs of seeds
HALF_MEAN = 0.798  # the upper half of a standard normal distribution has its mean here


@dataclass(frozen=True, slots=True, kw_only=True)
class Plateau:
    """What was found when screening was ended."""

    at: float  # seconds since 1970
    ended: int  # proposals that had ended by then
    next: int  # trials that were given the chance
    chance: float  # that any of them would be better
    margin: float  # of NDCG@10, by which it would have to be

    @property
    def said(self) -> str:
        """The reason in one sentence."""
        return (
            f"Screening ended at a plateau after {self.ended} proposals: the chance that any of the next {self.next} "
            f"would exceed the best by more than {self.margin:.4f}, the noise of seeds, was {100 * self.chance:.1f} %."
        )


def find(trials: Sequence[FrozenTrial], *, noise: float) -> Plateau | None:
    """Look whether screening has come to a plateau.

    It never has before all that is listed with a configuration or with a family's defaults has ended, such as the
    incumbent, and `LEAST` proposals of the sampler with a value.

    Args:
        trials: Of the stage.
        noise: Standard deviation over seeds, as a share of what is reached.
    """
    begun = [trial for trial in trials if NOT_BEGUN not in trial.user_attrs and LOST not in trial.user_attrs]
    waiting = [trial for trial in begun if trial.state is TrialState.WAITING]
    if not waiting or any(_is_given(trial) and not trial.state.is_finished() for trial in begun):
        return None
    ended = [result(trial) for trial in begun if trial.state.is_finished()]
    best = max((value for found in ended if (value := _value(found)) is not None), default=None)
    drawn = [result(trial) for trial in begun if trial.state.is_finished() and not _is_given(trial)]
    values = [value for found in drawn if (value := _value(found)) is not None]
    if best is None or len(values) < LEAST:
        return None
    margin = 2**0.5 * noise * best
    n = min(NEXT, len(waiting))
    share = (len(values) + 1) / (len(drawn) + 2)  # of the proposals that come to a value at all
    chance = 1 - (1 - share * _next(values).above(best + margin)) ** n
    if chance >= CHANCE:
        return None
    return Plateau(at=time.time(), ended=len(drawn), next=n, chance=chance, margin=margin)


def noise_of(evidence: Sequence[Evidence]) -> float:
    """Say how much seeds differ, as a share of what is reached, from configurations that were tried with several."""
    squares, pairs = TRUST * NOISE**2, float(TRUST)
    for found in evidence:
        by_configuration: dict[tuple[str, str], list[float]] = {}
        for trial in found.trials:
            if trial.state == COMPLETE and trial.ndcg_at_10 is not None and trial.configuration.get("epochs"):
                name = trial.stage, identity(trial.family, trial.configuration)
                by_configuration.setdefault(name, []).append(trial.ndcg_at_10)
        for values in by_configuration.values():
            if len(values) > 1 and mean(values) > 0:
                squares += (len(values) - 1) * (stdev(values) / mean(values)) ** 2
                pairs += len(values) - 1
    return float((squares / pairs) ** 0.5)


def _next(values: Sequence[float]) -> Foreseen:
    """Foresee the next proposal's value."""
    ordered = np.sort(values)
    n = len(ordered)
    centre = float(np.median(ordered))
    width = float(ordered[n // 2 :].mean() - centre) / HALF_MEAN
    return Foreseen(centre=centre, scale=max(width, 1e-12) * (1 + 1 / n) ** 0.5, freedom=n - 1)


def _is_given(trial: FrozenTrial) -> bool:
    """Whether the trial was listed with a configuration, or with the parameters of a family's defaults."""
    return bool(trial.user_attrs.get("given"))


def _value(found: TrialResult) -> float | None:
    """Give what a trial reached; one that was given up had reached so much, which is below the middle."""
    return None if found.infeasible or found.state not in (COMPLETE, PRUNED) else found.ndcg_at_10
