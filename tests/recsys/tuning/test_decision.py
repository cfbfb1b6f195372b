import json
import math
import re
from dataclasses import replace
from datetime import timedelta

import pytest

from recsys import ledger
from recsys.errors import NoRelease, NotFound
from recsys.models import FAMILIES
from recsys.records import Action, dump, to_json
from recsys.settings import Decision
from recsys.tuning import close, decide, open_study, plan


def days(n):
    return timedelta(days=n)


@pytest.mark.parametrize(
    ("incumbent", "drifted", "age_days", "action", "because"),
    [
        ("markov", True, 1, Action.RETUNE, "The line has drifted: item popularity moved by 0.3, over 0.1."),
        ("popularity", True, 99, Action.RETUNE, "The incumbent is popularity, which is not among what is searched"),
        ("popularity", False, 1, Action.RETUNE, "The incumbent is popularity, which is not among what is searched"),
        ("markov", False, 28, Action.NOTHING, "the incumbent is 28.0 days old, which is not over 28"),
        ("markov", False, 28.5, Action.REFIT, "the incumbent is 28.5 days old, which is over 28"),
    ],
)
def test_drift_and_the_baseline_are_searched_age_is_refitted(shop, incumbent, drifted, age_days, action, because):
    as_of = shop.dataset.as_of + days(age_days)
    verdict = shop.verdict(drifted=drifted, incumbent=incumbent, as_of=as_of)
    found = decide(shop.line, shop.store, verdict, by="schedule")
    assert found.action is action
    assert because in found.because
    assert (found.dataset_id, found.release_id) == (verdict.dataset_id, verdict.release_id)
    assert (found.budget_s, found.seed, found.by, found.as_of) == (300, 7, "schedule", as_of)


def test_the_plan_starts_from_the_incumbents_configuration(shop):
    found = decide(shop.line, shop.store, shop.verdict(incumbent="two_tower"), by="schedule")
    assert found.family == "two_tower"
    assert found.configuration == {
        **FAMILIES["two_tower"].defaults,
        "dim": 32,
        "hidden": 64,
        "history_length": 20,
        "epochs": 10,
    }


def test_the_same_question_has_the_same_plan_and_is_asked_once(shop):
    first = decide(shop.line, shop.store, shop.verdict(), by="schedule")
    assert decide(shop.line, shop.store, shop.verdict(), by="schedule") == first
    assert first.plan_id.startswith("r20260126-")
    assert plan(shop.store, first.plan_id) == first
    [entry] = [entry for entry in ledger.read(shop.store) if entry.what == "decided"]
    assert (entry.who, entry.why, entry.evidence["plan_id"]) == ("schedule", first.because, first.plan_id)
    assert entry.evidence["action"] == "retune"


def test_whatever_decides_a_search_gives_the_plan_another_name(shop, a_line):
    verdict = shop.verdict(incumbent="markov")
    asked = {"by": "operator", "reason": "to see"}
    plans = [
        decide(shop.line, shop.store, verdict, by="operator"),
        decide(shop.line, shop.store, verdict, by="operator", nonce="run 2"),
        decide(shop.line, shop.store, verdict, budget_s=9, **asked),
        decide(shop.line, shop.store, verdict, action=Action.NOTHING, **asked),
        decide(shop.line, shop.store, shop.verdict(incumbent="two_tower"), by="operator"),
        decide(a_line(seed=8), shop.store, verdict, by="operator"),
        decide(shop.line.model_copy(update={"name": "other"}), shop.store, verdict, by="operator"),
        decide(shop.line, shop.store, verdict, action=Action.REFIT, configuration={"decay": 0.9}, **asked),
    ]
    assert len({found.plan_id for found in plans}) == len(plans)


def test_a_person_may_decide_otherwise_and_says_why(shop):
    verdict = shop.verdict(drifted=True, incumbent="markov")
    found = decide(
        shop.line,
        shop.store,
        verdict,
        by="operator",
        reason="the shop closes on Monday",
        action=Action.NOTHING,
        budget_s=5,
    )
    assert (found.action, found.by, found.budget_s) == (Action.NOTHING, "operator", 5)
    assert found.because == "the shop closes on Monday"  # the name stands in `by`
    [entry] = [entry for entry in ledger.read(shop.store) if entry.what == "decided"]
    assert (entry.who, entry.why) == ("operator", "the shop closes on Monday")


def test_a_reason_without_an_action_stands_behind_what_the_loop_found(shop):
    found = decide(shop.line, shop.store, shop.verdict(), by="operator", reason="is it time?")
    assert found.because.endswith("(markov, two_tower). The run's reason: is it time?")
    assert "operator" not in found.because


@pytest.mark.parametrize("asked", [{"action": Action.REFIT, "reason": "to see"}, {}], ids=["person", "loop"])
def test_a_refit_that_would_miss_a_budget_says_so_before_it_is_trained(shop, asked, caplog):
    tight = shop.line.model_copy(update={"budgets": shop.line.budgets.model_copy(update={"size_mib": 0.001})})
    verdict = replace(shop.verdict(drifted=False, incumbent="markov"), as_of=shop.verdict().as_of + days(40))
    found = decide(tight, shop.store, verdict, by="operator", **asked)
    assert found.action is Action.REFIT
    miss = r"size of about \d+\.\d\d MiB is over the budget of 0\.001 MiB"
    assert re.search(rf"\. It is trained although serving it would miss a budget: {miss}\.$", found.because)
    [entry] = [entry for entry in ledger.read(shop.store) if entry.what == "decided"]
    assert entry.why == found.because
    assert [bool(re.fullmatch(miss, said)) for said in entry.evidence["misses"]] == [True]
    assert any(record.levelname == "WARNING" and found.because in record.message for record in caplog.records)


def test_a_refit_that_meets_the_budgets_says_nothing_of_them(shop):
    found = decide(
        shop.line, shop.store, shop.verdict(incumbent="markov"), by="operator", reason="to see", action=Action.REFIT
    )
    assert found.because == "to see"
    [entry] = [entry for entry in ledger.read(shop.store) if entry.what == "decided"]
    assert entry.evidence["misses"] == []


def test_a_refit_by_hand_takes_what_is_given_and_fills_up_the_rest(shop):
    verdict = shop.verdict(incumbent="markov")

    def refit(**given):
        found = decide(shop.line, shop.store, verdict, by="operator", reason="to see", action=Action.REFIT, **given)
        return found.family, found.configuration

    incumbent = {"epochs": 0, "steps": 2, "decay": 0.8, "smoothing": 20.0, "neighbours": 128}
    assert refit() == ("markov", incumbent)
    assert refit(configuration={"steps": 4}) == ("markov", {**incumbent, "steps": 4})
    assert refit(family="sasrec") == ("sasrec", FAMILIES["sasrec"].defaults)
    assert refit(family="sasrec", configuration={"dim": 32})[1]["dim"] == 32


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"action": Action.RETUNE}, "reason must say why"),
        ({"action": Action.RETUNE, "reason": " "}, "reason must say why"),
        ({"budget_s": 5.0}, "reason must say why"),
        ({"budget_s": -5.0, "reason": "r"}, "budget_s must be positive and finite but is -5"),
        ({"budget_s": math.inf, "reason": "r"}, "budget_s must be positive and finite but is inf"),
        ({"budget_s": math.nan, "reason": "r"}, "budget_s must be positive and finite but is nan"),
        ({"family": "sasrec", "reason": "r"}, "family and configuration belong to a refit, but action is None"),
        ({"configuration": {"dim": 8}, "action": Action.RETUNE, "reason": "r"}, "belong to a refit"),
        ({"family": "oracle", "action": Action.REFIT, "reason": "r"}, "family must be one of .* but is 'oracle'"),
        ({"configuration": {"stepps": 8}, "action": Action.REFIT, "reason": "r"}, "unknown .*'stepps'"),
        ({"configuration": {"steps": "8"}, "action": Action.REFIT, "reason": "r"}, "steps of markov must be int"),
        ({"configuration": {"steps": 0}, "action": Action.REFIT, "reason": "r"}, "steps of markov is out of range: 0"),
        ({"configuration": {"epochs": 3}, "action": Action.REFIT, "reason": "r"}, "epochs of markov must be 0, "),
        (
            {"configuration": {"epochs": 0}, "family": "sasrec", "action": Action.REFIT, "reason": "r"},
            "epochs of sasrec must be 1 or more but is 0",
        ),
        (
            {"configuration": {"dim": -1}, "family": "sasrec", "action": Action.REFIT, "reason": "r"},
            "dim of sasrec must be 1 or more but is -1",
        ),
    ],
)
def test_an_order_that_cannot_be_carried_out_is_refused_and_nothing_is_written(shop, how, message):
    with pytest.raises(ValueError, match=message):
        decide(shop.line, shop.store, shop.verdict(incumbent="markov"), by="operator", **how)
    assert list(shop.store.list("studies/")) == []


def test_an_incumbent_without_a_bundle_is_no_release(shop):
    shop.store.delete(f"releases/{shop.releases['markov']}/manifest.json")
    with pytest.raises(NoRelease):
        decide(shop.line, shop.store, shop.verdict(incumbent="markov"), by="schedule")


def test_a_plan_that_was_never_made_is_not_found(shop):
    with pytest.raises(NotFound):
        plan(shop.store, "r20260126-ffffffff")


def test_an_incumbent_of_an_older_version_is_filled_up_with_defaults(shop):
    verdict = shop.released("markov", {"epochs": 0, "steps": 3, "half_life": 2})
    found = decide(shop.line, shop.store, verdict, by="schedule")
    assert found.configuration == {**FAMILIES["markov"].defaults, "steps": 3}


def test_an_incumbent_that_no_longer_can_be_built_is_searched_beside_others_but_not_refitted(shop):
    verdict = shop.released("two_tower", {**FAMILIES["two_tower"].defaults, "dim": 0})
    assert decide(shop.line, shop.store, verdict, by="schedule").configuration["dim"] == 0
    with pytest.raises(ValueError, match="dim of two_tower must be 1 or more but is 0"):
        decide(shop.line, shop.store, verdict, by="operator", reason="r", action=Action.REFIT)


def test_an_incumbent_whose_family_is_gone_is_never_refitted(shop):
    verdict = shop.released("oracle", {"epochs": 0})
    line = resting(shop)
    search(shop, line, decide(line, shop.store, verdict, by="schedule"))
    later = replace(verdict, dataset_id="another", as_of=verdict.as_of + days(29))
    found = decide(line, shop.store, later, by="schedule")
    assert found.action is Action.NOTHING
    assert found.because.endswith("the incumbent is oracle, which nothing here can train again.")
    with pytest.raises(ValueError, match=r"family must be one of \[.*\] but is 'oracle'"):
        decide(line, shop.store, later, by="operator", reason="r", action=Action.REFIT)


def resting(shop, rest_days=30.0):
    schedule = shop.line.schedule.model_copy(update={"rest_days": rest_days, "refit_after_days": 99.0})
    return shop.line.model_copy(update={"schedule": schedule})


def search(shop, line, decided):
    """Open and close the search, as if its budget had ended at once."""
    open_study(line, shop.store, decided, shop.studies)
    close(line, shop.store, decided, shop.studies)


@pytest.mark.parametrize(
    ("incumbent", "reason"),
    [
        ("markov", "The line has drifted"),
        ("popularity", "The incumbent is popularity, which is not among what is searched (markov, two_tower)"),
    ],
)
@pytest.mark.parametrize("days_later", [29, 30])
def test_no_other_search_begins_while_the_line_rests(shop, incumbent, reason, days_later):
    line, first = resting(shop), shop.verdict(incumbent=incumbent)
    decided = decide(line, shop.store, first, by="schedule")
    assert decided.action is Action.RETUNE  # the very first search begins at once
    assert decided.because.startswith(reason)
    search(shop, line, decided)
    assert decide(line, shop.store, first, by="schedule") == decided  # the same question, not a rest
    later = replace(first, dataset_id="another", as_of=first.as_of + days(days_later))
    found = decide(line, shop.store, later, by="schedule")
    if days_later == 30:
        assert found.action is Action.RETUNE
        assert found.because.startswith(reason)
    else:
        assert found.action is Action.NOTHING
        rests = "but the line's last search was 29.0 days of feedback ago and it rests for 30; the incumbent is "
        assert found.because.startswith(f"{reason}, {rests}")


def test_a_search_that_never_ran_is_nothing_to_rest_from(shop):
    line, first = resting(shop), shop.verdict(incumbent="markov")
    decide(line, shop.store, first, by="schedule")
    later = replace(first, dataset_id="another", as_of=first.as_of + days(1))
    assert decide(line, shop.store, later, by="schedule").action is Action.RETUNE


def test_a_search_by_hand_on_the_same_dataset_is_one_to_rest_from(shop):
    line, verdict = resting(shop), shop.verdict(incumbent="markov")
    search(shop, line, decide(line, shop.store, verdict, by="operator", reason="r", action=Action.RETUNE, nonce="a"))
    found = decide(line, shop.store, verdict, by="schedule")
    assert found.action is Action.NOTHING
    assert "last search was 0.0 days of feedback ago" in found.because


def test_the_same_question_has_the_same_answer_whatever_was_searched_since(shop):
    line, first = resting(shop), shop.verdict(incumbent="markov")
    decided = decide(line, shop.store, first, by="schedule")
    later = replace(first, dataset_id="another", as_of=first.as_of + days(40))
    search(shop, line, decide(line, shop.store, later, by="schedule"))
    assert decide(line, shop.store, first, by="schedule") == decided


def test_a_rest_is_counted_without_the_plans_of_earlier_searches(shop):
    line, first = resting(shop), shop.verdict(incumbent="markov")
    decided = decide(line, shop.store, first, by="schedule")
    search(shop, line, decided)
    for entry in shop.store.list("studies/"):
        shop.store.delete(entry.key)
    later = replace(first, dataset_id="another", as_of=first.as_of + days(29))
    assert decide(line, shop.store, later, by="schedule").action is Action.NOTHING
    assert decide(line, shop.store, first, by="schedule") == decided


def test_a_person_need_not_wait_for_the_rest_to_pass(shop):
    line, first = resting(shop), shop.verdict(incumbent="markov")
    search(shop, line, decide(line, shop.store, first, by="schedule"))
    later = replace(first, dataset_id="another", as_of=first.as_of + days(1))
    assert decide(line, shop.store, later, by="operator", reason="now", action=Action.RETUNE).action is Action.RETUNE


def test_the_plan_of_a_warm_search_lists_what_becomes_of_each_earlier_search(shop, a_line, retune, search):
    before = search(retune(incumbent="markov"))
    verdict = shop.verdict(incumbent="markov", as_of=shop.dataset.as_of + days(7))
    asked = {"by": "tests", "action": Action.RETUNE, "reason": "to see the past"}
    found = decide(shop.line, shop.store, verdict, **asked)
    tried = {json.dumps([t.family, dict(t.configuration)], sort_keys=True) for t in before.trials}
    assert found.past == (f"{before.plan.plan_id}: {len(tried)} configurations carried over.",)
    assert decide(a_line(warm=False), shop.store, verdict, **asked).past == ()  # a cold one recalls nothing


def test_a_search_after_ones_whose_screening_did_not_rank_screens_on_more_and_says_so(
    shop, trial_evidence, search_evidence
):
    """Twelve configurations came out in the opposite order on the screening's share of 0.5 and on all users."""
    trials = [
        trial_evidence(
            "markov", {"epochs": 0, "decay": n / 100}, order * n / 100, stage=stage, share=share, epochs=epochs, seed=7
        )
        for stage, share, epochs, order in (("screen", 0.5, 0.2, 1), ("refine", 1.0, 0.4, -1))
        for n in range(12)
    ]
    before = search_evidence(*trials, dataset_id=shop.dataset.dataset_id, as_of=shop.verdict().as_of - days(30))
    shop.store.put("evidence/before.json", to_json(before))
    found = decide(shop.line, shop.store, shop.verdict(), by="schedule")
    [rung] = found.rungs
    assert (rung.stage, rung.share, rung.epochs) == ("screen", 0.71, 0.28)  # the roots of 0.5 and of 0.2 x 0.4
    assert rung.because.startswith("Nothing shows that screen ranks as refine does (Kendall's tau-b -1.00 [")
    assert plan(shop.store, found.plan_id) == found
    [entry] = [entry for entry in ledger.read(shop.store) if entry.what == "decided"]
    assert entry.evidence["rungs"] == [dump(rung)]


def test_the_plan_has_all_that_could_be_done_with_its_numbers_and_takes_what_is_worth_most(shop):
    found = decide(shop.line, shop.store, shop.verdict(incumbent="markov"), by="schedule")
    assert [option.action for option in found.options] == [
        Action.RETUNE,
        Action.SENTINELS,
        Action.REFIT,
        Action.NOTHING,
    ]
    retune = found.options[0]
    assert found.action is retune.action
    # Drift at its threshold and no age: 1.5 % for new data and 2 % for a search, at 3600 s for each percent.
    assert retune.gain.value == pytest.approx(0.035)
    assert retune.score == pytest.approx(3.5 * 3600 - retune.seconds)
    assert [option.barred for option in found.options] == [""] * 4
    assert "Of all, retune is worth most: +3.5 % for 405 s; sentinels +2.5 % for 337 s, refit +1.5 %" in found.because
    [entry] = ledger.read(shop.store, what="decided")
    assert [option["action"] for option in entry.evidence["options"]] == ["retune", "sentinels", "refit", "nothing"]
    assert (entry.evidence["drift"], entry.evidence["age_days"], entry.evidence["of_incumbent"]) == (1.0, 0.0, True)


@pytest.mark.parametrize(
    ("percent_worth_s", "action"),
    [(3600, Action.RETUNE), (170, Action.SENTINELS), (40, Action.REFIT), (10, Action.NOTHING)],
)
def test_the_less_a_gain_is_worth_the_less_is_spent_on_it(shop, a_line, percent_worth_s, action):
    # A retune gains 3.5 % in 750 s of budget and the training of the winner, sentinels 2.5 %, a refit 1.5 %.
    line = a_line(budget_s=750, screen={"trials": 60, "share": 1.0}, refine={"trials": 20}, confirm={"trials": 1})
    line = line.model_copy(update={"decision": Decision(percent_worth_s=percent_worth_s)})
    found = decide(line, shop.store, shop.verdict(incumbent="markov"), by="schedule")
    assert found.action is action, found.because


def test_rules_bar_what_the_loop_may_not_do_by_itself_and_say_so(shop):
    def barred(**verdict):
        found = decide(shop.line, shop.store, shop.verdict(**verdict), by="schedule")
        return found.action, {option.action: option.barred for option in found.options}

    assert barred(incumbent="popularity") == (
        Action.RETUNE,
        {
            Action.RETUNE: "",
            **dict.fromkeys(
                (Action.NOTHING, Action.REFIT, Action.SENTINELS),
                "popularity is not searched, and only a search can replace it",
            ),
        },
    )
    assert barred(incumbent="markov", drifted=False) == (
        Action.NOTHING,
        {
            Action.NOTHING: "",
            Action.REFIT: "the incumbent is not over 28 days old",
            Action.SENTINELS: "nothing has drifted",
            Action.RETUNE: "nothing has drifted",
        },
    )
    old = shop.dataset.as_of + days(29)
    assert barred(incumbent="markov", drifted=False, as_of=old)[1][Action.NOTHING] == (
        "the incumbent is over 28 days old"
    )


def test_a_person_may_ask_for_sentinels_and_gets_twice_their_time(shop):
    found = decide(
        shop.line,
        shop.store,
        shop.verdict(incumbent="markov"),
        by="operator",
        reason="a short look",
        action=Action.SENTINELS,
    )
    expected = next(option.seconds for option in found.options if option.action is Action.SENTINELS)
    assert found.ordered
    assert found.budget_s == pytest.approx(min(300, 2 * expected))
    assert [one.because for one in found.sentinels] == [
        "the defaults of markov",
        "the defaults of two_tower",
        "far from all that was tried",
    ]
    asked = {"by": "operator", "reason": "r", "action": Action.SENTINELS, "budget_s": 7.0}
    assert decide(shop.line, shop.store, shop.verdict(incumbent="markov"), **asked).budget_s == 7.0


def test_what_a_search_found_changes_what_the_next_is_expected_to_gain_but_not_its_own_plan(shop, retune, search):
    line = shop.line
    first = retune(incumbent="markov")
    search(first)
    [entry] = ledger.read(shop.store, what="searched")
    assert entry.evidence["relative_gain"] >= 0  # the incumbent's configuration competes
    later = shop.verdict(incumbent="markov", as_of=shop.dataset.as_of + days(1))
    next_one = decide(line, shop.store, later, by="schedule", nonce="later")
    gains = [next(o.gain.value for o in p.options if o.action is Action.RETUNE) for p in (first, next_one)]
    assert gains[1] != pytest.approx(gains[0], abs=1e-4)
    for kept in list(shop.store.list("studies/")):
        shop.store.delete(kept.key)
    assert decide(line, shop.store, shop.verdict(incumbent="markov"), by="schedule") == first


def test_a_search_with_a_past_begins_with_the_best_of_it_and_a_probe_where_it_has_room(shop, a_line, retune, search):
    before = search(retune(incumbent="markov"))
    verdict = shop.verdict(incumbent="markov", as_of=shop.dataset.as_of + days(7))
    asked = {"by": "tests", "action": Action.RETUNE, "reason": "to see what comes first"}
    found = decide(a_line(screen={"trials": 8, "epochs": 0.2}), shop.store, verdict, **asked)
    assert [one.because for one in found.sentinels] == [
        f"among the best of {before.plan.plan_id}",
        "far from all that was tried",
    ]
    for trials in (6, 7):  # production's configuration, the other family's defaults, the probe, and three or four drawn
        few = decide(a_line(screen={"trials": trials, "epochs": 0.2}), shop.store, verdict, **asked)
        assert few.sentinels == found.sentinels[1:]
    assert decide(a_line(screen={"trials": 5, "epochs": 0.2}), shop.store, verdict, **asked).sentinels == ()
    assert decide(a_line(screen={"trials": 8, "epochs": 0.2}, warm=False), shop.store, verdict, **asked).sentinels == ()
