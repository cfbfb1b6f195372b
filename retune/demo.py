"""Replay weeks of MovieLens feedback through the real DAGs, and write down what came of it."""

import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from recsys import ledger
from recsys.errors import RecsysError
from retune import replay, stages
from retune.airflow_client import AirflowClient, DagRun
from retune.supervisor import Supervisor

log = logging.getLogger(__name__)

LINE = "movielens"
DAGS = ("feedback", "drift", "retune", "promote", "rollback")
MARK = ".retune-demo"  # the file by which a folder is known as a demo's own
TRACEBACKS = ("Traceback (most recent call last)", '"error_detail"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What arrives at once, and what a person then asks for.

    Args:
        weeks: Numbers of the weeks that land.
        truncated: Number of a week that lands a second time, cut off in the middle.
        by_hand: Parameters of a retune that a person starts when the step has come to rest.
    """

    weeks: range
    truncated: int | None = None
    by_hand: Mapping[str, Any] = field(default_factory=dict)


STEPS = (
    Step(weeks=range(10)),
    Step(weeks=range(10, 12), truncated=11),
    Step(
        weeks=range(12, 16),
        by_hand={
            "action": "refit",
            "family": "hybrid",
            "configuration": {"dim": 128, "layers": 3, "history_length": 100, "epochs": 1},
            "reason": "Would a network many times as large be worth its latency?",
        },
    ),
    Step(weeks=range(16, 21)),
    Step(weeks=range(21, 25)),
)


def run(folder: Path, *, tell: Callable[[str], None]) -> dict[str, Any]:
    """Replay every step and write `report.html` and `summary.json` into `folder`.

    Args:
        folder: Gets the line, the store, the studies, Airflow's home and the report; what an earlier demo left there is
            removed.
        tell: Called with one line of text for each thing that happens.

    Returns:
        The summary.

    Raises:
        NoFeedback: MovieLens cannot be found.
        ValueError: `folder` holds something, and no demo's mark.
        RecsysError: A DAG run failed; the message names it.
    """
    began, started = time.monotonic(), datetime.now(UTC)
    os.environ.update(prepare(folder))  # for this process and for all that Airflow starts
    weeks = replay.weeks(folder.parent / "data")
    site = stages.site(LINE)
    tell(f"{len(weeks)} weeks of MovieLens are at hand; starting Airflow in {folder / 'airflow'}.")
    with Supervisor(
        home=folder / "airflow",
        dags=_project() / "dags",
        plugins=_project() / "plugins",
        preload=stages.HEAVY_MODULES,
    ) as airflow:
        tell(f"Airflow answers at {airflow.url} after {time.monotonic() - began:.0f} s.")
        with airflow.client as client:
            loop = Loop(client, after_run=_Narrator(site, tell, since=started))
            for step in STEPS:
                tell(f"{_name(step)}: {sum(len(weeks[n].events) for n in step.weeks):,} events land.")
                loop.play(site, step, weeks)
    return _write_down(site, folder, started=started, seconds=time.monotonic() - began, tell=tell)


def prepare(folder: Path) -> dict[str, str]:
    """Remove what an earlier demo left in `folder`, and put the demo's line there, beside which there is no other.

    Returns:
        The settings that say where things lie.

    Raises:
        ValueError: `folder` holds something, and no demo's mark; nothing was removed.
    """
    _clear(folder)
    lines = folder / "lines"
    lines.mkdir()
    shutil.copy(_project() / "lines" / f"{LINE}.toml", lines)
    return {
        "RETUNE_STORE": (folder / "store").as_uri(),
        "RETUNE_STUDIES": str(folder / "studies.journal"),
        "RETUNE_LINES": str(lines),
    }


class _Narrator:
    """Tells each decision once, in the ledger's own words."""

    def __init__(self, site: stages.Site, tell: Callable[[str], None], *, since: datetime) -> None:
        self._site, self._tell, self._since = site, tell, since
        self._told: set[tuple[datetime, str]] = set()

    def __call__(self) -> None:
        for entry in ledger.read(self._site.store, since=self._since):
            if (entry.at, entry.what) not in self._told:
                self._told.add((entry.at, entry.what))
                self._tell(f"    {entry.what}: {entry.why}")


class Loop:
    """Follows a line's DAG runs from the landing of feedback until everything that it woke has ended."""

    def __init__(self, client: AirflowClient, *, after_run: Callable[[], None], within_s: float = 300) -> None:
        self._client = client
        self._after_run = after_run
        self._within_s = within_s
        self._seen: set[str] = set()
        client.wait_for_dags([_dag(name) for name in DAGS], within_s=within_s)
        for name in DAGS:
            client.unpause(_dag(name))

    def play(self, site: stages.Site, step: Step, weeks: Sequence[replay.Week]) -> None:
        """Land the step's weeks, let the loop run, then do what the step does by hand.

        Raises:
            RecsysError: A run failed or did not end in time.
        """
        for number in step.weeks:
            replay.land(site.store, weeks[number])
        if step.truncated is not None:
            replay.land_truncated(site.store, weeks[step.truncated])
        as_of = weeks[step.weeks[-1]].ends
        self._start("feedback", as_of=as_of.isoformat(), reason="replay of MovieLens")
        self._follow("drift")
        self._promote_if_chosen(self._follow("retune"))
        if step.by_hand:
            self._promote_if_chosen(self._start("retune", **step.by_hand))

    def _start(self, name: str, **parameters: Any) -> DagRun:  # noqa: ANN401 - a DAG's parameters are any JSON
        run_id = self._client.trigger_dag(_dag(name), parameters)
        return self._ended(self._client.wait(_dag(name), run_id, within_s=self._within_s))

    def _follow(self, name: str) -> DagRun:
        """Wait for the run of `name` that the last stage's asset woke."""
        deadline = time.monotonic() + self._within_s
        while not (woken := [run for run in self._client.dag_runs(_dag(name)) if run.run_id not in self._seen]):
            if time.monotonic() > deadline:
                raise RecsysError(f"{_dag(name)} should have been woken within {self._within_s:.0f} s, but was not.")
            time.sleep(0.3)
        return self._ended(self._client.wait(_dag(name), woken[-1].run_id, within_s=self._within_s))

    def _ended(self, run: DagRun) -> DagRun:
        if run.state != "success":
            raise RecsysError(f"Run {run.run_id} of {run.dag_id} ended as {run.state}.")
        self._seen.add(run.run_id)
        self._after_run()
        return run

    def _promote_if_chosen(self, run: DagRun) -> None:
        states = {task.task_id: task.state for task in self._client.tasks(run.dag_id, run.run_id)}
        if states.get("choose") == "success":
            self._follow("promote")


def _write_down(
    site: stages.Site, folder: Path, *, started: datetime, seconds: float, tell: Callable[[str], None]
) -> dict[str, Any]:
    from retune import report

    told = report.tell(site.line, site.store, started=started)
    summary = report.summary(told) | {
        "seconds": round(seconds, 1),
        "tracebacks": _tracebacks(folder / "airflow" / "logs"),
    }
    (folder / "summary.json").write_text(json.dumps(summary, indent=2), encoding="utf-8")
    (folder / "report.html").write_text(report.render(told, summary), encoding="utf-8")
    tell(f"The story is told in {folder / 'report.html'}, its figures in {folder / 'summary.json'}.")
    return summary


def _tracebacks(logs: Path) -> int:
    """Count the tracebacks in all logs of Airflow's components and tasks, whose logs hold them as JSON."""
    texts = (file.read_text(encoding="utf-8", errors="replace") for file in logs.rglob("*.log"))
    return sum(text.count(mark) for text in texts for mark in TRACEBACKS)


def _clear(folder: Path) -> None:
    """Remove what an earlier demo left in `folder`, and nothing else; a folder that is none's becomes a demo's."""
    if folder.exists() and not (folder / MARK).is_file():
        if not folder.is_dir():
            raise ValueError(f"{folder} must be a folder, but is a file.")
        if found := sorted(path.name for path in folder.iterdir()):
            raise ValueError(
                f"{folder} must be a new or empty folder, or hold {MARK}, by which an earlier demo's is known, because "
                f"the demo clears it; but it holds {', '.join(found[:3])}{' and more' if len(found) > 3 else ''}. "
                "Remove it, or name another."
            )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).touch()
    for name in ("store", "airflow", "lines"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for file in ("studies.journal", "report.html", "summary.json"):
        (folder / file).unlink(missing_ok=True)


def _project() -> Path:
    return Path(__file__).resolve().parents[1]


def _name(step: Step) -> str:
    first, last = step.weeks[0], step.weeks[-1]
    return f"Week {first}" if first == last else f"Weeks {first} to {last}"


def _dag(name: str) -> str:
    return f"{name}_{LINE}"
