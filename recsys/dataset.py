"""Freeze the feedback table into a dataset, and read of it what a search may see: all but the locked holdout."""

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys import coverage as coverages
from recsys import ledger, parquet, parts, table
from recsys.columns import EVENT, ITEM
from recsys.engine import engine
from recsys.errors import Conflict, NoFeedback, NotFound
from recsys.fingerprint import fingerprint
from recsys.records import Dataset, TableVersion, parse, to_json
from recsys.sequences import Cases, Sequences
from recsys.settings import Line
from recsys.split import Parts, cut, microseconds
from recsys.store import Store

FORMAT = 1
"""Counts the ways in which the same content has been cut and numbered; a new one makes new datasets."""

LATEST = "datasets/latest.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Frozen:
    """What a search may see of a dataset.

    `train` and `windows` speak of the `train.n_items` items that were known when the first window began, so a model
    that learned from `train` can be asked for every case; a target that became known later is 0, and so is such an item
    in a history. `before_holdout` speaks of all N items, and the ids are the same: those of `train` come first.
    """

    train: Sequences
    windows: tuple[Cases, ...]  # oldest first; a case's history reaches back into train
    before_holdout: Sequences  # train and windows
    vocabulary: tuple[str, ...]  # [N] item of id i is vocabulary[i - 1]
    head: NDArray[np.bool_]  # [N + 1] the most popular items before the holdout; 0 is not among them
    begins: tuple[int, ...]  # of each window, in microseconds since 1970
    known: tuple[int, ...]  # how many items were known at each of `begins`

    def rolled(self, window: int) -> tuple[Sequences, Cases]:
        """Give all that lies before `window`, and the window's cases, in the ids known when that window began.

        `rolled(0)` gives `train` and `windows[0]`; for a later window, the earlier ones have become training.

        Args:
            window: Index of the window, from 0.
        """
        begin, end = self.begins[window], (*self.begins[1:], None)[window]
        n_items = self.known[window]
        return parts.until(self.before_holdout, begin, n_items), parts.cases(self.before_holdout, begin, end, n_items)


def freeze(line: Line, store: Store, version: TableVersion) -> Dataset:
    """Snapshot one version of the feedback table as a dataset; the same content gives the same dataset.

    Files are written first and `dataset.json` last, so that nobody meets half a dataset, and each of them only where
    it is not there yet, so that a run that died or runs beside this one does no harm.

    Args:
        line: Says what is positive and where to cut.
        store: The line's part of the store.
        version: What a commit gave.

    Raises:
        NoFeedback: There is too little to fill every part.
    """
    events = table.events(store, version.version)
    if events is None:
        raise NoFeedback("There must be a feedback table to freeze, but nothing has been committed yet.")
    with engine() as con:
        pieces = cut(con, events, line.feedback, line.split)
        content = fingerprint(con.table("positives").order(f"_time, {EVENT}").to_arrow_reader(1 << 16))
        report = coverages.measure(con, pieces.boundaries, line.feedback)
    dataset_id = _identify(line, pieces, content)
    try:
        found = _record(store, parts.key(dataset_id, "dataset.json"))
    except NotFound:
        found = _write(store, dataset_id, line, version, pieces, report)
    own = (found.table_version, found.as_of) == (version.version, version.as_of)  # if by a run of this that died
    frozen = replace(found, cache_hit=not own, table_version=version.version, as_of=version.as_of)
    _point(store, frozen)
    ledger.append(
        store,
        ledger.Entry(
            what="frozen",
            who="feedback",
            why=f"table version {version.version} gives {frozen.train.events} events to train on, {frozen.n_items} "
            f"items and {frozen.holdout.events} events held out{', all frozen before' if frozen.cache_hit else ''}",
            evidence={
                "dataset_id": dataset_id,
                "table_version": version.version,
                "cache_hit": frozen.cache_hit,
                "train": frozen.train.events,
                "windows": [window.events for window in frozen.windows],
                "holdout": frozen.holdout.events,
                "items": frozen.n_items,
                "users": frozen.n_users,
            },
            id=f"frozen-{dataset_id}-{version.version}-{microseconds(version.as_of)}",
        ),
    )
    return frozen


def dataset(store: Store, dataset_id: str | None = None) -> Dataset:
    """Give the record of the dataset called `dataset_id`, or of the newest.

    Raises:
        NoFeedback: There is none.
        BadObject: Its record cannot be read.
    """
    try:
        return _record(store, LATEST if dataset_id is None else parts.key(dataset_id, "dataset.json"))
    except NotFound as error:
        which = "a dataset" if dataset_id is None else f"a dataset {dataset_id!r}"
        raise NoFeedback(f"There must be {which} in {store.url}, but there is none.") from error


def load(store: Store, dataset: Dataset) -> Frozen:
    """Read what a search may see of `dataset`.

    Raises:
        NotFound: A file of the dataset is gone.
        BadObject: A file is not the one that was frozen.
    """
    return assemble(
        train=parts.read(store, dataset, "train.parquet"),
        windows=parts.read(store, dataset, "windows.parquet"),
        vocabulary=parts.read(store, dataset, "vocabulary.parquet"),
        begins=[microseconds(window.begins) for window in dataset.windows],
    )


def assemble(*, train: pa.Table, windows: pa.Table, vocabulary: pa.Table, begins: Sequence[int]) -> Frozen:
    """Lay out what lies before the holdout, so that each part knows only what was known when it began.

    Args:
        train: Interactions, as `recsys.split.Parts` describes them.
        windows: Interactions of all validation windows.
        vocabulary: All items that were known before the holdout.
        begins: Of each window, in microseconds since 1970.
    """
    known_at = vocabulary["known_at"].cast(pa.int64()).to_numpy()
    known = tuple(int(n) for n in np.searchsorted(known_at, begins, side="left"))
    everything = parts.join([train, windows], n_items=len(vocabulary))
    ends = (*begins[1:], None)
    return Frozen(
        train=parts.until(everything, begins[0], known[0]),
        windows=tuple(parts.cases(everything, begin, end, known[0]) for begin, end in zip(begins, ends, strict=True)),
        before_holdout=everything,
        vocabulary=tuple(vocabulary[ITEM].to_pylist()),
        head=np.concatenate([[False], vocabulary["head"].to_numpy()]),
        begins=tuple(begins),
        known=known,
    )


def cache_counts(store: Store) -> dict[str, int]:
    """Count how often freezing found the same content (`hits`) and how often it was new (`misses`)."""
    found = [bool(entry.evidence["cache_hit"]) for entry in ledger.read(store, what="frozen")]
    return {"hits": sum(found), "misses": len(found) - sum(found)}


def coverage(store: Store, dataset: Dataset) -> dict[str, Any]:
    """Give the report of how users, items and contexts are covered on each side of each split; see `recsys.coverage`.

    The same lies as a page at `datasets/<id>/coverage.html`.

    Raises:
        NotFound: The dataset is gone.
    """
    report: dict[str, Any] = json.loads(store.get(parts.key(dataset.dataset_id, "coverage.json")).body)
    return report


def _identify(line: Line, pieces: Parts, content: str) -> str:
    """Hash what the dataset is made of: positives, how they are cut, and all events of the newest window."""
    settings = {
        "split": line.split.model_dump(mode="json"),
        "positive": line.feedback.positive and line.feedback.positive.model_dump(),
    }
    made_of = [FORMAT, content, fingerprint(pieces.newest), settings, asdict(pieces.boundaries)]
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:16]


def _write(
    store: Store, dataset_id: str, line: Line, version: TableVersion, pieces: Parts, report: dict[str, Any]
) -> Dataset:
    bodies = {
        "train.parquet": parquet.pack(pieces.train),
        "windows.parquet": parquet.pack(pieces.windows),
        "vocabulary.parquet": parquet.pack(pieces.vocabulary),
        f"{parts.LOCKED}holdout.parquet": parquet.pack(pieces.holdout),
        f"{parts.LOCKED}contexts.parquet": parquet.pack(pieces.contexts),
        f"{parts.LOCKED}newest.parquet": parquet.pack(pieces.newest),
        "coverage.json": json.dumps(report, indent=1).encode(),
        "coverage.html": coverages.page(report, title=f"{line.name}, dataset {dataset_id}").encode(),
    }
    train, *windows, holdout = pieces.spans
    frozen = Dataset(
        dataset_id=dataset_id,
        table_version=version.version,
        train=train,
        windows=tuple(windows),
        holdout=holdout,
        n_items=len(pieces.vocabulary),
        n_users=len(np.unique(np.concatenate([t["user"].to_numpy() for t in (pieces.train, pieces.windows)]))),
        files={name: _keep(store, parts.key(dataset_id, name), body) for name, body in bodies.items()},
        cache_hit=False,
        as_of=version.as_of,
    )
    try:
        store.create(parts.key(dataset_id, "dataset.json"), to_json(frozen))
    except Conflict:  # a run beside this one was first, with the same content
        return _record(store, parts.key(dataset_id, "dataset.json"))
    return frozen


def _keep(store: Store, key: str, body: bytes) -> str:
    """Write a file unless an earlier or simultaneous run has; give the SHA-256 of what lies there now."""
    try:
        store.create(key, body)
    except Conflict:
        body = store.get(key).body
    return hashlib.sha256(body).hexdigest()


def _point(store: Store, frozen: Dataset) -> None:
    """Name `frozen` the newest dataset, unless that is made from a later version of the table."""
    body = to_json(frozen)
    while True:
        try:
            newest = store.get(LATEST)
            if parse(Dataset, LATEST, newest.body).table_version > frozen.table_version:
                return
            store.replace(LATEST, body, etag=newest.etag)
        except NotFound:
            with suppress(Conflict):
                store.create(LATEST, body)
                return
        except Conflict:  # somebody else was faster: look at what he named
            continue
        else:
            return


def _record(store: Store, key: str) -> Dataset:
    return parse(Dataset, key, store.get(key).body)
