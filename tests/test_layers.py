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


# What is planted, and the contract that must name it.
PLANTED = [
    ("recsys/columns.py", "recsys.settings", "recsys.columns -> recsys.settings", "recsys is layered"),
    ("recsys/metrics.py", "recsys.models", "recsys.metrics -> recsys.models", "recsys is layered"),
    ("recsys/unlisted.py", "json", "- recsys.unlisted", "recsys is layered"),
    (
        "recsys/records/codec.py",
        "monitoring",
        "recsys.records.codec -> monitoring",
        "expectations and monitoring stand on recsys",
    ),
    (
        "expectations/planted.py",
        "monitoring",
        "expectations.planted -> monitoring",
        "expectations and monitoring stand",
    ),
    (
        "monitoring/planted.py",
        "retune.guardian",
        "monitoring.planted -> retune.guardian",
        "expectations and monitoring",
    ),
    ("retune/stages.py", "retune.vigil", None, None),  # a lower layer may be imported
    ("retune/guardian.py", "retune.supervisor", "retune.guardian -> retune.supervisor", "the commands stand"),
    ("retune/unlisted.py", "json", "- retune.unlisted", "the commands stand"),
    (
        "monitoring/planted.py",
        "airflow.sdk",
        "monitoring.planted -> airflow",
        "nothing below the plugin imports Airflow",
    ),
    ("recsys/dataset.py", "recsys.holdout", "recsys.dataset -> recsys.holdout", "no search can read the locked"),
    ("recsys/training.py", "recsys.holdout", "recsys.training -> recsys.holdout", "no search can read"),
    ("recsys/models/planted.py", "recsys.holdout", "recsys.models.planted -> recsys.holdout", "no search can read"),
    ("recsys/tuning/planted.py", "recsys.holdout", "recsys.tuning.planted -> recsys.holdout", "no search can read"),
]


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """What the linter says of a copy of the tree with everything planted: contract to its violations."""
    root = tmp_path_factory.mktemp("planted")
    shutil.copy(ROOT / "pyproject.toml", root)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    for module, imported, _, _ in PLANTED:
        with (root / module).open("a", encoding="utf-8") as file:
            file.write(f"\nimport {imported}\n")
    answer = lint_imports(root)
    assert answer.returncode == 1, answer.stdout
    _, _, details = answer.stdout.partition("Broken contracts")
    sections = re.split(r"\n(.+)\n-{5,}\n", details)
    return dict(zip(sections[1::2], sections[2::2], strict=True))


def test_the_tree_keeps_every_contract():
    answer = lint_imports(ROOT)
    assert answer.returncode == 0, answer.stdout


@pytest.mark.parametrize(("module", "imported", "violation", "contract"), PLANTED)
def test_a_planted_import_breaks_the_contract_that_forbids_it(broken, module, imported, violation, contract):
    if contract is None:
        name = f"{module.removesuffix('.py').replace('/', '.')} -> {imported}"
        assert not any(name in violations for violations in broken.values())
    else:
        [violations] = [text for title, text in broken.items() if title.startswith(contract)]
        assert violation in violations


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
