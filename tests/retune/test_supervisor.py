"""A real Airflow is brought up once; its components are then killed and stopped under it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest

from retune.airflow_client import AirflowClient, AirflowError
from retune.guardian import marked
from retune.lease import AlreadySupervised, running
from retune.shutdown import down, survivors
from retune.supervisor import StartError, Supervisor
from retune.vigil import Patience

pytestmark = [pytest.mark.airflow, pytest.mark.long]

ROOT = Path(__file__).resolve().parents[2]
DAGS = """
import subprocess
from airflow.sdk import dag, task

@dag(schedule=None)
def answers():
    @task
    def double(params):
        print("doubling", params["number"])
        return 2 * params["number"]
    double()

@dag(schedule=None)
def lasts():
    @task
    def sleeps():
        subprocess.run(["sleep", "600"], start_new_session=True)
    sleeps()

answers()
lasts()
"""


def folders(path):
    (path / "dags").mkdir()
    (path / "plugins").mkdir()
    (path / "dags" / "some.py").write_text(DAGS)
    return {"home": path / "home", "dags": path / "dags", "plugins": path / "plugins"}


def environment():
    """Nothing of the surrounding environment says anything about Airflow; heartbeats are frequent."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "RETUNE"))}
    return {
        **kept,
        "AIRFLOW__CORE__PARALLELISM": "2",
        "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
        "AIRFLOW__SCHEDULER__JOB_HEARTBEAT_SEC": "1",
        "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
    }


def until(claim, *, within_s=90.0):
    deadline = time.monotonic() + within_s
    while not (found := claim()):
        assert time.monotonic() < deadline, f"not so within {within_s} s"
        time.sleep(0.2)
    return found


def of(home, component):
    return [process for process in marked(f"{home}|") if process.environ()["RETUNE_SUPERVISED"].endswith(component)]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return folders(tmp_path_factory.mktemp("airflow"))


@pytest.fixture(scope="module")
def airflow(place):
    patience = Patience(stale_s=8, hung_s=3, start_s=30, health_s=1)
    with Supervisor(**place, environment=environment(), patience=patience, pools={"gpu": 3}) as supervisor:
        yield supervisor
    assert survivors(place["home"]) == []
    assert running(place["home"]) is None
    for log in supervisor.logs.glob("*.log"):
        assert "Traceback" not in log.read_text(), log


@pytest.fixture
def client(airflow):
    with airflow.client as client:
        yield client


def test_all_components_are_healthy_and_only_this_machine_can_reach_them(airflow, place):
    assert airflow.healthy()
    assert set(airflow.pids) == {"api_server", "scheduler", "dag_processor", "triggerer"}
    listening = set()
    for process in marked(f"{place['home']}|"):
        with suppress(psutil.NoSuchProcess):  # what a component starts for a moment may end while it is looked at
            connections = process.net_connections("inet")
            listening |= {of.laddr[:2] for of in connections if of.status == psutil.CONN_LISTEN}
    assert listening == {("127.0.0.1", int(airflow.url.rpartition(":")[2]))}


def test_nobody_gets_in_without_the_password(airflow):
    assert httpx.get(f"{airflow.url}/api/v2/dags").status_code == 401
    with (
        AirflowClient(airflow.url, login="admin", password="guessed") as stranger,
        pytest.raises(AirflowError, match="POST /auth/token was refused with 401") as refusal,
    ):
        stranger.dags()
    assert refusal.value.status == 401


def test_a_run_is_triggered_waited_for_and_read(client):
    client.wait_for_dags(["answers"], within_s=60)
    assert client.import_errors() == {}
    assert client.dags()["answers"] is True
    client.unpause("answers")
    run_id = client.trigger_dag("answers", {"number": 21}, note="by a test")
    run = client.wait("answers", run_id, within_s=60)
    assert (run.state, run.kind, run.conf) == ("success", "manual", {"number": 21})
    [task] = client.tasks("answers", run_id)
    assert (task.task_id, task.map_index, task.try_number, task.state) == ("double", -1, 1, "success")
    assert client.result("answers", run_id, "double") == 42
    assert "doubling 21" in client.task_log("answers", run_id, task)
    assert [run.run_id for run in client.dag_runs("answers")] == [run_id]


def test_airflows_own_commands_act_on_what_is_up(place, client):
    client.wait_for_dags(["answers"], within_s=60)
    client.unpause("answers", paused=True)
    command = [sys.executable, "-c", "from retune.cli import main; main()", "airflow", "--home", str(place["home"])]
    unpaused = subprocess.run(
        [*command, "dags", "unpause", "--yes", "--treat-dag-id-as-regex", "answ.*"],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert unpaused.returncode == 0, unpaused.stderr
    assert client.dags()["answers"] is False
    listed = subprocess.run([*command, "dags", "list", "-o", "json"], cwd=ROOT, env=environment(), capture_output=True)
    assert "answers" in [dag["dag_id"] for dag in json.loads(listed.stdout)]
    wrong = subprocess.run([*command, "dags", "fly", "--help"], cwd=ROOT, env=environment(), capture_output=True)
    assert wrong.returncode == 2
    assert b"airflow dags" in wrong.stderr  # said by Airflow, not by us


def test_the_pools_that_were_asked_for_exist(airflow, client):
    headers = {"Authorization": f"Bearer {client.token()}"}
    pool = httpx.get(f"{airflow.url}/api/v2/pools/gpu", headers=headers).json()
    assert pool["slots"] == 3


def test_an_unknown_dag_is_refused_with_its_name(client):
    with pytest.raises(AirflowError, match="nowhere") as refusal:
        client.trigger_dag("nowhere")
    assert refusal.value.status == 404
    with pytest.raises(AirflowError, match=r"\['nowhere'\] were not found"):
        client.wait_for_dags(["nowhere"], within_s=0)


def test_a_second_supervisor_of_the_same_home_is_refused(airflow, place):
    with pytest.raises(AlreadySupervised, match=f"process {os.getpid()} at {airflow.url}"), Supervisor(**place):
        pass
    assert airflow.healthy()


def test_a_scheduler_that_hangs_is_replaced(airflow):
    before = airflow.pids["scheduler"]
    count = airflow.restarts["scheduler"]
    os.kill(before, signal.SIGSTOP)
    until(lambda: airflow.restarts["scheduler"] > count)
    assert not psutil.pid_exists(before)
    until(airflow.healthy)


def test_a_killed_scheduler_is_replaced_and_its_tasks_do_not_outlive_it(airflow, place, client):
    client.unpause("lasts")
    run_id = client.trigger_dag("lasts")
    until(lambda: [process for process in of(place["home"], "scheduler|") if process.name() == "sleep"])
    family = of(place["home"], "scheduler|")
    assert len(family) >= 5  # the scheduler, two workers, the task, what the task started
    count = airflow.restarts["scheduler"]
    os.kill(airflow.pids["scheduler"], signal.SIGKILL)
    _, alive = psutil.wait_procs(family, timeout=30)
    assert alive == []
    until(lambda: airflow.restarts["scheduler"] > count)
    until(airflow.healthy)
    assert client.dag_run("lasts", run_id).state == "running"  # a new scheduler takes it up


def test_a_killed_supervisor_leaves_nothing_and_the_next_one_can_begin(airflow, place, tmp_path):
    ready = place["home"]
    place = folders(tmp_path)
    place["home"].mkdir()
    for made in ("airflow.db", "migrated"):  # tables are made once only
        shutil.copy(ready / made, place["home"])
    script = textwrap.dedent("""
        import sys
        from pathlib import Path
        from retune.supervisor import Supervisor
        with Supervisor(home=Path(sys.argv[1]), dags=Path(sys.argv[2]), plugins=Path(sys.argv[3])) as airflow:
            airflow.wait()
    """)
    command = [sys.executable, "-c", script, *(str(place[name]) for name in ("home", "dags", "plugins"))]
    supervisor = subprocess.Popen(command, cwd=ROOT, env=environment())
    until(lambda: of(place["home"], "scheduler|"))
    processes = marked(f"{place['home']}|")
    supervisor.kill()
    supervisor.wait(timeout=5)
    _, alive = psutil.wait_procs(processes, timeout=30)
    assert alive == []
    assert running(place["home"]) is None
    assert down(place["home"]) is False  # the note that was left behind names nobody

    second = subprocess.Popen(command, cwd=ROOT, env=environment())
    until(lambda: of(place["home"], "scheduler|"))
    assert running(place["home"]).holder.pid == second.pid
    assert down(place["home"]) is True
    assert survivors(place["home"]) == []
    second.wait(timeout=5)


def test_a_component_that_cannot_start_is_named_with_its_last_words(tmp_path):
    place = folders(tmp_path)
    broken = {**environment(), "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "sqlite:////nowhere/airflow.db"}
    with pytest.raises(StartError, match=r"(?s)db migrate failed.*unable to open database file"):
        Supervisor(**place, environment=broken).__enter__()
    assert survivors(place["home"]) == []
