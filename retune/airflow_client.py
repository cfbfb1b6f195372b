"""Ask a running Airflow over its REST interface: trigger, wait, read states and logs."""

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

import httpx

from recsys.errors import RecsysError

FINISHED = frozenset({"success", "failed"})

_PAGE = 100  # entries that are asked for at once; Airflow gives no more


class AirflowError(RecsysError):
    """Airflow refused a request, could not be reached, or did not finish in time."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class DagRun:
    """One run of a DAG, as far as it has come.

    Args:
        state: queued, running, success or failed.
        kind: scheduled, manual, asset_triggered or backfill.
        started_at: None while it is queued.
        ended_at: None until it has finished.
    """

    dag_id: str
    run_id: str
    state: str
    kind: str
    conf: Mapping[str, Any]
    started_at: datetime | None
    ended_at: datetime | None

    @property
    def finished(self) -> bool:
        """Whether its state can change no more."""
        return self.state in FINISHED


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskInstance:
    """One task of one run; `map_index` is -1 unless the task is mapped, `state` None until it is scheduled."""

    task_id: str
    map_index: int
    try_number: int
    state: str | None


class AirflowClient:
    """Speaks to one Airflow as one user; the token is fetched on first use and again when it has run out.

    Args:
        url: where the page answers, `http://127.0.0.1:8080`.
        login: the user's name.
        password: the user's password.
        timeout_s: how long one answer may take.
    """

    def __init__(self, url: str, *, login: str, password: str, timeout_s: float = 30.0) -> None:
        self._login = {"username": login, "password": password}
        secure = url.startswith("https:")  # reading the authorities for nothing takes longer than most answers
        self._http = httpx.Client(base_url=url, timeout=timeout_s, verify=secure)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back the connections."""
        self._http.close()

    def token(self) -> str:
        """Return a new token of the user's, for requests made elsewhere.

        Raises:
            AirflowError: Airflow cannot be reached or refuses the login.
        """
        answer = self._send("POST", "/auth/token", json=self._login)
        return str(_accepted(answer)["access_token"])

    def trigger_dag(
        self,
        dag_id: str,
        conf: Mapping[str, Any] | None = None,
        *,
        logical_date: datetime | None = None,
        run_id: str | None = None,
        note: str | None = None,
    ) -> str:
        """Start a run of `dag_id`.

        Args:
            dag_id: the DAG, which must not be paused for the run to go ahead.
            conf: what overrides the DAG's parameters.
            logical_date: the moment the run stands for, if any.
            run_id: its name; Airflow makes one otherwise.
            note: what people read beside the run.

        Returns:
            The run's name.

        Raises:
            AirflowError: there is no such DAG, a parameter is refused, or Airflow cannot be reached.
        """
        body: dict[str, Any] = {
            "logical_date": logical_date.isoformat() if logical_date else None,
            "conf": dict(conf or {}),
        }
        if run_id is not None:
            body["dag_run_id"] = run_id
        if note is not None:
            body["note"] = note
        return str(self._ask("POST", f"/dags/{dag_id}/dagRuns", json=body)["dag_run_id"])

    def dag_run(self, dag_id: str, run_id: str) -> DagRun:
        """Return one run.

        Raises:
            AirflowError: there is no such run, or Airflow cannot be reached.
        """
        return _dag_run(self._ask("GET", f"/dags/{dag_id}/dagRuns/{run_id}"))

    def dag_runs(self, dag_id: str = "~", *, limit: int = 100) -> list[DagRun]:
        """Return the newest runs of `dag_id`, newest first; `~` stands for every DAG.

        Raises:
            AirflowError: there is no such DAG, or Airflow cannot be reached.
        """
        found = self._ask("GET", f"/dags/{dag_id}/dagRuns", params={"limit": limit, "order_by": "-run_after"})
        return [_dag_run(run) for run in found["dag_runs"]]

    def wait(self, dag_id: str, run_id: str, *, within_s: float, every_s: float = 0.5) -> DagRun:
        """Return the run once it has finished, in success or failure; Airflow may be restarted meanwhile.

        Raises:
            AirflowError: it has not finished in time, or there is no such run.
        """
        deadline = time.monotonic() + within_s
        state = "unknown"
        while time.monotonic() < deadline:
            try:
                run = self.dag_run(dag_id, run_id)
            except AirflowError as error:
                if error.status is not None and error.status < 500:
                    raise
            else:
                if run.finished:
                    return run
                state = run.state
            time.sleep(every_s)
        raise AirflowError(f"run {run_id} of {dag_id} must finish in {within_s} s but is {state}.")

    def dags(self) -> dict[str, bool]:
        """Return the known DAGs and whether each is paused.

        Raises:
            AirflowError: Airflow cannot be reached.
        """
        found = self._all("/dags", "dags", order_by="dag_id", exclude_stale=True)
        return {str(dag["dag_id"]): bool(dag["is_paused"]) for dag in found}

    def wait_for_dags(self, dag_ids: Iterable[str], *, within_s: float, every_s: float = 0.5) -> None:
        """Return once every one of `dag_ids` has been parsed.

        Raises:
            AirflowError: some were not found in time; the message has the import errors.
        """
        deadline = time.monotonic() + within_s
        wanted = set(dag_ids)
        while missing := wanted - set(self.dags()):
            if time.monotonic() > deadline:
                errors = self.import_errors() or "none"
                raise AirflowError(f"DAGs {sorted(missing)} were not found in {within_s} s; import errors: {errors}")
            time.sleep(every_s)

    def import_errors(self) -> dict[str, str]:
        """Return the DAG files that cannot be read, and why.

        Raises:
            AirflowError: Airflow cannot be reached.
        """
        found = self._all("/importErrors", "import_errors", order_by="id")
        return {str(error["filename"]): str(error["stack_trace"]) for error in found}

    def unpause(self, dag_id: str, *, paused: bool = False) -> None:
        """Let runs of `dag_id` go ahead, or hold them.

        Raises:
            AirflowError: there is no such DAG, or Airflow cannot be reached.
        """
        self._ask("PATCH", f"/dags/{dag_id}", json={"is_paused": paused})

    def tasks(self, dag_id: str, run_id: str) -> list[TaskInstance]:
        """Return the tasks of one run, mapped ones one by one.

        Raises:
            AirflowError: there is no such run, or Airflow cannot be reached.
        """
        found = self._all(f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances", "task_instances", order_by="start_date")
        return [_task(task) for task in found]

    def result(self, dag_id: str, run_id: str, task_id: str, *, map_index: int = -1, key: str = "return_value") -> Any:
        """Return what a task has handed on under `key`.

        Raises:
            AirflowError: it has handed on nothing under that key, or Airflow cannot be reached.
        """
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}"
        return self._ask("GET", path, params={"map_index": map_index, "deserialize": True})["value"]

    def task_log(self, dag_id: str, run_id: str, task: TaskInstance) -> str:
        """Return the log of the task's last try, one event a line.

        Raises:
            AirflowError: there is no such task, or Airflow cannot be reached.
        """
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task.task_id}/logs/{max(task.try_number, 1)}"
        found = self._ask("GET", path, params={"map_index": task.map_index, "full_content": True})
        return "\n".join(_log_line(event) for event in found["content"])

    def set_pool(self, name: str, *, slots: int, description: str = "") -> None:
        """Make the pool `name`, or give it as many slots as wanted.

        Raises:
            AirflowError: the pool is refused, or Airflow cannot be reached.
        """
        body = {"name": name, "slots": slots, "description": description, "include_deferred": False}
        try:
            self._ask("POST", "/pools", json=body)
        except AirflowError as error:
            if error.status != httpx.codes.CONFLICT:
                raise
            self._ask("PATCH", f"/pools/{name}", json=body)

    def health(self) -> dict[str, str]:
        """Return the status of the database and of each component by name; needs no login.

        Raises:
            AirflowError: the API server does not answer.
        """
        answer = _accepted(self._send("GET", "/api/v2/monitor/health"))
        return {name: str(says["status"]) for name, says in answer.items() if says}

    def warm(self) -> None:
        """Have the API server build what the first task would wait for.

        Raises:
            AirflowError: the API server does not answer.
        """
        _accepted(self._send("GET", "/execution/health", timeout=120.0))

    def _all(self, path: str, key: str, **params: Any) -> list[Any]:
        """Read every page of a listing."""
        found: list[Any] = []
        while True:
            page = self._ask("GET", path, params={**params, "limit": _PAGE, "offset": len(found)})
            found += page[key]
            if len(found) >= page["total_entries"] or not page[key]:
                return found

    def _ask(self, method: str, path: str, **request: Any) -> Any:
        """Send one request to the public interface, logged in."""
        if "Authorization" not in self._http.headers:
            self._http.headers["Authorization"] = f"Bearer {self.token()}"
        answer = self._send(method, f"/api/v2{path}", **request)
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            del self._http.headers["Authorization"]
            self._http.headers["Authorization"] = f"Bearer {self.token()}"
            answer = self._send(method, f"/api/v2{path}", **request)
        return _accepted(answer)

    def _send(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, **request)
        except httpx.HTTPError as error:
            raise AirflowError(f"{method} {self._http.base_url}{path} got no answer: {error!r}.") from error


def _accepted(answer: httpx.Response) -> Any:
    if answer.is_success:
        return answer.json()
    request = f"{answer.request.method} {answer.request.url.path}"
    try:
        detail = answer.json()["detail"]
    except (ValueError, KeyError, TypeError):
        detail = answer.text[:500]
    says = detail if isinstance(detail, str) else json.dumps(detail)
    raise AirflowError(f"{request} was refused with {answer.status_code}: {says}", status=answer.status_code)


def _dag_run(found: Mapping[str, Any]) -> DagRun:
    return DagRun(
        dag_id=found["dag_id"],
        run_id=found["dag_run_id"],
        state=found["state"],
        kind=found["run_type"],
        conf=found["conf"] or {},
        started_at=_moment(found["start_date"]),
        ended_at=_moment(found["end_date"]),
    )


def _task(found: Mapping[str, Any]) -> TaskInstance:
    return TaskInstance(
        task_id=found["task_id"],
        map_index=found["map_index"],
        try_number=found["try_number"],
        state=found["state"],
    )


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _log_line(event: Any) -> str:
    if not isinstance(event, dict):
        return str(event)
    facts = [f"{name}={event[name]}" for name in sorted(event) if name not in {"event", "timestamp", "level", "logger"}]
    return " ".join(
        [str(event.get("timestamp") or ""), str(event.get("level") or ""), str(event["event"]), *facts]
    ).strip()
