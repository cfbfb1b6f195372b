"""List what a line searches: each knob of its families, with its meaning, tier, and the range that it has today."""

from dataclasses import asdict
from itertools import groupby
from operator import itemgetter
from typing import Any

from recsys.models import FAMILIES
from recsys.settings import Line
from recsys.tuning.space import search_space, span
from retune.sheet import Sheet


def look(line: Line) -> list[dict[str, Any]]:
    """Gather every knob of the families that the line searches, those searched first at the head of each.

    Raises:
        LineError: The line cannot be searched.
    """
    space = search_space(line)
    return [
        {
            "family": family,
            "knob": name,
            **asdict(knob),
            "default": FAMILIES[family].defaults[name],
            "range": span(searched[name]) if name in searched else "not searched",
        }
        for family, searched in space.families.items()
        for name, knob in sorted(FAMILIES[family].knobs.items(), key=lambda pair: pair[1].tier)
    ]


def sheets(found: list[dict[str, Any]]) -> list[Sheet]:
    """Lay out what `look` gave for people, a sheet a family."""
    heads = ("knob", "tier", "range", "default", "owner", "meaning (unit)")
    return [
        Sheet(heads, [_row(knob) for knob in own], f"\n{family}")
        for family, own in groupby(found, key=itemgetter("family"))
    ]


def _row(knob: dict[str, Any]) -> tuple[str, ...]:
    return (
        knob["knob"],
        f"{knob['tier']}{', capacity' if knob['capacity'] else ''}",
        knob["range"],
        str(knob["default"]),
        knob["owner"],
        f"{knob['meaning']} ({knob['unit']})",
    )
