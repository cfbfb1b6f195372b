"""Turn what a review found into changes of what a line searches, each with its reason and the exact edits."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from recsys.models import FAMILIES
from recsys.records import (
    Block,
    Configuration,
    Edge,
    Edit,
    Evidence,
    Findings,
    Importance,
    Limits,
    Proposal,
    TrialEvidence,
)
from recsys.settings import Line, Past
from recsys.tuning import encoding
from recsys.tuning.crossed import untold
from recsys.tuning.edges import ordered
from recsys.tuning.factorial import MOST, RUNS
from recsys.tuning.readings import edit, unseen
from recsys.tuning.space import FAMILY, Space, Value, allows

WIDER = 2  # a log range's end moves by this factor, any other by half the range, which doubles it at both ends
STUDIES = 3  # in so many a parameter may not have mattered before it is proposed for retirement
NAMED = 3  # pairs that a proposal names; the others are counted
SMALL = 0.1  # of what tells trials apart: what it might explain after all

NO_FURTHER = "the family itself goes no further, or the line lists the values one by one, so that is for a person to do"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What is known of one family when changes are proposed."""

    family: str
    over: Findings
    apart: Sequence[Findings]  # by study, oldest first
    starts: Sequence[Configuration]  # production's configuration or the best one, first the one to fix values at


def moved(line: Line, space: Space, edges: Sequence[Edge]) -> tuple[list[Edge], list[Proposal]]:
    """Propose to widen ranges and to drop choices.

    Args:
        line: What its file says today.
        space: What it searches today.
        edges: What was found.

    Returns:
        The edges, each with what can be done about it; and the proposals, at most one a parameter.
    """
    by_parameter: dict[tuple[str, str], list[Edge]] = defaultdict(list)
    for edge in edges:
        by_parameter[edge.family, edge.parameter].append(edge)
    told, proposals = [], []
    for (family, name), found in by_parameter.items():
        if name == FAMILY:
            told += [_told(edge, "take it out of search.families and search.space by hand") for edge in found]
            continue
        ends = [edge for edge in found if edge.kind != "never"]
        never = [edge for edge in found if edge.kind == "never"]
        wider = _widened(space, family, name, ends) if ends else None
        fewer = _dropped(space, family, name, never) if never and wider is None else None
        for kind, limits, acted in (("widen", wider, ends), ("drop", fewer, never)):
            if limits:
                because = "; ".join(edge.because for edge in acted)
                proposals.append(_proposal(line, family, name, kind, f"{name}: {because}.", limits))
        told += [_told(edge, "a wider range is proposed" if wider else NO_FURTHER) for edge in ends]
        told += [_told(edge, "it is proposed to leave it out" if fewer else _why_kept(wider)) for edge in never]
    return told, proposals


def retired(line: Line, space: Space, seen: Seen, evidence: Iterable[Evidence]) -> list[Proposal]:
    """Propose to fix parameters that have not mattered for several studies.

    Not to be above chance is no proof of not mattering: what the parameter may explain after all, over all studies
    together, must be small, too.

    Args:
        line: What its file says today.
        space: What it searches today.
        seen: What was found of the family.
        evidence: What all searches left.
    """
    over = {importance.parameter: importance for importance in seen.over.importances}
    proposals = []
    for name, distribution in space.families[seen.family].items():
        told = [
            (findings.studies[-1], importance)
            for findings in seen.apart
            for importance in findings.importances
            if importance.parameter == name and importance.p is not None
        ][-STUDIES:]
        if len(told) < STUDIES or name not in over or not _idle([*(one for _, one in told), over[name]]):
            continue
        share, value = over[name].share, _fixed_at(name, distribution, seen.starts)
        if share is None or share.high > SMALL or value is None:
            continue
        because = (
            f"{name} has explained no more than chance in each of the last {STUDIES} studies with enough trials "
            f"({', '.join(f'{study}: p {one.p:.2f}' for study, one in told)}), and over {seen.over.trials} trials at "
            f"most {share.high:.0%} of what tells them apart."
        )
        made = _proposal(line, seen.family, name, "fix", because, (value,))
        proposals.append(replace(made, edits=(*made.edits, *_implied(line, seen.family, name, evidence))))
    return proposals


def told_apart(line: Line, over: Iterable[Findings], blocks: Sequence[Block]) -> list[Proposal]:
    """Propose a block of trials where pairs that might matter cannot be told apart, and the line has none.

    Args:
        line: What its file says today.
        over: What is known of each family.
        blocks: Those that there have been.
    """
    pairs = [(found.family, pair) for found in over for pair in untold(found, blocks)]
    if not pairs or line.search.interactions:
        return []
    knobs = len({(family, name) for family, pair in pairs for name in pair})
    named = ", ".join(f"{family}.{a} and {b}" for family, (a, b) in pairs[:NAMED])
    because = (
        f"What {named}{f' and {len(pairs) - NAMED} other pairs' if len(pairs) > NAMED else ''} do together cannot be "
        f"told from chance, and may be a tenth or more of what tells trials apart: a block of trials around the "
        f"incumbent, in each search until it is known, would tell."
    )
    was = line.search.interactions if "interactions" in line.search.model_fields_set else None
    size = RUNS[min(max(knobs, 2), max(RUNS))] + MOST
    edit = Edit(key=("search", "interactions"), was=was, now=size)
    return [Proposal(name="search.interactions", kind="tell apart", because=because, edits=(edit,))]


def _idle(importances: Iterable[Importance]) -> bool:
    """Whether none looks above chance even by itself, with no allowance for how many are looked at."""
    return all(importance.p is not None and importance.p > 0.05 for importance in importances)


def _fixed_at(name: str, distribution: BaseDistribution, starts: Sequence[Configuration]) -> Value | None:
    values = (configuration[name] for configuration in starts if name in configuration)
    return next((value for value in values if allows(distribution, value)), None)


def _implied(line: Line, family: str, name: str, evidence: Iterable[Evidence]) -> list[Edit]:
    """Write down what the parameter amounted to before it existed, where trials of then are kept.

    Today that is the family's default; said in the line's file, it stays so whatever becomes of the code.
    """
    then = {
        finding.family for found in evidence for finding in found.trials if _lacks(name, family, line, found, finding)
    }
    return [
        Edit(key=("search", "past", of, "implied", name), was=None, now=FAMILIES[family].defaults[name])
        for of in sorted(then)
    ]


def _lacks(name: str, family: str, line: Line, found: Evidence, trial: TrialEvidence) -> bool:
    """Whether a trial of what the family was then has no such parameter, read as today."""
    past = unseen(line.search.past, found).get(trial.family, Past())
    today, made, _ = edit(past, trial.family, trial.configuration)
    return today == family and name not in made


def _widened(space: Space, family: str, name: str, ends: Sequence[Edge]) -> Limits | None:
    """Give limits that reach further at those ends; nothing where the family's own go no further."""
    own, today = FAMILIES[family].ranges[name], space.families[family][name]
    at = {edge.kind for edge in ends}
    if isinstance(today, CategoricalDistribution):
        return _more_choices(own, today, at)
    assert isinstance(today, IntDistribution | FloatDistribution)
    assert isinstance(own, IntDistribution | FloatDistribution)
    low = _further(own, today, "low") if "low" in at else today.low
    high = _further(own, today, "high") if "high" in at else today.high
    return (low, high) if (low, high) != (today.low, today.high) else None


def _more_choices(own: BaseDistribution, today: CategoricalDistribution, at: set[str]) -> Limits | None:
    """Add the family's next choice beyond each of the ends."""
    if not isinstance(own, CategoricalDistribution) or not ordered(own):
        return None
    choices: list[Value] = list(today.choices)  # type: ignore[arg-type]
    known = sorted(own.choices, key=float)  # type: ignore[arg-type]
    below = [choice for choice in known if choice < min(choices)]  # type: ignore[operator]
    above = [choice for choice in known if choice > max(choices)]  # type: ignore[operator]
    if "low" in at and below:
        choices.insert(0, below[-1])  # type: ignore[arg-type]
    if "high" in at and above:
        choices.append(above[0])  # type: ignore[arg-type]
    return tuple(choices) if len(choices) > len(today.choices) else None


def _further(
    own: IntDistribution | FloatDistribution, today: IntDistribution | FloatDistribution, end: str
) -> int | float:
    """Move an end outwards, on the family's grid and not past the family's own end."""
    if today.log:
        moved_to = today.low / WIDER if end == "low" else today.high * WIDER
    else:
        half = (today.high - today.low) / 2
        moved_to = today.low - half if end == "low" else today.high + half
    short = float(f"{moved_to:.6g}")  # a number as people write it
    if isinstance(own, FloatDistribution) and own.step is None:
        return min(max(short, own.low), own.high)
    on_grid = encoding.value(own, encoding.place(own, max(short, own.low)))
    assert isinstance(on_grid, int | float)
    return on_grid


def _dropped(space: Space, family: str, name: str, never: Sequence[Edge]) -> Limits | None:
    """Leave out the choices that never win; nothing where that would turn the rest into a range."""
    today = space.families[family][name]
    assert isinstance(today, CategoricalDistribution)
    kept: tuple[Value, ...] = tuple(choice for choice in today.choices if choice not in {edge.value for edge in never})  # type: ignore[misc]
    if len(kept) == 2 and not isinstance(FAMILIES[family].ranges[name], CategoricalDistribution):
        return None  # two numbers are the ends of a range
    return kept or None


def _proposal(line: Line, family: str, name: str, kind: str, because: str, limits: Limits) -> Proposal:
    was = line.search.space.get(family, {}).get(name)
    key = ("search", "space", family, name)
    return Proposal(name=f"{family}.{name}", kind=kind, because=because, edits=(Edit(key=key, was=was, now=limits),))


def _told(edge: Edge, what: str) -> Edge:
    return replace(edge, because=f"{edge.because}: {what}.")


def _why_kept(wider: Limits | None) -> str:
    if wider:
        return "nothing is proposed before its ends are settled"
    return "the two values left would be read as the ends of a range, so that is for a person to do"
