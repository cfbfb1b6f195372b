"""A search by hand that is ended from outside, and taken up again."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from recsys import studies
from recsys.records import Action
from recsys.tuning.trials import Trials
from retune import stages

COMMAND = [sys.executable, "-c", "from retune.cli import main; main()"]
LONG = (("workers = 1", "workers = 2"), ("trials = 4", "trials = 64"), ("trials = 2", "trials = 32"))


@pytest.fixture
def searching(frozen: Path) -> Iterator[subprocess.Popen[str]]:
    """Give a process that searches with two workers, once the first trial has ended; nothing of it is left after."""
    file = frozen / "shop.toml"
    for old, new in LONG:
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new, 1))
    with subprocess.Popen([*COMMAND, "search", "shop"], stderr=subprocess.PIPE, text=True) as process:
        assert "screen trial" in process.stderr.readline()
        begun = psutil.Process(process.pid).children(recursive=True)
        yield process
        for each in [*begun, process]:
            with suppress(psutil.NoSuchProcess):
                each.kill()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_search_that_is_ended_from_outside_leaves_no_process(searching: subprocess.Popen[str], number) -> None:
    begun = psutil.Process(searching.pid).children(recursive=True)
    assert len(begun) >= 3  # two workers and what collects their results
    searching.send_signal(number)
    _, alive = psutil.wait_procs(begun, timeout=30)
    assert alive == []
    assert searching.wait(timeout=30) == (-number if number == signal.SIGKILL else 130)
    if number == signal.SIGTERM:
        site = stages.site("shop")
        [plan] = studies.unclosed(site.store)
        assert Trials.load(plan, site.studies).seen_s_ago() is None  # what ran is on its list again


def test_an_open_search_is_named_taken_up_again_and_then_closed(frozen: Path, retune) -> None:
    site = stages.site("shop")
    verdict = stages.judge(site, stages.newest_dataset(site))
    plan = stages.decide(site, verdict, by="tests", reason="a test", action=Action.REFIT, family="markov")
    stages.open_search(site, plan)
    assert [each["plan_id"] for each in retune("status", "shop", "--json").json[0]["open"]] == [plan.plan_id]
    assert plan.plan_id in retune("status", "shop").out

    refused = retune("search", "shop", "--plan", plan.plan_id, "--action", "retune", "--reason", "x")
    assert (refused.code, refused.err.split(",")[0]) == (2, "--plan takes up what was decided")
    taken_up = retune("search", "shop", "--plan", plan.plan_id, "--json")
    assert taken_up.code == 0, taken_up.err
    assert taken_up.json["plan"]["plan_id"] == plan.plan_id
    assert taken_up.json["candidate"]["plan_id"] == plan.plan_id
    assert retune("status", "shop", "--json").json[0]["open"] == []

    again = retune("search", "shop", "--plan", plan.plan_id)
    assert again.code == 2
    assert again.err == (
        f"the plan's search must be open, but that of {plan.plan_id} was closed and has the candidate "
        f"{taken_up.json['candidate']['candidate_id']}.\n"
    )
    unknown = retune("search", "shop", "--plan", "r20260101-00000000")
    assert unknown.err == "the plan of shop must be open, but none is, and none is called 'r20260101-00000000'.\n"


def test_a_search_that_is_put_off_says_how_it_is_carried_out_and_an_order_is_not(frozen: Path, retune) -> None:
    file = frozen / "shop.toml"
    file.write_text(f'{file.read_text()}\n[schedule]\nfeature_refresh = "* * * * *"\n')
    late = retune("search", "shop")
    assert late.code == 1
    said = " ".join(late.out.split())
    assert "is put off: with " in said
    [plan] = retune("status", "shop", "--json").json[0]["open"]
    assert f"`retune search shop --plan {plan['plan_id']}` carries it out later." in said

    done = retune("search", "shop", "--action", "sentinels", "--reason", "now")
    assert done.code == 0, done.err
    account = [line.split() for line in done.out.splitlines() if line.strip()]
    assert {"screen", "confirm", "all", "useful", "overhead"} <= {words[0] for words in account}
