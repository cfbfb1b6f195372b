"""Follow a release to its manifest, and hold every file against it."""

import hashlib
from collections.abc import Iterator, Sequence

from recsys.bundles import MANIFEST, find_bundle, key
from recsys.errors import BadBundle, NoRelease, NotFound
from recsys.records import Bundle, load
from recsys.store import Store
from retune.why.links import File, Link
from retune.why.past import Past


def read_manifest(past: Past, release_id: str) -> tuple[Bundle, tuple[str, ...]]:
    """Give what the manifest says, or else what the ledger does, and what is wrong with the manifest."""
    told = past.told("packaged", release_id=release_id)
    try:
        found = find_bundle(past.store, release_id)
    except (NoRelease, BadBundle) as error:
        if not told:
            raise
        return load(Bundle, told[-1].evidence), (str(error),)
    if told and load(Bundle, told[-1].evidence).files != found.files:
        return found, (f"{MANIFEST} has other files than the ledger's entry “packaged”",)
    return found, ()


def hash_files(store: Store, bundle: Bundle) -> Iterator[File]:
    """Hash each file that the manifest names."""
    for name, ref in sorted(bundle.files.items()):
        try:
            found = hashlib.sha256(store.get(key(bundle.release_id, name)).body).hexdigest()
        except NotFound:
            found = ""
        yield File(name=name, size_bytes=ref.size_bytes, sha256=ref.sha256, found=found)


def follow_packaging(past: Past, bundle: Bundle, wrong: tuple[str, ...], files: Sequence[File]) -> Link:
    """Say which graph serves and why, and which files are others."""
    told = past.told("packaged", release_id=bundle.release_id)
    for file in files:
        if not file.right:
            has = f"has {file.found}" if file.found else "is gone"
            wrong += (f"{file.name} must have the SHA-256 {file.sha256}, but {has}",)
    return Link(
        what="bundle",
        who=bundle.by,
        at=told[0].at if told else None,
        says=f"{bundle.release_id} serves {bundle.serves}. {bundle.serves_because}",
        ids={"release_id": bundle.release_id, "serves": bundle.serves},
        wrong=(*wrong, *past.untold("packaged", told)),
    )
