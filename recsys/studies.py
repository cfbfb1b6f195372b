"""Say where what a plan leads to lies in the store, and which plans have not come to their end."""

import logging

from recsys.errors import BadObject
from recsys.records import Action, Plan, parse
from recsys.store import Store

log = logging.getLogger(__name__)

FOLDER = "studies/"


def key(plan_id: str, name: str) -> str:
    """Say where in the line's part of the store something of a plan lies."""
    return f"{FOLDER}{plan_id}/{name}"


def unclosed(store: Store) -> list[Plan]:
    """List the plans to train whose studies were never closed: somebody works on them, or did and was killed.

    Returns:
        By the moment that they were made for; a plan that cannot be read is told in the log, and passed over.
    """
    names = {entry.key for entry in store.list(FOLDER)}
    ids = [name.split("/")[1] for name in names if name.endswith("/plan.json")]
    found = []
    for plan_id in sorted(ids):
        if key(plan_id, "study.json") in names:
            continue
        at = key(plan_id, "plan.json")
        try:
            found.append(parse(Plan, at, store.get(at).body))
        except BadObject as error:
            log.warning("a plan is passed over: %s", error)
    return sorted((plan for plan in found if plan.action is not Action.NOTHING), key=lambda plan: plan.as_of)
