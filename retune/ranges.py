"""List what a line searches: each knob of its families, with its meaning, tier, and the range that it has today."""

from dataclasses import asdict
from typing import Any

from recsys.models import FAMILIES
from recsys.settings import Line
from recsys.tuning.space import search_space, span


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


def rows(found: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Lay out what `look` gave for people."""
    return [
        (
            knob["family"],
            knob["knob"],
            f"{knob['tier']}{', capacity' if knob['capacity'] else ''}",
            knob["range"],
            str(knob["default"]),
            knob["unit"],
            knob["owner"],
            knob["meaning"],
        )
        for knob in found
    ]
