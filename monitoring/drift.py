"""Judge whether the newest feedback still looks like what the incumbent was made from."""

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import replace

from pydantic import JsonValue

from recsys import channel, holdout, ledger
from recsys import dataset as datasets
from recsys.bundles import find_bundle
from recsys.errors import NoRelease, NotFound
from recsys.records import ColumnDrift, Dataset, DriftVerdict, parse, to_json
from recsys.settings import Drift, Line
from recsys.store import Store

log = logging.getLogger(__name__)

NAMED = 4  # columns that a sentence names at most


def judge(line: Line, store: Store, dataset: Dataset) -> DriftVerdict:
    """Compare the newest window of `dataset` with that of the dataset the incumbent was made from.

    The verdict, Evidently's report and its numbers lie under `drift/<dataset_id>/<release_id>/<settings>/`, the last a
    hash of what the line says about drift. To judge the same dataset against the same incumbent by the same settings
    again gives the verdict that lies there.

    Args:
        line: Says which columns there are, and how far they may move.
        store: The line's part of the store.
        dataset: What is judged.

    Returns:
        The verdict; its `report_key` is empty where nothing had to be computed.

    Raises:
        NoRelease: The channel is empty.
        NoFeedback: The dataset that the incumbent was made from is gone.
        BadBundle: The incumbent's bytes are not what its manifest says.
        BadObject: The earlier verdict or a file of the dataset cannot be read.
    """
    named = channel.current(store)
    if named is None:
        raise NoRelease("There must be an incumbent to compare with, but the channel names no release.")
    settings = _settings(line)
    folder = f"drift/{dataset.dataset_id}/{named.release_id}/{settings}"
    if (earlier := _read(store, f"{folder}/verdict.json")) is not None:
        return earlier
    incumbent = find_bundle(store, named.release_id)
    same = DriftVerdict(
        dataset_id=dataset.dataset_id,
        release_id=incumbent.release_id,
        reference_id=incumbent.dataset_id,
        drifted=False,
        columns=(),
        because="The incumbent was made from this very dataset.",
        report_key="",
        as_of=dataset.as_of,
    )
    verdict = same if incumbent.dataset_id == dataset.dataset_id else _compare(line, store, dataset, same, folder)
    distances: dict[str, JsonValue] = {column.column: round(column.distance, 6) for column in verdict.columns}
    ledger.append(
        store,
        ledger.Entry(
            what="judged",
            who="drift",
            why=verdict.because,
            evidence={
                "dataset_id": verdict.dataset_id,
                "release_id": verdict.release_id,
                "reference_id": verdict.reference_id,
                "drifted": verdict.drifted,
                "distances": distances,
                "report_key": verdict.report_key,
            },
            id=f"judged-{verdict.dataset_id}-{verdict.release_id}-{settings}",
        ),
    )
    store.put(f"{folder}/verdict.json", to_json(verdict))
    log.info("dataset %s, drifted %s: %s", dataset.dataset_id, verdict.drifted, verdict.because)
    return verdict


def conclude(columns: Sequence[ColumnDrift], drift: Drift) -> tuple[bool, str]:
    """Say whether so many columns have moved that the line has drifted, and why in one sentence.

    >>> far = ColumnDrift(column="age", method="psi", distance=0.5, threshold=0.1)
    >>> near = ColumnDrift(column="device", method="psi", distance=0.01, threshold=0.1)
    >>> conclude([far, near], Drift(max_share=0.3))
    (True, '1 of 2 columns moved, more than drift.max_share = 0.3 allows: age by PSI 0.500, over 0.100.')
    >>> conclude([near], Drift())[1]
    '0 of 1 columns moved, within drift.max_share = 0.3: the farthest is device by PSI 0.010, within 0.100.'
    """
    farthest = sorted(columns, key=lambda column: column.distance / column.threshold, reverse=True)
    moved = [column for column in farthest if column.drifted]
    drifted = len(moved) > drift.max_share * len(columns)
    says = (
        f"more than drift.max_share = {drift.max_share:g} allows"
        if drifted
        else (f"within drift.max_share = {drift.max_share:g}")
    )
    named = [f"{c.column} by PSI {c.distance:.3f}, over {c.threshold:.3f}" for c in moved[:NAMED]]
    if len(moved) > NAMED:
        named.append(f"and {len(moved) - NAMED} more")
    if not moved:
        named = [f"the farthest is {c.column} by PSI {c.distance:.3f}, within {c.threshold:.3f}" for c in farthest[:1]]
    return drifted, f"{len(moved)} of {len(columns)} columns moved, {says}: {'; '.join(named)}."


def _settings(line: Line) -> str:
    """Hash what of the line decides about a verdict."""
    settings = line.model_dump(mode="json", include={"drift": True, "feedback": {"columns"}, "search": {"seed"}})
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def _compare(line: Line, store: Store, dataset: Dataset, nothing: DriftVerdict, folder: str) -> DriftVerdict:
    """Judge two different datasets, on top of the verdict that there is `nothing` to see."""
    reference = datasets.dataset(store, nothing.reference_id)
    for which, window in (("newest", dataset), ("reference", reference)):
        if (n := len(holdout.window_events(store, window))) < line.drift.min_events:
            because = f"The {which} window holds {n} events, fewer than drift.min_events = {line.drift.min_events}."
            return replace(nothing, because=because)

    from monitoring import columns, distance, windows  # what was said above needs no graph and no statistics
    from recsys.ranker import Ranker

    incumbent = Ranker.open(store, nothing.release_id)
    compared = columns.compare(
        line.feedback.columns,
        windows.read(store, reference, incumbent, seed=line.search.seed),
        windows.read(store, dataset, incumbent, seed=line.search.seed),
        top_items=line.drift.top_items,
    )
    found, report = distance.measure(compared, max_psi=line.drift.max_psi)
    store.put(f"{folder}/report.json", report.json().encode())
    store.put(f"{folder}/report.html", report.get_html_str(as_iframe=False).encode())
    drifted, because = conclude(found, line.drift)
    return replace(nothing, drifted=drifted, columns=found, because=because, report_key=f"{folder}/report.html")


def _read(store: Store, key: str) -> DriftVerdict | None:
    try:
        return parse(DriftVerdict, key, store.get(key).body)
    except NotFound:
        return None
