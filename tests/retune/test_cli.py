"""What the command line says to people who err, and to programs."""

import importlib
import logging
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import pytest

from recsys import ledger, synthetic
from recsys.store import open_store
from retune import status, up


def test_an_unknown_line_names_the_lines_there_are(lines: Path, retune) -> None:
    answer = retune("status", "shopp")
    assert answer.code == 2
    assert "shopp.toml" in answer.err
    assert "shop" in answer.err


def test_the_only_line_need_not_be_named(lines: Path, retune) -> None:
    assert [state["line"] for state in retune("status", "--json").json] == ["shop"]


def test_one_of_several_lines_must_be_named(lines: Path, retune) -> None:
    (lines / "other.toml").write_text(synthetic.LINE.replace('"shop"', '"other"'))
    answer = retune("drift")
    assert answer.code == 2
    assert "other" in answer.err
    assert "shop" in answer.err


def test_a_wrong_file_is_named_with_its_key(lines: Path, retune) -> None:
    file = lines / "shop.toml"
    file.write_text(file.read_text().replace("budget_s = 120", 'budget_s = "long"'))
    answer = retune("lines")
    assert answer.code == 2
    assert f"{file}: search.budget_s: must be a valid number, but is 'long'." in answer.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("drift", "shop"), "dataset"),
        (("promote", "shop"), "candidate"),
        (("rollback", "shop", "--reason", "why not"), "release"),
        (("rollback", "shop"), "--reason"),
        (("promote", "shop", "--again"), "--again brings back what was rolled back and therefore needs --reason."),
        (("promote", "shop", "--reason", "x"), "--reason belongs to --again"),
        (("search", "shop", "--action", "retune"), "--reason"),
        (("search", "shop", "--action", "retune", "--reason", "x", "--configuration", "[1]"), "JSON object"),
        (("search", "shop", "--action", "dance", "--reason", "x"), "dance"),
        (("feedback", "shop", "--as-of", "yesterday"), "--as-of"),
        (("nonsense",), "nonsense"),
    ],
)
def test_what_cannot_be_done_is_said_without_a_traceback(
    lines: Path, retune, arguments: tuple[str, ...], says: str
) -> None:
    answer = retune(*arguments)
    assert answer.code == 2
    assert says.lower() in answer.err.lower()
    assert "Traceback" not in answer.err


def test_nothing_new_is_no_error(lines: Path, retune) -> None:
    answer = retune("feedback", "shop", "--json")
    assert (answer.code, answer.json["outcome"]) == (0, "nothing new")
    landing = f"{(lines.parent / 'store').as_uri()}/shop/landing"
    assert answer.json["because"] == f"Nothing new has landed under {landing}."


def test_status_of_a_line_without_feedback_says_so(lines: Path, retune) -> None:
    answer = retune("status", "shop", "--json")
    assert answer.code == 0
    assert [state["production"] for state in answer.json] == [None]


# --- programs


@pytest.fixture
def two_lines(lines: Path) -> Path:
    (lines / "books.toml").write_text(synthetic.LINE.replace('"shop"', '"books"'))
    return lines


def test_the_status_is_one_array_whether_of_several_lines_or_of_one(two_lines: Path, retune) -> None:
    answer = retune("status", "--json")
    assert answer.code == 0
    assert [state["line"] for state in answer.json] == ["books", "shop"]
    assert retune("status", "shop", "--json").json == answer.json[1:]
    assert [line for line in retune("status").out.splitlines() if line in ("books", "shop")] == ["books", "shop"]


def test_a_folder_without_lines_is_said_so(lines: Path, retune) -> None:
    (lines / "shop.toml").unlink()
    for command in ("status", "lines", "drift"):
        answer = retune(command)
        assert (answer.code, answer.out) == (2, "")
        assert answer.err == f"{lines}: must hold a file NAME.toml for each line, but holds none.\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("drift",), "LINE must be given, because there is not one line but ['books', 'shop']."),
        (("promote", "shop"), "candidate"),  # NoCandidate
        (("rollback", "shop", "--reason", "why not"), "release"),  # NoRelease
        (("status", "shoes"), "shoes.toml: there must be such a file"),  # LineError
        (("search", "shop", "--action", "retune"), "--reason"),
        (("search", "shop", "--configuration", "[1]"), "--configuration must be a JSON object, but is '[1]'."),
    ],
)
def test_what_cannot_be_done_is_said_in_json_too(
    two_lines: Path, retune, arguments: tuple[str, ...], says: str
) -> None:
    answer = retune(*arguments, "--json")
    assert answer.code == 2
    assert answer.json.keys() == {"outcome", "because"}
    assert answer.json["outcome"] == "error"
    assert says in answer.json["because"]
    assert answer.err == f"{answer.json['because']}\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("rollback", "shop"), "Missing option '--reason'."),
        (("status", "--nope"), "No such option: --nope"),
        (("search", "shop", "--action", "foo"), "Invalid value for '--action': "),
        (("feedback", "shop", "--as-of", "yesterday"), "Invalid value for '--as-of': "),
        (("history", "shop", "--limit", "0"), "Invalid value for '--limit': "),
        (("nonsense",), "No such command 'nonsense'."),
    ],
)
def test_wrong_usage_is_said_in_json_where_json_is_asked_for(
    lines: Path, retune, arguments: tuple[str, ...], says: str
) -> None:
    answer = retune(*arguments, "--json")
    assert answer.code == 2
    assert answer.json.keys() == {"outcome", "because"}
    assert answer.json["outcome"] == "error"
    assert answer.json["because"].startswith(says)
    assert answer.err == f"{answer.json['because']}\n"
    plain = retune(*arguments)
    assert (plain.code, plain.out) == (2, "")
    assert plain.err.startswith("Usage: retune")
    assert f"Error: {says}" in plain.err


def test_help_is_no_error_beside_json(lines: Path, retune) -> None:
    answer = retune("status", "--json", "--help")
    assert answer.code == 0
    assert "Usage: retune status" in answer.out


def test_a_refused_batch_is_said_in_json_too(lines: Path, retune) -> None:
    store = open_store((lines.parent / "store").as_uri()).under("shop")
    store.put("landing/a.jsonl", synthetic.jsonl(synthetic.events(days=1).assign(value=7.0)))
    answer = retune("feedback", "shop", "--as-of", "2026-01-06", "--json")
    assert (answer.code, answer.json["outcome"]) == (1, "refused")
    assert "value" in answer.json["because"]


def test_what_landed_and_cannot_be_read_is_refused_by_key_and_reason(lines: Path, retune) -> None:
    store = open_store((lines.parent / "store").as_uri()).under("shop")
    store.put("landing/broken.jsonl", b"{")
    answer = retune("feedback", "shop", "--json")
    assert (answer.code, answer.json["outcome"]) == (1, "refused")
    assert answer.json["because"].endswith("/shop/landing: 1 went to quarantine.")
    [refused] = answer.json["refused"]
    assert refused["source"] == "landing/broken.jsonl"
    assert refused["kept_at"].startswith("quarantine/")
    [reason] = refused["reasons"]
    store.put("landing/broken-too.jsonl", b"{")
    told = retune("feedback", "shop")
    assert told.code == 1
    assert "landing/broken-too.jsonl" in told.out
    assert reason.split()[0] in told.out
    assert retune("feedback", "shop", "--json").json["outcome"] == "nothing new"


# --- looking


def test_a_release_is_watched_by_hand_and_what_is_not_known_is_said(frozen: Path, retune) -> None:
    found = retune("watch", "shop", "--by", "ann", "--json")
    assert (found.code, found.json["outcome"], found.json["previous"]) == (0, "unknown", None)
    assert "the line names no watch.values" in found.json["because"]
    file = frozen / "shop.toml"
    file.write_text(file.read_text() + '\n[watch.values.worth]\ncolumn = "value"\n')
    assert "is the first release" in retune("watch", "shop").out
    entries = retune("history", "shop", "--json").json["entries"]
    assert "ann" in [entry["who"] for entry in entries if entry["what"] == "watched"]


def test_who_may_only_read_can_look(lines: Path, retune, monkeypatch: pytest.MonkeyPatch, s3_to_look_at: str) -> None:
    monkeypatch.setenv("RETUNE_STORE", s3_to_look_at)
    assert retune("status", "shop", "--json").json[0]["production"] is None
    assert retune("history", "shop", "--json").json == {"line": "shop", "entries": []}
    acts = retune("drift", "shop")
    assert acts.code == 2
    assert "AccessDenied" in acts.err


def test_the_newest_decisions_are_read_and_no_others(lines: Path, retune) -> None:
    store = open_store((lines.parent / "store").as_uri()).under("shop")
    for minute in range(3):
        at = datetime(2026, 2, 1, 12, minute, tzinfo=UTC)
        ledger.append(store, ledger.Entry(at=at, what="judged", who="tests", why="because", id=str(minute)))
    store.put("ledger/20260201T110000.000000Z-judged-x.json", b"whoever reads this stops")
    entries = retune("history", "shop", "--limit", "2", "--json").json["entries"]
    assert [entry["id"] for entry in entries] == ["1", "2"]
    assert retune("status", "shop", "--json").json[0]["last"]["judged"]["at"] == "2026-02-01T12:02:00+00:00"
    assert retune("history", "shop", "--limit", "9").code == 2


# --- deciding


def test_every_search_by_hand_is_a_decision_of_its_own(frozen: Path, retune) -> None:
    file = frozen / "shop.toml"
    file.write_text(file.read_text().replace('families = ["markov", "two_tower"]', 'families = ["popularity"]'))
    plans = [retune("search", "shop", "--json").json["plan"] for _ in range(2)]
    assert [plan["action"] for plan in plans] == ["nothing", "nothing"]
    assert plans[0]["plan_id"] != plans[1]["plan_id"]


def test_a_decision_is_shown_with_all_that_could_be_done_and_carried_out_by_its_name(frozen: Path, retune) -> None:
    plan = retune("decide", "shop", "--json").json["plan"]
    assert plan["action"] == "retune"
    assert sorted(option["action"] for option in plan["options"]) == ["nothing", "refit", "retune", "sentinels"]
    assert retune("status", "shop", "--json").json[0]["open"][0]["plan_id"] == plan["plan_id"]
    assert "was never opened" in " ".join(retune("status", "shop").out.split())
    assert retune("search", "shop", "--plan", "nope").err == (
        f"the plan of shop must be one of {plan['plan_id']}, but none is called 'nope'.\n"
    )
    told = retune("decide", "shop", "--action", "nothing", "--reason", "a quiet week").out
    assert told.startswith("a quiet week The plan: nothing.")
    assert "only a search can replace it" in " ".join(told.split())
    assert "less what it takes" in " ".join(told.split())
    assert (
        "--action overrides the decision and therefore needs --reason."
        in retune("decide", "shop", "--action", "refit").err
    )


# --- Airflow's own commands


def test_airflows_commands_need_a_home(lines: Path, retune, tmp_path: Path) -> None:
    answer = retune("airflow", "--home", str(tmp_path / "none"), "dags", "list")
    assert answer.code == 2
    assert "must be a home in which Airflow has been up, but is none; `make up` makes it." in answer.err
    assert not (tmp_path / "none").exists()


def test_the_help_of_airflows_commands_names_the_option_of_ours(lines: Path, retune) -> None:
    answer = retune("airflow", "--help")
    assert answer.code == 0
    assert "--home" in answer.out
    assert "cheat-sheet" in answer.out


def test_every_line_has_its_command_to_let_its_dags_run() -> None:
    begin = ".venv/bin/retune airflow dags unpause --yes --treat-dag-id-as-regex"
    assert up.unpausing(["books", "shop"]) == [f"{begin} '^[a-z]+_books$'", f"{begin} '^[a-z]+_shop$'"]


# --- settings


def test_an_unknown_level_of_the_log_is_refused_by_name(lines: Path, retune, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETUNE_LOG", "loud")
    answer = retune("status", "--json")
    assert answer.code == 2
    assert answer.json["because"] == ("RETUNE_LOG must be one of DEBUG, INFO, WARNING, ERROR, CRITICAL, but is 'loud'.")
    assert "Traceback" not in answer.err


def test_airflows_home_lies_where_everything_else_lies(
    lines: Path, retune, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RETUNE_VAR", str(tmp_path / "elsewhere"))
    answer = retune("airflow", "dags", "list")
    assert answer.code == 2
    assert f"{tmp_path / 'elsewhere' / 'airflow'} must be a home" in answer.err


# --- what is said


def test_optuna_logs_at_the_level_of_all_others() -> None:
    importlib.import_module("recsys.tuning.trials")
    assert logging.getLogger("optuna").level == logging.NOTSET


def test_the_status_names_no_day_before_which_there_may_be_events_or_none() -> None:
    span = {"events": 1200, "begins": "2026-09-17T00:00:00+00:00", "ends": "2026-10-20T00:00:00+00:00"}
    holdout = {"events": 300, "ends": "2026-11-01T00:00:00+00:00"}
    dataset = {"dataset_id": "d1", "train": span, "holdout": holdout, "n_items": 40}
    found = {
        "production": None,
        "dataset": dataset,
        "cache": {"misses": 1, "hits": 0},
        "open": [],
        "refused": [],
        "last": {},
    }
    assert dict(status.rows(found))["dataset"] == (
        "d1: 1,200 events to learn from until 2026-10-20, 300 in the holdout until 2026-11-01, 40 items"
    )


def test_the_version_is_said(lines: Path, retune) -> None:
    assert retune("--version").out == f"{version('retune')}\n"


def test_that_nothing_was_running_is_said_in_json_too(lines: Path, retune, tmp_path: Path) -> None:
    home = ("--home", str(tmp_path / "airflow"))
    assert retune("down", *home, "--json").json == {"outcome": "nothing was running"}
    assert retune("down", *home).out == "Nothing was running.\n"


def test_one_line_is_said_to_be_one(lines: Path, retune) -> None:
    assert retune("lines").out.splitlines()[0].replace("\n", "").startswith("1 line in ")


# --- feedback


def test_what_was_taken_and_refused_is_counted_by_its_unit_also_before_it_is_enough(lines: Path, retune) -> None:
    store = open_store((lines.parent / "store").as_uri()).under("shop")
    few = synthetic.events(days=1).head(40)
    few.loc[few.index[:2], "value"] = 7.0
    store.put("landing/a.jsonl", synthetic.jsonl(few))
    store.put("landing/broken.jsonl", b"{")
    told = retune("feedback", "shop", "--as-of", "2026-01-06", "--json")
    assert (told.code, told.json["outcome"]) == (0, "committed"), told.err
    assert [told.json[name] for name in ("events_committed", "events_refused", "objects_refused")] == [38, 2, 1]
    assert {refusal["source"] for refusal in told.json["version"]["refused"]} >= {"landing/broken.jsonl"}

    store.put("landing/b.jsonl", synthetic.jsonl(synthetic.events(days=1, seed=1).head(1)))
    plain = retune("feedback", "shop", "--as-of", "2026-01-06")
    assert plain.code == 0
    said = " ".join(plain.out.split())
    assert said.startswith("1 event committed as version 2, 0 events and 0 objects refused. ")
    assert "split.min_train_events" in said


# --- where studies lie


@pytest.mark.parametrize(
    "studies", ["mysql://retune:secret@host/x", "nonsense://host/x", "{file}/below/studies.journal"]
)
def test_a_place_where_no_studies_can_lie_is_refused_before_anything_is_decided(
    frozen: Path, retune, monkeypatch: pytest.MonkeyPatch, studies: str
) -> None:
    store = open_store((frozen.parent / "store").as_uri()).under("shop")
    there = {entry.key for entry in store.list("")}
    monkeypatch.setenv("RETUNE_STUDIES", studies.format(file=frozen / "shop.toml"))
    answer = retune("search", "shop", "--action", "retune", "--reason", "x")
    assert answer.code == 2
    [line] = answer.err.splitlines()
    assert line.startswith(
        "RETUNE_STUDIES must be the path of a file, or the URL of a database whose driver is installed"
    )
    assert "secret" not in line
    assert not {key for key in {entry.key for entry in store.list("")} - there if key.startswith("studies/")}


def test_the_module_runs_as_a_command() -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "retune.cli", "--version"], capture_output=True, text=True, check=False, timeout=120
    )
    assert (answer.returncode, bool(answer.stdout.strip())) == (0, True)
