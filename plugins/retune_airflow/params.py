"""Declare what a person may ask of a run; Airflow shows it as a form and refuses what does not fit."""

from typing import Any

from airflow.sdk import Param

from recsys.records import Action

_MOMENT = r"^\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:\d\d)?)?$"
_WHY = "Why this run is started by hand. The ledger keeps it."


def _optional(kind: str, title: str, description: str, **rules: Any) -> Param:  # noqa: ANN401 - of JSON Schema
    return Param(None, type=["null", kind], title=title, description=description, **rules)


_REASON = _optional(
    "string",
    "Reason",
    f"{_WHY} Always give one: a run by hand without it fails at once in its first task, and nothing has been done. "
    "Only runs that nobody starts need none, which is why this form lets it be empty.",
    maxLength=500,
)

FEEDBACK = {
    "reason": _REASON,
    "as_of": _optional(
        "string",
        "Moment",
        "The moment to act for, ISO 8601; freshness counts from it. Empty: now.",
        format="date-time",  # lets Airflow show a calendar; the pattern is what refuses
        pattern=_MOMENT,
    ),
}

DRIFT = {
    "reason": _REASON,
    "dataset_id": _optional("string", "Dataset", "The dataset to judge. Empty: the newest.", minLength=1),
}

WATCH = {"reason": _REASON}

PROMOTE = {
    "reason": _REASON,
    "plan_id": _optional("string", "Plan", "The plan whose candidate is judged. Empty: the newest.", minLength=1),
    "again": _optional("boolean", "Again", "Release it even if it was rolled back; the reason says why."),
    "override": _optional(
        "boolean",
        "Override",
        "Release it even if the gate does not pass it, unless it is broken; the reason says why, and the ledger keeps "
        "it as an override.",
    ),
}

ROLLBACK = {
    "reason": Param(type="string", minLength=3, maxLength=500, title="Reason", description=_WHY),
    "to": _optional(
        "string", "Release", "The release to go back to. Empty: the one before the present one.", minLength=1
    ),
}


def ablate(*, longest_search_s: float) -> dict[str, Param]:
    """Declare what may be asked of an ablation, whose workers must end before their tasks' time is up."""
    return {
        "reason": Param(type="string", minLength=3, maxLength=500, title="Reason", description=_WHY),
        "release_id": _optional(
            "string", "Release", "The release to take apart. Empty: what is in production.", minLength=1
        ),
        "candidate": _optional("boolean", "Candidate", "Take the newest candidate apart instead."),
        "dataset_id": _optional("string", "Dataset", "The dataset to measure on. Empty: the newest.", minLength=1),
        "seeds": _optional(
            "integer",
            "Seeds",
            "Trainings of each variant. Empty: as many as a search confirms with, at least two.",
            minimum=1,
        ),
        "budget_s": _budget("trials may run", longest_search_s),
    }


def retune(*, longest_search_s: float) -> dict[str, Param]:
    """Declare what may be asked of a search, which must end before its tasks' time is up."""
    return {
        "reason": _REASON,
        "dataset_id": _optional("string", "Dataset", "The dataset to learn from. Empty: the newest.", minLength=1),
        "action": _optional(
            "string",
            "Action",
            "refit trains one configuration again, sentinels tries it beside a few that were good before, retune "
            "searches for a better one. Empty: the loop decides.",
            enum=[None, *Action],
        ),
        "family": _optional("string", "Family", "Of the configuration to refit. Empty: the incumbent's.", minLength=1),
        "configuration": _optional("object", "Configuration", "What to refit, as JSON. Empty: the incumbent's."),
        "budget_s": _budget("the search may take", longest_search_s),
    }


def _budget(what: str, longest_s: float) -> Param:
    return _optional(
        "number",
        "Budget, seconds",
        f"How long {what}, at most {longest_s:g}. Empty: the line's.",
        exclusiveMinimum=0,
        maximum=longest_s,
    )
