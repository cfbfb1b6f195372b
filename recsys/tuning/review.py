"""Review what a line searches: which parameters matter, where ranges end too early, and what could be fixed."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from recsys import ledger
from recsys.errors import NotFound
from recsys.models import FAMILIES
from recsys.records import Configuration, Edge, Evidence, Findings, Plan, Proposal, Review, parse, to_json
from recsys.settings import Line
from recsys.store import Store
from recsys.tuning.crossed import blocks
from recsys.tuning.edges import edges, losing_families
from recsys.tuning.evidence import COMPLETE, PastTrial
from recsys.tuning.importance import Tried, findings, tried
from recsys.tuning.past import carry, everything
from recsys.tuning.proposals import Seen, moved, retired, told_apart
from recsys.tuning.space import Space, search_space

log = logging.getLogger(__name__)

FOLDER = "reviews/"


def review(line: Line, store: Store, plan: Plan, *, by: str | None = None) -> Review:
    """Review what the line searches by all searches up to that of `plan`, and keep the review.

    The same evidence and line give the same review; one that is made again replaces the earlier one.

    Args:
        line: What its file says today.
        store: The line's part of the store.
        plan: Of the newest search that counts.
        by: Who asks for it; None: who planned the search.

    Raises:
        NotFound: No search has been kept by then.
        LineError: The line's space is not a part of its families'.
    """
    evidence = _any(store, [found for found in everything(store) if found.as_of <= plan.as_of])
    made = _made(line, plan, evidence)
    body = to_json(made)
    store.put(f"{FOLDER}{made.plan_id}.json", body)
    _tell_ledger(store, by or plan.by, made, hashlib.sha256(body).hexdigest()[:8])
    log.info("review of %s: %s", made.plan_id, made.because)
    return made


def kept(store: Store, plan_id: str) -> Review:
    """Give the review that was kept after the search of a plan.

    Raises:
        NotFound: There is none.
        BadObject: It cannot be read.
    """
    key = f"{FOLDER}{plan_id}.json"
    try:
        return parse(Review, key, store.get(key).body)
    except NotFound as error:
        raise NotFound(
            f"{key} must hold the review after the search {plan_id}, but none has been made yet.", key=key
        ) from error


def newest_search(store: Store) -> str:
    """Name the plan of the newest search that was closed and whose findings are kept.

    Raises:
        NotFound: There is none.
    """
    return _any(store, [found for found in everything(store) if found.ended])[-1].plan_id


def _any(store: Store, evidence: Sequence[Evidence]) -> Sequence[Evidence]:
    if not evidence:
        raise NotFound(f"{store.url} must hold what a search found, to be reviewed, but holds nothing yet.", key=FOLDER)
    return evidence


@dataclass(frozen=True, slots=True, kw_only=True)
class _OfFamily:
    """What the review of one family gives."""

    apart: tuple[Findings, ...]
    over: Findings
    edges: list[Edge]
    proposals: list[Proposal]


def _made(line: Line, plan: Plan, evidence: Sequence[Evidence]) -> Review:
    space = search_space(line)
    studies = {found.plan_id: carry(found, space, line.search.past)[0] for found in evidence}
    seed = int.from_bytes(hashlib.sha256(plan.plan_id.encode()).digest()[:4], "big")
    families = [
        _of_family(line, space, plan, tried(space, family, studies), evidence, seed) for family in space.families
    ]
    losing, _ = moved(line, space, losing_families(studies, plan.family))
    over = tuple(family.over for family in families)
    told = blocks(evidence, line.search.past)
    proposals = (*(proposal for family in families for proposal in family.proposals), *told_apart(line, over, told))
    return Review(
        plan_id=plan.plan_id,
        line=line.name,
        as_of=plan.as_of,
        studies=tuple(found for family in families for found in family.apart),
        over_studies=over,
        edges=(*(edge for family in families for edge in family.edges), *losing),
        proposals=proposals,
        because=_sum_up(over, proposals),
        blocks=tuple(told),
    )


def _of_family(
    line: Line, space: Space, plan: Plan, found: Tried, evidence: Sequence[Evidence], seed: int
) -> _OfFamily:
    apart = tuple(findings(one, seed=seed) for one in found.apart() if one.trials or one.left_out[0])
    newest = found.newest()
    over = findings(newest, seed=seed)
    starts = _starts(found, plan)
    told, proposals = moved(line, space, _but_productions(edges(newest, over), starts))
    seen = Seen(family=found.family, over=over, apart=apart, starts=starts)
    return _OfFamily(apart=apart, over=over, edges=told, proposals=[*proposals, *retired(line, space, seen, evidence)])


def _starts(found: Tried, plan: Plan) -> list[Configuration]:
    """List configurations whose values may be kept: production's, that of the best trial, the family's defaults."""
    listed: list[Configuration] = [plan.configuration] if plan.family == found.family else []
    if (best := _best(found)) is not None:
        prefix = f"{found.family}."
        listed.append({name.removeprefix(prefix): value for name, value in best.parameters.items()})
    return [*listed, FAMILIES[found.family].defaults]


def _best(found: Tried) -> PastTrial | None:
    """Give the best complete trial of the newest study that has one."""
    complete = [
        (search, trial.value, trial)
        for search, trial in zip(found.searches.tolist(), found.trials, strict=True)
        if trial.state == COMPLETE and trial.value is not None
    ]
    return max(complete, key=lambda one: one[:2])[2] if complete else None


def _but_productions(found: Sequence[Edge], starts: Sequence[Configuration]) -> list[Edge]:
    """Leave out the choices that production or the best trial has."""
    return [edge for edge in found if edge.kind != "never" or edge.value != starts[0].get(edge.parameter)]


def _sum_up(over: Sequence[Findings], proposals: Sequence[Proposal]) -> str:
    told = [found for found in over if found.importances]
    if not told:
        return "Not enough has been tried yet to tell what matters."
    known = [importance for found in told for importance in found.importances if importance.share is not None]
    mattering = sum(importance.above_chance for importance in known)
    proposed = ", ".join(f"{proposal.kind} {proposal.name}" for proposal in proposals)
    return (
        f"Of {len(known)} parameters of {', '.join(found.family for found in told)}, {mattering} matter more than "
        f"chance over {sum(found.trials for found in told)} trials; proposed: {proposed or 'nothing'}."
    )


def _tell_ledger(store: Store, by: str, made: Review, digest: str) -> None:
    ledger.append(
        store,
        ledger.Entry(
            what="reviewed",
            who=by,
            why=made.because,
            evidence={
                "plan_id": made.plan_id,
                "studies": len({study for found in made.studies for study in found.studies}),
                "above_chance": [
                    f"{found.family}.{importance.parameter}"
                    for found in made.over_studies
                    for importance in found.importances
                    if importance.above_chance
                ],
                "proposals": [f"{proposal.kind} {proposal.name}" for proposal in made.proposals],
            },
            id=f"reviewed-{made.plan_id}-{digest}",
        ),
    )
