"""What a person may ask of a run, and what is refused before it starts."""

from copy import deepcopy

import pytest
from airflow.sdk.definitions.param import ParamsDict
from airflow.sdk.exceptions import ParamValidationError

from retune_airflow import params

RETUNE = params.retune(longest_search_s=5760)
ABLATE = params.ablate(longest_search_s=5760)


def validated(declared, **given):
    merged = ParamsDict(deepcopy(dict(declared)))  # a value that is given stays in the parameter itself
    for name, value in given.items():
        merged[name] = value
    return merged.validate()


@pytest.mark.parametrize(
    "declared",
    [params.FEEDBACK, params.DRIFT, RETUNE, params.PROMOTE],
    ids=["feedback", "drift", "retune", "promote"],
)
def test_a_run_that_nobody_starts_needs_nothing(declared):
    assert set(validated(declared).values()) == {None}


@pytest.mark.parametrize("declared", [params.ROLLBACK, ABLATE], ids=["rollback", "ablate"])
def test_what_runs_by_hand_alone_is_refused_without_a_reason(declared):
    with pytest.raises(ParamValidationError):
        validated(declared)


@pytest.mark.parametrize(
    ("declared", "given"),
    [
        (params.FEEDBACK, {"as_of": "tomorrow"}),
        (params.FEEDBACK, {"reason": 7}),
        (RETUNE, {"action": "explode"}),
        (RETUNE, {"budget_s": 0}),
        (RETUNE, {"budget_s": 5761}),  # its workers would be killed in mid-trial
        (RETUNE, {"budget_s": "60"}),
        (RETUNE, {"configuration": '{"dim": 8}'}),
        (RETUNE, {"family": ""}),
        (params.PROMOTE, {"plan_id": ""}),
        (params.PROMOTE, {"again": "yes"}),
        (params.PROMOTE, {"override": "yes"}),
        (params.ROLLBACK, {"reason": "no"}),
        (params.ROLLBACK, {"reason": "x" * 501}),
        (params.ROLLBACK, {"reason": "worse than before", "to": ""}),
        (ABLATE, {"reason": "is it needed?", "seeds": 0}),
        (ABLATE, {"reason": "is it needed?", "budget_s": 5761}),
    ],
)
def test_what_cannot_be_is_refused(declared, given):
    with pytest.raises(ParamValidationError):
        validated(declared, **given)


@pytest.mark.parametrize(
    ("declared", "given"),
    [
        (params.FEEDBACK, {"as_of": "2026-03-01T12:00:00+00:00", "reason": "replay"}),
        (RETUNE, {"action": "refit", "family": "sasrec", "configuration": {"dim": 8}, "reason": "try"}),
        (RETUNE, {"action": "retune", "budget_s": 60.5, "reason": "try"}),
        (RETUNE, {"action": "sentinels", "reason": "try"}),
        (params.PROMOTE, {"again": True, "reason": "the cause was elsewhere"}),
        (params.PROMOTE, {"override": True, "reason": "the shop wants it"}),
        (params.ROLLBACK, {"reason": "worse than before", "to": "sasrec-1"}),
    ],
)
def test_what_can_be_is_taken(declared, given):
    assert given.items() <= validated(declared, **given).items()


def test_every_parameter_explains_itself():
    for declared in (params.FEEDBACK, params.DRIFT, RETUNE, params.PROMOTE, params.ROLLBACK):
        for param in declared.values():
            assert param.schema["title"]
            assert param.description


@pytest.mark.parametrize("declared", [params.FEEDBACK, params.DRIFT, RETUNE, params.PROMOTE])
def test_a_form_that_lets_the_reason_be_empty_says_what_then_happens(declared):
    assert "fails at once in its first task, and nothing has been done" in declared["reason"].description
