"""What a review proposes, written into a line's file that people keep in order."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from recsys.errors import LineError
from recsys.records import Edit, Proposal, Review
from recsys.settings import read_line
from retune import edits

SEARCH = """
# How hard to look.
[search.space.markov]           # what counting needs
steps = [2, 9]                  # older steps cost latency
decay = [
    0.3,  # forgets at once
    0.6,
]

[search.space.two_tower]
dim = [32]
"""

DECAY = Proposal(
    name="markov.decay",
    kind="widen",
    because="decay: the best lie at its high end.",
    edits=(Edit(key=("search", "space", "markov", "decay"), was=(0.3, 0.6), now=(0.3, 0.75)),),
)
STEPS = Proposal(
    name="markov.steps",
    kind="fix",
    because="steps: it has not mattered.",
    edits=(Edit(key=("search", "space", "markov", "steps"), was=(2, 9), now=(5,)),),
)
SMOOTHING = Proposal(
    name="markov.smoothing",
    kind="fix",
    because="smoothing: it has not mattered.",
    edits=(
        Edit(key=("search", "space", "markov", "smoothing"), was=None, now=(57.0,)),
        Edit(key=("search", "past", "markov", "implied", "smoothing"), was=None, now=20.0),
    ),
)


def review(*proposals: Proposal) -> Review:
    return Review(
        plan_id="r1",
        line="shop",
        as_of=datetime(2026, 1, 26, tzinfo=UTC),
        studies=(),
        over_studies=(),
        edges=(),
        proposals=proposals,
        because="a test asks for it",
    )


@pytest.fixture
def file(lines: Path) -> Path:
    path = lines / "shop.toml"
    head, budgets, rest = path.read_text().partition("[budgets]")
    path.write_text(f"{head.split('[search.space')[0].rstrip()}\n{SEARCH}\n{budgets}{rest}")
    read_line(path)
    return path


def test_values_change_and_everything_else_stays_as_it_was_written(file):
    before = file.read_text()
    edited = edits.apply(file, review(STEPS))
    assert edited.applied == (STEPS,)
    assert file.read_text() == before.replace("steps = [2, 9]  ", "steps = [5]  ")
    assert read_line(file).search.space["markov"]["steps"] == (5,)


def test_the_difference_is_shown_as_people_know_it(file):
    lines = edits.apply(file, review(STEPS)).diff.splitlines()
    assert lines[:2] == ["--- a/shop.toml", "+++ b/shop.toml"]
    assert [line for line in lines[2:] if line.startswith(("-", "+"))] == [
        "-steps = [2, 9]                  # older steps cost latency",
        "+steps = [5]                  # older steps cost latency",
    ]


def test_several_proposals_are_applied_at_once_or_one_of_them_by_name(file):
    both = review(STEPS, DECAY)
    edits.apply(file, both, only="markov.decay")
    assert read_line(file).search.space["markov"] == {"steps": (2, 9), "decay": (0.3, 0.75)}
    edited = edits.apply(file, both)
    assert (edited.applied, edited.there_already) == ((STEPS,), (DECAY,))
    assert read_line(file).search.space["markov"] == {"steps": (5,), "decay": (0.3, 0.75)}


def test_a_key_of_the_search_itself_is_written_before_the_tables_below_it(file):
    wanted = Proposal(
        name="search.interactions",
        kind="tell apart",
        because="pairs cannot be told apart.",
        edits=(Edit(key=("search", "interactions"), was=None, now=12),),
    )
    before = read_line(file)
    edits.apply(file, review(wanted))
    after = read_line(file)
    assert after.search.interactions == 12
    assert after.search.space == before.search.space
    assert edits.apply(file, review(wanted)).there_already == (wanted,)


def test_applying_again_changes_nothing(file):
    edits.apply(file, review(STEPS, SMOOTHING))
    once = file.read_text()
    again = edits.apply(file, review(STEPS, SMOOTHING))
    assert (again.applied, again.there_already, again.diff) == ((), (STEPS, SMOOTHING), "")
    assert file.read_text() == once


def test_tables_that_are_not_there_are_made(file):
    edits.apply(file, review(SMOOTHING))
    search = read_line(file).search
    assert search.space["markov"]["smoothing"] == (57.0,)
    assert search.past["markov"].implied == {"smoothing": 20.0}
    assert "\n\n[search.past.markov.implied]\nsmoothing = 20.0\n\n[budgets]" in file.read_text()


@pytest.mark.parametrize(
    ("written", "reads"),
    [
        ("[search.space]\nmarkov.steps = [2, 9]  # older", "markov.steps = [5]  # older"),
        ("[search.space]\nmarkov = { steps = [2, 9] }  # older", "markov = { steps = [5] }  # older"),
    ],
)
def test_however_a_table_is_written_it_stays_so(file, written, reads):
    file.write_text(file.read_text().replace(SEARCH, f"\n{written}\n"))
    edits.apply(file, review(STEPS))
    assert reads in file.read_text()
    assert read_line(file).search.space["markov"]["steps"] == (5,)


def test_a_table_at_the_end_of_the_file_is_found(file):
    file.write_text(file.read_text().replace(SEARCH, "") + SEARCH)
    edits.apply(file, review(STEPS, SMOOTHING))
    search = read_line(file).search
    assert search.space["markov"] == {"steps": (5,), "decay": (0.3, 0.6), "smoothing": (57.0,)}
    assert search.past["markov"].implied == {"smoothing": 20.0}


def test_a_value_that_somebody_has_changed_since_is_not_overwritten(file):
    file.write_text(file.read_text().replace("steps = [2, 9]", "steps = [3, 9]"))
    before = file.read_bytes()
    with pytest.raises(
        LineError, match=r"search\.space\.markov\.steps: must still be \[2, 9\] for markov.steps"
    ) as told:
        edits.apply(file, review(DECAY, STEPS))
    assert "but is [3, 9]. Review the line again." in str(told.value)
    assert file.read_bytes() == before  # not the decay either


def test_a_value_that_somebody_has_taken_out_since_is_not_put_back(file):
    file.write_text(file.read_text().replace("steps = [2, 9]", "# steps = [2, 9]"))
    with pytest.raises(LineError, match=r"must still be \[2, 9\] .* but is left out"):
        edits.apply(file, review(STEPS))


def test_a_file_that_would_be_wrong_is_not_written(file):
    before = file.read_bytes()
    beyond = replace(DECAY, edits=(replace(DECAY.edits[0], now=(0.3, 1.5)),))
    with pytest.raises(LineError) as told:
        edits.apply(file, review(beyond))
    assert str(told.value) == (
        f"{file}: search.space.markov.decay: must hold numbers within 0.3..1.0, but holds 1.5.\n"
        "Nothing was changed: with the proposals, the file would be wrong."
    )
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == ["shop.toml"]  # no draft stays


def test_a_family_that_is_searched_no_more_is_refused(file):
    text = file.read_text().replace(SEARCH, "").replace('"two_tower", ', "").replace(', "two_tower"', "")
    file.write_text(text.replace('"markov"', '"sasrec"'))
    unlimited = replace(SMOOTHING, edits=SMOOTHING.edits[:1])
    with pytest.raises(LineError, match=r"search\.space\.markov: must belong to one of search\.families"):
        edits.apply(file, review(unlimited))


def test_a_name_that_is_not_proposed_is_refused(file):
    with pytest.raises(ValueError, match=r"--only must name one of the proposals \['markov.steps'\], but is 'steps'"):
        edits.apply(file, review(STEPS), only="steps")


def test_the_files_rights_stay(file):
    file.chmod(0o640)
    edits.apply(file, review(STEPS))
    assert file.stat().st_mode & 0o777 == 0o640


def test_a_file_that_is_gone_is_named(file):
    file.unlink()
    with pytest.raises(LineError, match=r"shop\.toml: must be a file that can be read and written"):
        edits.apply(file, review(STEPS))
