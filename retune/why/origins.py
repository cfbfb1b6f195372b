"""Follow a dataset back to the batches of feedback that it was frozen from."""

from collections.abc import Iterator, Sequence

from recsys import receipts, table
from recsys.errors import RecsysError
from recsys.ledger import Entry
from recsys.records import Dataset
from retune.answers import counted
from retune.why.links import Batch, Link
from retune.why.past import Past, matching


def find_batches(past: Past, dataset: Dataset) -> Iterator[Batch]:
    """List what the version of the table that was frozen is made of, oldest first."""
    landed: dict[str, list[str]] = {}
    for receipt in receipts.receipts(past.store):
        landed.setdefault(receipt.batch_id, []).append(receipt.object.key)
    for entry in past.told("committed"):
        if _number(entry, "version") <= dataset.table_version:
            yield Batch(
                batch_id=str(entry.evidence["batch_id"]),
                version=_number(entry, "version"),
                rows_added=_number(entry, "rows_added"),
                at=entry.at,
                objects=tuple(landed.get(str(entry.evidence["batch_id"]), ())),
            )


def follow_feedback(past: Past, dataset: Dataset | None, batches: Sequence[Batch]) -> Iterator[Link]:
    """Hold receipts, ledger and table against each other."""
    if dataset is None:
        yield Link(what="feedback", says="Nothing is known of it.", wrong=("no dataset says which version it was",))
        return
    committed = {str(entry.evidence["batch_id"]): entry for entry in past.told("committed")}
    newest = batches[-1] if batches else None
    rows, objects = sum(b.rows_added for b in batches), sum(len(b.objects) for b in batches)
    wrong = list(past.untold("committed", batches))
    for batch in batches:
        brought = _number(committed[batch.batch_id], "objects")
        if brought != len(batch.objects):
            wrong.append(f"batch {batch.batch_id} had {brought} objects, but {len(batch.objects)} have a receipt")
    wrong += _table(past, dataset.table_version, rows)
    yield Link(
        what="feedback",
        who=committed[newest.batch_id].who if newest else "",
        at=newest.at if newest else None,
        says=(
            f"Version {dataset.table_version} of the feedback table has {rows:,} events, of "
            f"{_batches_of(len(batches))} with {counted(objects, 'object')}."
        ),
        ids={"table_version": dataset.table_version, "rows": rows},
        wrong=tuple(wrong),
    )


def _batches_of(number: int) -> str:
    return f"{number} batch{'' if number == 1 else 'es'}"


def _table(past: Past, version: int, rows: int) -> Iterator[str]:
    try:
        events = table.events(past.store, version)
        found = None if events is None else events.count_rows()
    except (RecsysError, OSError) as error:
        yield f"version {version} cannot be read: {error}"
        return
    if found is None:
        yield "the feedback table is gone"
    elif found != rows:
        yield f"the ledger's batches have {rows} events, but version {version} of the table has {found}"


def read_dataset(past: Past, dataset_id: str) -> tuple[Dataset | None, Link]:
    """Read what was frozen, and hash its files."""
    found, wrong = past.record(Dataset, f"datasets/{dataset_id}/dataset.json")
    told = past.told("frozen", dataset_id=dataset_id)
    if found is None:
        return None, Link(what="dataset", says=f"{dataset_id}.", ids={"dataset_id": dataset_id}, wrong=wrong)
    for name, sha256 in found.files.items():
        wrong += tuple(matching(past, name, f"datasets/{dataset_id}/{name}", sha256))
    return found, Link(
        what="dataset",
        who=told[0].who if told else "",
        at=told[0].at if told else None,
        says=(
            f"{dataset_id} froze it: {found.train.events:,} events to train on, {found.holdout.events:,} held out; "
            f"the SHA-256 of {len(found.files)} files was computed."
        ),
        ids={"dataset_id": dataset_id, "files": dict(found.files)},
        wrong=(*wrong, *past.untold("frozen", told)),
    )


def _number(entry: Entry, name: str) -> int:
    return int(str(entry.evidence[name]))
