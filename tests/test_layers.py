"""The import contracts hold for the tree as it is, and each of them can be broken."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ["recsys", "expectations", "monitoring", "retune", "plugins/retune_airflow"]


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-logo", "--no-cache"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root / "plugins"), "NO_COLOR": "1", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def copy(tmp_path):
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_the_tree_keeps_every_contract():
    answer = lint_imports(ROOT)
    assert answer.returncode == 0, answer.stdout


@pytest.mark.parametrize(
    ("module", "imported", "broken"),
    [
        ("recsys/columns.py", "recsys.settings", "recsys is layered as its data flows"),
        ("recsys/errors.py", "recsys.columns", "recsys is layered as its data flows"),
        ("recsys/unlisted.py", "recsys.columns", "recsys is layered as its data flows"),
        ("recsys/records.py", "monitoring", "expectations and monitoring stand on recsys"),
        ("expectations/planted.py", "monitoring", "expectations and monitoring stand on recsys"),
        ("monitoring/planted.py", "retune", "expectations and monitoring stand on recsys"),
        ("retune/unlisted.py", "recsys.columns", "the command line and the demo stand on the stages"),
        ("monitoring/planted.py", "airflow.sdk", "nothing below the plugin imports Airflow"),
        ("recsys/dataset.py", "recsys.holdout", "no search can read the locked holdout"),
        ("recsys/tuning/planted.py", "recsys.holdout", "no search can read the locked holdout"),
    ],
)
def test_a_planted_import_breaks_the_contract_that_forbids_it(copy, module, imported, broken):
    with (copy / module).open("a", encoding="utf-8") as file:
        file.write(f"\nimport {imported}\n")
    answer = lint_imports(copy)
    assert answer.returncode == 1, answer.stdout
    assert re.search(rf"^{re.escape(broken)}.* BROKEN$", answer.stdout, re.MULTILINE), answer.stdout


@pytest.mark.parametrize("dag", sorted((ROOT / "dags").glob("*.py")), ids=lambda path: path.stem)
def test_a_dag_file_imports_only_airflow_and_the_plugin_package(dag):
    """`dags/` is no package, so the linter's contracts cannot name it."""
    modules = set()
    for node in ast.walk(ast.parse(dag.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{dag.name} imports relatively, and dags/ is no package"
            modules.add((node.module or "").partition(".")[0])
    assert modules - set(sys.stdlib_module_names) <= {"airflow", "retune_airflow"}
