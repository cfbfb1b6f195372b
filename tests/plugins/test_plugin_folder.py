"""What Airflow does with the plugin folder: it runs every file there as a top-level module of its bare name."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PLUGINS = Path(__file__).parents[2] / "plugins"

PROBE = """
import json, logging, sys, sysconfig
from pathlib import Path
from airflow._shared.plugins_manager import _load_plugins_from_plugin_directory

stdlib = Path(sysconfig.get_path("stdlib"))

def displaced():
    files = {name: getattr(sys.modules.get(name), "__file__", None) for name in sys.stdlib_module_names}
    return sorted(name for name, file in files.items() if file and not Path(file).is_relative_to(stdlib))

def load(folder):
    before = set(sys.modules)
    sys.path.append(folder)  # as Airflow does
    plugins, errors = _load_plugins_from_plugin_directory(plugins_folder=folder)
    return {
        "plugins": sorted(plugin.name for plugin in plugins),
        "errors": errors,
        "modules": sorted(set(sys.modules) - before),
        "displaced": displaced(),
    }

print(json.dumps([load(folder) for folder in sys.argv[1:]]))
"""


@pytest.fixture(scope="module")
def loaded(tmp_path_factory) -> list[dict]:
    """The project's folder, and after it one with a trap, in a fresh process."""
    trap = tmp_path_factory.mktemp("trap")
    (trap / "colorsys.py").write_text("# not the standard library's\n")
    run = subprocess.run(
        [sys.executable, "-c", PROBE, str(PLUGINS), str(trap)], capture_output=True, text=True, check=True
    )
    return json.loads(run.stdout.splitlines()[-1])


def test_the_plugin_is_registered(loaded):
    assert loaded[0]["plugins"] == ["retune"]
    assert loaded[0]["errors"] == {}


def test_no_module_of_the_standard_library_is_displaced(loaded):
    assert loaded[0]["displaced"] == []


def test_a_module_that_displaces_one_would_be_seen(loaded):
    assert loaded[1]["displaced"] == ["colorsys"]


def test_airflow_runs_no_other_file_of_the_folder(loaded):
    names = {path.stem for path in PLUGINS.rglob("*.py")} - {"retune_plugin", "__init__"}
    assert len(names) > 5
    assert names.isdisjoint(loaded[0]["modules"])


def test_the_console_is_not_imported_before_anybody_asks_for_it(loaded):
    assert not [name for name in loaded[0]["modules"] if name.partition(".")[0] in ("retune_airflow", "recsys")]


def test_no_module_has_a_name_of_the_standard_library():
    assert {path.stem for path in PLUGINS.rglob("*.py")}.isdisjoint(sys.stdlib_module_names)
