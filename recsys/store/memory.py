"""Keep objects in memory: the store for tests, with the same promises as the others."""

import copy
import hashlib
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock

from recsys.errors import Conflict, NotFound
from recsys.store.protocol import Entry, Object, Store, Table, check_key, check_prefix


class MemoryStore:
    """A store that lives as long as the Python object."""

    def __init__(self) -> None:
        self._objects: dict[str, Object] = {}
        self._lock = Lock()
        self._prefix = ""  # empty, or ends with '/'

    @property
    def url(self) -> str:
        """`memory://` and the prefix."""
        return f"memory://{self._prefix.removesuffix('/')}"

    def get(self, key: str) -> Object:
        """Read an object; see `Store.get`."""
        try:
            return self._objects[self._path(key)]
        except KeyError as error:
            raise NotFound(f"{self.url} has no object {key!r}.", key=key) from error

    def put(self, key: str, body: bytes) -> str:
        """Write an object; see `Store.put`."""
        path = self._path(key)
        with self._lock:
            return self._keep(path, body)

    def create(self, key: str, body: bytes) -> str:
        """Write an object that must not exist yet; see `Store.create`."""
        path = self._path(key)
        with self._lock:
            if path in self._objects:
                raise Conflict(f"{self.url} has an object {key!r} already.", key=key)
            return self._keep(path, body)

    def replace(self, key: str, body: bytes, *, etag: str) -> str:
        """Write over the object that was read with `etag`; see `Store.replace`."""
        path = self._path(key)
        with self._lock:
            found = self._objects.get(path)
            if found is None or found.etag != etag:
                raise Conflict(f"{key!r} in {self.url} is no longer the object that was read.", key=key)
            return self._keep(path, body)

    def list(self, prefix: str) -> Iterator[Entry]:
        """Show all objects under `prefix`; see `Store.list`."""
        begin = self._prefix + check_prefix(prefix)
        with self._lock:
            found = sorted((path, object_) for path, object_ in self._objects.items() if path.startswith(begin))
        return iter(
            [
                Entry(
                    key=path.removeprefix(self._prefix),
                    etag=object_.etag,
                    size_bytes=len(object_.body),
                    modified=object_.modified,
                )
                for path, object_ in found
            ]
        )

    def delete(self, key: str) -> None:
        """Remove an object; see `Store.delete`."""
        path = self._path(key)
        with self._lock:
            self._objects.pop(path, None)

    def fetch(self, key: str, path: Path) -> None:
        """Copy an object to a file; see `Store.fetch`."""
        body = self.get(key).body
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{uuid.uuid4().hex}.draft")
        draft.write_bytes(body)
        draft.rename(path)

    def upload(self, path: Path, key: str) -> str:
        """Write an object from a file; see `Store.upload`."""
        return self.put(key, path.read_bytes())

    def under(self, prefix: str) -> Store:
        """Give the same store rooted at `prefix`; see `Store.under`."""
        below = copy.copy(self)  # with the same objects and the same lock
        below._prefix = self._path(prefix) + "/"
        return below

    def table(self, key: str) -> Table:
        """Refuse: `deltalake` cannot reach into memory.

        Raises:
            ValueError: Always.
        """
        raise ValueError(f"a memory store holds no tables, so there is none at {self._path(key)!r}.")

    def _path(self, key: str) -> str:
        return self._prefix + check_key(key)

    def _keep(self, path: str, body: bytes) -> str:
        etag = hashlib.sha256(body).hexdigest()
        self._objects[path] = Object(body=bytes(body), etag=etag, modified=datetime.now(UTC))
        return etag
