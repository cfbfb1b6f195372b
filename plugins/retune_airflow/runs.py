"""Say what a run was asked to do, by whom and why."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import Asset, Context
from airflow.sdk.exceptions import AirflowFailException

from recsys import people
from recsys.records import Override
from recsys.spelling import suggestion

_BY_ITSELF = {"scheduled": "schedule", "backfill": "schedule", "asset_triggered": "asset"}
"""Who acts in a run that no person started, by the kind of the run."""


def by(context: Context) -> str:
    """Name the person who started the run, or else `schedule` or `asset`."""
    run = context["dag_run"]
    return _BY_ITSELF.get(run.run_type) or run.triggering_user_name or people.NAMELESS


def reason(context: Context) -> str | None:
    """Give the reason for a run that a person started; other runs need none.

    Raises:
        AirflowFailException: A person gave none.
    """
    given = str(context["params"].get("reason") or "").strip()
    if not given and context["dag_run"].run_type not in _BY_ITSELF:
        raise AirflowFailException(
            "reason: must say why a run is started by hand, because the ledger keeps it, but is missing. "
            'Nothing has been done: start the run again with {"reason": "..."}.'
        )
    return given or None


def check_parameters(context: Context) -> None:
    """Refuse what the DAG knows nothing of, which Airflow hands on without a word.

    Raises:
        AirflowFailException: The run was given such a parameter; nothing has been done, and no retry would help.
    """
    known = sorted(context["dag"].params)
    wrong = [
        f"{name}: no such parameter; it must be one of {known}.{suggestion(name, known)}"
        for name in sorted(set(context["dag_run"].conf or {}) - set(known))
    ]
    if wrong:
        raise AirflowFailException(" ".join([*wrong, "Nothing has been done: start the run again without it."]))


def override(context: Context) -> Override | None:
    """Give the wish of who started the run to release what the gate does not pass.

    Raises:
        AirflowFailException: No person started the run.
    """
    if not context["params"].get("override"):
        return None
    if context["dag_run"].run_type in _BY_ITSELF:
        raise AirflowFailException(
            f"override: must be asked for by a person, but the run was started by {by(context)}. Nothing has been done."
        )
    return Override(by=by(context), reason=reason(context) or "")


def nonce(context: Context) -> str:
    """Tell what a person asks for apart from what was done on the same data before; empty in other runs."""
    return "" if context["dag_run"].run_type in _BY_ITSELF else str(context["dag_run"].run_id)


def as_of(context: Context) -> datetime:
    """Give the moment that the run acts for: the parameter, or now.

    Not the run's own date: a run that is cleared and repeated days later would take newer events for ones from the
    future.
    """
    given = context["params"].get("as_of")
    moment = datetime.fromisoformat(given) if given else datetime.now(UTC)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def asked_for(context: Context, key: str, asset: Asset) -> Any:  # noqa: ANN401 - JSON
    """Give the parameter `key`, else what the newest event of `asset` that woke the run carries under it, else None."""
    if (given := context["params"].get(key)) is not None:
        return given
    events = context["triggering_asset_events"].get(asset, ())
    newest = max(events, key=lambda event: event.timestamp, default=None)
    return None if newest is None else newest.extra.get(key)


def emit(context: Context, asset: Asset, facts: Mapping[str, Any]) -> None:
    """Attach `facts` to the event that `asset` gets when the task succeeds."""
    context["outlet_events"][asset].extra.update(facts)
