"""Carry a training's checkpoint through the store, so that another machine can go on where a dead one stopped."""

import hashlib
import json
import time
from contextlib import suppress
from pathlib import Path

from recsys.checkpoints import FILE
from recsys.errors import NotFound
from recsys.records import Configuration
from recsys.store import Store

MOST_SHARE = 0.1  # of a training's time that may be spent on carrying


class CarriedCheckpoint:
    """One training's checkpoint: a local folder for the training loop, and its copy in the store.

    The checkpoint is one file that is replaced whole, and its copy one object, so each is always of one epoch.
    """

    def __init__(self, store: Store, key: str, folder: Path) -> None:
        self.folder = folder
        self._store, self._key, self._file = store, key, folder / FILE
        self._carried = 0.0  # modification time of the file that was carried last
        self._next_at = 0.0  # instant of the monotonic clock
        self.seconds = 0.0  # spent on carrying so far

    def fetch(self) -> None:
        """Bring what an earlier attempt left; nothing where there was none."""
        began = time.monotonic()
        with suppress(NotFound):
            self._store.fetch(self._key, self._file)
            self._carried = self._file.stat().st_mtime
        self.seconds += time.monotonic() - began

    def keep(self) -> None:
        """Copy what the training has saved since, unless copying has taken more than its share of the time."""
        began = time.monotonic()
        if began >= self._next_at and self._file.exists() and self._file.stat().st_mtime != self._carried:
            self._carried = self._file.stat().st_mtime
            self._store.upload(self._file, self._key)
            ended = time.monotonic()
            self.seconds += ended - began
            self._next_at = ended + (ended - began) / MOST_SHARE

    def drop(self) -> None:
        """Forget the copy: the training has ended."""
        self._store.delete(self._key)


def checkpoint_key(plan_id: str, family: str, configuration: Configuration, *, seed: int, share: float) -> str:
    """Say where the checkpoint of a training lies; whoever trains the same on the same dataset finds it."""
    made_of = json.dumps([family, dict(configuration), seed, share], sort_keys=True)
    return f"studies/{plan_id}/checkpoints/{hashlib.sha256(made_of.encode()).hexdigest()[:16]}"
