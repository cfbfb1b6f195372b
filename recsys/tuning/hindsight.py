"""Say how far a search believed the earlier ones in the end, and how far they had been right.

The one is inferred from a prior and the trials, so with few trials it is little more than the prior; the other is seen
on the trials alone.
"""

from collections.abc import Iterable

from optuna.trial import FrozenTrial, TrialState
from scipy.stats import spearmanr

from recsys.tuning.observations import given
from recsys.tuning.warm import COLD, CORRELATION, EXPECTED

LEAST = 5  # proposals from which a rank correlation is told


def said(trials: Iterable[FrozenTrial]) -> str:
    """Say both in one sentence; nothing where no trial was proposed from a past."""
    asked = [trial for trial in trials if EXPECTED in trial.system_attrs and not _all_given(trial)]
    if not asked:
        return ""
    weight = asked[-1].system_attrs[CORRELATION]
    believed = f"Earlier searches were believed with a correlation of {weight:.2f} in the end"
    if weight < COLD:
        believed += ", which is as good as not at all"
    ended = [trial for trial in asked if trial.state is TrialState.COMPLETE]
    if len(ended) < LEAST:
        came = "1 proposal came to its end" if len(ended) == 1 else f"{len(ended) or 'no'} proposals came to their end"
        return f"{believed}; {came}, too few to say whether that was right."
    expected, reached = [trial.system_attrs[EXPECTED] for trial in ended], [trial.value for trial in ended]
    if len(set(expected)) == 1 or len(set(reached)) == 1:
        return f"{believed}; the {len(ended)} proposals that came to their end were all alike, and cannot be ranked."
    return (
        f"{believed}; what they expected of the {len(ended)} proposals that came to their end has a rank correlation "
        f"of {spearmanr(expected, reached).statistic:.2f} with what these reached."
    )


def _all_given(trial: FrozenTrial) -> bool:
    """Whether a trial was enqueued with every parameter that it has, so that nothing was proposed for it."""
    fixed = given(trial)
    return bool(fixed) and trial.params.keys() <= fixed.keys()
