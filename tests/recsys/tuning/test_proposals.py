from dataclasses import replace

import pytest

from recsys.records import Edge, Estimate, Findings, Importance, Interaction
from recsys.tuning.proposals import moved, told_apart
from recsys.tuning.space import search_space

EDGE = Edge(
    family="markov",
    parameter="decay",
    kind="high",
    value=0.6,
    best=8,
    of=10,
    by_chance=2.0,
    p=0.001,
    because="8 of the 10 best trials lie at its high end",
)


@pytest.fixture
def proposed(a_line):
    """Say what is proposed where `limits` of a parameter are hit at `ends`; nothing where nothing can be done."""

    def make(family, parameter, limits, *ends):
        line = a_line(families=[family], space={family: {parameter: limits}} if limits else {})
        edges = [replace(EDGE, family=family, parameter=parameter, kind=kind, value=value) for kind, value in ends]
        told, proposals = moved(line, search_space(line), edges)
        assert len(told) == len(edges)
        return [(proposal.kind, proposal.edits[0].now) for proposal in proposals], [edge.because for edge in told]

    return make


@pytest.mark.parametrize(
    ("family", "parameter", "limits", "end", "wider"),
    [
        ("markov", "decay", [0.4, 0.6], "high", (0.4, 0.7)),  # by half of what it is
        ("markov", "decay", [0.4, 0.6], "low", (0.3, 0.6)),
        ("markov", "decay", [0.5, 0.9], "high", (0.5, 1.0)),  # not 1.1: the family ends there
        ("markov", "smoothing", [10.0, 100.0], "high", (10.0, 200.0)),  # a log range, by the factor 2
        ("markov", "smoothing", [10.0, 100.0], "low", (5.0, 100.0)),
        ("markov", "steps", [4, 8], "high", (4, 10)),  # whole
        ("markov", "neighbours", [256, 640], "high", (256, 896)),  # 832, on the grid of 128: 6.5 steps, to the even one
        ("sasrec", "lr", [0.001, 0.01], "low", (0.0005, 0.01)),
        ("sasrec", "dim", [32, 64], "high", (32, 64, 128)),  # the family's next choice
        ("sasrec", "dim", [32, 64], "low", (16, 32, 64)),
    ],
)
def test_a_hit_end_moves_outwards_as_far_as_the_family_allows(proposed, family, parameter, limits, end, wider):
    value = limits[0] if end == "low" else limits[-1]
    found, [because] = proposed(family, parameter, limits, (end, value))
    assert found == [("widen", wider)]
    assert because.endswith(": a wider range is proposed.")


def test_both_ends_move_in_one_proposal(proposed):
    found, _ = proposed("markov", "smoothing", [10.0, 100.0], ("low", 10.0), ("high", 100.0))
    assert found == [("widen", (5.0, 200.0))]


@pytest.mark.parametrize(
    ("family", "parameter", "limits", "value"),
    [
        ("markov", "decay", [0.4, 1.0], 1.0),
        ("markov", "decay", None, 1.0),
        ("sasrec", "dim", [64, 128], 128),
        ("markov", "steps", [2, 4, 8], 8),  # the line lists them one by one
    ],
)
def test_where_there_is_nothing_beyond_it_is_said(proposed, family, parameter, limits, value):
    found, [because] = proposed(family, parameter, limits, ("high", value))
    assert found == []
    assert "the family itself goes no further" in because


def test_a_choice_that_never_wins_is_left_out(proposed):
    found, [because] = proposed("sasrec", "history_length", [20, 50, 100], ("never", 100))
    assert found == [("drop", (20, 50))]
    assert because.endswith(": it is proposed to leave it out.")


def test_the_familys_own_list_is_written_down_without_the_choice(proposed):
    assert proposed("sasrec", "heads", None, ("never", 4))[0] == [("drop", (1, 2))]


def test_two_listed_numbers_never_become_a_range_by_dropping_a_third(proposed):
    found, [because] = proposed("markov", "steps", [2, 4, 16], ("never", 16))
    assert found == []
    assert "for a person" in because


def test_what_ends_too_early_is_widened_before_anything_is_dropped(proposed):
    found, told = proposed("sasrec", "dim", [16, 32, 64], ("high", 64), ("never", 16))
    assert found == [("widen", (16, 32, 64, 128))]
    assert told[1].endswith(": nothing is proposed before its ends are settled.")


def doubtful(family, *pairs):
    """Findings in which `lr` matters, and these pairs may explain a third."""
    return Findings(
        family=family,
        studies=("r1",),
        trials=60,
        left_out=0,
        importances=(Importance(parameter="lr", share=None, alone=None, p=None, above_chance=True, best=None),),
        interactions=tuple(
            Interaction(
                parameters=("lr", other), share=Estimate(value=0.1, low=0.0, high=0.3), p=0.4, above_chance=False
            )
            for other in pairs
        ),
    )


@pytest.mark.parametrize(
    ("others", "trials", "named"),
    [
        (["dropout"], 8, "What sasrec.lr and dropout do together"),
        (["dropout", "dim"], 12, "What sasrec.lr and dropout, sasrec.lr and dim do together"),
        (["dropout", "dim", "layers", "heads", "epochs"], 20, "sasrec.lr and layers and 2 other pairs do together"),
    ],
)
def test_pairs_that_cannot_be_told_apart_ask_for_a_block_of_their_size(a_line, others, trials, named):
    [proposal] = told_apart(a_line(), [doubtful("sasrec", *others)], [])
    [edit] = proposal.edits
    assert (proposal.name, proposal.kind) == ("search.interactions", "tell apart")
    assert (edit.key, edit.was, edit.now) == (("search", "interactions"), None, trials)
    assert named in proposal.because


def test_a_line_that_says_it_wants_no_block_is_asked_again(a_line):
    [proposal] = told_apart(a_line(interactions=0), [doubtful("sasrec", "dropout")], [])
    assert proposal.edits[0].was == 0


def test_no_block_is_proposed_where_there_is_one_or_nothing_to_tell(a_line):
    assert told_apart(a_line(interactions=8), [doubtful("sasrec", "dropout")], []) == []
    assert told_apart(a_line(), [doubtful("sasrec")], []) == []
