"""The loop, end to end, on made feedback with planted drift, by the command line, on files and on S3."""

import gzip
import json
from datetime import timedelta
from pathlib import Path

import pytest

from recsys import bundles, ledger, synthetic
from recsys.errors import Held
from retune import stages


def as_of(day: int) -> str:
    """The moment at which all feedback before `day` has arrived."""
    return f"{synthetic.START + timedelta(days=day):%Y-%m-%dT%H:%M:%S}"


@pytest.fixture(params=["file", "s3"])
def site(request: pytest.FixtureRequest, lines: Path, monkeypatch: pytest.MonkeyPatch) -> stages.Site:
    if request.param == "s3":
        monkeypatch.setenv("RETUNE_STORE", request.getfixturevalue("s3_url"))
    return stages.site("shop")


@pytest.mark.s3
def test_a_line_is_kept_tuned_through_corruption_drift_and_rollback(site: stages.Site, retune) -> None:
    # Three weeks arrive, one object of them broken off.
    whole = gzip.compress(synthetic.jsonl(synthetic.events(days=21)), mtime=0)
    site.store.put("landing/a.jsonl.gz", whole)
    site.store.put("landing/b.jsonl.gz", whole[: len(whole) // 2])
    arrived = retune("feedback", "shop", "--as-of", as_of(21), "--json")
    assert arrived.code == 0, arrived.err
    assert arrived.json["version"]["rows_added"] == 21 * 200
    [refused] = retune("status", "shop", "--json").json[0]["refused"]
    assert refused["source"] == "landing/b.jsonl.gz"
    assert refused["reasons"]

    # Nothing has moved since the baseline was made, but the baseline is no tuned model: search, and release.
    steady = retune("drift", "shop", "--json")
    assert (steady.code, steady.json["outcome"]) == (0, "steady")
    searched = retune("search", "shop", "--json")
    assert searched.code == 0, searched.err
    trials = searched.json["study"]["trials"]
    assert [trials[0]["family"], trials[0]["stage"]] == ["popularity", "screen"]
    assert {trial["stage"] for trial in trials} == {"screen", "refine", "confirm"}
    promoted = retune("promote", "shop", "--by", "operator", "--json")
    assert promoted.code == 0, promoted.out
    first = promoted.json["release"]
    assert promoted.json["verdict"]["outcome"] == "pass"
    assert first["family"] in {"markov", "two_tower"}

    # The world changes; the loop notices, searches and releases again.
    changed = synthetic.events(days=14, first_day=21, drifted=True)
    site.store.put("landing/c.jsonl", synthetic.jsonl(changed))
    assert retune("feedback", "shop", "--as-of", as_of(35), "--json").json["version"]["rows_added"] == 14 * 200
    drifted = retune("drift", "shop", "--json")
    assert drifted.json["outcome"] == "drifted"
    moved = {column["column"] for column in drifted.json["columns"] if column["distance"] > column["threshold"]}
    assert {"device", "value"} <= moved
    assert "age" not in moved
    again = retune("search", "shop", "--json")
    assert again.json["plan"]["release_id"] == first["release_id"]
    assert again.json["study"]["trials"][0]["family"] == first["family"]
    second = retune("promote", "shop", "--json")
    assert second.code == 0, second.out
    assert second.json["release"]["previous"] == first["release_id"]

    # Somebody takes it back, and the ledger knows everything in order.
    back = retune("rollback", "shop", "--reason", "too many repeats", "--by", "operator", "--json")
    assert back.json["release"]["release_id"] == first["release_id"]
    assert back.json["release"]["replaced"] == second.json["release"]["release_id"]
    entries = retune("history", "shop", "--limit", "100", "--json").json["entries"]
    assert (entries[-1]["what"], entries[-1]["who"], entries[-1]["why"]) == (
        "rolled back",
        "operator",
        "too many repeats",
    )
    readers = [entry["who"] for entry in entries if entry["what"] == "holdout read"]
    assert readers[0] == "operator"
    order = [entry["what"] for entry in entries]
    for earlier, later in [
        ("committed", "frozen"),
        ("frozen", "judged"),
        ("judged", "decided"),
        ("decided", "searched"),
    ]:
        assert order.index(earlier) < order.index(later)


def test_only_a_person_undoes_a_rollback(lines: Path, retune) -> None:
    site = stages.site("shop")
    site.store.put("landing/a.jsonl", synthetic.jsonl(synthetic.events(days=21)))
    baseline = retune("feedback", "shop", "--as-of", as_of(21), "--json").json["incumbent"]
    retune("search", "shop", "--action", "refit", "--family", "markov", "--reason", "is it better?")
    better = retune("promote", "shop", "--json").json["release"]["release_id"]
    back = retune("rollback", "shop", "--reason", "too many repeats")
    assert "".join(back.out.split()).endswith(f"Productionisnow{baseline},generation3,insteadof{better}.")
    held = retune("promote", "shop", "--json")
    assert (held.code, held.json["outcome"]) == (1, "held")
    assert "too many repeats" in held.json["verdict"]["because"]
    assert retune("status", "shop", "--json").json[0]["production"]["release_id"] == baseline
    again = retune("promote", "shop", "--again", "--reason", "the list was wrong", "--json")
    assert again.json["release"]["release_id"] == better
    assert again.json["release"]["reason"].endswith("the list was wrong")


def test_a_candidate_over_the_latency_budget_is_held(lines: Path, retune) -> None:
    text = (lines / "shop.toml").read_text()
    (lines / "shop.toml").write_text(text.replace("p99_ms = 100", "p99_ms = 0.0001"))
    site = stages.site("shop")
    site.store.put("landing/a.jsonl", synthetic.jsonl(synthetic.events(days=21)))
    assert retune("feedback", "shop", "--as-of", as_of(21)).code == 0
    before = stages.site("shop").store.get("channel/production.json").body
    forced = retune(
        "search", "shop", "--action", "refit", "--family", "markov", "--reason", "is it fast enough?", "--json"
    )
    assert forced.code == 0, forced.err
    held = retune("promote", "shop", "--json")
    assert held.code == 1
    assert held.json["outcome"] == "held"
    checks = {check["name"]: check["outcome"] for check in held.json["verdict"]["checks"]}
    assert "fail" in checks.values()
    assert site.store.get("channel/production.json").body == before


def test_the_same_feedback_again_changes_nothing(lines: Path, retune) -> None:
    site = stages.site("shop")
    body = synthetic.jsonl(synthetic.events(days=21))
    site.store.put("landing/a.jsonl", body)
    once = retune("feedback", "shop", "--as-of", as_of(21), "--json").json
    assert retune("feedback", "shop", "--as-of", as_of(21), "--json").json["outcome"] == "nothing new"
    site.store.put("landing/the-same-again.jsonl", body)
    twice = retune("feedback", "shop", "--as-of", as_of(21), "--json").json
    assert twice["version"]["rows_added"] == 0
    assert twice["dataset"]["dataset_id"] == once["dataset"]["dataset_id"]
    assert twice["dataset"]["cache_hit"]


def test_wrong_rows_are_refused_with_their_reasons(lines: Path, retune) -> None:
    site = stages.site("shop")
    rows = [json.loads(row) for row in synthetic.jsonl(synthetic.events(days=21)).splitlines()]
    rows[0]["value"] = 7  # over its maximum
    rows[1]["device"] = "toaster"
    site.store.put("landing/a.jsonl", "\n".join(json.dumps(row) for row in rows).encode())
    answer = retune("feedback", "shop", "--as-of", as_of(21), "--json")
    assert answer.json["version"]["rows_added"] == len(rows) - 2
    reasons = " ".join(reason for refusal in answer.json["version"]["refused"] for reason in refusal["reasons"])
    assert "value" in reasons
    assert "device" in reasons


def test_a_batch_with_too_many_wrong_rows_is_refused_whole(lines: Path, retune) -> None:
    frame = synthetic.events(days=21)
    frame.loc[frame.index % 5 == 0, "value"] = 7  # a fifth of the rows, where a tenth is allowed
    site = stages.site("shop")
    site.store.put("landing/a.jsonl", synthetic.jsonl(frame))
    answer = retune("feedback", "shop", "--as-of", as_of(21))
    assert answer.code == 1
    assert "value" in answer.err
    assert retune("feedback", "shop", "--as-of", as_of(21), "--json").json["outcome"] == "nothing new"
    [refused] = retune("status", "shop", "--json").json[0]["refused"]
    assert refused["rows"] == len(frame)


def test_a_candidate_that_is_not_sound_is_held_before_anything_is_measured(lines: Path, retune) -> None:
    site = stages.site("shop")
    site.store.put("landing/a.jsonl", synthetic.jsonl(synthetic.events(days=21)))
    assert retune("feedback", "shop", "--as-of", as_of(21)).code == 0
    assert retune("search", "shop", "--action", "refit", "--family", "markov", "--reason", "a test").code == 0
    bundle = stages.package(site, stages.newest_candidate(site))
    site.store.put(bundles.key(bundle.release_id, bundles.VOCABULARY), b"[]")
    for _ in range(2):
        with pytest.raises(Held, match="fails sanity: bytes, so it was not measured"):
            stages.measure(site, bundle, by="operator")
    verdict = stages.verdict(site, bundle.release_id)
    assert (verdict.outcome, verdict.checks[0].because) == ("fail", verdict.because.partition("stays: ")[2])
    assert [entry.what for entry in ledger.read(site.store) if entry.who == "operator"] == ["gated", "held"]
