"""Take feedback in and judge it, by hand."""

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from recsys.errors import NoFeedback
from recsys.records import CheckedBatch, Health, TableVersion, dump
from retune import stages
from retune.answers import HELD, counted, show
from retune.commands.options import AsJson, AsOf, By, LineName, moment, site_of, who
from retune.sheet import Sheet


def feedback(
    line: LineName = None,
    *,
    as_of: AsOf = None,
    by: By = "",
    as_json: AsJson = False,
) -> None:
    """Pull, check, commit and freeze what has landed."""
    site = site_of(line)
    try:
        batch = stages.pull(site, as_of=moment(as_of))
    except NoFeedback as nothing:
        if nothing.refused:
            _refused(as_json, nothing)
            raise typer.Exit(HELD) from nothing
        show(as_json, {"outcome": "nothing new", "because": str(nothing)}, str(nothing))
        return
    checked = stages.check(site, batch)
    version = stages.commit(site, checked)
    try:
        dataset = stages.freeze(site, version)
    except NoFeedback as nothing:  # committed, but not yet enough to learn from
        told = {"outcome": "committed", "because": str(nothing), **_taken(checked, version)}
        show(as_json, told, f"{_taken_said(version)}. {nothing}")
        return
    incumbent = stages.baseline(site, dataset, by=who(by))
    show(
        as_json,
        {
            "outcome": "done",
            **_taken(checked, version),
            "dataset": dump(dataset),
            "incumbent": incumbent.release_id,
        },
        f"{_taken_said(version)}, frozen as dataset {dataset.dataset_id}"
        f"{', seen before' if dataset.cache_hit else ''}; the incumbent is {incumbent.release_id}.",
    )


def drift(
    line: LineName = None,
    *,
    dataset: Annotated[str | None, typer.Option(help="The dataset to judge; the newest if left out.")] = None,
    as_json: AsJson = False,
) -> None:
    """Judge whether the newest window has drifted from what the incumbent was made from."""
    site = site_of(line)
    verdict = stages.judge(site, stages.newest_dataset(site, dataset))
    show(
        as_json,
        {"outcome": "drifted" if verdict.drifted else "steady", **dump(verdict)},
        verdict.because,
        Sheet(
            ("column", "method", "distance", "threshold", ""),
            [
                (c.column, c.method, f"{c.distance:.4f}", f"{c.threshold:.4f}", "moved" if c.drifted else "")
                for c in verdict.columns
            ],
        ),
    )


def watch(line: LineName = None, *, by: By = "", as_json: AsJson = False) -> None:
    """Say whether the release in production does worse than the one before; nothing is taken back here."""
    verdict = stages.watch(site_of(line), by=who(by), as_of=datetime.now(UTC))
    show(
        as_json,
        {"outcome": verdict.health.value, **dump(verdict)},
        f"{verdict.because} `retune rollback` takes it back."
        if verdict.health is Health.REGRESSED
        else verdict.because,
        Sheet(
            ("value", "health", "before", "now", "change", "windows"),
            [
                (
                    each.value,
                    each.health.value,
                    "" if each.before is None else f"{each.before:.4g}",
                    "" if each.now is None else f"{each.now:.4g}",
                    "" if each.change is None else f"{each.change:+.3g} [{each.low:+.3g}, {each.high:+.3g}]",
                    str(each.windows),
                )
                for each in verdict.values
            ],
        ),
    )


def _taken(checked: CheckedBatch, version: TableVersion) -> dict[str, Any]:
    """Say in JSON's types what of a batch is in the table and what is not."""
    events, objects = _refused_of(version)
    return {
        "events_committed": version.rows_added,
        "events_refused": events,
        "objects_refused": objects,
        "version": dump(version),
        "findings": [dump(finding) for finding in checked.findings],
    }


def _taken_said(version: TableVersion) -> str:
    events, objects = _refused_of(version)
    return (
        f"{counted(version.rows_added, 'event')} committed as version {version.version}, "
        f"{counted(events, 'event')} and {counted(objects, 'object')} refused"
    )


def _refused_of(version: TableVersion) -> tuple[int, int]:
    """Count the single events that were refused, and the objects of which not even events could be read."""
    refused = version.refused
    return sum(each.rows for each in refused), sum(each.source != version.batch_id for each in refused)


def _refused(as_json: bool, nothing: NoFeedback) -> None:
    """Say what landed and could not be read, where nothing else did."""
    show(
        as_json,
        {"outcome": "refused", "because": str(nothing), "refused": [dump(refusal) for refusal in nothing.refused]},
        str(nothing),
        Sheet(("refused", "because"), [(each.source, "; ".join(each.reasons)) for each in nothing.refused]),
    )
