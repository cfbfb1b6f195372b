"""Run DAGs for real, in this process, on a line of made feedback."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.models.asset import AssetEvent
from airflow.utils.db import initdb
from airflow.utils.session import create_session
from sqlalchemy import select

PROJECT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Ended:
    """A run that has ended."""

    run_id: str
    state: str
    tasks: Mapping[str, str]  # state of each task, of mapped ones by `task[index]`
    events: Mapping[str, Mapping[str, Any]]  # what it announced: the asset's URI and the event's extra


Run = Callable[..., Ended]


@pytest.fixture(scope="session")
def airflow_database() -> None:
    initdb()


@pytest.fixture(scope="module")
def site_environment(tmp_path_factory) -> Iterator[pytest.MonkeyPatch]:
    """An empty folder of lines and an empty store, for as long as the module's tests run."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "lines").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RETUNE_LINES", str(folder / "lines"))
        patch.setenv("RETUNE_STORE", (folder / "store").as_uri())
        patch.setenv("RETUNE_STUDIES", str(folder / "studies.journal"))
        yield patch


@pytest.fixture(scope="module")
def run(airflow_database, site_environment) -> Run:
    """Run a DAG from beginning to end; the same moment `at` again is the same run again, as after a clear."""

    def run(dag_id: str, *, at: datetime | None = None, **conf: Any) -> Ended:
        at = at or datetime.now(UTC)
        ran = DagBag(PROJECT / "dags").dags[dag_id].test(logical_date=at, run_after=at, run_conf=conf)
        with create_session() as session:
            events = session.scalars(select(AssetEvent).where(AssetEvent.source_run_id == ran.run_id)).all()
            announced = {event.asset.uri: event.extra for event in events}
        states = {
            f"{ti.task_id}[{ti.map_index}]" if ti.map_index >= 0 else ti.task_id: str(ti.state)
            for ti in ran.get_task_instances()
        }
        return Ended(run_id=ran.run_id, state=str(ran.state), tasks=states, events=announced)

    return run
