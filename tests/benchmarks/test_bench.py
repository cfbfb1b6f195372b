"""What `make bench` says before anything is measured."""

import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks import _data

ROOT = Path(__file__).resolve().parents[2]


def test_data_is_found_where_the_environment_points(monkeypatch, tmp_path):
    (tmp_path / "some.txt").touch()
    monkeypatch.setenv("RETUNE_DATA", str(tmp_path))
    assert _data.find("some.txt") == tmp_path / "some.txt"


@pytest.mark.parametrize("set_to", [None, "", "/nowhere"])
def test_data_that_is_absent_ends_the_benchmark_with_one_line_that_says_where_to_look(monkeypatch, set_to):
    if set_to is None:
        monkeypatch.delenv("RETUNE_DATA", raising=False)
    else:
        monkeypatch.setenv("RETUNE_DATA", set_to)
    with pytest.raises(SystemExit) as ended:
        _data.find("no-such-data/any.txt")
    beside = ROOT.parent / "shared" / "data"
    folders = [set_to, str(beside)] if set_to else [str(beside)]
    assert ended.value.code == (
        f"no-such-data/any.txt must lie in one of {folders}, but does not. CONTRIBUTING.md says what it is."
    )


@pytest.mark.parametrize("name", [[], ["NAME=speed"]], ids=["none", "unknown"])
def test_without_the_name_of_a_benchmark_nothing_is_installed(tmp_path, name):
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "quality.py").touch()
    for needed in ("requirements.lock", "pyproject.toml"):
        (tmp_path / needed).touch()
    make = ["make", "-C", str(tmp_path), "bench", "PYTHON=false", *name]
    ended = subprocess.run(make, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 2
    assert "make bench: NAME must be one of: quality; found" in ended.stderr
    assert "Bringing" not in ended.stdout


@pytest.mark.parametrize("name", ["ml-1m/sequences.txt", "ml-1m/positives.parquet", "ml-100k/ml-100k.inter"])
def test_the_data_of_the_benchmarks_is_described(name):
    used = "".join(path.read_text() for path in (ROOT / "benchmarks").glob("*.py"))
    assert f'find("{name}")' in used
    assert f"`{name}`" in (ROOT / "CONTRIBUTING.md").read_text()
