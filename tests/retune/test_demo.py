"""What the demo begins with."""

from pathlib import Path

import pytest

from recsys.settings import lines_folder, read_lines
from retune import demo, stages


def test_the_demo_has_no_line_but_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for old in ("store/movielens/landing/week-00.jsonl.gz", "lines/shop.toml", "airflow/airflow.db", "report.html"):
        (tmp_path / old).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / old).write_text("of an earlier demo")
    (tmp_path / "mine.txt").write_text("not the demo's")
    for name, value in demo.prepare(tmp_path).items():
        monkeypatch.setenv(name, value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lines", "mine.txt"]
    assert lines_folder() == tmp_path / "lines"
    assert [line.name for line in read_lines(lines_folder())] == ["movielens"]
    site = stages.site(demo.LINE)
    assert site.store.url == (tmp_path / "store" / "movielens").as_uri()
    assert list(site.store.list("")) == []
