"""Lay the record of a gating out as one self-contained page, for screens and for paper."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from recsys.records import Check, GateRecord, Outcome

_DRAWN = ("value", "low", "high", "limit")
_MARGIN = 0.08  # of the picture's width that stays free on each side
_GRAVEST = (Outcome.FAIL, Outcome.INCONCLUSIVE, Outcome.PASS)
_CHIPS = {Outcome.PASS: "good", Outcome.FAIL: "bad", Outcome.INCONCLUSIVE: "doubt"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """An interval beside its limit, each as a share of the picture's width."""

    low: float
    value: float
    high: float
    limit: float


def render(record: GateRecord) -> str:
    """Give the page as HTML that loads nothing and runs nothing."""
    verdict = record.verdict
    return (
        _environment()
        .get_template("decision_page.html.j2")
        .render(
            record=record,
            verdict=verdict,
            checks=sorted(verdict.checks, key=lambda check: _GRAVEST.index(check.outcome)),
            policy=dict(settings(record.policy)),
        )
    )


def picture(check: Check) -> Picture | None:
    """Place a check's interval and limit beside each other; None where it has no such numbers."""
    if not all(name in check.evidence for name in _DRAWN):
        return None
    value, low, high, limit = (check.evidence[name] for name in _DRAWN)
    begin, end = min(low, value, limit), max(high, value, limit)
    width = end - begin
    if not 0 < width < float("inf"):
        return None

    def place(number: float) -> float:
        return _MARGIN + (1 - 2 * _MARGIN) * (number - begin) / width

    return Picture(low=place(low), value=place(value), high=place(high), limit=place(limit))


def settings(policy: Mapping[str, Any], under: str = "") -> Iterator[tuple[str, str]]:
    """List the keys of a policy as a line's file would have them, with their values; what is not set is left out.

    >>> list(settings({"gate": {"min_users": 100, "looks_a_year": None}}))
    [('gate.min_users', '100')]
    """
    for name, value in policy.items():
        if isinstance(value, Mapping):
            yield from settings(value, f"{under}{name}.")
        elif value is not None:
            yield f"{under}{name}", ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def number(value: float) -> str:
    """Write a number with as many digits as a person reads; a whole one with all it has.

    >>> number(0.00090909), number(12345.678), number(3.0), number(1564)
    ('0.000909', '12,300', '3', '1,564')
    """
    if float(value).is_integer():
        return f"{value:,.0f}"
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 1000 else f"{rounded:g}"


def seconds(value: float | None) -> str:
    """Write how long something took.

    >>> seconds(None), seconds(0.0123), seconds(75.2)
    ('not known', '0.012 s', '75.2 s')
    """
    if value is None:
        return "not known"
    return f"{value:.3f} s" if value < 1 else f"{value:.1f} s"


def moment(at: datetime) -> str:
    """Write a moment to the second."""
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def further(check: Check) -> str:
    """List the numbers of a check that have no column of their own."""
    return ", ".join(f"{name} {number(value)}" for name, value in check.evidence.items() if name not in _DRAWN)


def _environment() -> Environment:
    """Open the template; every text is escaped, and a name that is not there is an error."""
    environment = Environment(
        loader=PackageLoader("recsys", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=number, seconds=seconds, moment=moment, picture=picture, further=further, chip=_CHIPS.__getitem__
    )
    return environment
