"""Put back what a bundle has lost: its manifest from the ledger, its files from what its candidate gives again."""

import logging
from collections.abc import Mapping

from recsys import golden, ledger
from recsys.bundles import FP32, GOLDEN, INT8, MANIFEST, damaged, find_bundle, key, refer
from recsys.errors import BadBundle, NoRelease
from recsys.quantize import quantisations
from recsys.records import Bundle, load, to_json
from recsys.sequences import Cases
from recsys.store import Store

log = logging.getLogger(__name__)


def find(store: Store, release_id: str) -> Bundle:
    """Read a bundle's manifest; one that is gone or broken is put back first, as the ledger has it.

    Raises:
        NoRelease: There is no such bundle, and the ledger knows of none.
        BadBundle: The manifest does not describe a bundle of this name, and the ledger knows of none.
    """
    try:
        return find_bundle(store, release_id)
    except (NoRelease, BadBundle):
        told = [each.evidence for each in ledger.read(store, what="packaged") if each.id == f"packaged-{release_id}"]
        if not told:
            raise
        log.warning("%s of %s was gone or broken, and is put back from the ledger.", MANIFEST, release_id)
        store.put(key(release_id, MANIFEST), to_json(load(Bundle, told[0])))
        return find_bundle(store, release_id)


def restore(store: Store, bundle: Bundle, bodies: Mapping[str, bytes], cases: Cases) -> list[str]:
    """Put back the files of a bundle that are missing or have other bytes than its manifest says.

    Args:
        store: The line's part of the store.
        bundle: What was packaged.
        bodies: Its files, made again, but for int8 and golden requests, which are made of these here.
        cases: Whose histories golden requests ask.

    Returns:
        The names of the files that were put back.

    Raises:
        BadBundle: One cannot be made again with the bytes of the manifest; the others are put back.
    """
    wrong = damaged(store, bundle)
    if not wrong:
        return []
    made = dict(bodies)
    if INT8 in bundle.files:
        found = (graph for graph in quantisations(made[FP32]).values() if refer(graph) == bundle.files[INT8])
        made[INT8] = next(found, b"")
    if GOLDEN in wrong and (INT8 not in made or made[INT8]):
        made |= golden.added(bundle, made, cases)[1]
    lost = [name for name in wrong if refer(made.get(name, b"")) != bundle.files[name]]
    for name in wrong:
        if name not in lost:
            store.put(key(bundle.release_id, name), made[name])
            log.warning("%s of %s had not the bytes of its manifest, and was put back.", name, bundle.release_id)
    if lost:
        raise BadBundle(
            f"{' and '.join(lost)} of {bundle.release_id} must have the bytes of the manifest, but what lies in the "
            "store has not, and neither has what is made of the candidate here; bring it back from a copy of the "
            f"store, as {store.url}/{key(bundle.release_id, lost[0])}.",
            file=lost[0],
        )
    return wrong
