"""`retune ablate`: what is in production taken apart by hand."""

from pathlib import Path

import pytest


def test_the_release_in_production_is_taken_apart(frozen: Path, retune, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "500")
    told = retune("ablate", "shop", "--by", "ann")
    assert told.code == 0, told.err
    assert "forgetting with age" in told.out
    assert "half_life_days 365 → 3.65e+04" in told.out

    found = retune("ablate", "shop", "--json").json["ablation"]
    assert found["because"] in told.out.replace("\n", " ")
    assert (found["plan"]["family"], found["plan"]["by"]) == ("popularity", "ann")
    [part] = found["parts"]
    assert part["change"]["low"] <= part["change"]["value"] <= part["change"]["high"]
    assert [
        entry["why"] for entry in retune("history", "shop", "--json").json["entries"] if entry["what"] == "ablated"
    ] == [found["because"]]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("markov-0",), "There must be a bundle 'markov-0' in "),
        (("--candidate",), "There must be a candidate in "),
        (("--dataset", "d"), "There must be a dataset 'd' in "),
    ],
)
def test_what_there_is_not_cannot_be_taken_apart(frozen: Path, retune, arguments, said) -> None:
    answer = retune("ablate", "shop", *arguments)
    assert answer.code == 2
    assert answer.err.startswith(said)
