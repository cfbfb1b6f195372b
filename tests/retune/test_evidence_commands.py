"""`retune gate` and `retune why`: how a candidate was judged, would be judged, and what it came from."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from recsys import bundles, decisions, ledger
from recsys import gate as gating
from recsys.errors import BadObject, Held
from recsys.gate import VERDICT
from recsys.records import Comparison, Override, parse, to_json
from recsys.store import open_store
from retune import stages

REFIT = ("--action", "refit", "--family", "markov", "--reason", "a test")


def store_of(lines: Path):
    return open_store((lines.parent / "store").as_uri()).under("shop")


@pytest.fixture
def released(frozen: Path, retune) -> str:
    assert retune("search", "shop", *REFIT).code == 0
    promoted = retune("promote", "shop", "--by", "ann", "--json")
    assert promoted.code == 0, promoted.out
    return promoted.json["release"]["release_id"]


def everything(lines: Path) -> dict[str, bytes]:
    root = lines.parent / "store"
    return {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def policy(lines: Path, text: str) -> str:
    path = lines.parent / "policy.toml"
    path.write_text(text)
    return str(path)


def test_a_chain_that_is_whole_is_told_from_feedback_to_bytes_and_a_broken_one_says_where(
    frozen: Path, retune, released: str, monkeypatch
) -> None:
    whole = retune("why", released, "--json")  # the only line need not be named
    assert whole.code == 0, whole.json["chain"]["wrong"]
    chain = whole.json["chain"]
    assert [link["what"] for link in chain["links"]] == [
        "feedback",
        "dataset",
        "drift",
        "decision",
        "search",
        "candidate",
        "bundle",
        "comparison",
        "gate",
        "production",
    ]
    assert [batch["objects"] for batch in chain["batches"]] == [["landing/a.jsonl"]]
    assert [part["name"] for part in chain["parts"]][-1] == "holdout"
    assert {link["what"]: link["who"] for link in chain["links"]}["gate"] == "ann"

    monkeypatch.setenv("COLUMNS", "80")
    told = retune("why", "shop", released)
    assert told.code == 0
    assert max(map(len, told.out.splitlines())) <= 80
    assert "every link is there, and all matches." in told.out

    store = store_of(frozen)
    store.put(bundles.key(released, bundles.FP32), b"other bytes")
    store.delete(bundles.key(released, bundles.VOCABULARY))
    record = decisions.records(store, released)[0]
    store.put(record.comparison_key, b"{}")
    broken = retune("why", "shop", released, "--json")
    assert (broken.code, broken.json["outcome"]) == (1, "broken")
    wrong = "\n".join(broken.json["chain"]["wrong"])
    assert f"bundle: {bundles.FP32} must have the SHA-256" in wrong
    assert f"bundle: {bundles.VOCABULARY} must have the SHA-256" in wrong
    assert "but is gone" in wrong
    assert f"comparison: the comparison, {record.comparison_key}, must have the SHA-256" in wrong
    store.delete(next(entry.key for entry in store.list("datasets/") if entry.key.endswith("/dataset.json")))
    store.delete(max(entry.key for entry in store.list("ledger/") if "-released-" in entry.key))
    wrong = "\n".join(retune("why", "shop", released, "--json").json["chain"]["wrong"])
    assert "feedback: no dataset says which version it was" in wrong
    assert "production: the ledger has no entry of this move" in wrong
    assert "WRONG: " in retune("why", "shop", released).out


def test_the_baseline_has_a_chain_without_a_search_and_without_a_gate(frozen: Path, retune) -> None:
    release_id = retune("status", "shop", "--json").json[0]["production"]["release_id"]
    found = retune("why", "shop", release_id, "--json")
    assert found.code == 0, found.json
    assert "gate" not in [link["what"] for link in found.json["chain"]["links"]]


def test_a_release_that_is_not_there_is_an_error(frozen: Path, retune) -> None:
    assert retune("why", "shop", "markov-0").code == 2
    assert retune("gate", "shop", "markov-0").code == 2
    assert "RELEASE must be given" in retune("why", "shop").err


def test_a_gating_is_shown_and_its_page_written(frozen: Path, retune, released: str, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    page = frozen.parent / "page.html"
    told = retune("gate", released, "--page", str(page))
    assert told.code == 0
    assert "asked by ann" in told.out
    assert released in page.read_text()
    shown = retune("gate", "shop", released, "--json").json
    assert (shown["outcome"], len(shown["records"])) == ("pass", 1)


def test_a_replay_by_another_policy_says_what_changes_and_writes_nothing(frozen: Path, retune, released: str) -> None:
    before = everything(frozen)
    same = retune("gate", "shop", "--replay", "--policy", policy(frozen, "[budgets]\np99_ms = 100\nsize_mib = 5\n"))
    assert same.code == 0, same.err
    assert "0 verdicts would be another" in " ".join(same.out.split())

    stricter = "[gate]\nmin_ndcg_gain = 0.9\n[gate.cohorts.device]\ncolumn = 'device'\n"
    found = retune("gate", "--replay", "--policy", policy(frozen, stricter), "--json").json
    [one] = found["candidates"]
    assert (one["candidate"], one["then"], one["now"]) == (released, "pass", "fail")
    assert one["changed"] == ["quality: pass, now fail", "cohort device: not checked, now inconclusive"]
    assert "The cohort device was not measured then, so it must be measured again." in one["because"]
    assert any("no replay knows how they would have fared" in said for said in found["cannot_know"])

    batch = "[budgets]\np99_ms = 100\nsize_mib = 5\nthreads = 2\n"
    [one] = retune("gate", "--replay", "--policy", policy(frozen, batch), "--json").json["candidates"]
    assert (one["then"], one["now"]) == ("pass", "inconclusive")
    assert "budgets.threads = 1 and not 2" in one["because"]

    def cannot(text: str) -> list[tuple[str, int]]:
        replayed = retune("gate", "--replay", "--policy", policy(frozen, text), "--json").json
        return [(each["key"], each["comparisons"]) for each in replayed["cannot_judge"]]

    assert cannot("[gate]\nmax_p99_ratio = 1.5\n") == []
    assert cannot("[gate]\nerror_budget = 0.01\nconfidence = 0.9\nmin_top10_overlap = 0.5\n") == [
        ("gate.error_budget", 1),
        ("gate.min_top10_overlap", 1),
        ("gate.confidence", 1),
    ]
    assert cannot(stricter) == [("gate.cohorts", 1)]
    table = retune("gate", "--replay", "--policy", policy(frozen, batch)).out
    assert "Keys of the policy that the evidence cannot judge" in table
    assert "budgets.threads" in table
    assert everything(frozen) == before


def test_evidence_that_cannot_be_read_any_more_is_inconclusive(frozen: Path, retune, released: str) -> None:
    store = store_of(frozen)
    at = decisions.records(store, released)[0].comparison_key
    store.put(at, json.dumps({"candidate": {"release_id": released}}).encode())
    [one] = retune("gate", "--replay", "--policy", policy(frozen, "[gate]\nmin_users = 50\n"), "--json").json[
        "candidates"
    ]
    assert (one["candidate"], one["now"]) == (released, "inconclusive")
    assert "in a form that cannot be judged any more" in one["because"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[gate]\nmin_usres = 3\n", "gate.min_usres: no such key; it must be one of "),
        ("[search]\nbudget_s = 3\n", "search: no such key; it must be one of ['budgets', 'gate']."),
        ("[budgets]\np99_ms = -1\nsize_mib = 5\n", "budgets.p99_ms: must be greater than 0, but is -1."),
        ("[gate.cohorts.x]\ncolumn = 'colour'\n", "gate.cohorts.x.column: must be one of the contexts"),
        ("", "must hold [gate] or [budgets], but holds neither."),
        ("gate = ", "must be TOML"),
    ],
)
def test_a_wrong_policy_is_refused_as_a_wrong_line_is(lines: Path, retune, text: str, said: str) -> None:
    wrong = retune("gate", "shop", "--replay", "--policy", policy(lines, text))
    assert wrong.code == 2
    assert said in wrong.err
    assert "policy.toml: " in wrong.err


def test_options_that_do_not_go_together_are_refused(lines: Path, retune) -> None:
    assert "--replay and --policy belong together" in retune("gate", "shop", "--replay").err
    assert "--replay and --policy belong together" in retune("gate", "shop", "x", "--policy", "p.toml").err
    assert "goes with no release" in retune("gate", "shop", "x", "--replay", "--policy", "p.toml").err


def test_an_override_by_hand_is_a_release_with_a_reason(frozen: Path, retune) -> None:
    assert "--override releases what the gate does not pass" in retune("promote", "shop", "--override").err
    both = retune("promote", "shop", "--override", "--again", "--reason", "x")
    assert "must not both be given" in both.err
    assert retune("search", "shop", *REFIT).code == 0
    line = frozen / "shop.toml"
    line.write_text(line.read_text().replace("p99_ms = 100", "p99_ms = 0.0001"))
    assert retune("promote", "shop", "--json").code == 1
    done = retune("promote", "shop", "--override", "--reason", "slow is fine", "--by", "ann", "--json")
    assert (done.code, done.json["verdict"]["outcome"]) == (0, "fail")
    found = retune("why", done.json["release"]["release_id"], "--json")
    assert found.code == 0, found.json["chain"]["wrong"]
    [link] = [link for link in found.json["chain"]["links"] if link["what"] == "overridden"]
    assert (link["who"], link["says"].endswith("although the verdict is fail: slow is fine.")) == ("ann", True)


def test_a_line_that_asks_people_is_not_released_from_the_command_line(frozen: Path, retune) -> None:
    assert retune("search", "shop", *REFIT).code == 0
    line = frozen / "shop.toml"
    line.write_text(f'{line.read_text()}\n[approval]\nusers = ["ann"]\n')
    for more in ((), ("--override", "--reason", "now")):
        held = retune("promote", "shop", *more, "--json")
        assert (held.code, held.json["outcome"]) == (1, "held")
    entries = retune("history", "shop", "--json").json["entries"]
    assert "for which only the DAG promote_shop can ask" in entries[-1]["why"]


def test_what_is_not_new_is_refused_before_it_costs_a_look(frozen: Path, retune, released: str) -> None:
    store = store_of(frozen)
    plan = ("--plan", bundles.find_bundle(store, released).candidate_id.rsplit("-", 1)[0])
    for entry in [*store.list("looks/"), *store.list("ledger/")]:
        if "look" in entry.key or "measured" in entry.key:
            store.delete(entry.key)  # so that another look at the same pair would be a new one
    for entry in [*store.list(f"releases/{released}/comparisons/")]:
        store.delete(entry.key)

    def refused(*more: str) -> dict:
        answer = retune("promote", "shop", *plan, *more, "--json")
        assert (answer.code, answer.json["outcome"]) == (1, "held"), answer.err
        assert [check["name"] for check in answer.json["verdict"]["checks"]] == ["novelty"]
        return answer.json["verdict"]

    assert "The candidate is the release in production." in refused()["because"]
    refused("--override", "--reason", "x", "--by", "ann")
    assert "is in production already" in retune("history", "shop", "--json").json["entries"][-1]["why"]
    assert retune("rollback", "shop", "--reason", "complaints", "--by", "bob").code == 0
    assert "bob rolled the candidate back" in refused()["because"]
    blank = retune("promote", "shop", *plan, "--again", "--reason", " ")
    assert (blank.code, "therefore needs --reason" in blank.err) == (2, True)
    assert not [*store.list("looks/")]
    back = retune("promote", "shop", *plan, "--again", "--reason", "the cause was elsewhere", "--json")
    assert back.code == 0, back.out
    assert len([*store.list("looks/")]) == 1


def test_an_override_of_a_bundle_that_is_not_sound_is_refused_and_in_the_ledger(frozen: Path, retune) -> None:
    store = store_of(frozen)
    site = stages.site("shop")
    assert retune("search", "shop", *REFIT).code == 0
    bundle = stages.package(site, stages.newest_candidate(site))
    store.put(bundles.key(bundle.release_id, bundles.VOCABULARY), b"[]")
    with pytest.raises(Held, match="may not override sanity: bytes"):
        stages.measure(site, bundle, by="ann", override=Override(by="ann", reason="the shop wants it"))
    last = retune("history", "shop", "--json").json["entries"][-1]
    assert (last["what"], last["who"]) == ("held", "ann")
    assert "the shop wants it" in last["why"]
    assert not [*store.list("looks/")]


@pytest.mark.parametrize("name", ["nodir/x.html", "."])
def test_a_page_that_cannot_be_written_is_an_error_that_names_the_file(retune, released: str, frozen: Path, name: str):
    page = frozen.parent / name
    failed = retune("gate", released, "--page", str(page))
    assert failed.code == 2
    assert failed.err.startswith(f"--page {page}: must be a file that can be written, but ")
    assert "Traceback" not in failed.err


def test_a_record_that_cannot_be_read_is_named_and_stops_nothing_else(frozen: Path, retune, released: str) -> None:
    store = store_of(frozen)
    [good] = decisions.where(store, released)
    broken = good.rpartition("/")[0] + "/29990101T000000.000000Z-00000000.json"
    store.put(broken, b'{"line": ')
    shown = retune("gate", "shop", released, "--json")
    assert (shown.code, len(shown.json["records"])) == (0, 1)
    assert shown.json["page"].endswith(decisions.page_key(good))
    [said] = shown.json["unreadable"]
    assert said.startswith(f"{broken} must hold a record of kind GateRecord")
    assert "Records that cannot be read" in retune("gate", released).out

    chain = retune("why", released, "--json")
    assert chain.code == 1
    assert [wrong.partition(": ")[2].partition(" ")[0] for wrong in chain.json["chain"]["wrong"]] == [broken]

    users = policy(frozen, "[gate]\nmin_users = 50\n")
    assert retune("gate", "--replay", "--policy", users, "--json").json["candidates"][0]["unreadable"] == []
    store.put(good, b"{")
    replayed = retune("gate", "--replay", "--policy", users, "--json")
    [one] = replayed.json["candidates"]
    assert (replayed.code, one["then"], len(one["unreadable"])) == (0, "pass", 2)
    assert good in one["because"]
    assert good.rpartition("/")[2] in "".join(retune("gate", "--replay", "--policy", users).out.split())
    nothing = retune("gate", "shop", released)
    assert nothing.code == 2
    assert broken in nothing.err


@pytest.mark.parametrize("body", [b"{", b"", None])
def test_a_broken_verdict_is_noticed_in_the_chain(frozen: Path, retune, released: str, body) -> None:
    store, at = store_of(frozen), bundles.key(released, VERDICT)
    store.delete(at) if body is None else store.put(at, body)
    chain = retune("why", released, "--json")
    assert chain.code == 1
    [wrong] = chain.json["chain"]["wrong"]
    assert wrong.startswith(f"gate: {at} ")


def test_a_forged_comparison_is_not_judged_and_said_to_be_one(frozen: Path, retune, released: str) -> None:
    store, site = store_of(frozen), stages.site("shop")
    at = decisions.records(store, released)[0].comparison_key
    measured = parse(Comparison, at, store.get(at).body)
    forged = replace(measured, quantisation_loss=None, seconds=1.0)
    with pytest.raises(BadObject, match=f"^The comparison of {released} with .* must have the SHA-256 "):
        stages.gate(site, forged, by="ann")
    store.put(at, to_json(forged))
    users = policy(frozen, "[gate]\nmin_users = 50\n")
    [one] = retune("gate", "--replay", "--policy", users, "--json").json["candidates"]
    assert (one["now"], one["because"].partition(":")[0]) == ("inconclusive", "It was changed since it was measured")
    gating.gate(site.line, store, forged, by="ann")  # as an older version would have believed it
    record = decisions.records(store, released)[0]
    [moved] = ledger.read(store, what="released")[-1:]
    late = replace(record, at=moved.at - timedelta(microseconds=1))
    store.put(decisions.where(store, released)[0], to_json(late))
    wrong = "\n".join(retune("why", released, "--json").json["chain"]["wrong"])
    assert f"what was judged has the SHA-256 {record.comparison_sha256}, but what was measured has" in wrong
