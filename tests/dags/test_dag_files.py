"""What Airflow makes of the files in `dags/`, without running anything."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG
from airflow.serialization.serialized_objects import DagSerialization

from recsys import synthetic

PROJECT = Path(__file__).parents[2]
NAMES = ("feedback", "drift", "watch", "retune", "promote", "rollback", "ablate")
HEAVY = {"torch", "great_expectations", "evidently", "optuna", "onnxruntime", "pandas", "duckdb", "scipy", "boto3"}

PROBE = """
import json, sys
from pathlib import Path
from time import process_time  # of this process alone, however busy the machine is
from airflow.dag_processing.dagbag import DagBag

before = set(sys.modules)
errors, dags, seconds = {}, [], {}
for file in sorted(Path(sys.argv[1]).glob("*.py")):
    began = process_time()
    bag = DagBag(file)
    seconds[file.stem] = process_time() - began
    errors |= bag.import_errors
    dags += bag.dags
modules = sorted({name.partition(".")[0] for name in set(sys.modules) - before})
print(json.dumps({"errors": errors, "dags": sorted(dags), "seconds": seconds, "modules": modules}))
"""


def write_line(folder: Path, name: str, *, more: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.toml").write_text(synthetic.LINE.replace('name = "shop"', f'name = "{name}"') + more)


def probe(dags: Path, lines: Path) -> dict:
    """Read a folder of DAGs in a fresh process."""
    run = subprocess.run(
        [sys.executable, "-c", PROBE, str(dags)],
        env=os.environ | {"RETUNE_LINES": str(lines), "PYTHONPATH": f"{PROJECT}{os.pathsep}{PROJECT / 'plugins'}"},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(run.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def twenty(tmp_path_factory) -> dict:
    lines = tmp_path_factory.mktemp("lines")
    for number in range(20):
        write_line(lines, f"line_{number:02d}", more='[schedule]\nfeedback = "@daily"\nretune = "0 3 * * 1"\n')
    return probe(PROJECT / "dags", lines)


def test_every_line_gets_every_dag(twenty):
    assert twenty["errors"] == {}
    assert twenty["dags"] == sorted(f"{name}_line_{number:02d}" for name in NAMES for number in range(20))


def test_every_file_is_read_in_less_than_a_second_even_with_twenty_lines(twenty):
    assert set(twenty["seconds"]) == {f"{name}_dag" for name in (*NAMES, "lines")}
    assert max(twenty["seconds"].values()) < 1.0


def test_reading_the_files_imports_nothing_heavy(twenty):
    assert HEAVY.isdisjoint(twenty["modules"])


def test_the_probe_would_see_a_heavy_import(tmp_path):
    (tmp_path / "heavy_dag.py").write_text("import onnxruntime  # a dag of airflow's\n")
    assert "onnxruntime" in probe(tmp_path, tmp_path)["modules"]


@pytest.fixture
def bag(tmp_path, monkeypatch) -> DagBag:
    write_line(
        tmp_path,
        "shop",
        more='[schedule]\nfeedback = "@daily"\nretune = "@weekly"\ntimeout_minutes = 30\nwatch = "@daily"\n'
        '[watch.values.clicks]\ncolumn = "value"\n',
    )
    monkeypatch.setenv("RETUNE_LINES", str(tmp_path))
    return DagBag(PROJECT / "dags")


def test_airflow_can_store_every_dag(bag):
    assert len(bag.dags) == len(NAMES)
    for dag in bag.dags.values():
        DagSerialization.validate_schema(DagSerialization.to_dict(dag))


def unguarded(dag: DAG) -> list[str]:
    """Name the tasks for which nobody answers, that are never retried or that may run for ever."""
    return [
        task.task_id
        for task in dag.tasks
        if task.owner != "tests" or task.retries < 1 or task.retry_policy is None or not task.execution_timeout
    ]


def test_every_task_has_an_owner_retries_and_a_timeout(bag):
    for dag in bag.dags.values():
        assert dag.tasks
        assert unguarded(dag) == []


def test_a_task_without_them_would_be_named():
    with DAG("bare", schedule=None) as dag:
        from airflow.providers.standard.operators.empty import EmptyOperator

        EmptyOperator(task_id="nobody")
    assert unguarded(dag) == ["nobody"]


def test_every_dag_says_what_it_is_and_never_overlaps_itself(bag):
    for name, dag in ((name, bag.dags[f"{name}_shop"]) for name in NAMES):
        assert {"retune", "shop", name} == set(dag.tags)
        assert dag.max_active_runs == 1
        assert dag.catchup is False
        assert dag.dagrun_timeout.total_seconds() == 12 * 30 * 60
        assert "**shop**" in dag.doc_md
        assert "Owner: tests" in dag.doc_md
        mapped = {task.task_id for task in dag.tasks if task.is_mapped}  # Airflow drops what is said of these
        assert all(task.doc_md or task.task_id in mapped for task in dag.tasks)


def test_each_stage_is_woken_by_the_one_before(bag):
    emitted = {
        asset.uri: f"{dag.dag_id}.{task.task_id}"
        for dag in bag.dags.values()
        for task in dag.tasks
        for asset in task.outlets
    }
    assert emitted == {
        "retune://shop/dataset": "feedback_shop.baseline",
        "retune://shop/drift": "drift_shop.judge",
        "retune://shop/watch": "watch_shop.watch",
        "retune://shop/candidate": "retune_shop.choose",
        "retune://shop/release": emitted["retune://shop/release"],
    }
    announces = ("promote_shop.release", "rollback_shop.rollback", "watch_shop.take_back")
    assert emitted["retune://shop/release"] in announces

    def woken_by(name: str) -> list[str]:
        condition = getattr(bag.dags[f"{name}_shop"].timetable, "asset_condition", None)
        return [asset.uri for asset in condition.objects] if condition is not None else []

    assert {name: woken_by(name) for name in NAMES} == {
        "feedback": [],
        "drift": ["retune://shop/dataset"],
        "watch": ["retune://shop/dataset"],
        "retune": ["retune://shop/drift"],
        "promote": ["retune://shop/candidate"],
        "rollback": [],
        "ablate": [],
    }


def test_only_feedback_watch_and_retune_follow_the_clock(bag):
    feedback, retune = (bag.dags[f"{name}_shop"].timetable for name in ("feedback", "retune"))
    assert feedback.expression == "0 0 * * *"
    assert retune.timetable.expression == "0 0 * * 0"


def test_a_line_that_watches_nothing_is_watched_by_hand_only(tmp_path, monkeypatch, bag):
    assert bag.dags["watch_shop"].timetable.timetable.expression == "0 0 * * *"
    write_line(tmp_path, "shop")
    assert DagBag(PROJECT / "dags").dags["watch_shop"].schedule is None


def test_what_trains_waits_for_the_pool_and_queue_of_the_gpu(bag):
    retune = bag.dags["retune_shop"]
    assert {t.task_id for t in retune.tasks if t.pool == "gpu" and t.queue == "gpu"} == {
        "screen.work",
        "refine.work",
        "confirm.work",
        "choose",
    }
    ablate = bag.dags["ablate_shop"]
    assert {t.task_id for t in ablate.tasks if t.pool == "gpu" and t.queue == "gpu"} == {"work_ablation"}


def test_an_ablation_is_closed_whatever_became_of_its_workers_and_its_record_decides_the_run(bag):
    closing = bag.dags["ablate_shop"].get_task("close_ablation")
    assert closing.is_teardown
    assert closing.on_failure_fail_dagrun
    assert {setup.task_id for setup in closing.upstream_list if setup.is_setup} == {"ablation_jobs"}
    assert "work_ablation" in closing.upstream_task_ids


def test_nothing_waits_for_an_attribution(bag):
    attribute = bag.dags["promote_shop"].get_task("attribute")
    assert (attribute.upstream_task_ids, attribute.downstream_task_ids) == ({"release"}, set())


def test_the_search_is_closed_whatever_became_of_it(bag):
    retune = bag.dags["retune_shop"]
    closing = retune.get_task("close_search")
    assert closing.is_teardown
    assert {setup.task_id for setup in closing.upstream_list if setup.is_setup} == {"open_search"}
    assert "confirm.work" in closing.upstream_task_ids


def test_a_wrong_line_costs_no_other_line_its_dags(tmp_path, monkeypatch):
    write_line(tmp_path, "shop")
    write_line(tmp_path, "typo", more='[schedule]\nfeedbak = "@daily"\n')
    write_line(tmp_path, "clock", more='[schedule]\nretune = "every full moon"\n')
    monkeypatch.setenv("RETUNE_LINES", str(tmp_path))
    bag = DagBag(PROJECT / "dags")
    assert set(bag.dags) == {f"{name}_shop" for name in NAMES}
    [(file, error)] = bag.import_errors.items()
    assert file.endswith("lines_dag.py")
    assert f"{tmp_path / 'typo.toml'}: schedule.feedbak: no such key" in error
    assert f"{tmp_path / 'clock.toml'}: schedule.retune: must be a cron expression" in error


def test_no_module_of_the_folders_stands_in_another_ones_place():
    # Airflow appends both folders to sys.path, where `retune.py` would be found before the package it was installed as.
    names = [path.stem for folder in ("dags", "plugins") for path in (PROJECT / folder).glob("*.py")]
    assert "retune_dag" in names
    taken = set(sys.stdlib_module_names) | {path.name for path in PROJECT.iterdir() if path.is_dir()}
    assert taken.isdisjoint(names)
