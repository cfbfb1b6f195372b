"""Compare what an ablation trained: what the whole reaches, and what is lost without each component."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from recsys.dataset import dataset
from recsys.dataset import load as load_dataset
from recsys.metrics import interval
from recsys.records import Ablated, Ablation, AblationPlan, Component, Configuration, Estimate, TrialResult
from recsys.store import Store
from recsys.tuning import cases
from recsys.tuning.evidence import COMPLETE
from recsys.tuning.ranking import identity
from recsys.tuning.worth import Seeds, Vector, Worth, deviation, worth


def compared(
    store: Store, plan: AblationPlan, results: Sequence[TrialResult], *, confidence: float, seconds: float
) -> Ablation:
    """Compare each variant with the whole, user by user.

    Args:
        store: The line's part of the store.
        plan: What was to be trained.
        results: The trials that ended.
        confidence: Of the intervals.
        seconds: That the trials took.

    Raises:
        NoFeedback: The dataset is gone.
    """
    seen = _cases(store, plan.dataset_id, results)
    users = cases.users(load_dataset(store, dataset(store, plan.dataset_id)))
    whole = seen.get(identity(plan.family, plan.configuration), {})
    variants = [seen.get(identity(plan.family, without(plan, c)), {}) for c in plan.components]
    both = [place for place, variant in enumerate(variants) if set(variant) & set(whole)]
    found = worth(whole, [variants[place] for place in both], users, confidence=confidence, seed=plan.seed)
    by_place = dict(zip(both, found, strict=True))
    parts = tuple(_part(plan, c, by_place.get(place), results) for place, c in enumerate(plan.components))
    reached = _reached(whole, users, confidence, plan.seed)
    return Ablation(
        plan=plan,
        trials=tuple(results),
        ndcg_at_10=reached,
        cases=len(users),
        users=len(np.unique(users)),
        deviation=deviation([whole, *variants])[0],
        confidence=confidence,
        parts=parts,
        seconds=seconds,
        because=_sum_up(plan, reached, parts, len(users)) + _one_seed(plan, parts),
    )


def without(plan: AblationPlan, component: Component) -> Configuration:
    """Give the configuration without one of its components."""
    return {**plan.configuration, **component.changes}


def _cases(store: Store, dataset_id: str, results: Sequence[TrialResult]) -> Mapping[str, Seeds]:
    """Gather what each user saw, by the identity of a configuration and the seed."""
    found: dict[str, dict[int, Vector]] = defaultdict(dict)
    for trial in results:
        kept = cases.find(store, dataset_id, trial.training) if trial.state == COMPLETE else None
        if kept is not None:
            found[identity(trial.family, trial.configuration)][trial.seed] = kept.ndcg
    return found


def _part(plan: AblationPlan, component: Component, found: Worth | None, results: Sequence[TrialResult]) -> Ablated:
    if found is None:
        because = _why_not(plan, component, results)
        return Ablated(
            component=component, seeds=0, ndcg_at_10=None, change=None, p=None, significant=False, because=because
        )
    return Ablated(
        component=component,
        seeds=found.seeds,
        ndcg_at_10=found.ndcg_at_10,
        change=found.change,
        p=found.p,
        significant=found.significant,
    )


def _why_not(plan: AblationPlan, component: Component, results: Sequence[TrialResult]) -> str:
    own = identity(plan.family, without(plan, component))
    tried = [trial for trial in results if identity(trial.family, trial.configuration) == own]
    if not tried:
        return f"it was not begun in the {plan.budget_s:g} s that there were"
    last = tried[-1]
    return "; ".join(last.infeasible) or last.reason or "the whole was not measured with the same seed"


def _reached(whole: Seeds, users: NDArray[np.int64], confidence: float, seed: int) -> Estimate | None:
    if not whole:
        return None
    ndcg = np.mean(list(whole.values()), axis=0)
    low, high = interval(ndcg, users, seed=seed, level=confidence)
    return Estimate(value=float(ndcg.mean()), low=low, high=high)


def _sum_up(plan: AblationPlan, reached: Estimate | None, parts: Sequence[Ablated], n_cases: int) -> str:
    if reached is None:
        return f"{plan.of} was not measured itself, so nothing can be said of its {len(parts)} components."
    told = {
        "it needs": [part for part in parts if part.significant and part.change and part.change.value < 0],
        "it is better without": [part for part in parts if part.significant and part.change and part.change.value > 0],
    }
    said = [f"{what} {_listed(found)}" for what, found in told.items() if found]
    untold = sum(part.change is not None and not part.significant for part in parts)
    missing = sum(part.change is None for part in parts)
    said += [f"of {untold} components no difference can be told"] * bool(untold)
    said += [f"{missing} could not be measured"] * bool(missing)
    return (
        f"{plan.of} reaches NDCG@10 {reached.value:.4f} [{reached.low:.4f}, {reached.high:.4f}] on {n_cases} cases of "
        f"the validation windows: {'; '.join(said) or 'it has no component to leave out'}."
    )


def _one_seed(plan: AblationPlan, parts: Sequence[Ablated]) -> str:
    """Warn where what seeds do is unknown, although there is a training that they change."""
    alone = any(part.seeds == 1 for part in parts) and bool(plan.configuration["epochs"])
    return (
        " Components measured with one seed have intervals without what seeds do: another may differ by more." * alone
    )


def _listed(parts: Sequence[Ablated]) -> str:
    largest = sorted(parts, key=lambda part: -abs(part.change.value) if part.change else 0.0)
    return ", ".join(f"{part.component.name} ({part.change.value:+.4f} without)" for part in largest if part.change)
