"""Say what an object store promises, so that a folder, a bucket and a dictionary can stand in for each other."""

import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Object:
    """An object as it was read."""

    body: bytes = field(repr=False)
    etag: str  # names this content under this key; `replace` takes it
    modified: datetime  # UTC


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An object as a listing shows it."""

    key: str
    etag: str
    size_bytes: int
    modified: datetime  # UTC


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """What `deltalake` needs to read and write a table that lies in the store."""

    uri: str
    options: Mapping[str, str] = field(repr=False)  # they hold secrets


class Store(Protocol):
    """Objects under '/'-separated keys.

    An object is seen whole or not at all, by every reader, whenever its writer dies. A write that returned is seen by
    every later read and listing. An object's key should not be another's folder (`a` beside `a/b`): S3 allows it, a
    file system cannot.

    Every method raises `ValueError` for a malformed key and `StoreError` where the store cannot do what is asked.
    """

    @property
    def url(self) -> str:
        """Where the store's root lies."""
        ...

    def get(self, key: str) -> Object:
        """Read an object into memory.

        Raises:
            NotFound: There is none.
        """
        ...

    def put(self, key: str, body: bytes) -> str:
        """Write an object, over whatever was there, and return its ETag."""
        ...

    def create(self, key: str, body: bytes) -> str:
        """Write an object that must not exist yet, and return its ETag.

        Raises:
            Conflict: It exists. Of several creators at once, one wins and all others meet this.
        """
        ...

    def replace(self, key: str, body: bytes, *, etag: str) -> str:
        """Write an object that must still be the one that was read with `etag`, and return its new ETag.

        Raises:
            Conflict: It has changed since or is gone. Over a network this may also be said of a write that succeeded,
                if its answer was lost and somebody else replaced it at once; who must tell the two apart keeps
                a nonce in the body, as `recsys.channel` does.
        """
        ...

    def list(self, prefix: str) -> Iterator[Entry]:
        """Show all objects whose keys begin with `prefix`, in the order of their keys.

        What others have put there under a name that is no key is left out, and said in the log.
        """
        ...

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no error."""
        ...

    def fetch(self, key: str, path: Path) -> None:
        """Copy an object of any size to the file `path`, which appears whole or not at all.

        Raises:
            NotFound: There is no such object.
        """
        ...

    def upload(self, path: Path, key: str) -> str:
        """Write an object of any size from the file `path`, over whatever was there, and return its ETag.

        Raises:
            FileNotFoundError: There is no such file.
        """
        ...

    def under(self, prefix: str) -> "Store":
        """Give the same store rooted at the folder `prefix`."""
        ...

    def table(self, key: str) -> Table:
        """Say how `deltalake` reaches the table at `key`.

        Raises:
            ValueError: The store can hold no tables.
        """
        ...


LONGEST_KEY_BYTES = 1024  # S3's limit
LONGEST_SEGMENT_BYTES = 255  # the limit of file names

log = logging.getLogger(__name__)

_SEGMENT = re.compile(r"[^./\\\x00-\x1f\x7f][^/\\\x00-\x1f\x7f]*")


def check_key(key: str) -> str:
    """Give `key` back if it can name an object in every store.

    Args:
        key: Segments joined by '/', none of them empty, none beginning with a dot, without backslashes and control
            characters.

    Raises:
        ValueError: It cannot.

    >>> check_key("ledger/1997-09-20.json")
    'ledger/1997-09-20.json'
    """
    segments = key.split("/")
    if not all(_SEGMENT.fullmatch(segment) for segment in segments):
        raise ValueError(
            "a key must be segments joined by '/', none empty, none beginning with a dot, without backslashes and "
            f"control characters, but got {key!r}."
        )
    if not _is_utf_8(key):
        raise ValueError(f"a key must be text that UTF-8 can hold, but got {key!r}.")
    if _n_bytes(key) > LONGEST_KEY_BYTES or max(map(_n_bytes, segments)) > LONGEST_SEGMENT_BYTES:
        raise ValueError(
            f"a key must have at most {LONGEST_KEY_BYTES} bytes and {LONGEST_SEGMENT_BYTES} a segment, but got {key!r}."
        )
    return key


def check_prefix(prefix: str) -> str:
    """Give `prefix` back if it is a beginning of keys; the empty one is that of all.

    Raises:
        ValueError: It is not.
    """
    if prefix:
        check_key(prefix.removesuffix("/"))
    return prefix


def is_listed(name: str) -> bool:
    """Whether a listing shows what lies under `name`.

    Hidden files, such as drafts, and a console's markers of folders are passed over in silence; for anything else that
    `check_key` does not let pass the log says why.
    """
    if name.endswith("/") or any(segment.startswith(".") for segment in name.split("/")):
        return False
    try:
        check_key(name)
    except ValueError as error:
        log.warning("What lies under %a is left out of listings: %s", name, error)
        return False
    return True


def _is_utf_8(text: str) -> bool:
    """Whether `text` has bytes; the name of a file that is not in UTF-8 has none."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _n_bytes(text: str) -> int:
    return len(text.encode())
