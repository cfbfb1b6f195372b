"""What is installed is what lies in the tree: every package, and nothing that only looks like one."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_every_package_is_listed_and_every_listed_one_exists():
    roots = ("recsys", "expectations", "monitoring", "retune")
    found = {file.parent.relative_to(ROOT) for root in roots for file in (ROOT / root).rglob("__init__.py")}
    assert set(SETTINGS["tool"]["setuptools"]["packages"]) == {".".join(path.parts) for path in found}


def test_folders_that_must_not_be_imported_are_no_packages():
    for folder in ("dags", "plugins", "docker", "tests"):
        assert not (ROOT / folder / "__init__.py").exists()


def test_every_direct_need_is_locked_with_hashes_and_no_registry_is_named():
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    locked = {line.partition("==")[0]: line for line in lock.splitlines() if line[:1].isalnum()}
    for line in (ROOT / "requirements.in").read_text(encoding="utf-8").splitlines():
        name = line.partition("#")[0].strip().partition(" ")[0]
        for mark in "[=<>":
            name = name.partition(mark)[0]
        assert not name or name in locked, f"{name} is not locked; `make lock` resolves it"
    assert lock.count("--hash=sha256:") >= len(locked)
    assert "http" not in "".join(line for line in lock.splitlines() if "--hash" not in line and not line[:1].isalnum())
