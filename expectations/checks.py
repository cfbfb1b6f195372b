"""Judge a batch by its line's contract: refuse rows, refuse the batch, or let it through with warnings."""

import json
import logging
from collections.abc import Sequence
from typing import Any, NoReturn

import great_expectations as gx
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from great_expectations.data_context.types.base import (
    DataContextConfig,
    InMemoryStoreBackendDefaults,
    ProgressBarsConfig,
)
from numpy.typing import NDArray

from expectations import suite
from recsys import parquet, receipts, table
from recsys.columns import ITEM
from recsys.engine import engine
from recsys.errors import NoFeedback, RefusedBatch, Unjudged
from recsys.feedback import SOURCE
from recsys.records import Batch, CheckedBatch, Finding, Refusal
from recsys.settings import Line
from recsys.store import Store

log = logging.getLogger(__name__)

REASONS = "_reasons"
"""Column of quarantined rows: the descriptions of what the row broke."""

_NAMED_OBJECTS = 3


def check(line: Line, store: Store, batch: Batch) -> CheckedBatch:
    """Put the rows that break the line's contract into quarantine and pass the others on.

    What Great Expectations found is kept at `checks/<batch_id>.json`.

    Args:
        line: Holds the contract.
        store: The line's part of the store.
        batch: What was pulled.

    Raises:
        NoFeedback: The batch has been committed already.
        RefusedBatch: More than `max_bad_row_share` of the rows are bad, or the rest together breaks a critical
            expectation. All rows are in quarantine then, and the objects have their receipts.
        Unjudged: Great Expectations itself failed. Nothing is settled then, and the batch may be checked again.
    """
    _refuse_settled(store, batch)
    events = parquet.unpack(store.get(batch.events_key).body)
    one_by_one = _validate(events.drop_columns([SOURCE]), suite.rows(line.feedback, batch.as_of))
    broken = _broken(one_by_one)
    bad = np.isin(np.arange(len(events)), np.concatenate([*broken.values(), np.array([], np.int64)]))
    good = events.drop_columns([SOURCE]).filter(pa.array(~bad))
    together = _validate_together(line, store, batch, good)
    findings = _findings(one_by_one) + _findings(together)
    _keep_evidence(store, batch, one_by_one, together)
    for finding in findings:
        log.warning("batch %s: %s: %s", batch.batch_id, finding.severity, _sentence(finding))
    reasons = _reasons_to_refuse_all(line, bad, findings)
    if reasons:
        _refuse(store, batch, events, reasons, broken)
    refused = batch.refused
    if bad.any():
        why = [_sentence(finding) for finding in findings if finding.rows]
        refused += (_quarantine(store, batch, events, bad, why, broken),)
    accepted_key = batch.events_key.replace("-events.", "-accepted.")
    store.put(accepted_key, parquet.pack(good))
    log.info("batch %s: %d rows accepted, %d refused", batch.batch_id, len(good), bad.sum())
    return CheckedBatch(
        batch=batch, accepted_key=accepted_key, accepted_rows=len(good), refused=refused, findings=tuple(findings)
    )


def _validate_together(line: Line, store: Store, batch: Batch, good: pa.Table) -> dict[str, Any]:
    committed = table.events(store)
    known = pa.array([], pa.string())
    if committed is not None:
        with engine() as con:
            con.register("known", committed)
            known = con.table("known").project(ITEM).distinct().to_arrow_table()[ITEM]
    unknown = pc.invert(pc.is_in(good[ITEM], value_set=known)).cast(pa.int64())
    return _validate(
        good.append_column(suite.UNKNOWN, unknown),
        suite.batch(line.feedback, batch.as_of, items_known=len(known) > 0),
    )


def _validate(events: pa.Table, contract: gx.ExpectationSuite) -> dict[str, Any]:
    """Judge `events` and give Great Expectations' own result, in JSON's types.

    Raises:
        Unjudged: An expectation could not be put to them.
    """
    context = gx.get_context(
        mode="ephemeral",
        project_config=DataContextConfig(
            store_backend_defaults=InMemoryStoreBackendDefaults(),  # the default leaves a temporary folder behind
            analytics_enabled=False,
            progress_bars=ProgressBarsConfig(globally=False),
        ),
    )
    frame = events.to_pandas(types_mapper=pd.ArrowDtype)  # a quarter of the memory of pandas' own types
    whole = context.data_sources.add_pandas("staged").add_dataframe_asset("events")
    result = (
        whole.add_batch_definition_whole_dataframe("batch")
        .get_batch({"dataframe": frame})
        .validate(
            context.suites.add(contract),
            result_format={
                "result_format": "COMPLETE",  # every row that breaks an expectation, by its number
                "exclude_unexpected_values": True,
                "return_unexpected_index_query": False,
            },
        )
    )
    found: dict[str, Any] = result.to_json_dict()  # type: ignore[no-untyped-call]
    for one in found["results"]:
        _raise_its_failure(one)
    return found


def _raise_its_failure(one: dict[str, Any]) -> None:
    """Raise where an expectation says nothing of the data, as a metric that it needs could not be computed."""
    told = one["exception_info"]  # of the expectation itself, or of each metric by its id
    failures = [info for info in (told, *told.values()) if isinstance(info, dict) and info.get("raised_exception")]
    if failures:
        expectation = one["expectation_config"]["description"]
        cause = str(failures[0]["exception_message"]).rstrip(".")
        raise Unjudged(
            f"Whether {expectation!r} holds could not be found out: {cause}.", expectation=expectation, cause=cause
        )


def _broken(result: dict[str, Any]) -> dict[str, NDArray[np.int64]]:
    """Give the numbers of the rows that break an expectation, by its description."""
    return {
        one["expectation_config"]["description"]: np.array(one["result"]["unexpected_index_list"], np.int64)
        for one in result["results"]
        if not one["success"] and one["result"].get("unexpected_index_list")
    }


def _findings(result: dict[str, Any]) -> list[Finding]:
    found = []
    for one in result["results"]:
        if one["success"]:
            continue
        expectation, judged = one["expectation_config"], one["result"]
        rows = judged.get("unexpected_count", 0)
        observed = (
            f"{rows} of {judged['element_count']} rows break it" if rows else f"found {judged.get('observed_value')}"
        )
        found.append(
            Finding(
                expectation=expectation["description"],
                column=expectation["kwargs"].get("column"),
                severity=expectation["severity"],
                observed=observed,
                rows=rows,
            )
        )
    return found


def _sentence(finding: Finding) -> str:
    return f"{finding.expectation}: {finding.observed}"


def _reasons_to_refuse_all(line: Line, bad: NDArray[np.bool_], findings: Sequence[Finding]) -> list[str]:
    reasons = [_sentence(f) for f in findings if f.severity == "critical" and not f.rows]
    share, limit = float(bad.mean()), line.feedback.max_bad_row_share
    if share > limit:
        reasons.append(f"a share of {share:.3g} of the rows is bad, over feedback.max_bad_row_share = {limit:.15g}")
        reasons += [_sentence(f) for f in findings if f.rows]
    return reasons


def _refuse_settled(store: Store, batch: Batch) -> None:
    """Say again what became of a batch whose first object has its receipt: its staged rows may be gone."""
    receipt = receipts.receipt(store, batch.objects[0])
    if receipt is None or receipt.batch_id != batch.batch_id:
        return
    if receipt.outcome == "committed":
        raise NoFeedback(f"Batch {batch.batch_id} has been committed already.")
    _settle(store, batch, receipt.refused)


def _refuse(
    store: Store, batch: Batch, events: pa.Table, reasons: Sequence[str], broken: dict[str, NDArray[np.int64]]
) -> NoReturn:
    _settle(store, batch, [_quarantine(store, batch, events, np.ones(len(events), bool), reasons, broken)])


def _settle(store: Store, batch: Batch, refused: Sequence[Refusal]) -> NoReturn:
    """Make the refusal of a batch final, also where a run before this one died halfway through it."""
    receipts.settle(store, batch.objects, "refused", batch_id=batch.batch_id, refused=refused, as_of=batch.as_of)
    store.delete(batch.events_key)
    reasons = tuple(reason for refusal in refused for reason in refusal.reasons)
    message = f"Batch {batch.batch_id} of {batch.rows} rows is refused: {'; '.join(reasons)}."
    raise RefusedBatch(message, batch_id=batch.batch_id, reasons=reasons)


def _quarantine(
    store: Store,
    batch: Batch,
    events: pa.Table,
    refused: NDArray[np.bool_],
    reasons: Sequence[str],
    broken: dict[str, NDArray[np.int64]],
) -> Refusal:
    """Keep the refused rows, each with the object that it came from and what it broke."""
    kept_at = receipts.quarantine_key(batch.batch_id, "rows.parquet", batch.as_of)
    rows = events.append_column(REASONS, _reasons_by_row(len(events), broken)).filter(pa.array(refused))
    store.put(kept_at, parquet.pack(rows))
    refusal = Refusal(
        source=batch.batch_id,
        kept_at=kept_at,
        reasons=tuple(reasons),
        rows=len(rows),
        brought_by=_named(sorted(pc.unique(rows[SOURCE]).to_pylist())),
    )
    receipts.explain(store, refusal)
    return refusal


def _named(keys: Sequence[str]) -> str:
    """Name objects so that a batch of thousands still makes one short line."""
    more = len(keys) - _NAMED_OBJECTS
    return ", ".join(keys[:_NAMED_OBJECTS]) + (f" and {more} more" if more > 0 else "")


def _reasons_by_row(n_rows: int, broken: dict[str, NDArray[np.int64]]) -> pa.Array:
    """List the descriptions of what each row broke. Shape [n_rows]."""
    rows = np.concatenate([*broken.values(), np.array([], np.int64)])
    which = np.repeat(np.arange(len(broken)), [len(numbers) for numbers in broken.values()])
    order = np.argsort(rows, kind="stable")
    offsets = np.searchsorted(rows[order], np.arange(n_rows + 1))
    return pa.ListArray.from_arrays(
        pa.array(offsets, pa.int32()), pa.array(list(broken), pa.string()).take(pa.array(which[order]))
    )


def _keep_evidence(store: Store, batch: Batch, one_by_one: dict[str, Any], together: dict[str, Any]) -> None:
    """Keep the results without the numbers of all broken rows, which quarantine tells better."""
    for one in one_by_one["results"] + together["results"]:
        one["result"].pop("unexpected_index_list", None)
    body = json.dumps({"batch_id": batch.batch_id, "rows": one_by_one, "batch": together}, indent=1)
    store.put(f"checks/{batch.batch_id}.json", body.encode())
