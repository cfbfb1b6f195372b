"""What the command line says to people who err."""

from pathlib import Path

import pytest

from recsys import synthetic


def test_an_unknown_line_names_the_lines_there_are(lines: Path, retune) -> None:
    answer = retune("status", "shopp")
    assert answer.code == 2
    assert "shopp.toml" in answer.err
    assert "shop" in answer.err


def test_the_only_line_need_not_be_named(lines: Path, retune) -> None:
    assert retune("status", "--json").json["line"] == "shop"


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


def test_status_of_a_line_without_feedback_says_so(lines: Path, retune) -> None:
    answer = retune("status", "shop", "--json")
    assert answer.code == 0
    assert answer.json["production"] is None
