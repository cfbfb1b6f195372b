"""Follow a bundle back over candidate, search, decision and drift."""

from collections.abc import Iterator, Sequence

from recsys import studies
from recsys.bundles import WEIGHTS
from recsys.ledger import Entry
from recsys.records import Bundle, Candidate, DriftVerdict, Plan, Study, TrialResult
from retune.answers import counted
from retune.why.links import Link
from retune.why.past import Past, matching

_STAGES = ("screen", "refine", "confirm")


def follow_search(past: Past, bundle: Bundle) -> Iterator[Link]:
    """Follow drift, decision, search and choice."""
    chosen = past.told("chosen", candidate_id=bundle.candidate_id)
    plan_id = str(chosen[0].evidence["plan_id"]) if chosen else bundle.candidate_id.rpartition("-")[0]
    plan, plan_wrong = past.record(Plan, studies.key(plan_id, "plan.json"))
    decided = past.told("decided", plan_id=plan_id)
    if plan:
        yield _drift(past, plan, decided)
    yield Link(
        what="decision",
        who=plan.by if plan else "",
        at=decided[0].at if decided else None,
        says=f"{plan.action.capitalize()}, plan {plan_id}: {plan.because}" if plan else f"Plan {plan_id}.",
        ids={"plan_id": plan_id, "action": plan.action if plan else None},
        wrong=(*plan_wrong, *past.untold("decided", decided)),
    )
    candidate, wrong = past.record(Candidate, studies.key(plan_id, "candidate.json"))
    yield _study(past, plan_id, plan, candidate)
    yield _candidate(past, bundle, candidate, wrong, chosen)


def _drift(past: Past, plan: Plan, decided: Sequence[Entry]) -> Link:
    until = decided[0].at if decided else None
    told = [
        entry
        for entry in past.told("judged", dataset_id=plan.dataset_id, release_id=plan.release_id)
        if until is None or entry.at <= until
    ]
    if not told:
        return Link(what="drift", says="Nothing is known of it.", wrong=past.untold("judged", told))
    folder = f"drift/{plan.dataset_id}/{plan.release_id}/{told[-1].id.rpartition('-')[2]}"
    verdict, wrong = past.record(DriftVerdict, f"{folder}/verdict.json")
    if verdict and verdict.drifted != told[-1].evidence.get("drifted"):
        wrong = (f"{folder}/verdict.json says drifted {verdict.drifted}, and the ledger does not",)
    return Link(
        what="drift",
        who=told[-1].who,
        at=told[-1].at,
        says=f"{'Drifted' if verdict and verdict.drifted else 'Not drifted'} from {plan.release_id}: {told[-1].why}",
        ids={"verdict": f"{folder}/verdict.json", "drifted": verdict.drifted if verdict else None},
        wrong=wrong,
    )


def _study(past: Past, plan_id: str, plan: Plan | None, candidate: Candidate | None) -> Link:
    study, wrong = past.record(Study, studies.key(plan_id, "study.json"))
    told = past.told("searched", plan_id=plan_id)
    who, at = (told[0].who, told[0].at) if told else ("", None)
    if plan is not None and not plan.action.searches:
        return Link(what="search", says="Nothing was searched: the plan said what to train.", wrong=wrong)
    wrong += past.untold("searched", told)
    if study is None:
        return Link(what="search", says="Nothing is known of it.", who=who, at=at, wrong=wrong)
    trial = _taken(study, candidate) if candidate else None
    tried = f"{counted(len(study.trials), 'trial')} in {study.seconds:.0f} s."
    if trial is None:
        wrong += ("no trial has the candidate's configuration",)
        return Link(what="search", says=tried, who=who, at=at, wrong=wrong)
    reached = f" with NDCG@10 {trial.ndcg_at_10:.4f}" if trial.ndcg_at_10 is not None else ""
    return Link(
        what="search",
        says=f"{tried} Trial {trial.number} of {trial.stage} was taken{reached}. {study.ended}",
        who=who,
        at=at,
        ids={"trial": trial.number, "stage": trial.stage, "seed": trial.seed},
        wrong=wrong,
    )


def _taken(study: Study, candidate: Candidate) -> TrialResult | None:
    """Find the trial by which a candidate was chosen: the first of its configuration in the last stage it reached."""
    own = candidate.family, dict(candidate.configuration)
    equal = [trial for trial in study.trials if (trial.family, dict(trial.configuration)) == own]
    return max(
        equal, key=lambda each: (each.state == "complete", _STAGES.index(each.stage), -each.number), default=None
    )


def _candidate(
    past: Past, bundle: Bundle, candidate: Candidate | None, wrong: tuple[str, ...], chosen: Sequence[Entry]
) -> Link:
    wrong += past.untold("chosen", chosen)
    if candidate is None:
        return Link(what="candidate", says=f"{bundle.candidate_id}.", wrong=wrong)
    wrong += tuple(matching(past, "its weights", candidate.weights_key, candidate.weights_sha256))
    packed = bundle.files.get(WEIGHTS)
    if packed is None or packed.sha256 != candidate.weights_sha256:
        wrong += (f"the bundle's {WEIGHTS} are not the candidate's weights",)
    for name in ("candidate_id", "dataset_id", "family"):
        if getattr(candidate, name) != getattr(bundle, name):
            wrong += (f"its {name} is {getattr(candidate, name)}, and the bundle's {getattr(bundle, name)}",)
    return Link(
        what="candidate",
        who=candidate.by,
        at=chosen[0].at if chosen else None,
        says=f"{candidate.candidate_id}, {candidate.family}. {chosen[0].why if chosen else ''}".strip(),
        ids={"candidate_id": candidate.candidate_id, "weights_sha256": candidate.weights_sha256},
        wrong=wrong,
    )


def tell_baseline(bundle: Bundle) -> Link:
    """Say of the baseline that no search led to it."""
    return Link(
        what="candidate",
        who=bundle.by,
        says="It is the baseline, popularity, which no search chose and no gate judged.",
        ids={"candidate_id": bundle.candidate_id},
    )
