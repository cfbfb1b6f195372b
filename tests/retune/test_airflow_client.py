"""What the client does with answers that a healthy Airflow does not give; the others are asked of a real one."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from retune.airflow_client import AirflowClient, AirflowError
from retune.airflow_home import free_port

RUN = {"dag_id": "d", "dag_run_id": "r", "run_type": "manual", "conf": None, "start_date": None, "end_date": None}


class Script(ThreadingHTTPServer):
    """Answers each request with the next of `answers`, and writes down what it was asked."""

    def __init__(self, answers):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = answers
        self.asked = []


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append((self.path.partition("?")[0], self.headers.get("Authorization")))
        status, body = self.server.answers.pop(0)
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET  # noqa: N815  # the names that the base class looks for
    do_PATCH = do_GET  # noqa: N815

    def log_message(self, *_):
        pass


@pytest.fixture
def scripted():
    servers = []

    def start(*answers):
        server = Script(list(answers))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        client = AirflowClient(f"http://127.0.0.1:{server.server_port}", login="admin", password="secret", timeout_s=5)
        servers.append((server, thread, client))
        return client, server

    yield start
    for server, thread, client in servers:
        client.close()
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_token_that_has_run_out_is_fetched_again(scripted):
    client, server = scripted(
        (201, {"access_token": "old"}),
        (401, {"detail": "expired"}),
        (201, {"access_token": "new"}),
        (200, {"dags": [{"dag_id": "d", "is_paused": False}], "total_entries": 1}),
    )
    assert client.dags() == {"d": False}
    assert server.asked[1] == ("/api/v2/dags", "Bearer old")
    assert server.asked[3] == ("/api/v2/dags", "Bearer new")


def test_waiting_outlasts_a_server_that_is_restarted(scripted):
    client, _ = scripted(
        (201, {"access_token": "t"}),
        (200, {**RUN, "state": "running"}),
        (503, {"detail": "starting"}),
        (200, {**RUN, "state": "success", "start_date": "2026-01-05T10:00:00Z", "end_date": "2026-01-05T10:00:07Z"}),
    )
    run = client.wait("d", "r", within_s=30, every_s=0.01)
    assert (run.state, run.conf, (run.ended_at - run.started_at).total_seconds()) == ("success", {}, 7.0)


def test_waiting_for_a_run_that_does_not_exist_ends_at_once(scripted):
    client, server = scripted((201, {"access_token": "t"}), (404, {"detail": "no such run"}))
    with pytest.raises(AirflowError, match=r"GET /api/v2/dags/d/dagRuns/r was refused with 404: no such run") as error:
        client.wait("d", "r", within_s=30)
    assert error.value.status == 404
    assert server.answers == []


def test_a_run_that_lasts_too_long_is_named_with_its_state(scripted):
    client, _ = scripted((201, {"access_token": "t"}), (200, {**RUN, "state": "queued"}))
    with pytest.raises(AirflowError, match=r"run r of d must finish in 0\.01 s but is queued"):
        client.wait("d", "r", within_s=0.01, every_s=0.02)


def test_a_refused_parameter_is_shown_with_its_reason(scripted):
    reasons = [{"loc": ["body", "conf"], "msg": "trials must be at most 100"}]
    client, _ = scripted((201, {"access_token": "t"}), (422, {"detail": reasons}))
    with pytest.raises(AirflowError, match=r"422.*trials must be at most 100"):
        client.trigger_dag("d", {"trials": 1000})


def test_a_pool_that_exists_is_given_its_slots(scripted):
    client, server = scripted((201, {"access_token": "t"}), (409, {"detail": "exists"}), (200, {}))
    client.set_pool("gpu", slots=4)
    assert [path for path, _ in server.asked] == ["/auth/token", "/api/v2/pools", "/api/v2/pools/gpu"]


def test_tasks_are_read_page_by_page(scripted):
    tasks = [{"task_id": "trial", "map_index": i, "try_number": 1, "state": "success"} for i in range(3)]
    client, _ = scripted(
        (201, {"access_token": "t"}),
        (200, {"task_instances": tasks[:2], "total_entries": 3}),
        (200, {"task_instances": tasks[2:], "total_entries": 3}),
    )
    assert [task.map_index for task in client.tasks("d", "r")] == [0, 1, 2]


def test_dags_and_their_errors_are_read_page_by_page(scripted):
    client, server = scripted(
        (201, {"access_token": "t"}),
        (200, {"dags": [{"dag_id": f"d{i}", "is_paused": True} for i in range(100)], "total_entries": 101}),
        (200, {"dags": [{"dag_id": "d100", "is_paused": False}], "total_entries": 101}),
        (200, {"import_errors": [{"filename": "a.py", "stack_trace": "slip"}], "total_entries": 2}),
        (200, {"import_errors": [{"filename": "b.py", "stack_trace": "slop"}], "total_entries": 2}),
    )
    assert client.dags() == {f"d{i}": i < 100 for i in range(101)}
    assert client.import_errors() == {"a.py": "slip", "b.py": "slop"}
    assert server.answers == []


def test_a_server_that_is_not_there_is_named():
    with (
        AirflowClient(f"http://127.0.0.1:{free_port()}", login="admin", password="secret", timeout_s=5) as client,
        pytest.raises(AirflowError, match=r"GET http://127\.0\.0\.1:\d+/api/v2/monitor/health got no answer") as error,
    ):
        client.health()
    assert error.value.status is None
