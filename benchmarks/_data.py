"""Find the data that benchmarks measure on."""

import os
from pathlib import Path

from benchmarks._table import ROOT


def find(name: str) -> Path:
    """Give the file `name` of the data folder: that of `RETUNE_DATA`, or the one beside the project.

    Raises:
        SystemExit: It is in neither; the benchmark ends with one line that says so.
    """
    folders = [Path(named)] if (named := os.environ.get("RETUNE_DATA")) else []
    if (beside := ROOT.parent / "shared" / "data") not in folders:
        folders.append(beside)
    for folder in folders:
        if (path := folder / name).exists():
            return path
    raise SystemExit(
        f"{name} must lie in one of {list(map(str, folders))}, but does not. CONTRIBUTING.md says what it is."
    )
