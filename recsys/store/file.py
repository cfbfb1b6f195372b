"""Keep objects as files below a folder, written so that no crash and no rival leaves half an object or loses a write.

An object is written to a draft beside its place, synced and renamed. Writers of one folder take turns behind a lock on
that folder, across threads and processes, so that what a conditional write has checked still holds when it renames.
The lock is `flock` on a directory: local file systems of Linux and macOS have it.
"""

import contextlib
import fcntl
import hashlib
import os
import sys
import time
import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Self
from urllib.parse import unquote, urlsplit

from recsys.errors import Conflict, NotFound, StoreError
from recsys.store.protocol import Entry, Object, Store, Table, check_key, check_prefix, is_listed

ETAG_ATTRIBUTE = "user.retune.etag"
"""Extended attribute that remembers a file's hash, so that a listing need not read every file."""

SETTLED_S = 2.0
"""Age from which on a file of somebody else's is taken to be written: a clock's tick may hide a later change."""

_ABSENT = (FileNotFoundError, IsADirectoryError, NotADirectoryError)  # what a missing object looks like
_CHUNK_BYTES = 1 << 20


class FileStore:
    """A store below the folder `root`, which is made by the first write."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()

    @classmethod
    def at(cls, url: str) -> Self:
        """Open the store at a `file://` URL.

        Raises:
            ValueError: The URL has no absolute path, or names a host.
        """
        parts = urlsplit(url)
        if parts.netloc not in ("", "localhost") or not parts.path.startswith("/") or parts.query or parts.fragment:
            raise ValueError(f"a file store's URL must be file:///an/absolute/folder but got {url!r}.")
        return cls(Path(unquote(parts.path)))

    @property
    def url(self) -> str:
        """`file://` and the folder."""
        return self._root.as_uri()

    def get(self, key: str) -> Object:
        """Read an object; see `Store.get`."""
        with _reading(key, self.url), self._path(key).open("rb") as file:
            body = file.read()
            modified = _modified(os.fstat(file.fileno()))
        return Object(body=body, etag=hashlib.sha256(body).hexdigest(), modified=modified)

    def put(self, key: str, body: bytes) -> str:
        """Write an object; see `Store.put`."""
        path = self._path(key)
        with _writing(key, self.url), _draft(path.parent) as draft:
            etag = draft.write(body)
            with _locked(path.parent):
                draft.rename(path)
        return etag

    def create(self, key: str, body: bytes) -> str:
        """Write an object that must not exist yet; see `Store.create`."""
        path = self._path(key)
        with _writing(key, self.url), _draft(path.parent) as draft:
            etag = draft.write(body)
            with _locked(path.parent):
                if path.exists():
                    raise Conflict(f"{self.url} has an object {key!r} already.", key=key)
                draft.rename(path)
        return etag

    def replace(self, key: str, body: bytes, *, etag: str) -> str:
        """Write over the object that was read with `etag`; see `Store.replace`."""
        path = self._path(key)
        with _writing(key, self.url), _draft(path.parent) as draft:
            new_etag = draft.write(body)
            with _locked(path.parent):
                if not path.exists() or _etag(path) != etag:
                    raise Conflict(f"{key!r} in {self.url} is no longer the object that was read.", key=key)
                draft.rename(path)
        return new_etag

    def list(self, prefix: str) -> Iterator[Entry]:
        """Show all objects under `prefix`; see `Store.list`."""
        check_prefix(prefix)
        folder = self._root / prefix[: prefix.rfind("/") + 1]
        with _writing(prefix, self.url):
            keys = sorted(path.relative_to(self._root).as_posix() for path in _files(folder))
        return self._entries(key for key in keys if key.startswith(prefix) and is_listed(key))

    def delete(self, key: str) -> None:
        """Remove an object; see `Store.delete`."""
        path = self._path(key)
        with _writing(key, self.url), contextlib.suppress(*_ABSENT), _locked(path.parent):
            path.unlink()
            _sync(path.parent)

    def fetch(self, key: str, path: Path) -> None:
        """Copy an object to a file; see `Store.fetch`."""
        with _reading(key, self.url):
            source = self._path(key).open("rb")
        with source, _draft(path.absolute().parent) as draft:
            draft.copy(source)
            draft.rename(path.absolute())

    def upload(self, path: Path, key: str) -> str:
        """Write an object from a file; see `Store.upload`."""
        target = self._path(key)
        with path.open("rb") as source, _writing(key, self.url), _draft(target.parent) as draft:
            etag = draft.copy(source)
            with _locked(target.parent):
                draft.rename(target)
        return etag

    def under(self, prefix: str) -> Store:
        """Give the same store rooted at `prefix`; see `Store.under`."""
        return FileStore(self._path(prefix))

    def table(self, key: str) -> Table:
        """Say how `deltalake` reaches the table at `key`; see `Store.table`."""
        return Table(uri=str(self._path(key)), options={})

    def _path(self, key: str) -> Path:
        return self._root / check_key(key)

    def _entries(self, keys: Iterable[str]) -> Iterator[Entry]:
        for key in keys:
            path = self._root / key
            with contextlib.suppress(*_ABSENT):  # deleted since it was found
                stat = path.stat()
                yield Entry(key=key, etag=_etag(path), size_bytes=stat.st_size, modified=_modified(stat))


class _Draft:
    """A file that is not an object yet: its name begins with a dot, as no key does."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        self._file = file

    def write(self, body: bytes) -> str:
        self._file.write(body)
        return self._finish(hashlib.sha256(body).hexdigest())

    def copy(self, source: BinaryIO) -> str:
        digest = hashlib.sha256()
        while chunk := source.read(_CHUNK_BYTES):
            digest.update(chunk)
            self._file.write(chunk)
        return self._finish(digest.hexdigest())

    def rename(self, path: Path) -> None:
        self._path.rename(path)
        _sync(path.parent)

    def _finish(self, etag: str) -> str:
        self._file.flush()
        os.fsync(self._file.fileno())
        _remember(self._file, os.fstat(self._file.fileno()), etag)
        return etag


@contextlib.contextmanager
def _draft(folder: Path) -> Iterator[_Draft]:
    _make(folder)
    path = folder / f".{uuid.uuid4().hex}.draft"
    try:
        with path.open("xb") as file:
            yield _Draft(path, file)
    finally:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        fcntl.flock(handle, fcntl.LOCK_UN)  # closing is not enough: a process forked meanwhile holds the same lock
        os.close(handle)


@contextlib.contextmanager
def _writing(key: str, url: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(f"{url} could not serve {key!r}: {error}", key=key) from error


@contextlib.contextmanager
def _reading(key: str, url: str) -> Iterator[None]:
    try:
        with _writing(key, url):
            yield
    except StoreError as error:
        if isinstance(error.__cause__, _ABSENT):
            raise NotFound(f"{url} has no object {key!r}.", key=key) from error.__cause__
        raise


def _files(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder, onerror=_complain):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(root, name) for name in files)


def _complain(error: OSError) -> None:
    if not isinstance(error, _ABSENT):
        raise error


def _etag(path: Path) -> str:
    with path.open("rb") as file:
        if known := _recall(file):
            return known
        before = os.fstat(file.fileno())
        etag = hashlib.file_digest(file, "sha256").hexdigest()
        if time.time() - before.st_mtime > SETTLED_S:
            _remember(file, before, etag)
        return etag


def _remember(file: BinaryIO, stat: os.stat_result, etag: str) -> None:
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # no extended attributes here, or not for us: listings read the file
            os.setxattr(file.fileno(), ETAG_ATTRIBUTE, f"{_version(stat)}:{etag}".encode())


def _recall(file: BinaryIO) -> str | None:
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            version, _, etag = os.getxattr(file.fileno(), ETAG_ATTRIBUTE).decode().partition(":")
            if version == _version(os.fstat(file.fileno())):  # else somebody else wrote into the file since
                return etag
    return None


def _version(stat: os.stat_result) -> str:
    return f"{stat.st_mtime_ns}-{stat.st_size}"


def _modified(stat: os.stat_result) -> datetime:
    return datetime.fromtimestamp(stat.st_mtime, UTC)


def _make(folder: Path) -> None:
    if folder.is_dir():
        return
    _make(folder.parent)
    with contextlib.suppress(FileExistsError):
        folder.mkdir()
    _sync(folder.parent)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
