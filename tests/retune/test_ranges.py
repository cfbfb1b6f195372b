from pathlib import Path

from recsys.models import FAMILIES


def narrow(lines: Path) -> None:
    """Let the line search two values of one knob and less of another's range."""
    with (lines / "shop.toml").open("a") as file:
        file.write("\n[search.space.two_tower]\ndim = [32, 64]\nlr = [0.001, 0.01]\n")


def test_every_knob_of_the_searched_families_is_listed_the_first_tier_first(lines: Path, retune) -> None:
    answer = retune("knobs", "--json").json
    found = [(knob["family"], knob["knob"], knob["tier"]) for knob in answer["knobs"]]
    assert answer["line"] == "shop"
    assert [name for family, name, _ in found if family == "markov"] == [
        "steps",
        "decay",
        "smoothing",
        "neighbours",
        "epochs",
    ]
    assert {name for family, name, _ in found if family == "two_tower"} == set(FAMILIES["two_tower"].defaults)
    assert [tier for *_, tier in found] == [1, 1, 1, 2, 3, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 3, 3]
    assert {family for family, *_ in found} == {"markov", "two_tower"}


def test_the_range_is_the_one_that_the_line_has_today(lines: Path, retune) -> None:
    narrow(lines)
    found = {(knob["family"], knob["knob"]): knob for knob in retune("knobs", "shop", "--json").json["knobs"]}
    assert found["two_tower", "dim"]["range"] == "32, 64"
    assert found["two_tower", "lr"]["range"] == "0.001 to 0.01, log"
    assert found["two_tower", "batch_size"]["range"] == "not searched"
    assert found["markov", "steps"]["range"] == "1 to 16"


def test_people_are_told_what_each_knob_means_family_by_family(lines: Path, retune, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "130")
    answer = retune("knobs")
    assert answer.code == 0
    told = [" ".join(line.split()) for line in answer.out.splitlines()]
    assert told[:5] == [
        "17 knobs of shop.",
        "",
        "markov",
        "knob tier range default owner meaning (unit)",
        "steps 1 1 to 16 9 serving How many of the newest items vote for what comes next (items)",
    ]
    assert "two_tower" in told


def test_a_terminal_of_80_columns_shows_each_knob_whole_and_its_meaning_below(lines: Path, retune, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = retune("knobs").out.splitlines()
    told = [" ".join(line.split()) for line in shown]
    assert max(map(len, shown)) <= 80
    assert told[told.index("two_tower") + 1 :][:2] == ["knob tier range default owner", "meaning (unit)"]
    assert {line.split()[0] for line in told if line} > set(FAMILIES["two_tower"].defaults)
    assert "history_length 2, capacity 20, 50, 100 50 serving" in told


def test_a_line_that_cannot_be_searched_is_named(lines: Path, retune) -> None:
    file = lines / "shop.toml"
    file.write_text(file.read_text() + "\n[search.space.markov]\nstepps = [1, 2]\n")
    answer = retune("knobs")
    assert answer.code == 2
    assert f"{file}: search.space.markov.stepps: no such parameter" in answer.err
