"""Keep what each user saw of a training, for as long as trainings may be compared with it user by user."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys import channel, parquet
from recsys.bundles import find_bundle
from recsys.dataset import Frozen
from recsys.errors import BadBundle, NoRelease, NotFound
from recsys.metrics import Evaluation
from recsys.store import Store
from recsys.tuning.past import everything

log = logging.getLogger(__name__)

FOLDER = "cases/"
SEARCHES = 3  # newest, on whose datasets cases stay
DAYS = 30  # for which they stay on any other, since they were last used


@dataclass(frozen=True, slots=True, eq=False)
class KeptCases:
    """NDCG@10 of every case of the validation windows, oldest first.

    Args:
        ndcg: Shape [C].
        window: Which window each case is of, from 0, shape [C].
        source: The trial that was measured.
        seconds: That it had taken.
    """

    ndcg: NDArray[np.float64]
    window: NDArray[np.int64]
    source: str
    seconds: float

    @property
    def objective(self) -> float:
        """What a trial is compared by: the mean over the windows, however many cases each has."""
        return float(np.mean(np.bincount(self.window, self.ndcg) / np.bincount(self.window)))


def keep(
    store: Store, dataset_id: str, training: str, evaluations: Sequence[Evaluation], *, source: str, seconds: float
) -> None:
    """Write the cases of a training down; to write them twice does no harm.

    Args:
        store: The line's part of the store.
        dataset_id: On what it was trained and judged.
        training: What names the training.
        evaluations: One a window, oldest first.
        source: The trial that was measured.
        seconds: That it has taken.
    """
    table = pa.table(
        {
            "ndcg": np.concatenate([evaluation.ndcg for evaluation in evaluations]),
            "window": np.repeat(np.arange(len(evaluations)), [len(evaluation.ndcg) for evaluation in evaluations]),
        }
    )
    said = {"source": source, "seconds": f"{seconds:.4f}"}
    store.put(_key(dataset_id, training), parquet.pack(table.replace_schema_metadata(said)))


def find(store: Store, dataset_id: str, training: str) -> KeptCases | None:
    """Give the cases of a training; nothing where none are kept."""
    try:
        table = parquet.unpack(store.get(_key(dataset_id, training)).body)
    except NotFound:
        return None
    said = table.schema.metadata
    return KeptCases(
        ndcg=table["ndcg"].to_numpy(),
        window=table["window"].to_numpy(),
        source=said[b"source"].decode(),
        seconds=float(said[b"seconds"]),
    )


def renew(store: Store, dataset_id: str, training: str) -> None:
    """Let the cases of a training count as used just now.

    Raises:
        NotFound: None are kept.
    """
    at = _key(dataset_id, training)
    store.put(at, store.get(at).body)


def sweep(store: Store, *, now: datetime | None = None) -> int:
    """Delete cases that nothing is compared with any more.

    They stay for `DAYS` days after they were last used, and beyond that on the datasets of the release in production,
    of those that it replaced or would be rolled back to, and of the newest `SEARCHES` searches.

    Args:
        store: The line's part of the store.
        now: When that is; None: now.

    Returns:
        How many were deleted.
    """
    before = (now or datetime.now(UTC)) - timedelta(days=DAYS)
    staying = {*_released_from(store), *(found.dataset_id for found in everything(store)[-SEARCHES:])}
    swept = [
        entry.key
        for entry in store.list(FOLDER)
        if entry.modified < before and entry.key.removeprefix(FOLDER).partition("/")[0] not in staying
    ]
    for key in swept:
        store.delete(key)
    if swept:
        log.info("the cases of %d trainings, unused for %d days, were deleted", len(swept), DAYS)
    return len(swept)


def users(frozen: Frozen) -> NDArray[np.int64]:
    """Give the user of every case of the validation windows, in the same order. Shape [C]."""
    return np.concatenate([window.users for window in frozen.windows])


def _released_from(store: Store) -> Iterator[str]:
    """Name the datasets of what is in production and around it; what cannot be read can be compared with nothing."""
    now = channel.current(store)
    for release_id in {now.release_id, now.previous, now.replaced} - {None} if now else ():
        try:
            yield find_bundle(store, str(release_id)).dataset_id
        except (BadBundle, NoRelease) as error:
            log.warning("the dataset of %s is unknown: %s", release_id, error)


def _key(dataset_id: str, training: str) -> str:
    return f"{FOLDER}{dataset_id}/{training}.parquet"
