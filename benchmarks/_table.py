"""Print one table of figures with the machine, date and commit they were measured on, and keep it as JSON."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """What one part of a benchmark showed."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    figures: Mapping[str, Any]


def show(
    name: str,
    *,
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    figures: Mapping[str, Any],
) -> Path:
    """Print `rows` as a table in Markdown and write `figures` to `var/bench/<name>.json`.

    Args:
        name: of the benchmark, as in `make bench NAME=...`.
        title: what was measured, in one line.
        columns: headings.
        rows: as many cells each as there are headings; numbers stand to the right, fractions with three digits.
        figures: the measured values by name, as JSON.

    Returns:
        The file that was written.
    """
    where = circumstances()
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(len(row[i]) for row in [list(columns), *cells]) for i in range(len(columns))]
    right = [all(isinstance(row[i], int | float) for row in rows) for i in range(len(columns))]
    print(f"\n{title}\n{where['machine']}, {where['date']}, commit {where['commit']}\n")
    print(_line(columns, widths, right))
    print(
        "| "
        + " | ".join("-" * (width - 1) + (":" if r else "-") for width, r in zip(widths, right, strict=True))
        + " |"
    )
    for row in cells:
        print(_line(row, widths, right))
    file = ROOT / "var" / "bench" / f"{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({**where, **figures}, indent=2) + "\n", encoding="utf-8")
    print(f"\n{file.relative_to(ROOT)}")
    return file


def circumstances() -> dict[str, str]:
    """Return the machine, the date and the commit, as far as they can be known."""
    git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=10"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "machine": f"{os.cpu_count()} cores {_processor()}, Python {platform.python_version()}",
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": commit or "unknown",
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def _cell(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    aligned = [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(cells, widths, right, strict=True)]
    return "| " + " | ".join(aligned) + " |"
