"""Gather what people ask first of a line: what is in production, how fresh it is, and what happened last."""

from typing import Any

from recsys.errors import NoFeedback
from recsys.records import dump
from retune import stages


def look(site: stages.Site) -> dict[str, Any]:
    """Read a line's state from its store, in JSON's types.

    Returns:
        `production`, `dataset`, `cache`, `refused` and `last`, the newest ledger entry of each kind.
    """
    from recsys import dataset, feedback, ledger, release

    current = release.current(site.store)
    try:
        newest: dict[str, Any] | None = dump(dataset.dataset(site.store, None))
    except NoFeedback:
        newest = None
    return {
        "production": dump(current) if current else None,
        "dataset": newest,
        "cache": dataset.cache_counts(site.store),
        "refused": [dump(refusal) for refusal in feedback.quarantined(site.store)],
        "last": {
            entry.what: {"at": entry.at.isoformat(), "who": entry.who, "why": entry.why}
            for entry in ledger.read(site.store)
        },
    }
