"""Choose the configuration that a search confirmed, and train it on everything before the holdout."""

import hashlib
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from recsys import ledger
from recsys.bundles import EARLY, find_bundle
from recsys.bundles import key as bundle_key
from recsys.checkpoints import keep_weights
from recsys.dataset import Frozen, dataset
from recsys.dataset import load as load_dataset
from recsys.errors import BadBundle, Conflict, NoCandidate, NoRelease, NotFound
from recsys.models import COLD, FAMILIES
from recsys.records import Action, Begun, Candidate, Configuration, Covered, Plan, TrialResult, dump, parse, to_json
from recsys.settings import Line
from recsys.store import Store
from recsys.studies import key
from recsys.training import train
from recsys.transfer import TRAINED, Start, early_key
from recsys.tuning.checkpoint import CarriedCheckpoint, checkpoint_key
from recsys.tuning.constraints import smallest_bytes
from recsys.tuning.evidence import COMPLETE
from recsys.tuning.luck import luck
from recsys.tuning.promotion import STAGES, contenders, is_incumbent, is_own
from recsys.tuning.ranking import Standing, identity
from recsys.tuning.stages import close

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What shall be trained, and why."""

    family: str
    configuration: Configuration
    ndcg_at_10: float | None
    because: str
    early_key: str = ""  # what it has learned without the validation windows, where that was kept


def choose(line: Line, store: Store, plan: Plan, studies: str) -> Candidate:
    """Pick the best configuration and train it on everything before the holdout; for a refit, train the plan's own.

    Best is the highest mean over the seeds in the last stage in which a challenger has a complete trial; among equals
    the smaller network. The seeds are those that all of that stage have. Trials that miss the line's budgets are never
    complete. The incumbent's configuration competes, and may win: then this is a refit. So it does where no challenger
    was confirmed and the best of them leads by no more than the best of so many does by luck.

    Args:
        line: Whose search.
        store: The line's part of the store.
        plan: What `decide` gave.
        studies: Where the study lies.

    Returns:
        The candidate, whose weights lie in the store; that of an earlier call, or of a faster one, where there was one.

    Raises:
        NoCandidate: No trial is complete; the message says what became of them.
        ValueError: The plan is to do nothing, or its study has not been opened.
        Diverged: The training did not come to an end.
    """
    if plan.action is Action.NOTHING:
        raise ValueError(f"The plan {plan.plan_id} is to do nothing, so there is nothing to choose.")
    if found := _kept(store, plan.plan_id):
        return found
    frozen = load_dataset(store, dataset(store, plan.dataset_id))
    trials = close(line, store, plan, studies).trials
    choice = _refit(store, plan) if plan.action is Action.REFIT else _best(store, plan, trials, frozen)
    weights_key, digest, covered = _train(store, plan, choice, frozen)
    made = Candidate(
        candidate_id=f"{plan.plan_id}-{digest[:8]}",
        plan_id=plan.plan_id,
        dataset_id=plan.dataset_id,
        family=choice.family,
        configuration=choice.configuration,
        seed=plan.seed,
        weights_key=weights_key,
        weights_sha256=digest,
        validation_ndcg_at_10=choice.ndcg_at_10,
        by=plan.by,
        as_of=plan.as_of,
        begun=Begun(weights=plan.refit_weights, covered=covered) if covered and plan.refit_weights else None,
        early_key=choice.early_key,
        early_sha256=_sha256(store, choice.early_key),
    )
    kept = _keep(store, made, choice)
    for entry in store.list(key(plan.plan_id, TRAINED)):
        if entry.key != kept.early_key:
            store.delete(entry.key)
    return kept


def candidate(store: Store, plan_id: str | None = None) -> Candidate:
    """Give the candidate of a plan, or the one that was chosen last.

    Raises:
        NoCandidate: There is none.
    """
    if plan_id is None:
        found = [entry for entry in store.list("studies/") if entry.key.endswith("/candidate.json")]
        newest = max(found, key=lambda entry: (entry.modified, entry.key), default=None)
        at = newest.key if newest else ""
    else:
        at = key(plan_id, "candidate.json")
    try:
        if at:
            return parse(Candidate, at, store.get(at).body)
    except NotFound as error:
        raise NoCandidate(f"The plan {plan_id} must have a candidate in {store.url}, but has none.") from error
    raise NoCandidate(f"There must be a candidate in {store.url}, but no plan has one.")


def _refit(store: Store, plan: Plan) -> Choice:
    values = ", ".join(f"{name} = {value!r}" for name, value in plan.configuration.items())
    because = f"The plan is to refit {plan.family}{f' with {values}' if values else ''}, so nothing was searched."
    if plan.cold_because and "start" in plan.configuration:
        because += f" It is trained cold, because {plan.cold_because}."
    return Choice(
        family=plan.family,
        configuration=plan.configuration,
        ndcg_at_10=None,
        because=because,
        early_key=_incumbents_early(store, plan),
    )


def _incumbents_early(store: Store, plan: Plan) -> str:
    """Say where the incumbent's early weights lie, which are handed on where no trial has learned later ones."""
    try:
        bundle = find_bundle(store, plan.release_id)
    except (NoRelease, BadBundle):
        return ""
    return bundle_key(bundle.release_id, EARLY) if EARLY in bundle.files else ""


def _early(store: Store, plan: Plan, trials: Sequence[TrialResult], best: Standing) -> str:
    """Say where lies what the first of the chosen trials has learned; nowhere where none of them was trained here."""
    own = identity(best.family, best.configuration)
    kept = {entry.key for entry in store.list(key(plan.plan_id, TRAINED))}
    same = sorted(
        (trial.seed, early_key(plan.plan_id, trial.training))
        for trial in trials
        if trial.stage == best.stage
        and trial.state == COMPLETE
        and identity(trial.family, trial.configuration) == own
        and early_key(plan.plan_id, trial.training) in kept
    )
    return same[0][1] if same else ""


def _sha256(store: Store, at: str) -> str:
    return hashlib.sha256(store.get(at).body).hexdigest() if at else ""


def _best(store: Store, plan: Plan, trials: tuple[TrialResult, ...], frozen: Frozen) -> Choice:
    standings = contenders(plan, trials)
    if not standings:
        raise NoCandidate(f"No trial of {plan.plan_id} is complete: {_what_became_of(trials)}.")
    leader = min(standings, key=lambda standing: (-standing.ndcg_at_10, _size(standing, frozen), standing.first))
    best = _unless_luck(plan, leader, standings, trials)
    because = _why(plan, best, standings)
    if best is not leader:
        because = f"{_reached(leader)}, which is no more than luck gives the best of {len(standings)}; {because}"
    return Choice(
        family=best.family,
        configuration=best.configuration,
        ndcg_at_10=best.ndcg_at_10,
        because=because,
        early_key=_early(store, plan, trials, best) or _incumbents_early(store, plan),
    )


def _unless_luck(
    plan: Plan, leader: Standing, standings: Sequence[Standing], trials: Sequence[TrialResult]
) -> Standing:
    """Give the incumbent's instead of a leader that was never confirmed and leads by no more than luck would have it.

    Below the last stage a configuration has had one seed, and a part of the users or epochs that costs some families
    less than others.
    """
    own = next((standing for standing in standings if is_own(plan, standing)), None)
    if leader.stage == STAGES[-1] or own is None or own.ndcg_at_10 <= 0:
        return leader
    lucky = luck(standings, trials, own.ndcg_at_10).expected * own.ndcg_at_10
    return own if leader.ndcg_at_10 - own.ndcg_at_10 <= lucky else leader


def _size(standing: Standing, frozen: Frozen) -> int:
    family = FAMILIES[standing.family]
    return smallest_bytes(family.sketch(standing.configuration, n_items=frozen.before_holdout.n_items))


def _why(plan: Plan, best: Standing, standings: list[Standing]) -> str:
    reached = _reached(best)
    if is_own(plan, best):
        return f"{reached}; that is the incumbent's own configuration{_how(plan, best)}, so this is a refit."
    own = next((standing for standing in standings if is_incumbent(plan, standing)), None)
    beside = f"the incumbent's configuration reached {own.ndcg_at_10:.4f}" if own else "the incumbent's has no value"
    return f"{reached}; {beside}."


def _how(plan: Plan, own: Standing) -> str:
    """Say which of the ways in which the incumbent's configuration was trained it is, where there are several."""
    if not plan.control:
        return ""
    if own.configuration.get("start") == plan.control.get("start"):
        return " trained cold"
    return " from its own weights" + ("" if is_incumbent(plan, own) else f" in {own.configuration['epochs']} epochs")


def _reached(standing: Standing) -> str:
    return f"{standing.family} reached NDCG@10 {standing.ndcg_at_10:.4f} in {standing.stage} (seeds: {standing.seeds})"


def _what_became_of(trials: tuple[TrialResult, ...]) -> str:
    if not trials:
        return "none was begun"
    return "; ".join(
        f"trial {trial.number} ({trial.family or 'not chosen yet'}) {'; '.join(trial.infeasible) or trial.reason}"
        for trial in trials
    )


def _train(store: Store, plan: Plan, choice: Choice, frozen: Frozen) -> tuple[str, str, Covered | None]:
    """Train on all that lies before the holdout and keep the weights.

    Returns:
        Their key and SHA-256, and how much was taken over from the incumbent where it did not begin cold.
    """
    warm = choice.configuration.get("start", COLD) != COLD
    start = Start.read(store, plan.refit_weights, frozen.vocabulary) if warm and plan.refit_weights else None
    network: nn.Module = FAMILIES[choice.family].build(choice.configuration, n_items=frozen.before_holdout.n_items)
    at = checkpoint_key(plan.plan_id, "refit", choice.family, choice.configuration, seed=plan.seed, share=1.0)
    with tempfile.TemporaryDirectory() as folder:
        carried = CarriedCheckpoint(store, at, Path(folder) / "checkpoint")
        carried.fetch()
        training = train(
            network,
            frozen.before_holdout,
            choice.configuration,
            seed=plan.seed,
            device="cuda" if torch.cuda.is_available() else "cpu",
            start=start,
            checkpoint=carried.folder,
            on_checkpoint=carried.keep,
        )
        at, digest = keep_weights(store, f"studies/{plan.plan_id}", network)
        carried.drop()
        return at, digest, training.covered


def _kept(store: Store, plan_id: str) -> Candidate | None:
    try:
        return candidate(store, plan_id)
    except NoCandidate:
        return None


def _keep(store: Store, made: Candidate, choice: Choice) -> Candidate:
    """Write the candidate down, unless a worker that was thought dead, or the one that replaced this, has been faster.

    Its record comes last: where it lies, a later call does nothing more.
    """
    if found := _kept(store, made.plan_id):
        return found
    log.info("candidate %s: %s", made.candidate_id, choice.because)
    ledger.append(
        store,
        ledger.Entry(
            what="chosen",
            who=made.by,
            why=choice.because,
            evidence={
                "candidate_id": made.candidate_id,
                "plan_id": made.plan_id,
                "dataset_id": made.dataset_id,
                "family": made.family,
                "configuration": dict(made.configuration),
                "validation_ndcg_at_10": made.validation_ndcg_at_10,
                "begun": dump(made.begun) if made.begun else None,
            },
            id=f"chosen-{made.candidate_id}",
        ),
    )
    try:
        store.create(key(made.plan_id, "candidate.json"), to_json(made))
    except Conflict:
        return candidate(store, made.plan_id)
    return made
