"""Read the newest window of a dataset as drift looks at it."""

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from monitoring.columns import Window
from recsys import holdout, parts
from recsys.columns import ITEM, TIME
from recsys.ranker import Ranker, Translated
from recsys.records import Dataset
from recsys.sequences import Cases
from recsys.split import microseconds
from recsys.store import Store

SCORED = 5_000  # cases; more would make the shares of scores hardly sharper

BATCH = 256


def read(store: Store, dataset: Dataset, incumbent: Ranker, *, seed: int, scored: int = SCORED) -> Window:
    """Read the window's events, and what the incumbent makes of those that it should have foreseen.

    Histories and scores are those of the locked holdout, as far as the window overlaps it; the ledger says so.

    Args:
        store: The line's part of the store.
        dataset: Whose newest window.
        incumbent: The release in production, which may have been made from another dataset.
        seed: Fixes which cases are scored where there are more than `scored`.
        scored: How many cases the incumbent scores at most.

    Raises:
        NotFound: A file of the dataset is gone.
        BadObject: A file is not the one that was frozen.
    """
    events = holdout.window_events(store, dataset)
    cases = holdout.load_holdout(store, dataset, by="drift", why=f"drift of dataset {dataset.dataset_id}")
    newest = np.flatnonzero(cases.sequences.times[cases.positions] >= microseconds(pc.min(events[TIME]).as_py()))
    starts = cases.sequences.offsets[cases.users[newest]]
    vocabulary = parts.read(store, dataset, "vocabulary.parquet")[ITEM].to_pylist()
    return Window(
        events=events,
        lengths=cases.positions[newest] - starts,
        scores=_scores(cases, newest, Translated.into(incumbent, vocabulary), np.random.default_rng(seed), scored),
    )


def _scores(
    cases: Cases, which: NDArray[np.int64], scorer: Translated, rng: np.random.Generator, most: int
) -> NDArray[np.float32]:
    """Score the item that was really taken, in the cases whose item the scorer knows. Shape [S]."""
    known = which[scorer.own_ids[cases.targets[which]] > 0]
    drawn = rng.permutation(known)[:most]
    scores = [
        scorer(cases.histories(rows, scorer.history_length))[np.arange(len(rows)), cases.targets[rows]]
        for rows in np.array_split(drawn, range(BATCH, len(drawn), BATCH))
    ]
    return np.concatenate(scores) if len(drawn) else np.zeros(0, np.float32)
