"""What people are told first of a line."""

from retune import status

REFUSED = {"source": "0f3a", "kept_at": "quarantine/x", "reasons": ["value must be given", "age too"], "rows": 2}
FOUND = {"production": None, "dataset": None, "cache": {"hits": 0, "misses": 0}, "open": [], "last": {}}


def test_refused_rows_are_told_by_the_objects_that_brought_them_and_an_object_by_itself():
    rows = {**REFUSED, "brought_by": "landing/a.jsonl"}
    whole = {**REFUSED, "source": "landing/b.jsonl", "brought_by": "", "rows": 0}
    said = [text for about, text in status.rows({**FOUND, "refused": [rows, whole]}) if about == "refused"]
    assert said == ["landing/a.jsonl: value must be given; age too", "landing/b.jsonl: value must be given; age too"]
