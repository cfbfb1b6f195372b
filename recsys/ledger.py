"""Write down every decision of a line once, and read them back in the order of time."""

import hashlib
import logging
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from pydantic import JsonValue, TypeAdapter

from recsys.errors import Conflict
from recsys.records import parse
from recsys.store import Store, check_key

DECISIONS = (
    "asked",  # a person started a run of a DAG by hand
    "committed",  # a batch became a version of the feedback table
    "refused",  # objects or rows went into quarantine
    "frozen",  # a dataset was made, or found to exist
    "judged",  # the newest window was compared with the incumbent's reference
    "decided",  # nothing, refit, sentinels or retune
    "opened",  # seconds were set aside for a search, and its clock started
    "put off",  # a search would not have ended before the line's next feature refresh
    "searched",  # a study ended
    "reviewed",  # what is searched was reviewed, and changes of it proposed or not
    "edited",  # a person applied proposals of a review to the line's file
    "ablated",  # a configuration was taken apart, and what each component is worth was measured
    "chosen",  # a study's candidate was refitted
    "packaged",  # a candidate became a bundle
    "looked",  # a look at a holdout was counted, and what it may spend of the year's errors
    "measured",  # candidate and incumbent got scorecards
    "gated",  # the gate gave its verdict
    "approved",  # a person let a judged candidate through
    "rejected",  # a person did not, nobody answered in time, or who approved may not
    "overridden",  # a person released what the gate did not pass
    "attributed",  # what a release gained was divided among what changed
    "released",  # the channel moved forward
    "rolled back",  # the channel moved back
    "held",  # a candidate was kept from production
    "holdout read",  # somebody looked at a locked holdout, and for what
)
"""What the loop's own stages write down; others may use other words."""

logger = logging.getLogger(__name__)

_FOLDER = "ledger/"
_TIME = "%Y%m%dT%H%M%S.%fZ"  # sorts as text
_WORDS = re.compile(r"[a-z]+( [a-z]+)*")
_READERS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A decision, who or what took it, and on which evidence.

    Entries with the same `what` and `id` are one decision: of several, `read` gives the earliest. So whoever may run
    twice gives the id of what was decided about.
    """

    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    what: str  # one of DECISIONS, or the caller's own word
    who: str  # a person, or "schedule"
    why: str  # one sentence
    evidence: Mapping[str, JsonValue] = field(default_factory=dict)  # ids and numbers; what is not finite becomes null
    id: str = ""  # made from all of the above where it is not given

    def __post_init__(self) -> None:
        if self.at.utcoffset() != timedelta(0):
            raise ValueError(f"at must be in UTC but got {self.at.isoformat()}.")
        if not _WORDS.fullmatch(self.what):
            raise ValueError(f"what must be words of small letters but got {self.what!r}.")
        if not (self.who and self.why):
            raise ValueError(f"who and why must both be said but got {self.who!r} and {self.why!r}.")
        if "/" in self.id:
            raise ValueError(f"id must not contain '/' but got {self.id!r}.")
        if not self.id:
            object.__setattr__(self, "id", hashlib.sha256(_body(self)).hexdigest()[:16])
        check_key(self.key)

    @property
    def key(self) -> str:
        """Where the entry lies in the line's part of the store."""
        return f"{_FOLDER}{self.at.strftime(_TIME)}-{_slug(self.what)}-{self.id}.json"


_ENTRY = TypeAdapter(Entry)


def append(store: Store, entry: Entry) -> str:
    """Add `entry` to the ledger, where nothing is ever changed, and return its key.

    An entry that is there already, with the same time and id, stays as it was first written.
    """
    try:
        store.create(entry.key, _body(entry))
    except Conflict:
        logger.info("The ledger holds %s already.", entry.key)
    else:
        logger.info("%s by %s: %s (%s)", entry.what, entry.who, entry.why, entry.key)
    return entry.key


def read(
    store: Store, *, since: datetime | None = None, what: str | None = None, limit: int | None = None
) -> list[Entry]:
    """Give the entries of a line, oldest first; only those that are given are fetched.

    Args:
        store: The line's part of the store.
        since: Leaves out earlier ones.
        what: Leaves out other kinds of decisions.
        limit: How many to give at most, the newest; None: all.

    Raises:
        ValueError: `limit` is not positive.
        BadObject: One of them cannot be read.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be positive but is {limit}.")
    begin = since.astimezone(UTC).strftime(_TIME) if since else ""
    keys = [
        key
        for decision, key in _decisions(store).items()
        if key.removeprefix(_FOLDER) >= begin and decision.startswith(f"{_slug(what)}-" if what else "")
    ]
    return _fetch(store, keys if limit is None else keys[-limit:])


def latest(store: Store) -> list[Entry]:
    """Give the newest entry of each kind of decision, oldest first; no other is fetched.

    Raises:
        BadObject: One of them cannot be read.
    """
    newest = {decision.partition("-")[0]: key for decision, key in _decisions(store).items()}
    return _fetch(store, sorted(newest.values()))


def _decisions(store: Store) -> dict[str, str]:
    """Find the key of each decision, by its kind and id, in the order of time; of several, the earliest."""
    earliest: dict[str, str] = {}
    for found in store.list(_FOLDER):
        _, _, decision = found.key.partition("-")
        earliest.setdefault(decision, found.key)
    return earliest


def _fetch(store: Store, keys: Sequence[str]) -> list[Entry]:
    with ThreadPoolExecutor(_READERS) as pool:  # an entry is small, so reading it is all waiting
        return list(pool.map(lambda key: _read(store, key), keys))


def _read(store: Store, key: str) -> Entry:
    return parse(Entry, key, store.get(key).body)


def _slug(what: str) -> str:
    return what.replace(" ", "_")


def _body(entry: Entry) -> bytes:
    return _ENTRY.dump_json(entry)
