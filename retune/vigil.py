"""Decide which component has been silent for too long, and how soon one that died may start again."""

from collections.abc import Mapping, Set
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a component may take, in seconds.

    Args:
        stale_s: age of a heartbeat from which the component counts as silent.
        hung_s: how long it may be silent before it is replaced; an API server that does not answer is silent too.
        start_s: how long after a start nobody is judged; doubled each time when that was not enough.
        up_s: how long all of them together may take to become healthy at first.
        stop_s: how long each may take to end in its own order.
        health_s: time between two questions to the health endpoint.
        backoff_s: longest wait before a component that keeps dying is started again.
    """

    stale_s: float = 20.0
    hung_s: float = 20.0
    start_s: float = 60.0
    up_s: float = 600.0
    stop_s: float = 10.0
    health_s: float = 3.0
    backoff_s: float = 30.0

    def before_restart(self, *, starts: int, lived_s: float) -> float:
        """Return the seconds to wait before a component that has ended is started again.

        Args:
            starts: how often it was started so far.
            lived_s: how long it lived after the last start.

        >>> Patience().before_restart(starts=1, lived_s=600)  # an accident
        0.0
        >>> [Patience().before_restart(starts=starts, lived_s=5) for starts in (1, 2, 3, 9)]  # it cannot start
        [2.0, 4.0, 8.0, 30.0]
        """
        return 0.0 if lived_s > self.start_s else min(2.0**starts, self.backoff_s)


class Vigil:
    """Remembers since when each component has been silent, and how often it was replaced for that in a row.

    >>> vigil = Vigil(Patience(hung_s=20, start_s=60))
    >>> started = {"scheduler": 0.0}
    >>> [vigil.hung({"scheduler"}, started, now=now) for now in (50, 70, 85, 90)]  # the count begins after the start
    [{}, {}, {}, {'scheduler': 20}]
    """

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._since: dict[str, float] = {}
        self._in_a_row: dict[str, int] = {}

    def hung(self, silent: Set[str], started_at: Mapping[str, float], *, now: float) -> dict[str, float]:
        """Return the components to replace, and for how many seconds each was seen to be silent.

        Args:
            silent: the components that do not answer or whose heartbeat is stale at this moment.
            started_at: when each component was started last, on the clock of `now`.
            now: seconds on any clock that never goes back.
        """
        found = {}
        for name, started in started_at.items():
            age_s = now - started
            if name not in silent:
                self._since.pop(name, None)
                if age_s > self._patience.stale_s:  # so the heartbeat is its own, not its predecessor's
                    self._in_a_row.pop(name, None)
            elif age_s >= self._patience.start_s * 2 ** self._in_a_row.get(name, 0):
                silent_s = now - self._since.setdefault(name, now)
                if silent_s >= self._patience.hung_s:
                    del self._since[name]
                    self._in_a_row[name] = self._in_a_row.get(name, 0) + 1
                    found[name] = silent_s
        return found
