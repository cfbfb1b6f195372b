"""Give tests a line of made feedback and the command line to operate it."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from recsys import synthetic
from recsys.store import open_store
from retune import cli


@dataclass(frozen=True)
class Answer:
    """What the command line answered."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Retune = Callable[..., Answer]


@pytest.fixture
def retune(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Retune:
    """Run the command line in this process."""

    def run(*arguments: str) -> Answer:
        monkeypatch.setattr(sys, "argv", ["retune", *arguments])
        code = 0
        try:
            cli.main()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 0
        return Answer(code, *capsys.readouterr())

    return run


@pytest.fixture
def lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder with the made line `shop`, an empty file store and an empty journal of studies."""
    folder = tmp_path / "lines"
    folder.mkdir()
    (folder / "shop.toml").write_text(synthetic.LINE)
    monkeypatch.setenv("RETUNE_LINES", str(folder))
    monkeypatch.setenv("RETUNE_STORE", (tmp_path / "store").as_uri())
    monkeypatch.setenv("RETUNE_STUDIES", str(tmp_path / "studies.journal"))
    return folder


@pytest.fixture
def frozen(lines: Path, retune: Retune) -> Path:
    """Give the lines' folder once `shop` has a dataset and an incumbent."""
    store = open_store((lines.parent / "store").as_uri()).under("shop")
    store.put("landing/a.jsonl", synthetic.jsonl(synthetic.events(days=21)))
    assert retune("feedback", "shop", "--as-of", "2026-01-26").code == 0
    return lines
