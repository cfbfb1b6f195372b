import re
from pathlib import Path

import pytest

from recsys.models import FAMILIES, Knob, Without
from recsys.models.knob import OWNERS
from recsys.tuning.space import span

PAGE = Path(__file__).resolve().parents[3] / "docs" / "knobs.md"
KNOB = {"meaning": "Length of an item's vector", "unit": "numbers", "owner": "serving", "tier": 2}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"owner": "nobody"}, r"owner of a knob must be one of \['modelling', 'serving', 'training'\] but is 'nobody'"),
        ({"tier": 4}, r"tier of a knob must be 1, 2 or 3 but is 4"),
        ({"meaning": " "}, r"must have a meaning and a unit but has ' ' and 'numbers'"),
        ({"unit": ""}, r"must have a meaning and a unit but has .* and ''"),
        ({"without": (Without(what="", values={"dim": 1}),)}, "What a knob leaves out must be named"),
        ({"without": (Without(what="width", values={}),)}, "must be named and change something"),
    ],
)
def test_a_knob_that_says_too_little_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Knob(**{**KNOB, **change})


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_what_changes_the_served_graph_is_servings(family):
    assert {name for name, knob in family.knobs.items() if knob.owner == "serving"} == family.shape_parameters


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_every_family_has_something_to_search_first(family):
    assert [name for name, knob in family.knobs.items() if knob.tier == 1]


def written(heading):
    """Cells of the table under a heading of docs/knobs.md."""
    section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    rows = [line.strip("|").split("|") for line in section.group(1).splitlines() if line.startswith("|")]
    return [tuple(cell.strip() for cell in row) for row in rows[2:]]


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_the_page_of_knobs_says_what_the_families_say(family):
    assert written(family.name) == [
        (
            f"`{name}`",
            f"{knob.tier}, capacity" if knob.capacity else f"{knob.tier}",
            span(family.space[name]) if name in family.space else "not searched",
            str(family.defaults[name]),
            knob.unit,
            knob.owner,
            knob.meaning,
        )
        for name, knob in sorted(family.knobs.items(), key=lambda pair: pair[1].tier)
    ]


def test_the_page_of_knobs_names_the_owners():
    assert dict(written("Owners")) == OWNERS


def test_the_page_of_knobs_says_what_can_be_left_out():
    assert written("Components") == [
        (part.what, family.name, ", ".join(f"`{name}` {value}" for name, value in part.values.items()))
        for family in FAMILIES.values()
        for _, knob in sorted(family.knobs.items(), key=lambda pair: pair[1].tier)
        for part in knob.without
    ]
