import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from recsys.errors import BadObject
from recsys.records import Action, Check, Outcome, dump
from retune import report
from retune.report import Ending
from retune.report.phrases import headline

DAY = datetime(1998, 1, 10, tzinfo=UTC)  # of the first batch


@pytest.fixture(scope="module")
def story(line, months):
    return report.tell(line, months.store)


@pytest.fixture
def nothing(line, books):
    return report.tell(line, books.store)


def test_turns_come_in_the_order_of_the_lines_clock_with_all_that_belongs_to_each(story):
    assert [turn.as_of for turn in story.turns] == [DAY + timedelta(weeks=n) for n in (0, 2, 4, 8, 12)]
    assert [turn.events for turn in story.turns] == [61_284, 7_411, 6_902, 12_873, 9_044]
    assert [len(turn.refused) for turn in story.turns] == [0, 0, 1, 0, 0]
    assert [turn.drift.drifted for turn in story.turns] == [False, True, False, True, True]
    assert [len(turn.rounds) for turn in story.turns] == [1, 1, 1, 1, 2]
    assert all(turn.dataset.as_of == turn.as_of for turn in story.turns)


def test_each_round_is_followed_from_its_plan_to_its_end(story):
    assert [found.ending for found in story.rounds] == [
        Ending.RELEASED,
        Ending.RELEASED,
        Ending.NOTHING,
        Ending.HELD,
        Ending.RELEASED,
        Ending.HELD,
    ]
    for found in story.promoted:
        assert found.candidate.plan_id == found.plan.plan_id
        assert found.bundle.candidate_id == found.candidate.candidate_id
        assert found.comparison.candidate.release_id == found.release.release_id == found.bundle.release_id
        assert found.dataset.dataset_id == found.plan.dataset_id


def test_the_baseline_is_a_move_of_the_channel_but_no_release_of_the_loop(story):
    assert [release.family for release in story.releases] == ["popularity", "markov", "sasrec", "sasrec"]
    assert [release.generation for release in story.releases] == [1, 2, 3, 4]
    assert [found.release.generation for found in story.promoted] == [2, 3, 4]


def test_a_verdict_with_nothing_to_compare_does_not_hide_what_was_found_before(line, books):
    dataset = books.freeze(DAY, 50_000)
    books.baseline(dataset)
    found = books.judge(dataset, (0.3, 0.2))
    books.move("markov-1", "better", bundle_of=dataset)
    books.judge(dataset)
    [turn] = report.tell(line, books.store).turns
    assert turn.drift == found


def test_a_record_that_cannot_be_read_is_named(line, books):
    books.store.put("studies/plan-1/plan.json", b"{}")
    with pytest.raises(BadObject, match=r"studies/plan-1/plan\.json must hold a record of kind Plan"):
        report.tell(line, books.store)


def test_the_gain_over_a_reference_is_paired_over_users(line, books):
    """The interval agrees with one made by drawing whole users one at a time."""
    dataset = books.freeze(DAY, 50_000)
    books.baseline(dataset)
    plan = books.decide(books.judge(dataset), Action.RETUNE, "It is time.")
    books.search(plan)
    books.measure(
        books.package(books.choose(plan, "sasrec")),
        {"candidate": 0.12, "incumbent": 0.06, "popularity": 0.06, "markov": 0.09},
    )
    [found] = report.tell(line, books.store).rounds

    columns = {}
    for name in ("candidate", "markov"):
        card = found.comparison.candidate if name == "candidate" else found.references[name]
        columns[name] = books.ndcg(card).reshape(250, 6)
    gain = columns["candidate"] - columns["markov"]
    rng = np.random.default_rng(3)
    drawn = [gain[rng.integers(250, size=250)].mean() for _ in range(2000)]

    assert found.gains["markov"].value == pytest.approx(0.03, abs=1e-9)
    assert found.gains["markov"].low == pytest.approx(np.quantile(drawn, 0.025), abs=5e-4)
    assert found.gains["markov"].high == pytest.approx(np.quantile(drawn, 0.975), abs=5e-4)
    assert found.gains["markov"].high - found.gains["markov"].low < 0.5 * (  # easy cases are easy for both
        found.comparison.candidate.ndcg_at_10.high - found.comparison.candidate.ndcg_at_10.low
    )


def test_without_the_evidence_of_each_case_no_gain_is_claimed(line, lived):
    for entry in list(lived.store.list("releases/")):
        if entry.key.endswith("-markov.parquet"):
            lived.store.delete(entry.key)
    story = report.tell(line, lived.store)
    assert all(set(found.gains) == {"popularity"} for found in story.rounds if found.comparison)
    assert "Markov" not in headline(story)


def test_a_story_without_anything_is_told(nothing):
    assert nothing.turns == nothing.releases == ()
    assert nothing.current is nothing.proof is None
    assert headline(nothing) == "Nothing is in production yet."


def test_feedback_that_was_too_little_to_freeze_is_a_turn_of_its_own(line, books):
    books.arrive(DAY, 40)
    [turn] = report.tell(line, books.store).turns
    assert (turn.events, turn.dataset, turn.drift, turn.rounds) == (40, None, None, ())


def test_one_dataset_with_the_baseline_and_a_held_candidate(line, books):
    books.arrive(DAY, 50_000)
    dataset = books.freeze(DAY, 50_000)
    baseline = books.baseline(dataset)
    plan = books.decide(books.judge(dataset), Action.RETUNE, "It is time.")
    books.search(plan)
    compared = books.measure(
        books.package(books.choose(plan, "sasrec")),
        {"candidate": 0.05, "incumbent": 0.06, "popularity": 0.06, "markov": 0.07},
    )
    worse = "NDCG@10 changes by -0.0100 [-0.0160, -0.0040] from 0.0600."
    books.gate(compared, Check(name="quality", outcome=Outcome.FAIL, because=worse))
    story = report.tell(line, books.store)

    assert [found.ending for found in story.rounds] == [Ending.HELD]
    assert headline(story) == "The popularity baseline is in production; no candidate has replaced it."
    card, found = story.proof
    assert card.release_id == baseline
    assert card == found.comparison.incumbent
    summary = report.summary(story)
    assert summary["releases"] == []
    assert summary["held"] == [{"candidate": compared.candidate.release_id, "outcome": "fail", "reasons": [worse]}]
    assert summary["quality"]["release"]["ndcg_at_10"] == pytest.approx(0.06)


def test_a_search_without_a_feasible_trial_ends_without_a_candidate(line, books):
    dataset = books.freeze(DAY, 50_000)
    books.baseline(dataset)
    plan = books.decide(books.judge(dataset), Action.RETUNE, "It is time.")
    assert report.tell(line, books.store).rounds[0].ending is Ending.OPEN
    books.search(plan, [replace(books.trials(plan)[5])], ended="No trial kept the budgets.")
    story = report.tell(line, books.store)
    assert story.rounds[0].ending is Ending.NO_CANDIDATE
    assert report.summary(story)["searches"][0]["ends"] == {"over budget": 1}


def test_after_a_rollback_the_earlier_release_is_proved_by_its_own_measurement(line, lived):
    first = report.tell(line, lived.store).promoted[1]
    lived.move(first.release.release_id, "Complaints about repeats.", by="operator")
    story = report.tell(line, lived.store)
    assert (story.current.generation, story.current.by) == (5, "operator")
    assert [[move.generation for move in turn.moves] for turn in story.turns] == [[1], [], [], [], [5]]
    assert len(story.promoted) == 3, "a way back is no release of the loop"
    assert story.proof == (first.comparison.candidate, first)


def test_the_same_model_chosen_again_finds_the_bundle_that_is_there(line, lived):
    earlier = report.tell(line, lived.store).promoted[-1]
    plan = replace(earlier.plan, plan_id="again", action=Action.REFIT, because="operator: once more")
    lived.put("studies/again/plan.json", plan)
    lived.put("studies/again/candidate.json", replace(earlier.candidate, candidate_id="other", plan_id="again"))
    assert report.tell(line, lived.store).rounds[-1].bundle == earlier.bundle


def test_what_was_written_before_the_start_is_left_out(line, lived):
    now = max(entry.modified for entry in lived.store.list(""))
    story = report.tell(line, lived.store, started=now + timedelta(days=3650))
    assert (story.turns, story.releases, story.cache_misses) == ((), (), 0)


def test_an_unfinished_entry_elsewhere_in_the_store_is_no_part_of_the_story(line, lived):
    whole = report.tell(line, lived.store)
    lived.store.put("studies/x/checkpoints/plan.json", b"not a plan")
    lived.store.put("releases/x/y/manifest.json", b"not a manifest")
    assert report.tell(line, lived.store) == whole


def test_the_summary_has_the_agreed_keys_and_is_json(story):
    summary = json.loads(json.dumps(report.summary(story)))
    assert {"releases", "quarantined", "held", "quality"} <= set(summary)
    assert set(summary["quality"]) == {"dataset_id", "release", "popularity", "markov"}
    for who in ("release", "popularity", "markov"):
        assert set(summary["quality"][who]) == {"ndcg_at_10", "low", "high"}
    for release in summary["releases"]:
        assert set(release) == {"release_id", "family", "generation", "reason", "ndcg_gain"}
    for held in summary["held"]:
        assert set(held) == {"candidate", "outcome", "reasons"}


def test_the_summarys_numbers_are_those_of_the_records(story):
    summary = report.summary(story)
    assert [r["generation"] for r in summary["releases"]] == [2, 3, 4]
    assert [r["ndcg_gain"]["value"] for r in summary["releases"]] == pytest.approx([0.019, 0.021, 0.015])
    assert [r["ndcg_gain"]["low"] for r in summary["releases"]] == pytest.approx([0.013, 0.015, 0.009])
    assert [r["ndcg_gain"]["high"] for r in summary["releases"]] == pytest.approx([0.025, 0.027, 0.021])
    assert [(h["outcome"], len(h["reasons"])) for h in summary["held"]] == [("inconclusive", 1), ("fail", 2)]
    assert summary["held"][1]["reasons"][1] == "p99 is 11.3 [10.5, 12.7] ms at batch 1, and the budget is 8 ms."
    [refused] = summary["quarantined"]
    assert refused["source"] == "landing/broken-week-19.jsonl.gz"
    assert refused["reasons"][0].startswith("it must be gzip")
    quality = summary["quality"]
    assert quality["dataset_id"] == story.turns[-1].dataset.dataset_id
    for who, level in {"release": 0.118, "popularity": 0.069, "markov": 0.089}.items():
        expected = {"ndcg_at_10": level, "low": level - 0.011, "high": level + 0.011}
        assert quality[who] == pytest.approx(expected)
    assert summary["production"] == dump(story.current)
    assert [turn["events"] for turn in summary["turns"]] == [61_284, 7_411, 6_902, 12_873, 9_044]
    assert summary["turns"][2]["moved"] == ["history length"]
    assert summary["searches"][0]["trials"] == {"screen": 10, "refine": 4, "confirm": 4}
    assert summary["searches"][0]["ends"] == {"finished": 14, "pruned": 2, "over budget": 1, "failed": 1}
    assert [len(m["latency"]) for m in summary["measured"]] == [1, 1, 1, 1, 1]
    assert summary["measured"][-1]["size_bytes"] == 5_900_000
    assert summary["datasets"] == {"hits": 0, "misses": 5}


def test_a_summary_of_nothing_has_the_same_keys(story, nothing):
    empty = report.summary(nothing)
    assert set(empty) == set(report.summary(story))
    assert (empty["releases"], empty["held"], empty["quarantined"]) == ([], [], [])
    assert empty["quality"] == {"dataset_id": None, "release": None, "popularity": None, "markov": None}


def test_datasets_found_to_exist_are_counted_apart(line, lived):
    lived.write("frozen", {"dataset_id": "a", "cache_hit": True})
    story = report.tell(line, lived.store)
    assert (story.cache_hits, story.cache_misses) == (1, 5)
