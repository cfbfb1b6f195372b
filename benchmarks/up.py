"""Measure what `make up` costs: seconds until its page answers, and memory while nothing runs.

The seconds are those that a person waits: from the start of the command `retune up`, its check of the lines included.
Memory is the proportional set size (PSS): a page that several processes share is counted once.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from benchmarks._table import ROOT, show
from retune.airflow_home import free_port
from retune.guardian import MARK, mark_of, marked
from retune.supervisor import COMMANDS

LONGEST_S = 600  # that the command may take to start, and to end

IDLE_S = 60  # DAG files are parsed and every loop has gone round several times by then


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """Seconds from the command's start until its page answered, and until all components were healthy."""

    seconds_to_page: float
    seconds_to_healthy: float


def main() -> None:
    """Bring Airflow up in an empty folder and again in the one that is there then, and weigh it when it idles."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder).resolve() / "airflow"
        with _up(home) as first:
            pass
        with _up(home) as again:
            time.sleep(IDLE_S)
            pss_mb, processes = _weigh(home)
            cpu_s = _cpu_s(home)
            time.sleep(IDLE_S)
            idle_cpu = (_cpu_s(home) - cpu_s) / IDLE_S
            began = time.monotonic()
        down_s = time.monotonic() - began
    figures: dict[str, Any] = {
        "first_page_s": round(first.seconds_to_page, 1),
        "first_healthy_s": round(first.seconds_to_healthy, 1),
        "page_s": round(again.seconds_to_page, 1),
        "healthy_s": round(again.seconds_to_healthy, 1),
        "down_s": round(down_s, 1),
        "idle_mb": round(sum(pss_mb.values())),
        "idle_mb_by_component": {name: round(megabytes) for name, megabytes in sorted(pss_mb.items())},
        "processes": processes,
        "idle_cpu_cores": round(idle_cpu, 3),
    }
    rows: list[tuple[str, Any, str]] = [
        ("page answers, empty home", figures["first_page_s"], "s"),
        ("all components healthy, empty home", figures["first_healthy_s"], "s"),
        ("page answers, home used before", figures["page_s"], "s"),
        ("all components healthy, home used before", figures["healthy_s"], "s"),
        ("down", figures["down_s"], "s"),
        ("idle memory (PSS)", figures["idle_mb"], "MB"),
        *((f"  of which {name}", megabytes, "MB") for name, megabytes in figures["idle_mb_by_component"].items()),
        ("processes", figures["processes"], ""),
        ("idle processor time", figures["idle_cpu_cores"], "cores"),
    ]
    show("up", title="make up", columns=("what", "measured", "unit"), rows=rows, figures=figures)


@contextmanager
def _up(home: Path) -> Iterator[Started]:
    """Run the command as a person does, and ask its page until it answers; ended with SIGTERM, as by `retune down`."""
    port = free_port()
    command = [str(Path(sys.executable).with_name("retune")), "up", "--home", str(home), "--port", str(port)]
    began = time.monotonic()
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=5) as page:
                _wait(process, page, {"metadatabase"})
                to_page = time.monotonic() - began
                _wait(process, page, set(COMMANDS) - {"api_server"})
                yield Started(seconds_to_page=to_page, seconds_to_healthy=time.monotonic() - began)
        finally:
            process.terminate()
            process.wait(LONGEST_S)


def _wait(process: "subprocess.Popen[bytes]", page: httpx.Client, components: set[str]) -> None:
    """Return once the page says that `components` are healthy.

    Raises:
        RuntimeError: The command ended, or the time was up.
    """
    deadline = time.monotonic() + LONGEST_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            health = page.get("/api/v2/monitor/health").json()
            if all(health[name]["status"] == "healthy" for name in components):
                return
        except httpx.TransportError:
            pass  # not yet
        time.sleep(0.1)
    raise RuntimeError(f"{sorted(components)} must be healthy in {LONGEST_S} s, but are not.")


def _weigh(home: Path) -> tuple[dict[str, float], int]:
    """Return the megabytes of each component with all its children, and the number of processes."""
    megabytes: dict[str, float] = {}
    processes = marked(mark_of(home))
    for process in processes:
        component = process.environ()[MARK].split("|")[2]
        megabytes[component] = megabytes.get(component, 0.0) + process.memory_full_info().pss / 1e6
    return megabytes, len(processes)


def _cpu_s(home: Path) -> float:
    """Return the processor seconds that the components and their ended children have used."""
    return sum(sum(process.cpu_times()[:4]) for process in marked(mark_of(home)))


if __name__ == "__main__":
    main()
