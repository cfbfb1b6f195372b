from dataclasses import replace
from datetime import UTC, datetime

import pytest

from recsys.errors import Held
from recsys.people import check_override, digest, hear, overridden
from recsys.records import Answer, Check, Outcome, Override, Verdict
from recsys.settings import Approval

PASS, FAIL, INCONCLUSIVE = Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE
AT = datetime(2026, 1, 26, tzinfo=UTC)


def verdict(**checks: Outcome) -> Verdict:
    found = tuple(Check(name=name, outcome=outcome, because=f"{name}: {outcome}.") for name, outcome in checks.items())
    return Verdict(
        candidate="new",
        incumbent="old",
        outcome=max((check.outcome for check in found), key=[PASS, INCONCLUSIVE, FAIL].index),
        checks=found,
        because="So it is.",
        by="asset",
        as_of=AT,
    )


GOOD = verdict(sanity=PASS, quality=PASS)
APPROVAL = Approval(users=("ann", "bob"), timeout_hours=24)
YES = Answer(approved=True, by="ann", name="Ann", asked_by="asset", run="r", of=digest(GOOD), at=AT)
WISH = Override(by="bob", reason="The shop closes tomorrow.")


def test_an_approver_who_asked_for_nothing_lets_the_candidate_through():
    said = hear(APPROVAL, GOOD, YES, searched_by="schedule")
    assert (said.what, said.who, said.at) == ("approved", "ann", AT)
    assert said.why == "Ann approved new, for which asset had asked."


@pytest.mark.parametrize(
    ("changes", "searched_by", "why"),
    [
        ({"approved": False}, "asset", "Ann rejected it"),
        ({"approved": False, "by": "", "name": ""}, "asset", "Nobody answered within 24 h"),
        ({"by": "eve", "name": "Eve"}, "asset", "Eve approved it, but is not among approval.users ['ann', 'bob']"),
        ({"of": "another"}, "asset", "Ann approved it, but was shown another verdict"),
        ({"asked_by": "ann"}, "asset", "Ann approved it, but had started the run that asks"),
        ({"asked_by": "ANN"}, "asset", "Ann approved it, but had started the run that asks"),
        (
            {"by": "ann", "name": "Ann Other", "asked_by": "Ann Other"},
            "asset",
            "Ann Other approved it, but had started",
        ),
        (
            {"asked_by": "somebody without a name"},
            "asset",
            "Ann approved it, but it is not known whether they had started",
        ),
        ({}, "ann", "Ann approved it, but had ordered the candidate"),
    ],
)
def test_every_other_answer_is_a_rejection_that_says_why(changes, searched_by, why):
    said = hear(APPROVAL, GOOD, replace(YES, **changes), searched_by=searched_by)
    assert said.what == "rejected"
    assert said.why.startswith(why)
    assert said.why.endswith("so old stays instead of new.")


def test_a_rejection_by_nobody_names_nobody():
    said = hear(APPROVAL, GOOD, replace(YES, approved=False, by="", name=""), searched_by="asset")
    assert said.who == "nobody"


def test_the_digest_tells_verdicts_apart_and_survives_a_copy():
    assert digest(GOOD) == digest(replace(GOOD))
    assert digest(GOOD) != digest(replace(GOOD, by="ann"))


@pytest.mark.parametrize("outcome", [FAIL, INCONCLUSIVE])
def test_what_is_a_matter_of_judgement_may_be_overridden(outcome):
    judged = verdict(sanity=PASS, quality=outcome)
    check_override(judged, WISH)
    assert overridden(judged, WISH) == (
        f"bob releases new instead of old although the verdict is {outcome}: The shop closes tomorrow."
    )


@pytest.mark.parametrize("name", ["sanity", "sanity: golden", "sanity: bytes"])
def test_what_is_broken_may_not_be_overridden(name):
    broken = verdict(**{name: FAIL, "quality": PASS})
    with pytest.raises(Held, match=f"bob may not override {name}, which is about what is broken"):
        check_override(broken, WISH)


def test_what_is_in_production_already_is_not_overridden():
    with pytest.raises(Held, match="new is in production already"):
        check_override(replace(verdict(novelty=FAIL), incumbent="new"), WISH)


@pytest.mark.parametrize("said", [{"by": " ", "reason": "x"}, {"by": "bob", "reason": " "}])
def test_an_override_says_why_and_by_whom(said):
    with pytest.raises(ValueError, match="must say why and by whom"):
        Override(**said)
