"""Hold a comparison against what the ledger says was measured, so that one that was edited since is not believed."""

import hashlib
import logging

from pydantic import JsonValue

from recsys import ledger
from recsys.bundles import key
from recsys.errors import BadObject, NotFound
from recsys.records import Comparison, dump, load, parse, to_json
from recsys.store import Store

log = logging.getLogger(__name__)

SHA256 = "sha256"
"""The key of the ledger's entry *measured* under which the SHA-256 of the comparison stands."""


def sha256(comparison: Comparison) -> str:
    """Hash a comparison as it is written to the store."""
    return hashlib.sha256(to_json(comparison)).hexdigest()


def entry_id(release_id: str, name: str) -> str:
    """Name the entry of the ledger that tells of a measurement."""
    return f"measured-{release_id}-{name}"


def find(store: Store, release_id: str, name: str) -> Comparison | None:
    """Give what has been measured already, as the ledger vouches for it; None: nothing has.

    A comparison whose file is gone is put back from the ledger, so that nobody measures again until a draw is lucky.
    One that the ledger does not know was written by a measurement that died before it told the ledger.

    Args:
        store: The line's part of the store.
        release_id: The candidate.
        name: Of the comparison: incumbent and settings.

    Raises:
        BadObject: The file cannot be read, or was changed since the ledger was told.
    """
    at = key(release_id, f"comparisons/{name}.json")
    told = [each for each in ledger.read(store, what="measured") if each.id == entry_id(release_id, name)]
    expected = str(told[0].evidence.get(SHA256, "")) if told else ""  # older versions told none
    try:
        body = store.get(at).body
    except NotFound:
        if not expected:
            return None
        comparison = load(Comparison, told[0].evidence)
        _require(at, sha256(comparison), expected)
        log.warning("%s was gone, and is put back from the ledger.", at)
        store.put(at, to_json(comparison))
        return comparison
    if expected:
        _require(at, hashlib.sha256(body).hexdigest(), expected)
    return parse(Comparison, at, body)


def require(store: Store, comparison: Comparison) -> None:
    """Refuse a comparison that is not one of those which the ledger says were measured of its pair.

    Raises:
        BadObject: The ledger has the SHA-256 of other comparisons of the pair only.
    """
    pair = comparison.candidate.release_id, comparison.incumbent.release_id
    told = known(store, *pair)
    if told and sha256(comparison) not in told:
        _require(f"The comparison of {pair[0]} with {pair[1]}", sha256(comparison), " or ".join(told))


def known(store: Store, candidate: str, incumbent: str) -> list[str]:
    """Give the SHA-256 of each comparison of a pair that the ledger says was measured, oldest first."""
    return [
        str(each.evidence[SHA256])
        for each in ledger.read(store, what="measured")
        if SHA256 in each.evidence and (_named(each, "candidate"), _named(each, "incumbent")) == (candidate, incumbent)
    ]


def evidence(comparison: Comparison) -> dict[str, JsonValue]:
    """Give what the ledger is told of a measurement: all of it, and its SHA-256."""
    return {**dump(comparison), SHA256: sha256(comparison)}


def _named(entry: ledger.Entry, role: str) -> str:
    card = entry.evidence[role]
    assert isinstance(card, dict)  # its writer has put it there
    return str(card["release_id"])


def _require(what: str, found: str, expected: str) -> None:
    if found != expected:
        reason = f"must have the SHA-256 {expected}, which the ledger has of what was measured, but has {found}"
        raise BadObject(
            f"{what} {reason}: it was changed since. Delete that file, and the next `retune promote` puts back what "
            "was measured.",
            key=what,
            reason=reason,
        )
