"""What the world can do to a tuning loop.

```
RecsysError
├── StoreError              the object store did not do what was asked
│   ├── NotFound            no object under that key
│   ├── Conflict            a conditional write lost: the object exists, or is no longer the one that was read
│   └── Unsupported         the endpoint does not honour conditional writes
├── NoFeedback              nothing to work on: no objects, no events, or none left after the checks
├── RefusedBatch            a critical expectation failed, nothing of the batch was committed
├── Unjudged                an expectation could not be put to a batch, so nothing was decided about it
├── BadObject               an object that cannot be read as what it claims to be
├── Diverged                a training's loss is no longer a number
├── BadScores               a model gives scores that are no finite numbers, so they rank nothing
├── NoCandidate             a search ended with no feasible finished trial
├── NoTime                  a search would not end before its line's features are refreshed
├── BadBundle               a bundle's bytes, graph or vocabulary are not what its manifest says
│   └── Unsound             a candidate's bundle is not worth measuring, and the gate's verdict on it says why
├── NotServed               the process that serves a bundle to be timed did not come up, or died
├── Held                    the gate did not pass a candidate, so production stays as it is
├── LostRace                somebody else moved the channel pointer first
└── NoRelease               the channel names no release, or not the one that was asked for
```

A wrong argument is a `ValueError`, a wrong file of the user's is a `LineError`
(a `ValueError` that names file and key).
Every error takes the facts as attributes, so that callers need not parse its message.
"""

from datetime import datetime
from typing import Any


class RecsysError(Exception):
    """Something the world did, as opposed to a wrong argument."""


class StoreError(RecsysError):
    """The object store did not do what was asked."""

    def __init__(self, message: str, *, key: str = "") -> None:
        super().__init__(message)
        self.key = key


class NotFound(StoreError):
    """There is no object under `key`."""


class Conflict(StoreError):
    """A conditional write lost: the object under `key` exists already or has changed since it was read."""


class Unsupported(StoreError):
    """The store's endpoint ignores conditional writes, so production could be overwritten unseen."""


class NoFeedback(RecsysError):
    """There is nothing to work on; `refused` are the `records.Refusal`s of what could not be read."""

    def __init__(self, message: str, *, refused: tuple[Any, ...] = ()) -> None:
        super().__init__(message)
        self.refused = refused


class RefusedBatch(RecsysError):
    """Critical expectations failed; nothing of the batch was committed."""

    def __init__(self, message: str, *, batch_id: str, reasons: tuple[str, ...]) -> None:
        super().__init__(message)
        self.batch_id = batch_id
        self.reasons = reasons


class Unjudged(RecsysError):
    """An expectation could not be put to a batch, which says nothing of the batch."""

    def __init__(self, message: str, *, expectation: str, cause: str) -> None:
        super().__init__(message)
        self.expectation = expectation
        self.cause = cause


class BadObject(RecsysError):
    """An object cannot be read as what it claims to be."""

    def __init__(self, message: str, *, key: str, reason: str) -> None:
        super().__init__(message)
        self.key = key
        self.reason = reason


class Diverged(RecsysError):
    """A training's loss is no longer a finite number."""

    def __init__(self, message: str, *, epoch: int, loss: float) -> None:
        super().__init__(message)
        self.epoch = epoch
        self.loss = loss


class BadScores(RecsysError):
    """A model gives scores that are no finite numbers, so nothing can be ranked by them."""


class NoCandidate(RecsysError):
    """A search ended without a feasible, finished trial."""


class NoTime(RecsysError):
    """A search would not end, at `ends`, before its line's features are refreshed, at `refresh`."""

    def __init__(self, message: str, *, ends: datetime, refresh: datetime) -> None:
        super().__init__(message)
        self.ends = ends
        self.refresh = refresh


class BadBundle(RecsysError):
    """A bundle's bytes, graph or vocabulary are not what its manifest says."""

    def __init__(self, message: str, *, file: str = "") -> None:
        super().__init__(message)
        self.file = file


class Unsound(BadBundle):
    """A candidate's bundle is not sound, so nothing was measured of it; `verdict` is the `records.Verdict` on it."""

    def __init__(self, verdict: Any) -> None:  # noqa: ANN401 - records stand above errors
        super().__init__(verdict.because)
        self.verdict = verdict


class NotServed(RecsysError):
    """The process that serves a bundle, so that it can be timed, did not come up or died."""


class Held(RecsysError):
    """The gate did not pass a candidate, so production stays as it is."""


class LostRace(RecsysError):
    """Somebody else moved the channel pointer first."""

    def __init__(self, message: str, *, expected: str | None = None, found: str | None = None) -> None:
        super().__init__(message)
        self.expected = expected
        self.found = found


class NoRelease(RecsysError):
    """The channel names no release, or not the one that was asked for."""


class Forgotten(RecsysError):
    """A release is of a family that nothing here knows any more."""


class LineError(ValueError):
    """A line's file is wrong; the message names file, key, what must hold and what was found."""
