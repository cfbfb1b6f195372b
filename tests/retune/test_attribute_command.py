"""`retune attribute`: what a release gained, divided among what changed."""

from pathlib import Path


def test_a_release_is_compared_with_its_predecessor(frozen: Path, retune, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "500")
    baseline = retune("attribute", "shop")
    assert baseline.code == 2
    assert "must have been measured, but there is no comparison of it." in baseline.err

    refit = ("--action", "refit", "--family", "markov", "--configuration", '{"decay": 0.5}', "--reason", "a test")
    assert retune("search", "shop", *refit).code == 0
    promoted = retune("promote", "shop", "--json").json
    release_id = promoted["verdict"]["candidate"]
    found = retune("attribute", "shop", release_id, "--json").json["attribution"]
    assert found["predecessor"] == promoted["verdict"]["incumbent"]
    assert [(share["knob"], share["was"], share["now"]) for share in found["shares"]] == [
        ("family", "popularity", "markov"),
        ("decay", 0.77, 0.5),
    ]
    told = retune("attribute", "shop", release_id)
    assert told.code == 0
    assert found["because"] in told.out.replace("\n", " ")
    assert "nothing is known" in told.out
