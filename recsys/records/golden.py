"""Define what a packaged graph answered, to which whoever opens it later is held."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenRequest:
    """One history and its ten best items when the bundle was packaged."""

    history: tuple[str, ...]  # oldest first; empty: a user of whom nothing is known
    items: tuple[str, ...]  # best first
    scores: tuple[float, ...]  # of the items
    tolerance: float  # within which scores count as the same


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """What the graph that serves a bundle answered when it was packaged."""

    graph: str  # a file of the bundle
    requests: tuple[GoldenRequest, ...]
