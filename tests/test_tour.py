"""The tour leads through every module, once, and to none that is not there."""

import ast
import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("recsys", "expectations", "monitoring", "retune", "plugins")


def says_something(module: Path) -> bool:
    """Whether a file holds more than a docstring."""
    return len(ast.parse(module.read_text(encoding="utf-8")).body) > 1


def test_the_tour_leads_to_every_module_once():
    tour = (ROOT / "docs" / "tour.md").read_text(encoding="utf-8")
    stops = Counter(re.findall(r"^- \[[^\]]+\]\(\.\./([\w/.]+\.py)\)", tour, re.MULTILINE))
    modules = {file for package in PACKAGES for file in (ROOT / package).rglob("*.py")}
    there = {file.relative_to(ROOT).as_posix() for file in modules if file.stem != "__init__" or says_something(file)}
    assert there - stops.keys() == set(), "the tour passes these by"
    assert stops.keys() - there == set(), "the tour leads to what is not there"
    assert set(stops.values()) == {1}


def test_what_a_stop_is_called_is_where_it_leads():
    tour = (ROOT / "docs" / "tour.md").read_text(encoding="utf-8")
    for name, path in re.findall(r"^- \[([^\]]+)\]\(\.\./([^)]+)\)", tour, re.MULTILINE):
        assert name.replace("\\", "") == path


def test_other_paths_in_the_tour_exist():
    tour = (ROOT / "docs" / "tour.md").read_text(encoding="utf-8")
    for path in re.findall(r"`((?:\w+/)+(?:\w+\.py)?)`", tour):
        assert (ROOT / path).exists(), path
