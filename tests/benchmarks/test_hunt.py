"""How `make bench NAME=kill` counts, on trials made by hand."""

import optuna
import pytest
from optuna.trial import TrialState

from benchmarks._hunt import chains, repeated


def trial(number, entry, **facts):
    made = optuna.trial.create_trial(state=TrialState.WAITING, user_attrs={"entry": entry, **facts})
    made.number = number
    return made


@pytest.mark.parametrize(
    ("begun", "expected"),
    [
        ([[1, 2, 3]], []),  # nobody was killed
        ([[1, 2], [3, 4]], [0]),  # between two epochs
        ([[1, 2], [2, 3]], [1]),  # in the middle of one
        ([[1, 2], [], [2, 3]], [0, 1]),  # and then before it had begun another
        ([[1, 2, 3], [1, 2, 3]], [3]),  # the checkpoint was lost
        ([[1, 2, 3], [4], [3, 4]], [0, 2]),  # an older one came back
        ([[1], [2, 2]], [1]),
    ],
)
def test_an_epoch_counts_as_repeated_for_whoever_begins_it_after_somebody_had(begun, expected):
    assert list(repeated(begun)) == expected


def test_a_chain_is_an_entry_with_all_who_took_it_up_and_what_was_never_begun_is_none():
    first, other, again, unbegun = (
        trial(0, "a"),
        trial(1, "b"),
        trial(2, "a", resumes=0),
        trial(3, "c", not_begun=True),
    )
    assert chains([first, other, again, unbegun]) == [[first, again], [other]]


def test_a_copy_that_nobody_began_belongs_to_no_chain_and_one_that_somebody_began_is_refused():
    listed, copy = trial(0, "a"), trial(1, "a", not_begun=True)
    assert chains([listed, copy]) == [[listed]]
    with pytest.raises(SystemExit, match=r"The trials of a must resume one another, but resume \[None, None\]"):
        chains([listed, trial(1, "a")])


def test_a_trial_that_two_have_taken_up_is_refused():
    with pytest.raises(SystemExit, match="The trials of a must resume one another, but resume"):
        chains([trial(0, "a"), trial(1, "a", resumes=0), trial(2, "a", resumes=0)])
