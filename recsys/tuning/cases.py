"""Keep what each user saw of a training, so that trainings can be compared user by user."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys import parquet
from recsys.dataset import Frozen
from recsys.errors import NotFound
from recsys.metrics import Evaluation
from recsys.store import Store

FOLDER = "cases/"


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


def keep(store: Store, training: str, evaluations: Sequence[Evaluation], *, source: str, seconds: float) -> None:
    """Write the cases of a training down; to write them twice does no harm.

    Args:
        store: The line's part of the store.
        training: What names the training, and with it the dataset.
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
    store.put(
        _key(training), parquet.pack(table.replace_schema_metadata({"source": source, "seconds": f"{seconds:.4f}"}))
    )


def find(store: Store, training: str) -> KeptCases | None:
    """Give the cases of a training; nothing where none were kept."""
    try:
        table = parquet.unpack(store.get(_key(training)).body)
    except NotFound:
        return None
    said = table.schema.metadata
    return KeptCases(
        ndcg=table["ndcg"].to_numpy(),
        window=table["window"].to_numpy(),
        source=said[b"source"].decode(),
        seconds=float(said[b"seconds"]),
    )


def users(frozen: Frozen) -> NDArray[np.int64]:
    """Give the user of every case of the validation windows, in the same order. Shape [C]."""
    return np.concatenate([window.users for window in frozen.windows])


def _key(training: str) -> str:
    return f"{FOLDER}{training}.parquet"
