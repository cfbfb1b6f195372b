"""Keep one Airflow running: start its components, replace those that die or hang, and leave nothing behind.

A component that only its process shows to be alive may be dead all the same: a scheduler whose loop has crashed waits
for its workers for ever. So the health endpoint is asked too, and a component that it calls unhealthy for long enough
is killed with all that came of it and started again.
"""

import logging
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Self

from recsys.errors import RecsysError
from retune.airflow_client import AirflowClient, AirflowError
from retune.airflow_home import LOGIN, AirflowHome, free_port
from retune.component import Component
from retune.guardian import end_marked, mark_of
from retune.lease import Lease, last_supervisor
from retune.vigil import Patience, Vigil

log = logging.getLogger(__name__)

# Name in the health endpoint and the command. The log servers are left out: on one machine the API server reads the
# logs' files itself, and Airflow can bind those servers to nothing less than every interface.
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "api_server": ("api-server",),
    "scheduler": ("scheduler", "--skip-serve-logs"),
    "dag_processor": ("dag-processor",),
    "triggerer": ("triggerer", "--skip-serve-logs"),
}


# What every task imports, whatever it does; the scheduler imports it once for all of them.
PRELOAD = (
    "airflow.sdk.execution_time.supervisor",
    "airflow.sdk.execution_time.task_runner",
    "airflow.sdk.definitions.asset.metadata",
    "airflow.providers.standard.decorators.python",
    "airflow.serialization.definitions.mappedoperator",
    "jinja2.ext",
    "encodings.idna",
)

# When the API server is stopped, nobody is left to ask it anything; its interpreter lingers for seconds.
_SERVER_STOP_S = 2.0


class StartError(RecsysError):
    """Airflow cannot be brought up."""


class Supervisor:
    """One Airflow for as long as the `with` block lasts.

    Args:
        home: the folder of its database, logs and secrets; used again by the next supervisor.
        dags: the folder of DAG files.
        plugins: the folder of plugins.
        port: where the page answers on 127.0.0.1; None takes the one of last time where it is free, else any.
        pools: slots of each pool that DAGs name.
        preload: modules that tasks need and that take long to import; see `retune.preloaded`.
        environment: the environment to build on instead of this process's own.
        patience: the limits.
    """

    def __init__(
        self,
        *,
        home: Path,
        dags: Path,
        plugins: Path,
        port: int | None = None,
        pools: Mapping[str, int] | None = None,
        preload: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        patience: Patience | None = None,
    ) -> None:
        self._home = home.resolve()
        self._dags = dags.resolve()
        self._plugins = plugins.resolve()
        self._port = port
        self._pools = {"gpu": 2} if pools is None else dict(pools)
        self._preload = {"scheduler": (*PRELOAD, *preload)}
        self._base = dict(os.environ if environment is None else environment)
        self._patience = patience or Patience()
        self._mark = f"{mark_of(self._home)}{secrets.token_hex(8)}|"
        self._components: dict[str, Component] = {}
        self._vigil = Vigil(self._patience)
        self._not_before: dict[str, float] = {}
        self._ending = threading.Event()
        self._watcher: threading.Thread | None = None
        self._guardian: subprocess.Popen[bytes] | None = None
        self._lease: Lease | None = None
        self.url = ""
        self.login = LOGIN
        self.password = ""
        self.seconds_to_page = 0.0
        self.seconds_to_healthy = 0.0

    def __enter__(self) -> Self:
        """Bring Airflow up.

        Raises:
            AlreadySupervised: somebody else supervises the home.
            StartError: a component dies, or stays silent for too long.
            ValueError: the wanted port is taken.
        """
        self._lease = Lease.take(self._home)
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        self._watcher = threading.Thread(target=self._watch, name="supervisor", daemon=True)
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    @property
    def client(self) -> AirflowClient:
        """A new client that is logged in as the administrator."""
        return AirflowClient(self.url, login=self.login, password=self.password)

    @property
    def pids(self) -> dict[str, int]:
        """The first process of each component."""
        return {name: component.pid for name, component in self._components.items() if component.pid is not None}

    @property
    def restarts(self) -> dict[str, int]:
        """How often each component was replaced."""
        return {name: max(component.starts - 1, 0) for name, component in self._components.items()}

    @property
    def logs(self) -> Path:
        """Where the components and the tasks write."""
        return self._home / "logs"

    def silent(self) -> set[str]:
        """Return the components that do not answer or whose heartbeat is stale; nobody while the database is away."""
        with AirflowClient(self.url, login=self.login, password=self.password, timeout_s=5.0) as client:
            try:
                health = client.health()
            except AirflowError:
                return {"api_server"}
        if health.pop("metadatabase", "") != "healthy":
            return set()
        return {name for name in self._components if name != "api_server" and health.get(name) != "healthy"}

    def healthy(self) -> bool:
        """Whether every component lives and answers."""
        alive = all(component.exit_code is None for component in self._components.values())
        return alive and not self.silent()

    def wait(self) -> None:
        """Return when the process is asked to end, by Ctrl-C or SIGTERM. Belongs in the main thread."""
        asked = threading.Event()
        before = {number: signal.signal(number, lambda *_: asked.set()) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            while not asked.wait(1.0):
                pass
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _start(self) -> None:
        began = time.monotonic()
        if left := end_marked(mark_of(self._home)):
            log.warning("killed %d processes that an earlier supervisor of %s left behind", left, self._home)
        home = AirflowHome(
            path=self._home,
            dags=self._dags,
            plugins=self._plugins,
            port=self._choose_port(),
            stale_after_s=self._patience.stale_s,
            base=self._base,
        )
        environment = home.environment()
        self.url, self.password = home.url, home.password()
        self._guardian = self._start_guardian()
        self._migrate(home, environment)
        self._components = {name: self._component(name, command, environment) for name, command in COMMANDS.items()}
        self._start_components(["api_server", "scheduler"])
        self._wait_for(["api_server"], until=began + self._patience.up_s)
        self.seconds_to_page = time.monotonic() - began
        self._start_components(["dag_processor", "triggerer"])
        with self.client as client:
            client.warm()
            for pool, slots in self._pools.items():
                client.set_pool(pool, slots=slots, description="Made by retune up.")
        self._wait_for(COMMANDS, until=began + self._patience.up_s)
        self.seconds_to_healthy = time.monotonic() - began
        log.info(
            "Airflow answers at %s after %.1f s, all healthy after %.1f s",
            self.url,
            self.seconds_to_page,
            self.seconds_to_healthy,
        )

    def _component(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> Component:
        return Component(
            name,
            command,
            environment=environment,
            mark=f"{self._mark}{name}|",
            output=self.logs / f"{name}.log",
            preload=self._preload.get(name, ()),
        )

    def _start_components(self, names: Collection[str]) -> None:
        for name in names:
            self._components[name].start()
        self._write_down()

    def _choose_port(self) -> int:
        if self._port is not None:
            return free_port(self._port)
        before = last_supervisor(self._home)
        try:
            return free_port(int(before.url.rpartition(":")[2]) if before else None)
        except ValueError:
            return free_port()

    def _start_guardian(self) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, "-m", "retune.guardian", self._mark, str(os.getpid())],
            stdin=subprocess.PIPE,
            cwd=Path(__file__).parents[1],
            start_new_session=True,
        )

    def _migrate(self, home: AirflowHome, environment: Mapping[str, str]) -> None:
        """Make the tables; an embedded database that this version has made needs no second look."""
        stamp = home.path / "migrated"
        made = home.sqlite is not None and home.sqlite.exists() and stamp.exists()
        if made and stamp.read_text(encoding="utf-8") == version("apache-airflow-core"):
            return
        migration = self._component("db_migrate", ("db", "migrate"), environment)
        if migration.run(within_s=self._patience.up_s) != 0:
            raise StartError(f"airflow db migrate failed; {migration.output} ends:\n{migration.last_words()}")
        stamp.write_text(version("apache-airflow-core"), encoding="utf-8")

    def _wait_for(self, names: Collection[str], *, until: float) -> None:
        """Return once `names` are healthy.

        Raises:
            StartError: a component ended, or the time was up.
        """
        while silent := self.silent() & set(names):
            for component in self._components.values():
                if component.exit_code is not None:
                    raise StartError(
                        f"{component.name} ended with {component.exit_code} while starting; "
                        f"{component.output} ends:\n{component.last_words()}"
                    )
            if time.monotonic() > until:
                raise StartError(
                    f"{sorted(silent)} must be healthy in {self._patience.up_s:.0f} s but are not; see {self.logs}."
                )
            time.sleep(0.25)

    def _watch(self) -> None:
        asked_at = time.monotonic()
        while not self._ending.wait(0.5):
            try:
                self._replace_dead()
                if time.monotonic() - asked_at >= self._patience.health_s:
                    asked_at = time.monotonic()
                    self._replace_hung()
            except Exception:  # a full disk, a process that does not end: the watch goes on
                log.exception("looking after Airflow failed this time")

    def _replace_dead(self) -> None:
        for component in self._components.values():
            if component.exit_code is not None:
                self._replace(component, f"ended with {component.exit_code}")
        if self._guardian is not None and self._guardian.poll() is not None:
            log.warning("the guardian ended with %s and is replaced", self._guardian.returncode)
            self._guardian = self._start_guardian()

    def _replace_hung(self) -> None:
        started_at = {name: component.started_at for name, component in self._components.items()}
        for name, seconds in self._vigil.hung(self.silent(), started_at, now=time.monotonic()).items():
            self._replace(self._components[name], f"was silent for {seconds:.0f} s")

    def _replace(self, component: Component, reason: str) -> None:
        """Kill all that came of `component`, and start it again as soon as it may be."""
        now = time.monotonic()
        if component.name not in self._not_before:
            killed = component.kill()
            lived_s = now - component.started_at
            wait_s = self._patience.before_restart(starts=component.starts, lived_s=lived_s)
            self._not_before[component.name] = now + wait_s
            log.warning(
                "%s %s, %.0f s after its start; killed %d processes of it, starting it again in %.0f s",
                component.name,
                reason,
                lived_s,
                killed,
                wait_s,
            )
        if now >= self._not_before[component.name]:
            del self._not_before[component.name]
            component.start()
            self._write_down()

    def _stop(self) -> None:
        """End everything, the API server last, so that what ends can still report to it."""
        self._ending.set()
        if self._watcher is not None:
            self._watcher.join()
        others = [component for name, component in self._components.items() if name != "api_server"]
        servers = [component for name, component in self._components.items() if name == "api_server"]
        for group, patience_s in ((others, self._patience.stop_s), (servers, _SERVER_STOP_S)):
            for component in group:
                component.ask_to_stop()
            deadline = time.monotonic() + patience_s
            for component in group:
                component.kill(after_s=max(0.0, deadline - time.monotonic()))
        end_marked(self._mark)
        if self._guardian is not None and self._guardian.stdin is not None:
            self._guardian.stdin.close()
            self._guardian.wait(timeout=30)
        if self._lease is not None:
            self._lease.give_back()
        log.info("Airflow at %s is down", self.url or self._home)

    def _write_down(self) -> None:
        assert self._lease is not None
        self._lease.write(url=self.url, components=self.pids, restarts=self.restarts)
