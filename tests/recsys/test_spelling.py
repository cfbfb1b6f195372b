import pytest

from recsys.spelling import nearest, suggestion

KNOWN = ["decay", "steps", "smoothing"]


@pytest.mark.parametrize(("found", "near"), [("stepps", "steps"), ("decays", "decay"), ("smooth", "smoothing")])
def test_a_slip_is_told_what_it_looks_like(found, near):
    assert nearest(found, KNOWN) == near
    assert suggestion(found, KNOWN) == f" Did you mean {near!r}?"


@pytest.mark.parametrize("found", ["x", "", 3])
def test_what_is_like_nothing_gets_no_hint(found):
    assert nearest(found, KNOWN) is None
    assert suggestion(found, KNOWN) == ""
