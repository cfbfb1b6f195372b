"""Lay what was learned of a line's knobs out as tables for people: a review, an ablation, an attribution."""

from collections.abc import Iterable, Iterator

from recsys.records import Ablated, Ablation, Attribution, Block, Edit, Estimate, Findings, Importance, Proposal, Review
from retune.sheet import Sheet

SHOWN = 5  # newest studies whose shares stand side by side


def parts(review: Review) -> list[Sheet]:
    """Give the tables in reading order; what has no rows is empty."""
    return [
        Sheet(
            title="\nWhat tells trials apart, over the newest studies and in each of the last",
            heads=("family", "parameter", "share", "90 %", "alone", "p", "best at", "", "by study, oldest first"),
            rows=[row for found in review.over_studies for row in _importances(found, review.studies)],
        ),
        Sheet(
            title="\nWhat two explain only together",
            heads=("family", "parameters", "share", "90 %", "p"),
            rows=list(_interactions(review.over_studies)),
        ),
        Sheet(
            title="\nWhat blocks of trials tell of pairs",
            heads=("family", "parameters", "effect", "90 %", "p", "", "search"),
            rows=[row for block in review.blocks for row in _block(block)],
        ),
        Sheet(
            title="\nWhere the best trials lie",
            heads=("family", "parameter", "because"),
            rows=[(edge.family, edge.parameter, edge.because) for edge in review.edges],
        ),
        Sheet(
            title="\nProposed; --apply writes it into the line's file, --apply --only NAME one of them",
            heads=("name", "", "change", "because"),
            rows=[_proposal(proposal) for proposal in review.proposals],
        ),
    ]


def ablated(ablation: Ablation) -> Sheet:
    """Give the table of what each component is worth, what is lost most without at the head."""
    parts = sorted(ablation.parts, key=lambda part: part.change.value if part.change else float("inf"))
    return Sheet(
        title=f"\nWithout each component, on the validation windows of {ablation.plan.dataset_id}",
        heads=("without", "instead", "NDCG@10", "change", f"{ablation.confidence:.0%}", "p", "seeds", ""),
        rows=[_ablated(ablation, part) for part in parts],
    )


def attributed(attribution: Attribution) -> Sheet:
    """Give the table of what each changed knob did, the largest first."""
    rows = [
        (
            share.knob,
            _short(share.was),
            _short(share.now),
            f"{share.change.value:+.4f}" if share.change else "",
            f"{share.change.low:+.4f}..{share.change.high:+.4f}" if share.change else "nothing is known",
        )
        for share in attribution.shares
    ]
    return Sheet(
        title=f"\nWhat changed since {attribution.predecessor}, as foreseen from {attribution.trials} trials",
        heads=("knob", "was", "now", "NDCG@10", f"{attribution.confidence:.0%}"),
        rows=rows,
    )


def _ablated(ablation: Ablation, part: Ablated) -> tuple[str, ...]:
    instead = ", ".join(
        f"{name} {_short(ablation.plan.configuration[name])} → {_short(value)}"
        for name, value in part.component.changes.items()
    )
    if part.change is None or part.p is None:
        return part.component.name, instead, "", "", "", "", "", part.because
    return (
        part.component.name,
        instead,
        f"{part.ndcg_at_10:.4f}",
        f"{part.change.value:+.4f}",
        f"{part.change.low:+.4f}..{part.change.high:+.4f}",
        f"{part.p:.4f}",
        str(part.seeds),
        _said_of(part),
    )


def _said_of(part: Ablated) -> str:
    if not part.significant or part.change is None:
        return "no difference can be told"
    return "is needed" if part.change.value < 0 else "does harm"


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _importances(over: Findings, studies: Iterable[Findings]) -> Iterator[tuple[str, ...]]:
    if over.because:
        yield over.family, "", "", "", "", "", "", over.because, ""
    own = [found for found in studies if found.family == over.family][-SHOWN:]
    for importance in over.importances:
        by_study = " ".join(_in(found, importance.parameter) for found in own)
        if importance.share is None or importance.alone is None or importance.p is None:
            yield over.family, importance.parameter, "", "", "", "", "", importance.because, by_study
            continue
        yield (
            over.family,
            importance.parameter,
            f"{importance.share.value:.2f}",
            _interval(importance.share),
            f"{importance.alone:.2f}",
            f"{importance.p:.3f}",
            _short(importance.best),
            "matters" if importance.above_chance else "no more than chance",
            by_study,
        )


def _in(found: Findings, parameter: str) -> str:
    """Give the share in one study: – where there is not enough to tell, in brackets where chance may be all."""
    importance: Importance | None = next((i for i in found.importances if i.parameter == parameter), None)
    if importance is None or importance.share is None:
        return "–"
    share = f"{importance.share.value:.2f}"
    return share if importance.above_chance else f"({share})"


def _interactions(over: Iterable[Findings]) -> Iterator[tuple[str, ...]]:
    for found in over:
        for pair in found.interactions:
            if pair.above_chance:
                share = f"{pair.share.value:.2f}"
                yield found.family, " and ".join(pair.parameters), share, _interval(pair.share), f"{pair.p:.3f}"


def _block(block: Block) -> Iterator[tuple[str, ...]]:
    if not block.effects:
        yield block.family, ", ".join(block.levels), "", "", "", block.because, block.plan_id
    for pair in block.effects:
        effect = pair.effect
        yield (
            block.family,
            " and ".join(pair.parameters),
            f"{effect.value:+.4f}",
            f"{effect.low:+.4f}..{effect.high:+.4f}",
            f"{pair.p:.3f}",
            "work together" if pair.above_noise else "no more than seeds do",
            block.plan_id,
        )


def _interval(share: Estimate) -> str:
    return f"{share.low:.2f}..{share.high:.2f}"


def _proposal(proposal: Proposal) -> tuple[str, ...]:
    return proposal.name, proposal.kind, "\n".join(_change(edit) for edit in proposal.edits), proposal.because


def _change(edit: Edit) -> str:
    was = "left out" if edit.was is None else _said(edit.was)
    return f"{'.'.join(edit.key)}: {was} → {_said(edit.now)}"


def _said(value: object) -> str:
    return str(list(value)) if isinstance(value, tuple) else str(value)
