"""Describe one Airflow installation wholly by environment variables: secrets, places, addresses, limits."""

import json
import os
import secrets
import socket
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

LOGIN = "admin"

# Every reader of a heartbeat may be late on a loaded machine, so tasks get more time than Airflow's components.
_TASK_SILENCE_S = 60

# Airflow logs warnings on standard output, where this one would stand before the JSON that was asked for.
_UNSAID = "ignore:Could not import graphviz"

# Tasks import the same packages as whoever started them.
_PACKAGES = Path(__file__).resolve().parents[1]

_SIMPLE_AUTH = "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager"


@dataclass(frozen=True, slots=True, kw_only=True)
class AirflowHome:
    """A folder that holds one Airflow: its database, logs, passwords and secrets.

    Args:
        path: the folder; made when it is missing.
        dags: the folder of DAG files.
        plugins: the folder of plugins.
        port: where the page and the REST interface answer on 127.0.0.1.
        stale_after_s: age in seconds at which Airflow calls a component's heartbeat unhealthy.
        base: the environment to build on; what it says about Airflow wins over the defaults here.
    """

    path: Path
    dags: Path
    plugins: Path
    port: int
    stale_after_s: float = 20.0
    base: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    @property
    def url(self) -> str:
        """Where the page answers."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def logs(self) -> Path:
        """Where the components and the tasks write their logs."""
        return self.path / "logs"

    @property
    def sqlite(self) -> Path | None:
        """The file of the embedded database, or None where the environment names another database."""
        named = self.base.get("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "")
        return None if named else self.path / "airflow.db"

    def password(self) -> str:
        """Return the one administrator's password, made on the first call."""
        file = self.path / "passwords.json"
        if not file.exists():
            _write_private(file, {LOGIN: secrets.token_urlsafe(16)})
        return str(json.loads(file.read_text(encoding="utf-8"))[LOGIN])

    def environment(self) -> dict[str, str]:
        """Return the environment in which every component of this Airflow runs."""
        self.path.mkdir(parents=True, exist_ok=True)
        self.logs.mkdir(exist_ok=True)
        self.password()
        return {**self._defaults(), **self._secrets(), **self.base, **self._fixed()}

    def _defaults(self) -> dict[str, str]:
        stale = str(round(self.stale_after_s))
        return {
            "AIRFLOW_CONFIG": os.devnull,  # otherwise Airflow makes a file in its home and obeys it ever after
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": "4",  # LocalExecutor forks as many workers as it may ever need at once
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__HOSTNAME_CALLABLE": "socket.gethostname",  # the default asks DNS, which can take seconds
            "AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "5",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.path / 'airflow.db'}",
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",  # a run that an asset wakes waits this long at most
            "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": stale,
            "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "30",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": str(_TASK_SILENCE_S),
            "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": stale,
            "AIRFLOW__DAG_PROCESSOR__HEALTH_CHECK_THRESHOLD": stale,
            "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "30",
            "AIRFLOW__WORKERS__EXECUTION_API_RETRIES": "12",  # 5 do not outlast a restart of the API server
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "2",  # a task's slot is given back this long after its end
            "AIRFLOW__LOGGING__COLORED_CONSOLE_LOG": "False",
            # No log server runs, so reading the log of a running task fails on that way, with a traceback each time,
            # before the file is shown.
            "AIRFLOW__LOGGING__NAMESPACE_LEVELS": "airflow.utils.log.file_task_handler=CRITICAL",
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": "9",
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": "9",
            "OMP_NUM_THREADS": "1",  # tasks run side by side; each with a thread per core would only fight
            "OPENBLAS_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
            "MALLOC_ARENA_MAX": "2",
            "PYTHONUNBUFFERED": "1",
        }

    def _fixed(self) -> dict[str, str]:
        return {
            "AIRFLOW_HOME": str(self.path),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.dags),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(self.plugins),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__CORE__AUTH_MANAGER": _SIMPLE_AUTH,
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{LOGIN}:admin",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self.path / "passwords.json"),
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(self.logs),
            "AIRFLOW__LOGGING__DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY": str(self.logs / "dag_processor"),
            "DO_NOT_TRACK": "1",
            "PYTHONWARNINGS": ",".join(filter(None, [_UNSAID, self.base.get("PYTHONWARNINGS", "")])),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(_PACKAGES), self.base.get("PYTHONPATH", "")])),
        }

    def _secrets(self) -> dict[str, str]:
        file = self.path / "secrets.json"
        if not file.exists():
            made = {
                "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_urlsafe(64),
                "AIRFLOW__API__SECRET_KEY": secrets.token_urlsafe(64),
                "AIRFLOW__CORE__FERNET_KEY": urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            }
            _write_private(file, made)
        kept = json.loads(file.read_text(encoding="utf-8"))
        return {str(name): str(value) for name, value in kept.items()}


def free_port(wanted: int | None = None) -> int:
    """Return a port of 127.0.0.1 that nobody listens on.

    Args:
        wanted: the port to take; None takes any.

    Raises:
        ValueError: the wanted port is taken.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does, so that TIME_WAIT is no bar
        try:
            probe.bind(("127.0.0.1", wanted or 0))
        except OSError as error:
            raise ValueError(f"port {wanted} of 127.0.0.1 must be free but is not: {error.strerror}.") from error
        return int(probe.getsockname()[1])


def _write_private(file: Path, content: Mapping[str, str]) -> None:
    """Write `content` so that only its owner can ever have read it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as out:
        json.dump(dict(content), out)
