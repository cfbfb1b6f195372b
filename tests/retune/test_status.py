"""What people are told first of a line."""

from retune import status

REFUSED = {"source": "0f3a", "kept_at": "quarantine/x", "reasons": ["value must be given", "age too"], "rows": 2}
FOUND = {"production": None, "dataset": None, "cache": {"hits": 0, "misses": 0}, "open": [], "last": {}}


def test_refused_rows_are_told_by_the_objects_that_brought_them_and_an_object_by_itself():
    rows = {**REFUSED, "brought_by": "landing/a.jsonl"}
    whole = {**REFUSED, "source": "landing/b.jsonl", "brought_by": "", "rows": 0}
    said = [text for about, text in status.rows({**FOUND, "refused": [rows, whole]}) if about == "refused"]
    assert said == ["landing/a.jsonl: value must be given; age too", "landing/b.jsonl: value must be given; age too"]


def test_a_plan_that_was_only_decided_on_was_never_opened_and_an_opened_one_never_closed():
    plan = {"action": "retune", "plan_id": "r1", "by": "ann"}
    found = [{**plan, "opened": opened} for opened in (False, True)]
    said = [text for about, text in status.rows({**FOUND, "refused": [], "open": found}) if about == "open"]
    assert said[0] == (
        "the retune r1 that ann decided on was never opened; `retune search LINE --plan r1` carries it out"
    )
    assert said[1].startswith("the retune r1 that ann began was never closed; ")
