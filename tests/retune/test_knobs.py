"""A review as tables for people."""

from dataclasses import replace
from datetime import UTC, datetime

from recsys.records import Edit, Estimate, Findings, Importance, Interaction, Proposal, Review
from retune import knobs


def importance(parameter: str, share: float | None, *, above_chance: bool = True) -> Importance:
    known = share is not None
    return Importance(
        parameter=parameter,
        share=Estimate(value=share, low=share / 2, high=share * 1.5) if share is not None else None,
        alone=share,
        p=0.001 if known else None,
        above_chance=known and above_chance,
        best=0.004 if known else None,
        because="" if known else "not enough to tell",
    )


def of(*importances: Importance, because: str = "", pairs: tuple[Interaction, ...] = ()) -> Findings:
    return Findings(
        family="hybrid",
        studies=("r1",),
        trials=40,
        left_out=0,
        importances=importances,
        interactions=pairs,
        because=because,
    )


PAIR = Interaction(parameters=("lr", "dim"), share=Estimate(value=0.2, low=0.1, high=0.3), p=0.002, above_chance=True)
PROPOSAL = Proposal(
    name="hybrid.dropout",
    kind="fix",
    because="it has not mattered.",
    edits=(
        Edit(key=("search", "space", "hybrid", "dropout"), was=(0.1, 0.4), now=(0.2,)),
        Edit(key=("search", "past", "hybrid", "implied", "dropout"), was=None, now=0.1),
    ),
)


def tables(*studies: Findings, over: Findings) -> dict[str, list[tuple[str, ...]]]:
    review = Review(
        plan_id="r1",
        line="shop",
        as_of=datetime(2026, 1, 26, tzinfo=UTC),
        studies=studies,
        over_studies=(over,),
        edges=(),
        proposals=(PROPOSAL,),
        because="a test asks for it",
    )
    found = knobs.parts(review)
    assert all(len(row) == len(part.heads) for part in found for row in part.rows)
    return {part.title.strip().split(",")[0].split(";")[0]: list(part.rows) for part in found}


def test_each_parameter_has_its_share_and_what_it_was_in_each_study():
    told = tables(
        of(importance("lr", 0.4)),
        of(importance("lr", 0.1, above_chance=False)),
        of(because="Not enough to tell"),
        over=of(importance("lr", 0.3), importance("negatives", None)),
    )
    lr, negatives = told["What tells trials apart"]
    assert lr == ("hybrid", "lr", "0.30", "0.15..0.45", "0.30", "0.001", "0.004", "matters", "0.40 (0.10) –")
    assert negatives == ("hybrid", "negatives", "", "", "", "", "", "not enough to tell", "– – –")


def test_a_family_with_too_few_trials_says_so_without_a_number():
    [row] = tables(over=of(because="Not enough to tell"))["What tells trials apart"]
    assert row == ("hybrid", "", "", "", "", "", "", "Not enough to tell", "")


def test_only_pairs_above_chance_are_shown():
    told = tables(over=of(importance("lr", 0.3), pairs=(PAIR, replace(PAIR, above_chance=False))))
    assert told["What two explain only together"] == [("hybrid", "lr and dim", "0.20", "0.10..0.30", "0.002")]


def test_a_proposal_shows_every_edit():
    [row] = tables(over=of())["Proposed"]
    assert row == (
        "hybrid.dropout",
        "fix",
        "search.space.hybrid.dropout: [0.1, 0.4] → [0.2]\nsearch.past.hybrid.implied.dropout: left out → 0.1",
        "it has not mattered.",
    )
