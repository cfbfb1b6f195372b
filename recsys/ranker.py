"""Rank the catalogue with a bundle's graph, as serving does and as every measurement must."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from recsys.bundles import VOCABULARY, read_bundle
from recsys.errors import BadBundle
from recsys.graph import session
from recsys.metrics import top_k
from recsys.records import Bundle
from recsys.store import Store

LOWEST = float(np.finfo(np.float32).min)
"""Score of an item that a model does not know: below all that it knows, and still a number."""

LONGER = 4
"""Times the model's own history that is read to fill it, because unknown items in it are dropped."""


@dataclass(frozen=True, slots=True)
class GraphScorer:
    """Scores histories with an open graph."""

    session: ort.InferenceSession
    history_length: int

    def __call__(self, history: NDArray[np.int64]) -> NDArray[np.float32]:
        """Score the catalogue. Shapes [B, L], left padded with 0, to [B, N + 1]; column 0 means nothing."""
        scores: NDArray[np.float32] = self.session.run(None, {"history": history})[0]
        return scores


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommended:
    """What one user is recommended, and by which release, which the feedback on it should name."""

    release_id: str
    items: list[str]  # best first
    scores: list[float]  # of the items


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranker:
    """One graph of a verified bundle, open for scoring, with the bundle's vocabulary."""

    bundle: Bundle
    graph: str  # the file of the bundle that is open
    vocabulary: tuple[str, ...]  # [N] item of id i is vocabulary[i - 1]
    ids: dict[str, int]
    scorer: GraphScorer

    @classmethod
    def open(cls, store: Store, release_id: str, *, graph: str | None = None, threads: int = 1) -> "Ranker":
        """Verify a bundle and open a graph of it.

        Args:
            store: The line's part of the store.
            release_id: Which bundle.
            graph: Which of its graphs; None: the one that it serves.
            threads: CPU threads that one request may use.

        Raises:
            NoRelease: There is no such bundle.
            BadBundle: Its bytes, its vocabulary or its graph are not what the manifest says.
        """
        return cls.of(*read_bundle(store, release_id), graph=graph, threads=threads)

    @classmethod
    def of(cls, bundle: Bundle, files: Mapping[str, bytes], *, graph: str | None = None, threads: int = 1) -> "Ranker":
        """Open a graph of a bundle that has been read and verified.

        Args:
            bundle: Which bundle.
            files: The bytes of its files.
            graph: Which of its graphs; None: the one that it serves.
            threads: CPU threads that one request may use.

        Raises:
            BadBundle: Its vocabulary or its graph are not what the manifest says.
        """
        graph = bundle.serves if graph is None else graph
        if graph not in files:
            raise BadBundle(f"{bundle.release_id} must have {graph} to open it, but has {sorted(files)}.", file=graph)
        vocabulary = _vocabulary(files[VOCABULARY], bundle)
        return cls(
            bundle=bundle,
            graph=graph,
            vocabulary=vocabulary,
            ids={item: at for at, item in enumerate(vocabulary, start=1)},
            scorer=GraphScorer(_session(files[graph], bundle, graph, threads), bundle.history_length),
        )

    def recommend(self, history: Sequence[str], k: int = 10) -> Recommended:
        """Give the items that a user is most likely to take next, best first, none that is in the history.

        Args:
            history: Items, oldest first; those that the vocabulary does not know are passed over, and none is a user of
                whom nothing is known.
            k: How many items to give; fewer where the catalogue has no more left.

        Raises:
            ValueError: k is less than 1.
        """
        return self.recommend_batch([history], k)[0]

    def recommend_batch(self, histories: Sequence[Sequence[str]], k: int = 10) -> list[Recommended]:
        """Do what `recommend` does for several users, whose histories are scored at once.

        Raises:
            ValueError: k is less than 1.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1 but got {k}.")
        if not histories:
            return []
        known = [np.fromiter(filter(None, map(self.ids.get, history)), np.int64) for history in histories]
        scores = self.scorer(_newest(known, self.scorer.history_length))  # [B, N + 1]
        scores[:, 0] = -np.inf
        for row, seen in zip(scores, known, strict=True):
            row[seen] = -np.inf
        best = top_k(scores, k)  # [B, k]
        theirs = scores[np.arange(len(best))[:, None], best]  # [B, k]
        return [self._named(ids, given) for ids, given in zip(best.tolist(), theirs.tolist(), strict=True)]

    def _named(self, ids: list[int], scores: list[float]) -> Recommended:
        """Name the items of one user's list, which ends in 0 where nothing was left."""
        items = [self.vocabulary[at - 1] for at in ids if at]
        return Recommended(release_id=self.bundle.release_id, items=items, scores=scores[: len(items)])


@dataclass(frozen=True, slots=True)
class Translated:
    """Scores the catalogue of a dataset with a ranker that was made from another one, item by item of the same name.

    Items of the dataset that the ranker does not know it cannot recommend: they score below all others.

    An int8 graph may scale its activations by the largest of all that are scored at once, so that a history's scores
    depend on its neighbours. What is to be judged as it serves is scored in requests as large as those that it serves.
    """

    ranker: Ranker
    own_ids: NDArray[np.int64]  # [N + 1] the ranker's id of each of the dataset's, 0 where it knows none
    at_once: int | None = None  # histories that the graph scores at once; None: as many as there are

    @classmethod
    def into(cls, ranker: Ranker, vocabulary: Sequence[str], *, at_once: int | None = None) -> "Translated":
        """Let `ranker` answer in the ids of `vocabulary`."""
        own_ids = np.array([0, *(ranker.ids.get(item, 0) for item in vocabulary)], np.int64)
        return cls(ranker, own_ids, at_once)

    @property
    def history_length(self) -> int:
        """How many items of history are read so that the graph's own length can be filled with known ones."""
        return LONGER * self.ranker.scorer.history_length

    def own_histories(self, history: NDArray[np.int64]) -> NDArray[np.int64]:
        """Give what the graph reads of histories in the dataset's ids. Shapes [B, LONGER x L] to [B, L]."""
        return last_known(self.own_ids[history], self.ranker.scorer.history_length)

    def __call__(self, history: NDArray[np.int64]) -> NDArray[np.float32]:
        """Score the dataset's catalogue. Shapes [B, LONGER x L] to [B, N + 1]."""
        own = self.own_histories(history)
        each = range(0, max(len(own), 1), self.at_once or max(len(own), 1))
        scores = np.concatenate([self.ranker.scorer(own[at : at + each.step]) for at in each])[:, self.own_ids]
        scores[:, self.own_ids == 0] = LOWEST
        return scores


def last_known(history: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Give the last `length` items of each row that are not 0, in their order, padded on the left with 0.

    >>> last_known(np.array([[7, 0, 8, 0, 9]]), length=2)
    array([[8, 9]])
    >>> last_known(np.array([[7, 0, 0]]), length=2)
    array([[0, 7]])
    """
    order = np.argsort(history > 0, axis=1, kind="stable")  # zeros to the left, all else as it was
    packed = np.take_along_axis(history, order, 1)[:, -length:]
    return np.pad(packed, ((0, 0), (length - packed.shape[1], 0)))


def _newest(known: Sequence[NDArray[np.int64]], length: int) -> NDArray[np.int64]:
    """Lay the last `length` ids of each history out, padded on the left with 0. Shape [B, L]."""
    rows = np.zeros((len(known), length), np.int64)
    for row, ids in zip(rows, known, strict=True):
        newest = ids[-length:]
        row[length - len(newest) :] = newest
    return rows


def _vocabulary(body: bytes, bundle: Bundle) -> tuple[str, ...]:
    items = json.loads(body)
    if len(items) != bundle.n_items or len(set(items)) < len(items):
        raise BadBundle(
            f"{VOCABULARY} of {bundle.release_id} must name {bundle.n_items} different items, "
            f"but names {len(set(items))} in {len(items)} places.",
            file=VOCABULARY,
        )
    return tuple(items)


def _session(graph: bytes, bundle: Bundle, name: str, threads: int) -> ort.InferenceSession:
    try:
        opened = session(graph, threads=threads)
    except Exception as error:  # the runtime's errors have no common class of their own
        raise BadBundle(f"{name} of {bundle.release_id} must be a graph that runs: {error}", file=name) from error
    shapes = opened.get_inputs()[0].shape[1:], opened.get_outputs()[0].shape[1:]
    expected = [bundle.history_length], [bundle.n_items + 1]
    if shapes != expected:
        raise BadBundle(
            f"{name} of {bundle.release_id} must read histories and give scores of the shapes {expected} after the "
            f"batch, but has {shapes}.",
            file=name,
        )
    return opened
