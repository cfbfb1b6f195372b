"""Which lines become DAGs, and what is said of the others."""

import pytest

from recsys import synthetic
from recsys.errors import LineError
from retune_airflow.lines import check_lines, good_lines


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("RETUNE_LINES", str(tmp_path))
    return tmp_path


def write(folder, name, schedule=""):
    text = synthetic.LINE.replace('name = "shop"', f'name = "{name}"')
    (folder / f"{name}.toml").write_text(f"{text}\n[schedule]\n{schedule}\n")


@pytest.mark.parametrize(
    "expression", ["@hourly", "@daily", "@weekly", "@monthly", "@quarterly", "@yearly", "0 3 * * 1", "*/5 * * * *"]
)
def test_what_airflow_takes_for_a_schedule_is_taken(folder, expression):
    from airflow.timetables.trigger import CronTriggerTimetable

    write(folder, "shop", f'feedback = "{expression}"')
    CronTriggerTimetable(expression, timezone="UTC").validate()
    assert [line.name for line in good_lines()] == ["shop"]
    check_lines()


@pytest.mark.parametrize("expression", ["@once", "every full moon", "61 * * * *", "", "* * *"])
def test_what_airflow_would_refuse_is_refused_by_name(folder, expression):
    write(folder, "books")
    write(folder, "shop", f'retune = "{expression}"')
    assert [line.name for line in good_lines()] == ["books"]
    with pytest.raises(LineError, match=r"shop\.toml: schedule\.retune: must be a cron expression"):
        check_lines()


def test_every_wrong_file_is_named_at_once(folder):
    write(folder, "books", "feedbak = 1")
    write(folder, "shop", "timeout_minutes = -1")
    with pytest.raises(LineError, match=r"(?s)books\.toml: schedule\.feedbak.*shop\.toml: schedule\.timeout_minutes"):
        check_lines()


def test_a_folder_without_lines_is_no_silent_success(folder):
    with pytest.raises(LineError, match=r"must hold a file NAME\.toml for each line"):
        check_lines()


def test_who_passes_over_a_line_says_so(folder, caplog):
    write(folder, "shop", "feedbak = 1")
    assert list(good_lines()) == []
    assert "No DAGs for shop.toml" in caplog.text
