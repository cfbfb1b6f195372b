from datetime import timedelta

import pytest

from recsys.records import Evidence, Reading, TrialEvidence, parse, to_json
from recsys.settings import Past, Stage
from recsys.tuning.curves import earlier_pairs
from recsys.tuning.past import carry, everything
from recsys.tuning.readings import edit, in_force, unseen
from recsys.tuning.space import search_space

THOUSANDTHS = {"two_tower": Past(scaled={"lr": 0.001})}


@pytest.fixture
def found(a_plan):
    """What a search found with these values, in the terms after the edits that it had seen."""

    def make(edits=None, family="two_tower", **configuration):
        trial = TrialEvidence(
            stage="screen",
            share=1.0,
            epochs=1.0,
            seed=0,
            family=family,
            configuration=configuration,
            state="complete",
            ndcg_at_10=0.1,
            gain=0.01,
            seconds=1.0,
            curve={1: 0.005},
        )
        return Evidence(
            plan_id="before",
            dataset_id="d",
            as_of=a_plan().as_of - timedelta(days=1),
            family="popularity",
            configuration={},
            popularity={},
            trials=(trial,),
            edits=edits or {},
        )

    return make


@pytest.fixture
def read(a_line):
    """Give the value of one parameter of such evidence, as it is carried today."""

    def make(evidence, edits, name="lr"):
        [trial], _ = carry(evidence, search_space(a_line()), edits)
        return trial.parameters[f"two_tower.{name}"]

    return make


def test_what_the_line_says_of_names_and_values_of_then_is_carried_out():
    said = Past(
        family="two_tower", renamed={"learning_rate": "lr"}, scaled={"lr": 0.001}, implied={"dropout": 0.0, "dim": 8}
    )
    family, configuration, changes = edit(said, "towers", {"learning_rate": 4, "dim": 64})
    assert (family, configuration) == ("two_tower", {"lr": 0.004, "dim": 64, "dropout": 0.0})
    assert changes == [
        "towers is two_tower today",
        "learning_rate is lr today",
        "lr is multiplied by 0.001",
        "dropout did not exist and amounted to 0.0",
    ]


def test_two_searches_after_a_rescaling_are_not_rescaled(found, read):
    before = found(lr=4.0)
    first = found(in_force(THOUSANDTHS, [before]), lr=0.004)
    second = found(in_force(THOUSANDTHS, [before, first]), lr=0.003)
    assert [read(each, THOUSANDTHS) for each in (before, first, second)] == pytest.approx([0.004, 0.004, 0.003])


def test_a_second_rescaling_is_written_after_the_first_and_each_search_gets_those_that_came_after_it(found, read):
    between = found(in_force(THOUSANDTHS), lr=0.004)
    twice = {"two_tower": Past(scaled={"lr": [0.001, 10.0]})}
    after = found(in_force(twice, [between]), lr=0.04)
    assert [read(each, twice) for each in (found(lr=4.0), between, after)] == pytest.approx([0.04, 0.04, 0.04])


def test_a_factor_that_is_corrected_later_leaves_alone_what_was_found_after_it(found, read):
    after = found(in_force({"two_tower": Past(scaled={"lr": 0.01})}), lr=0.004)
    assert [read(each, THOUSANDTHS) for each in (found(lr=4.0), after)] == pytest.approx([0.004, 0.004])


def test_an_edit_that_is_no_more_stated_says_nothing_and_does_no_harm_when_it_is_stated_again(found, read):
    before, after = found(lr=4.0), found(in_force(THOUSANDTHS), lr=0.004)
    without = found(in_force({}, [before, after]), lr=0.003)
    every = (before, after, without)
    assert [read(each, {}) for each in every] == [4.0, 0.004, 0.003]
    assert [read(each, THOUSANDTHS) for each in every] == pytest.approx([0.004, 0.004, 0.003])


def test_what_was_rescaled_and_later_renamed_is_read_from_either_time(found, read):
    then = {"two_tower": Past(scaled={"rate": 0.001})}
    now = {"two_tower": Past(renamed={"rate": "lr"}, scaled={"lr": 0.001})}
    after = in_force(then)
    for each in (found(rate=4.0), found(after, rate=0.004), found(in_force(now, [found(after)]), lr=0.004)):
        assert read(each, now) == pytest.approx(0.004)


def test_what_was_renamed_twice_is_read_from_either_time(found, read):
    once = {"two_tower": Past(renamed={"speed": "rate"})}
    twice = {"two_tower": Past(renamed={"speed": "rate", "rate": "lr"})}
    for each in (found(speed=0.004), found(in_force(once), rate=0.004), found(in_force(twice), lr=0.004)):
        assert read(each, twice) == 0.004


def test_a_renaming_does_not_write_over_a_parameter_of_that_name():
    past = Past(renamed={"rate": "lr"})
    _, made, changes = edit(past, "two_tower", {"rate": 4.0, "lr": 0.004})
    assert made == {"lr": 0.004}
    assert changes == ["rate is left out, because lr was there beside it"]


def test_names_that_were_exchanged_are_exchanged_once():
    exchanged = {"two_tower": Past(renamed={"dim": "hidden", "hidden": "dim"})}
    both = {"dim": 32, "hidden": 64}
    assert edit(exchanged["two_tower"], "two_tower", both)[1] == {"hidden": 32, "dim": 64}


def test_a_renaming_that_a_search_had_seen_leaves_a_later_parameter_of_the_old_name_alone(found):
    edits = {"two_tower": Past(renamed={"width": "dim"})}
    after = found(in_force(edits), dim=32, width=7)
    left = unseen(edits, after)["two_tower"]
    assert edit(left, "two_tower", after.trials[0].configuration)[1] == {"dim": 32, "width": 7}


def test_a_family_whose_name_is_used_again_keeps_what_was_found_under_it_later(found):
    edits = {"towers": Past(family="two_tower")}
    before, after = found(family="towers"), found(in_force(edits), family="towers")
    assert unseen(edits, before)["towers"].family == "two_tower"
    assert unseen(edits, after)["towers"].family is None
    pairs = earlier_pairs([before, after], "screen", Stage(trials=1), lambda _: 1.0, edits)
    assert [pair.family for pair in pairs] == ["two_tower", "towers"]


def test_a_closed_search_keeps_which_edits_it_had_seen(shop, retune, search, a_line):
    line = a_line(past={"two_tower": {"scaled": {"lr": 0.001}}})
    search(retune(incumbent="markov", line=line), line)
    [kept] = everything(shop.store)
    assert kept.edits == {"two_tower": Reading(scaled={"lr": (0.001,)})}


def test_evidence_of_before_there_were_such_notes_has_seen_no_edit(found):
    body = to_json(found(lr=4.0)).replace(b',\n "edits": {}', b"")
    assert b"edits" not in body
    assert parse(Evidence, "evidence/before.json", body).edits == {}
