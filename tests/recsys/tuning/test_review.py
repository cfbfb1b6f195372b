"""Reviews of made searches, in which what matters, what does not, and where the best lie are known by construction."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from recsys import ledger
from recsys.errors import NotFound
from recsys.models import FAMILIES
from recsys.records import Evidence, TrialEvidence, to_json
from recsys.store.memory import MemoryStore
from recsys.tuning.encoding import Encoding
from recsys.tuning.past import everything
from recsys.tuning.review import kept, newest_search, review
from recsys.tuning.space import search_space

AS_OF = datetime(2026, 1, 5, tzinfo=UTC)

MARKOV = FAMILIES["markov"].defaults
SPACE = {"markov": {"steps": [2, 9], "decay": [0.3, 0.6], "smoothing": [10.0, 100.0], "neighbours": [128, 512]}}
PLACES = {"steps": lambda x: (x - 2) / 7, "decay": lambda x: (x - 0.3) / 0.3, "neighbours": lambda x: (x - 128) / 384}


NARROW = {
    "epochs": [10],
    "lr": [0.001, 0.01],
    "weight_decay": [0.01],
    "dim": [32],
    "layers": [1],
    "heads": [2],
    "history_length": [50],
    "dropout": [0.1],
    "softmax": ["full"],
}


def gained(configuration) -> float:
    """`decay` is best at its upper end; `steps` and `neighbours` matter together alone; `smoothing` does not."""
    at = {name: place(configuration[name]) for name, place in PLACES.items()}
    return 0.06 * at["decay"] + 0.08 * (at["steps"] - 0.5) * (at["neighbours"] - 0.5)


def searched(line, number: int, *, trials=50, gain: Callable = gained, family="markov", lacking=()) -> Evidence:
    """Make what a search of evenly drawn configurations would leave, with noise on what they gained."""
    space, rng = search_space(line), np.random.default_rng(number)
    encoding = Encoding(space.distributions, space.conditions)
    made = []
    while len(made) < trials:
        parameters = encoding.parameters(encoding.draw(1, rng)[0])
        if parameters["family"] != family:
            continue
        drawn = {name.partition(".")[2]: value for name, value in parameters.items() if name.startswith(f"{family}.")}
        configuration = {**FAMILIES[family].defaults, **drawn}
        found = gain(configuration) + float(rng.normal(0, 0.004))
        made.append(
            TrialEvidence(
                stage="screen",
                share=1.0,
                epochs=1.0,
                seed=0,
                family=family,
                configuration={name: value for name, value in configuration.items() if name not in lacking},
                state="complete",
                ndcg_at_10=0.1 + found,
                gain=found,
                seconds=1.0,
            )
        )
    return Evidence(
        plan_id=f"r{number}",
        dataset_id=f"d{number}",
        as_of=AS_OF + timedelta(days=7 * number),
        family="markov",
        configuration=MARKOV,
        popularity={},
        trials=tuple(made),
    )


@pytest.fixture
def line(a_line):
    return a_line(families=["markov"], space=SPACE)


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def reviewed(a_plan, store):
    """Keep searches and review the line after the last of them."""

    def made(line, *found, **plan):
        for one in found:
            store.put(f"evidence/{one.plan_id}.json", to_json(one))
        last = found[-1]
        known = {"family": "markov", "configuration": {**MARKOV, "decay": 0.5, "smoothing": 57.0}}
        return review(line, store, a_plan(plan_id=last.plan_id, as_of=last.as_of, **{**known, **plan}))

    return made


@pytest.fixture
def three(line):
    return [searched(line, number) for number in (1, 2, 3)]


def by_parameter(findings):
    return {importance.parameter: importance for importance in findings.importances}


def test_what_was_planted_is_found(line, reviewed, three):
    [over] = reviewed(line, *three).over_studies
    found = by_parameter(over)
    assert (over.studies, over.trials, over.left_out) == (("r1", "r2", "r3"), 150, 0)
    assert {name for name, one in found.items() if one.above_chance} == {"decay", "steps", "neighbours"}
    # Over even draws, decay varies by 0.06^2 / 12, the product by 0.08^2 / 12^2, the noise by 0.004^2.
    assert found["decay"].alone == pytest.approx(0.83, abs=0.1)
    assert (found["steps"].alone, found["neighbours"].alone) == pytest.approx((0.0, 0.0), abs=0.05)
    assert found["steps"].share.value == pytest.approx(0.12, abs=0.08)
    assert found["decay"].best == pytest.approx(0.6, abs=0.03)
    assert found["smoothing"].share.high < 0.1
    pairs = {frozenset(one.parameters) for one in over.interactions if one.above_chance}
    assert frozenset({"steps", "neighbours"}) in pairs
    assert over.interactions[0].parameters == ("steps", "neighbours")


def test_each_study_is_also_looked_at_by_itself(line, reviewed, three):
    apart = reviewed(line, *three).studies
    assert [(found.studies, found.trials) for found in apart] == [(("r1",), 50), (("r2",), 50), (("r3",), 50)]
    assert all(by_parameter(found)["decay"].above_chance for found in apart)
    assert not any(by_parameter(found)["smoothing"].above_chance for found in apart)


def test_a_range_whose_end_is_hit_is_widened_and_an_idle_parameter_fixed(line, reviewed, three):
    made = reviewed(line, *three)
    widen, fix = made.proposals
    assert (widen.name, widen.kind) == ("markov.decay", "widen")
    # 0.3 to 0.6 grows by half of what it is, to 0.6 + 0.15.
    assert [(edit.key, edit.was, edit.now) for edit in widen.edits] == [
        (("search", "space", "markov", "decay"), (0.3, 0.6), (0.3, 0.75))
    ]
    assert (fix.name, fix.kind) == ("markov.smoothing", "fix")
    assert [(edit.key, edit.was, edit.now) for edit in fix.edits] == [
        (("search", "space", "markov", "smoothing"), (10.0, 100.0), (57.0,))  # production's
    ]
    assert "in each of the last 3 studies with enough trials (r1: p " in fix.because
    assert made.because == (
        "Of 4 parameters of markov, 3 matter more than chance over 150 trials; "
        "proposed: widen markov.decay, fix markov.smoothing."
    )


def test_two_studies_are_too_few_to_retire_a_parameter(line, reviewed, three):
    assert "fix" not in {proposal.kind for proposal in reviewed(line, *three[:2]).proposals}


def test_a_study_with_few_trials_says_nothing_and_counts_for_no_retirement(line, reviewed, three):
    few = searched(line, 3, trials=14)
    made = reviewed(line, *three[:2], few)
    last = made.studies[-1]
    assert (last.importances, last.interactions) == ((), ())
    assert last.because == "Not enough to tell: 4 parameters need 15 trials, and it has 14."
    assert "fix" not in {proposal.kind for proposal in made.proposals}
    assert made.over_studies[0].trials == 114  # but over studies they count


def test_few_trials_altogether_make_no_numbers(line, reviewed):
    made = reviewed(line, searched(line, 1, trials=6))
    assert made.because == "Not enough has been tried yet to tell what matters."
    assert (made.over_studies[0].importances, made.edges, made.proposals) == ((), (), ())


def test_noise_is_not_called_importance(line, reviewed):
    made = reviewed(line, *(searched(line, number, gain=lambda configuration: 0.0) for number in (11, 12, 13)))
    [over] = made.over_studies
    assert [one for one in [*over.importances, *over.interactions] if one.above_chance] == []
    assert made.edges == ()
    assert {proposal.kind for proposal in made.proposals} <= {"fix"}


def test_a_parameter_that_was_hardly_varied_gets_no_number(line, reviewed, three):
    fixed = [
        replace(one, trials=tuple(replace(t, configuration={**t.configuration, "smoothing": 20.0}) for t in one.trials))
        for one in three
    ]
    smoothing = by_parameter(reviewed(line, *fixed).over_studies[0])["smoothing"]
    assert (smoothing.share, smoothing.alone, smoothing.p, smoothing.above_chance) == (None, None, None, False)
    assert smoothing.because.startswith("not enough to tell")


def test_a_range_that_is_the_familys_own_goes_no_further(a_line, reviewed):
    whole = a_line(families=["markov"], space={"markov": {"steps": [9], "smoothing": [57.0], "neighbours": [512]}})
    found = [searched(whole, n, gain=lambda found: 0.04 * found["decay"]) for n in (1, 2)]
    made = reviewed(whole, *found)
    [edge] = made.edges
    assert (edge.parameter, edge.kind, edge.value, edge.of) == ("decay", "high", 1.0, 20)
    there = sum(trial.configuration["decay"] >= 0.86 for one in found for trial in one.trials)  # the last fifth
    assert edge.by_chance == pytest.approx(20 * min(there / 100, 0.2))
    assert edge.best == 11
    assert edge.because.startswith("11 of the 20 best trials lie at its high end 1, where chance would put ")
    assert "the family itself goes no further" in edge.because
    assert made.proposals == ()


def test_a_choice_that_never_wins_is_dropped(a_line, reviewed):
    towers = a_line(families=["sasrec"], space={"sasrec": {**NARROW, "history_length": [20, 50, 100]}})

    def gain(found):
        return {20: 0.05, 50: 0.05, 100: -0.05}[found["history_length"]]

    made = reviewed(towers, *(searched(towers, n, gain=gain, family="sasrec") for n in (1, 2)), family="popularity")
    [proposal] = [one for one in made.proposals if one.kind == "drop"]
    assert (proposal.name, proposal.edits[0].now) == ("sasrec.history_length", (20, 50))


def test_the_next_larger_choice_of_the_family_is_added(a_line, reviewed):
    towers = a_line(families=["sasrec"], space={"sasrec": {**NARROW, "dim": [16, 32, 64]}})
    found = [searched(towers, n, gain=lambda found: 0.001 * found["dim"], family="sasrec") for n in (1, 2)]
    [proposal] = reviewed(towers, *found).proposals
    assert (proposal.name, proposal.kind, proposal.edits[0].now) == ("sasrec.dim", "widen", (16, 32, 64, 128))


def test_a_conditional_parameter_counts_where_it_exists(a_line, reviewed):
    space = {**NARROW, "softmax": ["full", "sampled"]}
    towers = a_line(families=["sasrec"], space={"sasrec": space})

    def gain(found):
        return 0.0001 * found["negatives"] if found["softmax"] == "sampled" else 0.05

    [over] = reviewed(towers, *(searched(towers, n, gain=gain, family="sasrec") for n in (1, 2))).over_studies
    assert by_parameter(over)["negatives"].above_chance
    pairs = [set(one.parameters) for one in over.interactions]
    assert {"lr", "negatives"} in pairs
    assert {"softmax", "negatives"} not in pairs  # where there are negatives, the softmax is always sampled


def test_trials_outside_of_what_is_searched_today_are_left_out(a_line, reviewed, three):
    narrower = a_line(families=["markov"], space={"markov": {**SPACE["markov"], "smoothing": [10.0, 31.6]}})
    made = reviewed(narrower, *three)
    outside = sum(trial.configuration["smoothing"] > 31.6 for one in three for trial in one.trials)
    assert made.over_studies[0].left_out == outside
    assert made.over_studies[0].trials == 150 - outside
    assert 50 < outside < 100  # half of a log range


def test_failed_trials_and_those_too_costly_to_serve_say_nothing_of_quality(line, reviewed, three):
    costly = [
        replace(
            one, trials=tuple(replace(t, state="infeasible" if n % 2 else "fail") for n, t in enumerate(one.trials))
        )
        for one in three
    ]
    assert reviewed(line, *costly).over_studies[0].trials == 0


def test_what_a_parameter_amounted_to_before_it_existed_is_written_down(line, reviewed, three):
    before = searched(line, 0, lacking=("smoothing",))
    [fix] = [proposal for proposal in reviewed(line, before, *three).proposals if proposal.kind == "fix"]
    assert [(edit.key, edit.was, edit.now) for edit in fix.edits[1:]] == [
        (("search", "past", "markov", "implied", "smoothing"), None, MARKOV["smoothing"])
    ]


def test_a_parameter_that_production_lacks_is_fixed_where_the_best_trial_has_it(line, reviewed, three):
    [fix] = [
        one for one in reviewed(line, *three, family="popularity", configuration={}).proposals if one.kind == "fix"
    ]
    best = max(three[-1].trials, key=lambda trial: trial.gain)
    assert fix.edits[0].now == (best.configuration["smoothing"],)


def test_a_family_that_never_wins_is_said_but_not_touched(a_line, reviewed):
    two = a_line(families=["markov", "two_tower"], space=SPACE | {"two_tower": {"dim": [32], "hidden": [64]}})
    found = [
        replace(
            one,
            trials=(*one.trials, *searched(two, 10 + n, trials=20, gain=lambda _: -0.1, family="two_tower").trials),
        )
        for n, one in enumerate([searched(two, 1), searched(two, 2)])
    ]
    made = reviewed(two, *found)
    [edge] = [edge for edge in made.edges if edge.parameter == "family"]
    assert (edge.value, edge.kind, edge.best, edge.of) == ("two_tower", "never", 0, 28)
    assert "search.families" in edge.because
    assert "two_tower" not in {edit.key[-1] for proposal in made.proposals for edit in proposal.edits}


def test_a_review_is_kept_and_told_once(line, reviewed, store, three):
    made = reviewed(line, *three)
    assert reviewed(line, *three) == made
    assert newest_search(store) == "r3"
    assert kept(store, "r3") == made
    [entry] = ledger.read(store, what="reviewed")
    assert (entry.who, entry.why) == ("tests", made.because)
    assert entry.evidence["proposals"] == ["widen markov.decay", "fix markov.smoothing"]


def test_searches_of_the_future_do_not_count(line, reviewed, a_plan, store, three):
    reviewed(line, *three)
    then = review(line, store, a_plan(plan_id="r1", as_of=three[0].as_of))
    assert then.over_studies[0].studies == ("r1",)


def test_without_a_search_there_is_nothing_to_review(line, store, a_plan):
    with pytest.raises(NotFound, match="must hold what a search found"):
        review(line, store, a_plan())
    with pytest.raises(NotFound, match="must hold what a search found"):
        newest_search(store)
    with pytest.raises(NotFound, match="none has been made yet"):
        kept(store, "r1")


def test_a_real_search_can_be_reviewed(shop, retune, search):
    plan = retune(incumbent="markov")
    search(plan)
    made = review(shop.line, shop.store, plan)
    assert len(everything(shop.store)) == 1
    assert {found.family for found in made.over_studies} == {"markov", "two_tower"}
    assert made.because == "Not enough has been tried yet to tell what matters."  # five trials
