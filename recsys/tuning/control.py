"""Say what it was worth to begin the incumbent's configuration from its weights, beside the same trained cold."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from recsys.records import Configuration, Estimate, Plan, Transfer, TrialResult
from recsys.tuning.evidence import COMPLETE, Vector
from recsys.tuning.promotion import STAGES
from recsys.tuning.ranking import identity

CONFIDENCE = 0.95


def transferred(plan: Plan, trials: Sequence[TrialResult]) -> Transfer | None:
    """Compare the two ways in the last stage in which both have a complete trial with the same seed.

    Pairs are of a seed and a validation window, or of a seed where a result was taken over from an earlier trial, of
    which the mean alone is known. The interval is Student's, over the pairs; it knows of other seeds and other windows,
    and of a single pair it is all that a difference of two NDCG can be.

    Args:
        plan: Says which configuration is the incumbent's, and which its cold control.
        trials: All that ended.

    Returns:
        The difference, or nothing where the plan has no control or nothing can be compared.
    """
    for stage in reversed(STAGES if plan.control else ()):
        warm, cold = (_by_seed(plan, trials, stage, of) for of in (plan.configuration, plan.control))
        pairs = [(warm[seed], cold[seed]) for seed in sorted(warm.keys() & cold.keys())]
        if pairs:
            differences = np.concatenate([_differences(*pair) for pair in pairs])
            trained = [pair for pair in pairs if not any(trial.reused for trial in pair)]
            return Transfer(
                stage=stage,
                pairs=len(differences),
                ndcg_gain=_estimate(differences),
                seconds=sum(one.seconds for one, _ in trained) if trained else None,
                cold_seconds=sum(other.seconds for _, other in trained) if trained else None,
            )
    return None


def said(found: Transfer) -> str:
    """Say in one sentence whether transfer still pays.

    >>> said(
    ...     Transfer(
    ...         stage="confirm",
    ...         pairs=4,
    ...         ndcg_gain=Estimate(value=0.012, low=0.004, high=0.02),
    ...         seconds=3.0,
    ...         cold_seconds=9.0,
    ...     )
    ... )
    "To begin from the incumbent's weights pays: NDCG@10 changes by +0.0120 [+0.0040, +0.0200] in 4 pairs of seed and \
window in confirm, in 3.0 s of trials instead of 9.0 s."
    """
    gain, seconds = found.ndcg_gain, ""
    if found.seconds is not None and found.cold_seconds is not None:
        seconds = f", in {found.seconds:.1f} s of trials instead of {found.cold_seconds:.1f} s"
    verdict = "pays" if gain.low > 0 else "harms" if gain.high < 0 else "makes no difference that can be told"
    return (
        f"To begin from the incumbent's weights {verdict}: NDCG@10 changes by {gain.value:+.4f} "
        f"[{gain.low:+.4f}, {gain.high:+.4f}] in {found.pairs} pair{'s' if found.pairs > 1 else ''} of seed and window "
        f"in {found.stage}{seconds}."
    )


def _by_seed(
    plan: Plan, trials: Sequence[TrialResult], stage: str, configuration: Configuration
) -> dict[int, TrialResult]:
    """Take the complete trials of a configuration, by seed."""
    own = identity(plan.family, configuration)
    return {
        trial.seed: trial
        for trial in trials
        if trial.stage == stage
        and trial.state == COMPLETE
        and trial.ndcg_at_10 is not None
        and identity(trial.family, trial.configuration) == own
    }


def _differences(one: TrialResult, other: TrialResult) -> Vector:
    measured = one.windows and other.windows
    values = (np.array(t.windows if measured else [t.ndcg_at_10], np.float64) for t in (one, other))
    return next(values) - next(values)


def _estimate(differences: Vector) -> Estimate:
    mean, n = float(differences.mean()), len(differences)
    if n == 1:
        return Estimate(value=mean, low=-1.0, high=1.0)
    width = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * differences.std(ddof=1) / np.sqrt(n))
    return Estimate(value=mean, low=mean - width, high=mean + width)
