"""Read what no search may see: the locked holdout, and the newest window, which overlaps it.

The import contract keeps this module away from everything that chooses a model.
"""

import pyarrow as pa

from recsys import ledger, parts
from recsys.records import Dataset
from recsys.sequences import Cases
from recsys.split import microseconds
from recsys.store import Store


def load_holdout(store: Store, dataset: Dataset, *, by: str, why: str) -> Cases:
    """Read the cases of the locked holdout; the ledger says who asked and why.

    Args:
        store: The line's part of the store.
        dataset: Whose holdout.
        by: Who asks; a person, or `schedule`.
        why: What for, such as the release that is measured.

    Returns:
        Every positive event of the holdout, each with all that its user did before, in the dataset's item ids; items
        that were not known before the holdout are 0.

    Raises:
        NotFound: A file of the dataset is gone.
        BadObject: A file is not the one that was frozen.
    """
    before = [parts.read(store, dataset, f"{name}.parquet") for name in ("train", "windows")]
    everything = parts.join([*before, _unlock(store, dataset, "holdout.parquet")], n_items=dataset.n_items)
    ledger.append(
        store,
        ledger.Entry(
            what="holdout read",
            who=by,
            why=why,
            evidence={"dataset_id": dataset.dataset_id, "events": dataset.holdout.events},
        ),
    )
    return parts.cases(everything, microseconds(dataset.holdout.begins), None, dataset.n_items)


def contexts(store: Store, dataset: Dataset) -> pa.Table | None:
    """Give the line's contexts of the locked holdout's cases, in their order; None where they were not frozen.

    Who calls this has read the cases, which the ledger says.

    Raises:
        NotFound: The file is gone.
        BadObject: It is not the one that was frozen.
    """
    if f"{parts.LOCKED}{_CONTEXTS}" not in dataset.files:
        return None
    return _unlock(store, dataset, _CONTEXTS)


def window_events(store: Store, dataset: Dataset) -> pa.Table:
    """Read the newest `split.window_days` of feedback, for drift.

    Returns:
        All events, positive or not, with event_id, user_id, item_id, timestamp, release_id and the line's own columns,
        ordered by timestamp.

    Raises:
        NotFound: The file is gone.
        BadObject: It is not the one that was frozen.
    """
    return _unlock(store, dataset, "newest.parquet")


_CONTEXTS = "contexts.parquet"


def _unlock(store: Store, dataset: Dataset, file: str) -> pa.Table:
    name = parts.LOCKED + file
    return parts.verify(dataset, name, store.get(parts.key(dataset.dataset_id, name)).body)
