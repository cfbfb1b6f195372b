"""Find the data that benchmarks measure on."""

import os
from pathlib import Path

from benchmarks._table import ROOT


def find(name: str) -> Path:
    """Give the file `name` of the data folder: that of `RETUNE_DATA`, or the one beside the project.

    Raises:
        FileNotFoundError: It is in neither.
    """
    folders = [Path(os.environ["RETUNE_DATA"])] if "RETUNE_DATA" in os.environ else []
    folders.append(ROOT.parent / "shared" / "data")
    for folder in folders:
        if (path := folder / name).exists():
            return path
    raise FileNotFoundError(f"{name} must lie in one of {list(map(str, folders))}, but does not.")
