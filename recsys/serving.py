"""Recommend with the release that the channel names, and follow the channel without ever being without a model."""

import logging
from collections.abc import Sequence
from threading import Lock

from recsys import channel, golden
from recsys.bundles import GOLDEN, read_bundle
from recsys.errors import NoRelease
from recsys.ranker import Ranker, Recommended
from recsys.store import Store

log = logging.getLogger(__name__)


class Scorer:
    """Serves one release at a time; `refresh` takes up the next. Threads may share it."""

    def __init__(self, store: Store, ranker: Ranker, *, follows: bool, threads: int) -> None:
        self._store = store
        self._ranker = ranker  # replaced whole, so that a request meets one release or the other
        self._follows = follows
        self._threads = threads
        self._refreshing = Lock()

    @classmethod
    def from_channel(cls, store: Store, *, threads: int = 1) -> "Scorer":
        """Serve what is in production.

        Args:
            store: The line's part of the store.
            threads: CPU threads that one request may use.

        Raises:
            NoRelease: The channel names no release.
            BadBundle: Its bytes are not those of its manifest, or its graph does not answer its golden requests.
        """
        pointer = channel.current(store)
        if pointer is None:
            raise NoRelease(f"{store.url} must have a release in production to serve, but has none.")
        ranker = _opened(store, pointer.release_id, threads)
        return cls(store, ranker, follows=True, threads=threads)

    @classmethod
    def from_release(cls, store: Store, release_id: str, *, threads: int = 1) -> "Scorer":
        """Serve one release whatever the channel names.

        Raises:
            NoRelease: There is no such bundle.
            BadBundle: Its bytes are not those of its manifest, or its graph does not answer its golden requests.
        """
        return cls(store, _opened(store, release_id, threads), follows=False, threads=threads)

    @property
    def release_id(self) -> str:
        """What is served now. Feedback should carry the id that came with its recommendations, not this one."""
        return self._ranker.bundle.release_id

    def recommend(self, history: Sequence[str], k: int = 10) -> Recommended:
        """Give the items that a user is most likely to take next, best first, none that is in the history.

        Args:
            history: Items, oldest first; those that the release does not know are passed over, and none is a user of
                whom nothing is known.
            k: How many items to give; fewer where the catalogue has no more left.

        Returns:
            The items with their scores and the id of the release that chose them, which the feedback on them should
            carry as `release_id`: what is served may have changed before it is written.

        Raises:
            ValueError: k is less than 1.
        """
        return self._ranker.recommend(history, k)

    def recommend_batch(self, histories: Sequence[Sequence[str]], k: int = 10) -> list[Recommended]:
        """Do what `recommend` does for several users at once, all by one release.

        Raises:
            ValueError: k is less than 1.
        """
        return self._ranker.recommend_batch(histories, k)

    def refresh(self) -> bool:
        """Take up what the channel names now; whatever goes wrong, what was served before is served on.

        Returns:
            Whether another release is served from now on.
        """
        if not self._follows:
            return False
        with self._refreshing:
            try:
                pointer = channel.current(self._store)
                if pointer is None or pointer.release_id == self.release_id:
                    return False
                taken_up = _opened(self._store, pointer.release_id, self._threads)
            except Exception:  # whatever it is, who asks for recommendations must not feel it
                log.exception("%s is served on: what the channel names could not be taken up.", self.release_id)
                return False
            log.info("Serving %s instead of %s.", taken_up.bundle.release_id, self.release_id)
            self._ranker = taken_up
            return True


def _opened(store: Store, release_id: str, threads: int) -> Ranker:
    """Open a bundle whose graph answers here as it did when it was packaged."""
    bundle, files = read_bundle(store, release_id)
    ranker = Ranker.of(bundle, files, threads=threads)
    if not golden.require(ranker, files):
        log.info("%s was packaged without %s, so its answers are taken as they are.", release_id, GOLDEN)
    return ranker
