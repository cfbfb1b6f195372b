"""Look whether a bundle is sound before anything is measured of it, by named checks that cost no look at a holdout."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from recsys import embeddings, golden, operators
from recsys.bundles import (
    GOLDEN,
    VOCABULARY,
    WEIGHTS,
    find_bundle,
    read_files,
    refuse_external_data,
)
from recsys.dataset import Frozen
from recsys.errors import BadBundle, BadObject
from recsys.models import FAMILIES
from recsys.ranker import Ranker
from recsys.records import Bundle, Check, Outcome
from recsys.sequences import Cases
from recsys.store import Store

PROBED = 256  # real histories, from before the holdout, that are scored
DEAD = 0.01  # share of the items that a model which learns may know nothing of
_BATCH = 64  # histories that are scored at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspected:
    """What was found of a bundle, and the bundle where it can be read."""

    checks: tuple[Check, ...]
    bundle: Bundle | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def sound(self) -> bool:
        """Whether it may be measured."""
        return all(check.outcome is Outcome.PASS for check in self.checks)


Finding = tuple[str, Mapping[str, float]]
"""What is sound, in a sentence, and numbers to show."""


def inspect(store: Store, release_id: str, frozen: Frozen, *, threads: int = 1) -> Inspected:
    """Read a bundle and look whether it is sound.

    Args:
        store: The line's part of the store.
        release_id: Which bundle.
        frozen: What a search may see of the dataset that the bundle says it was made from.
        threads: CPU threads that one request may use.

    Returns:
        A check for each thing that was looked at, which are all where nothing fails. Each failed one names the file,
        what must hold and what was found.

    Raises:
        NoRelease: There is no such bundle.
    """
    try:
        bundle = find_bundle(store, release_id)
        files = read_files(store, bundle)
    except BadBundle as error:
        return Inspected(checks=(_check("bytes", _raising(error)),))
    total = sum(map(len, files.values()))
    graphs = _check("graphs", lambda: _graphs(files))
    opened = _names(files) if graphs.outcome is Outcome.PASS else []  # no other may be opened
    checks = [
        _check("bytes", lambda: (f"All {len(files)} files have the bytes of the manifest.", {"bytes": total})),
        graphs,
        _check("vocabulary", lambda: _vocabulary(bundle, files, frozen, opened)),
        _check("embeddings", lambda: _embeddings(bundle, files)),
    ]
    if all(check.outcome is Outcome.PASS for check in checks):
        checks.append(_check("scores", lambda: _scores(bundle, files, frozen, threads)))
        checks.append(_check("golden", lambda: _golden(bundle, files, threads)))
    return Inspected(checks=tuple(checks), bundle=bundle, files=files)


def _check(name: str, look: Callable[[], Finding]) -> Check:
    """Turn what a look found, or refused, into a check."""
    try:
        because, evidence = look()
    except (BadBundle, BadObject) as error:
        return Check(name=f"sanity: {name}", outcome=Outcome.FAIL, because=str(error))
    return Check(name=f"sanity: {name}", outcome=Outcome.PASS, because=because, evidence=evidence)


def _raising(error: BadBundle) -> Callable[[], Finding]:
    def look() -> Finding:
        raise error

    return look


def _graphs(files: Mapping[str, bytes]) -> Finding:
    """Every graph is valid, whole, and made of what this runtime has."""
    graphs = _names(files)
    evidence: dict[str, float] = {}
    for name in graphs:
        refuse_external_data(files[name], name=name)
        evidence |= {
            f"{said} of {name}": value for said, value in operators.refuse_unknown(files[name], name=name).items()
        }
    holds = "hold all of their data" if len(graphs) > 1 else "holds all of its data"
    return f"{' and '.join(graphs)} {holds} and only operators that this runtime has.", evidence


def _names(files: Mapping[str, bytes]) -> list[str]:
    return [name for name in files if name.endswith(".onnx")]


def _vocabulary(bundle: Bundle, files: Mapping[str, bytes], frozen: Frozen, graphs: Sequence[str]) -> Finding:
    """Graph, manifest, vocabulary and dataset speak of the same items in the same order."""
    whose = f"{VOCABULARY} of {bundle.release_id}"
    items = _listed(files.get(VOCABULARY, b""), whose)
    if twice := len(items) - len(set(items)):
        first = next(item for at, item in enumerate(items) if item in items[:at])
        raise BadBundle(
            f"{whose} must name each item once, but names {twice} again, such as {first!r}.", file=VOCABULARY
        )
    if len(items) != bundle.n_items:
        raise BadBundle(
            f"{whose} must name the {bundle.n_items} items of the manifest, but names {len(items)}.", file=VOCABULARY
        )
    if tuple(items) != frozen.vocabulary:
        raise BadBundle(
            f"{whose} must be that of dataset {bundle.dataset_id}, {_unlike(items, frozen)}.", file=VOCABULARY
        )
    for name in graphs:
        Ranker.of(bundle, files, graph=name)
    return f"Manifest, graphs and dataset {bundle.dataset_id} have the same {len(items)} items.", {"items": len(items)}


def _listed(body: bytes, whose: str) -> list[str]:
    try:
        items = json.loads(body)
    except ValueError as error:
        raise BadBundle(f"{whose} must be JSON, but: {error}.", file=VOCABULARY) from error
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise BadBundle(f"{whose} must be a list of names, but is {items!r:.80}.", file=VOCABULARY)
    return items


def _unlike(items: list[str], frozen: Frozen) -> str:
    """Say how two vocabularies differ."""
    if strangers := set(items) ^ set(frozen.vocabulary):
        return f"but {len(strangers)} items are in one and not in the other, such as {min(strangers)!r}"
    at = next(at for at, item in enumerate(items) if item != frozen.vocabulary[at])
    return f"but its order is another: id {at + 1} is {items[at]!r} instead of {frozen.vocabulary[at]!r}"


def _embeddings(bundle: Bundle, files: Mapping[str, bytes]) -> Finding:
    """What the model learned of items is something, and not the same, for nearly all of them."""
    tables = embeddings.tables(bundle, files[WEIGHTS]) if WEIGHTS in files else {}
    if not tables:
        return "The model has no table of items to be dead in.", {}
    dead = {name: embeddings.dead(table) for name, table in tables.items()}
    name, most = max(dead.items(), key=lambda each: each[1])
    share = most / max(bundle.n_items, 1)
    said = f"{most} of {bundle.n_items} rows of {name} in {WEIGHTS} are empty or the same as another"
    if share > DEAD:
        raise BadBundle(f"At most {DEAD:.0%} of a table's rows may be dead, but {said}.", file=WEIGHTS)
    return f"{said}, and {DEAD:.0%} may be.", {"dead": most, "share": share, "limit": DEAD}


def _scores(bundle: Bundle, files: Mapping[str, bytes], frozen: Frozen, threads: int) -> Finding:
    """On real histories, and the empty one, scores are numbers that tell items apart."""
    ranker = Ranker.of(bundle, files, threads=threads)
    positions = np.flatnonzero(frozen.before_holdout.times >= frozen.begins[0])
    cases = Cases(sequences=frozen.before_holdout, positions=positions).spread(PROBED)
    real = cases.histories(np.arange(len(cases)), bundle.history_length)
    histories = np.vstack([np.zeros((1, bundle.history_length), np.int64), real])
    scores = np.vstack([ranker.scorer(part)[:, 1:] for part in np.array_split(histories, -(-len(histories) // _BATCH))])
    _refuse_rows(~np.asarray(np.isfinite(scores).all(1)), "must be finite numbers", histories, ranker)
    _refuse_rows(embeddings.constant(scores), "must tell items apart", histories, ranker)
    same = int(embeddings.alike(scores.T).sum())
    share = same / max(bundle.n_items, 1)
    said = f"{same} of {bundle.n_items} items score as another does after every one of {len(histories)} histories"
    family = FAMILIES.get(bundle.family)
    learns = family is not None and family.defaults["epochs"] != 0
    if learns and share > DEAD:
        raise BadBundle(
            f"{bundle.serves} of {bundle.release_id} must tell all but {DEAD:.0%} of the items apart, but {said}.",
            file=bundle.serves,
        )
    allowed = f"and {DEAD:.0%} may" if learns else "which counts may"
    return f"All scores are finite; {said}, {allowed}.", {"histories": len(histories), "alike": same, "share": share}


def _refuse_rows(wrong: NDArray[np.bool_], rule: str, histories: NDArray[np.int64], ranker: Ranker) -> None:
    if not wrong.any():
        return
    first = [ranker.vocabulary[at - 1] for at in histories[np.argmax(wrong)].tolist() if at][-3:]
    raise BadBundle(
        f"Scores of {ranker.graph} of {ranker.bundle.release_id} {rule}, but do not after {int(wrong.sum())} of "
        f"{len(wrong)} histories, the first of which ends in {first}.",
        file=ranker.graph,
    )


def _golden(bundle: Bundle, files: Mapping[str, bytes], threads: int) -> Finding:
    """A fresh process gives the answers that were given when the bundle was packaged."""
    answered = golden.require_elsewhere(bundle, files, threads=threads)
    if not answered:
        return f"The bundle was packaged without {GOLDEN}, so there are no answers to hold it to.", {"requests": 0}
    return (
        f"A process of its own answers all {answered} requests of {GOLDEN} as when the bundle was packaged.",
        {"requests": answered},
    )
