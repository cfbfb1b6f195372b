"""Follow a release back from the bytes that serve to the feedback that they came from, and check every link."""

from dataclasses import dataclass

from recsys import ledger
from recsys.records import Span
from recsys.release import BASELINE
from recsys.store import Store
from retune.why import judgement, origins, packaging, search
from retune.why.links import Batch, File, Link
from retune.why.past import Past

__all__ = ["Batch", "Chain", "File", "Link", "follow"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """All that led to a release, in the order in which it happened."""

    release_id: str
    links: tuple[Link, ...]
    batches: tuple[Batch, ...]  # oldest first
    parts: tuple[Span, ...]  # of the dataset
    files: tuple[File, ...]

    @property
    def wrong(self) -> tuple[str, ...]:
        """What is missing or does not match, along the chain."""
        return tuple(f"{link.what}: {said}" for link in self.links for said in link.wrong)


def follow(store: Store, release_id: str) -> Chain:
    """Follow the chain of a bundle, released or not.

    Args:
        store: The line's part of the store; it is only read.
        release_id: The bundle.

    Raises:
        NoRelease: There is no such bundle, and the ledger knows of none.
        BadObject: The ledger or the channel cannot be read.
    """
    past = Past(store, ledger.read(store))
    bundle, manifest = packaging.read_manifest(past, release_id)
    files = tuple(packaging.hash_files(store, bundle))
    dataset, frozen = origins.read_dataset(past, bundle.dataset_id)
    batches = tuple(origins.find_batches(past, dataset)) if dataset else ()
    packaged = packaging.follow_packaging(past, bundle, manifest, files)
    by_search = not bundle.candidate_id.startswith(BASELINE)
    middle = (*search.follow_search(past, bundle), packaged) if by_search else (search.tell_baseline(bundle), packaged)
    judged = tuple(judgement.follow_judgement(past, bundle)) if by_search else ()
    return Chain(
        release_id=release_id,
        links=(
            *origins.follow_feedback(past, dataset, batches),
            frozen,
            *middle,
            *judged,
            *judgement.follow_moves(past, release_id),
        ),
        batches=batches,
        parts=(dataset.train, *dataset.windows, dataset.holdout) if dataset else (),
        files=files,
    )
