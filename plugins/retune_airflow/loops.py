"""Open the DAGs of a line: what each of them shares with all the others, and when it runs."""

from collections.abc import Mapping
from copy import deepcopy
from datetime import UTC, datetime

from airflow.sdk import DAG, Asset, AssetOrTimeSchedule, CronTriggerTimetable, Param

from recsys.settings import Line
from retune_airflow import policies

Schedule = CronTriggerTimetable | AssetOrTimeSchedule | list[Asset] | None


def loop(line: Line, name: str, *, schedule: Schedule, params: Mapping[str, Param], doc: str | None) -> DAG:
    """Open the DAG `<name>_<line>`; its tasks are added in a `with` block.

    Args:
        line: The line that it keeps tuned.
        name: What the DAG does, also one of its tags.
        schedule: One of the three below; None is by hand only.
        params: What a person may ask of a run.
        doc: Markdown that Airflow shows: the docstring of the file that builds the DAG.
    """
    return DAG(
        f"{name}_{line.name}",
        schedule=schedule,
        params=deepcopy(dict(params)),  # a run writes its values into the objects: DAGs must not share them
        doc_md=f"{doc}\n\n**{line.name}**: {line.description or line.task}. Owner: {line.owner}.",
        description=f"{name} of the line {line.name}",
        tags=["retune", line.name, name],
        default_args=policies.task_defaults(line),
        dagrun_timeout=policies.run_timeout(line),
        start_date=datetime(2024, 1, 1, tzinfo=UTC),
        catchup=False,  # what was missed is done in one go: a run takes up everything that has landed
        max_active_runs=1,  # two runs of one line would only wait for each other
    )


def at(expression: str | None) -> CronTriggerTimetable | None:
    """Run at the times of a cron expression or preset, in UTC; None: by hand only."""
    return CronTriggerTimetable(expression, timezone="UTC") if expression else None


def after(asset: Asset) -> list[Asset]:
    """Run whenever `asset` has a new event."""
    return [asset]


def after_or_at(asset: Asset, expression: str | None) -> AssetOrTimeSchedule | list[Asset]:
    """Run whenever `asset` has a new event, and at the times of `expression` besides."""
    times = at(expression)
    return AssetOrTimeSchedule(timetable=times, assets=[asset]) if times else after(asset)
