"""What the demo begins with."""

import re
from pathlib import Path

import pytest

from recsys.settings import lines_folder, read_lines
from retune import demo, stages


def test_the_demo_has_no_line_but_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for old in (
        "store/movielens/landing/week-00.jsonl.gz",
        "lines/shop.toml",
        "airflow/airflow.db",
        "report.html",
        demo.MARK,
    ):
        (tmp_path / old).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / old).write_text("of an earlier demo")
    (tmp_path / "mine.txt").write_text("not the demo's")
    for name, value in demo.prepare(tmp_path).items():
        monkeypatch.setenv(name, value)
    assert sorted(path.name for path in tmp_path.iterdir()) == [demo.MARK, "lines", "mine.txt"]
    assert lines_folder() == tmp_path / "lines"
    assert [line.name for line in read_lines(lines_folder())] == ["movielens"]
    site = stages.site(demo.LINE)
    assert site.store.url == (tmp_path / "store" / "movielens").as_uri()
    assert list(site.store.list("")) == []


@pytest.mark.parametrize("kept", ["lines/shop.toml", "store/shop/landing/a.jsonl", "airflow/airflow.db", "mine.txt"])
def test_a_folder_that_is_no_demos_is_refused_and_stays_as_it_is(tmp_path: Path, kept: str) -> None:
    (tmp_path / kept).parent.mkdir(exist_ok=True, parents=True)
    (tmp_path / kept).write_text("somebody's")
    with pytest.raises(ValueError, match=f"{re.escape(str(tmp_path))} must be a new or empty folder.*{kept[:4]}"):
        demo.prepare(tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / kept]
    assert (tmp_path / kept).read_text() == "somebody's"


def test_a_file_is_no_folder_for_the_demo(tmp_path: Path) -> None:
    (tmp_path / "demo").write_text("somebody's")
    with pytest.raises(ValueError, match="must be a folder, but is a file"):
        demo.prepare(tmp_path / "demo")


def test_a_new_folder_and_an_empty_one_become_the_demos(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "new" / "below"):
        for _ in range(2):  # the second demo finds the first one's mark
            demo.prepare(folder)
        assert sorted(path.name for path in folder.iterdir()) == [demo.MARK, "lines"]
