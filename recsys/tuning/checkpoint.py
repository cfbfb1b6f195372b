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


class CarriedCheckpoint:
    """One training's checkpoint: a local folder for the training loop, and its copy in the store.

    The checkpoint is one file that is replaced whole, and its copy one object, so each is always of one epoch. Every
    epoch's state is copied before the next epoch begins, so that a death costs one epoch at most, also where another
    machine takes over.
    """

    def __init__(self, store: Store, key: str, folder: Path) -> None:
        self.folder = folder
        self._store, self._key, self._file = store, key, folder / FILE
        self.seconds = 0.0  # spent on carrying so far

    def fetch(self) -> None:
        """Bring what an earlier attempt left; nothing where there was none."""
        began = time.monotonic()
        with suppress(NotFound):
            self._store.fetch(self._key, self._file)
        self.seconds += time.monotonic() - began

    def keep(self) -> None:
        """Copy what the training has just saved."""
        began = time.monotonic()
        self._store.upload(self._file, self._key)
        self.seconds += time.monotonic() - began

    def drop(self) -> None:
        """Forget the copy: the training has ended."""
        self._store.delete(self._key)


def checkpoint_key(
    plan_id: str, entry: str, family: str, configuration: Configuration, *, seed: int, share: float
) -> str:
    """Say where the checkpoint of a training lies, so that whoever takes it up again finds it.

    Two entries of a search may train the same; each has a checkpoint of its own, which the other cannot delete.
    """
    made_of = json.dumps([entry, family, dict(configuration), seed, share], sort_keys=True)
    return f"studies/{plan_id}/checkpoints/{hashlib.sha256(made_of.encode()).hexdigest()[:16]}"
