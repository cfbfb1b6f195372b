"""Gather what people ask first of a line: what is in production, how fresh it is, and what happened last."""

from typing import Any

from recsys.errors import NoFeedback
from recsys.records import dump
from retune import stages


def look(site: stages.Site) -> dict[str, Any]:
    """Read a line's state from its store, in JSON's types.

    Returns:
        `production`, `dataset`, `cache`, `open`, the plans whose searches were never closed, `refused` and `last`, the
        newest ledger entry of each kind. Each plan has `opened`, whether its search ever was.
    """
    from recsys import dataset, ledger, receipts, release, studies

    current = release.current(site.store)
    try:
        newest: dict[str, Any] | None = dump(dataset.dataset(site.store, None))
    except NoFeedback:
        newest = None
    opened = {entry.evidence["plan_id"] for entry in ledger.read(site.store, what="opened")}
    return {
        "production": dump(current) if current else None,
        "dataset": newest,
        "cache": dataset.cache_counts(site.store),
        "open": [{**dump(plan), "opened": plan.plan_id in opened} for plan in studies.unclosed(site.store)],
        "refused": [dump(refusal) for refusal in receipts.quarantined(site.store)],
        "last": {
            entry.what: {"at": entry.at.isoformat(), "who": entry.who, "why": entry.why}
            for entry in ledger.latest(site.store)
        },
    }


def rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Say in short lines what `look` found: what it is about, and what was found."""
    said = [("production", _production(found["production"])), ("dataset", _dataset(found["dataset"]))]
    said.append(("datasets", f"{found['cache']['misses']} frozen, {found['cache']['hits']} asked for again"))
    said += [("open", _open(plan)) for plan in found["open"]]
    said += [
        ("refused", f"{each['brought_by'] or each['source']}: {'; '.join(each['reasons'])}")
        for each in found["refused"]
    ]
    said += [(f"last {what}", f"{last['at'][:19]}  {last['why']}") for what, last in found["last"].items()]
    return said


def _production(release: dict[str, Any] | None) -> str:
    if release is None:
        return "nothing yet: run `retune feedback` when enough has landed"
    return (
        f"{release['release_id']}, generation {release['generation']} since {release['at'][:19]}: {release['reason']}"
    )


def _open(plan: dict[str, Any]) -> str:
    if not plan["opened"]:
        return (
            f"the {plan['action']} {plan['plan_id']} that {plan['by']} decided on was never opened; "
            f"`retune search LINE --plan {plan['plan_id']}` carries it out"
        )
    return (
        f"the {plan['action']} {plan['plan_id']} that {plan['by']} began was never closed; if nothing works on it any "
        f"more, `retune search LINE --plan {plan['plan_id']}` takes it up again"
    )


def _dataset(dataset: dict[str, Any] | None) -> str:
    if dataset is None:
        return "none yet"
    train, holdout = dataset["train"], dataset["holdout"]
    return (
        f"{dataset['dataset_id']}: {train['events']:,} events to learn from until {train['ends'][:10]}, "
        f"{holdout['events']:,} in the holdout until {holdout['ends'][:10]}, {dataset['n_items']:,} items"
    )
