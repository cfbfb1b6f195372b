"""What is found wrong in a line when the libraries of a search look at it, and where that is said."""

import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from recsys import synthetic
from recsys.errors import LineError
from recsys.records import Action, Plan
from retune import stages
from retune.lines import check_lines, check_lines_apart

APART = """
import sys
from retune.lines import check_lines_apart

print([line.name for line in check_lines_apart()], "torch" in sys.modules)
"""


def spoil(lines: Path, name: str, old: str, new: str) -> Path:
    text = synthetic.LINE.replace('name = "shop"', f'name = "{name}"')
    assert text.count(old) == 1
    (lines / f"{name}.toml").write_text(text.replace(old, new))
    return lines / f"{name}.toml"


@pytest.fixture
def wrong_family(lines: Path) -> Path:
    return spoil(lines, "shop", '"two_tower"', '"two_towers"')


@pytest.fixture
def wrong_space(lines: Path) -> Path:
    return spoil(lines, "books", "[search.screen]", "[search.space.markov]\nstep = [9]\n\n[search.screen]")


@pytest.mark.parametrize("check", [check_lines, check_lines_apart])
def test_every_search_that_cannot_be_is_named_with_its_file(lines, wrong_space, check):
    shoes = spoil(lines, "shoes", "[search.screen]", "[search.space.markov]\nsteps = [900]\n\n[search.screen]")
    with pytest.raises(LineError) as error:
        check()
    first, second = str(error.value).splitlines()
    assert first.startswith(f"{wrong_space}: search.space.markov.step: no such parameter is searched")
    assert first.endswith("Did you mean 'steps'?")
    assert second.startswith(f"{shoes}: search.space.markov.steps: must hold whole numbers within")


@pytest.mark.parametrize(
    ("table", "found"),
    [
        (
            '[search.past.bigram]\nfamily = "markow"',
            "search.past.bigram.family: must be one of ['hybrid', 'markov', 'popularity', 'sasrec', 'two_tower'], "
            "but is 'markow'. Did you mean 'markov'?",
        ),
        (
            "[search.past.markow.scaled]\ndecay = 2.0",
            "search.past.markow.family: must be one of ['hybrid', 'markov', 'popularity', 'sasrec', 'two_tower'], "
            "but is missing, and no family of today is called 'markow'. Did you mean 'markov'?",
        ),
        (
            '[search.past.markov.renamed]\nlook_back = "stepps"',
            "search.past.markov.renamed.look_back: must name a parameter that markov has today, one of "
            "['decay', 'epochs', 'neighbours', 'smoothing', 'steps'], but names 'stepps'. Did you mean 'steps'?",
        ),
        (
            "[search.past.markov.scaled]\nmomentum = 0.5",
            "search.past.markov.scaled.momentum: must name a parameter that markov has today, one of "
            "['decay', 'epochs', 'neighbours', 'smoothing', 'steps'], but names 'momentum'.",
        ),
        (
            '[search.past.bigram]\nfamily = "markov"\nimplied = { decays = 0.5 }',
            "search.past.bigram.implied.decays: must name a parameter that markov has today, one of "
            "['decay', 'epochs', 'neighbours', 'smoothing', 'steps'], but names 'decays'. Did you mean 'decay'?",
        ),
        (
            '[search.past.markov]\nfamily = "hybrid"',
            "search.past.markov.family: must be left out, because markov is a family of today, but is 'hybrid'.",
        ),
        (
            "[search.past.two_tower.scaled]\nsoftmax = 2.0",
            "search.past.two_tower.scaled.softmax: must name a parameter that is a number, but softmax is 'full' by "
            "default.",
        ),
        (
            "[search.past.two_tower.scaled]\nlr = 0.0",
            "search.past.two_tower.scaled.lr.0: must be greater than 0, but is 0.0.",
        ),
        (
            "[search.past.two_tower.scaled]\nlr = [0.001, -5.0]",
            "search.past.two_tower.scaled.lr.1: must be greater than 0, but is -5.0.",
        ),
        (
            '[search.past.two_tower.implied]\nlr = "fast"',
            "search.past.two_tower.implied.lr: must be what two_tower can have, but: lr of two_tower must be float but "
            "is 'fast' of type str.",
        ),
        (
            "[search.past.two_tower.implied]\ndropout = 7.0",
            "search.past.two_tower.implied.dropout: must be what two_tower can have, but: dropout must lie in [0, 1) "
            "but is 7.0.",
        ),
        (
            '[search.past.two_tower.renamed]\na = "lr"\nb = "lr"',
            "search.past.two_tower.renamed: must give each parameter a name of its own, but a and b are both 'lr'; "
            "what was renamed twice is written step by step, such as a = 'b' and b = 'c'.",
        ),
    ],
)
def test_a_past_that_names_what_does_not_exist_or_says_what_cannot_be_is_named_with_its_file(lines, table, found):
    books = spoil(lines, "books", "[search.screen]", f"{table}\n\n[search.screen]")
    with pytest.raises(LineError) as error:
        check_lines()
    assert str(error.value) == f"{books}: {found}"


def test_values_that_only_together_can_be_implied_may_be(lines):
    spoil(lines, "books", "[search.screen]", "[search.past.sasrec.implied]\nheads = 3\ndim = 48\n\n[search.screen]")
    assert check_lines()


def test_names_of_then_may_be_any_and_each_wrong_name_of_today_is_said(lines):
    table = (
        '[search.past.bigram]\nfamily = "markov"\nrenamed = { back = "steps" }\nscaled = { a = 2 }\nimplied = { b = 2 }'
    )
    books = spoil(lines, "books", "[search.screen]", f"{table}\n\n[search.screen]")
    with pytest.raises(LineError) as error:
        check_lines()
    first, second = str(error.value).splitlines()
    assert first.startswith(f"{books}: search.past.bigram.scaled.a: ")
    assert second.startswith(f"{books}: search.past.bigram.implied.b: ")


def test_a_family_that_does_not_exist_is_named_with_its_file(wrong_family):
    with pytest.raises(LineError, match="Did you mean 'two_tower'") as error:
        check_lines()
    assert str(error.value).startswith(f"{wrong_family}: search.families: must be among")


def test_who_only_supervises_does_not_import_pytorch_to_check(lines):
    answer = subprocess.run([sys.executable, "-c", APART], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["['shop']", "False"]


def test_the_first_stage_refuses_a_line_that_could_never_be_searched(wrong_space):
    with pytest.raises(LineError) as error:
        stages.pull(stages.site("books"), as_of=datetime(2026, 2, 1, tzinfo=UTC))
    assert str(error.value).startswith(f"{wrong_space}: search.space.markov.step: ")


def test_a_search_whose_line_was_spoilt_since_names_the_file(lines):
    plan = Plan(
        plan_id="r20260201-00000000",
        action=Action.RETUNE,
        because="A test asks for it.",
        dataset_id="d",
        release_id="r",
        family="popularity",
        configuration={},
        budget_s=60,
        seed=1,
        by="tests",
        as_of=datetime(2026, 2, 1, tzinfo=UTC),
    )
    stages.open_search(stages.site("shop"), plan)
    file = spoil(lines, "shop", "[search.screen]", "[search.space.markov]\nstep = [9]\n\n[search.screen]")
    spoilt = stages.site("shop")
    for stage in (stages.open_search, lambda site, plan: stages.jobs(site, plan, "screen")):
        with pytest.raises(LineError) as error:
            stage(spoilt, plan)
        assert str(error.value).startswith(f"{file}: search.space.markov.step: ")


def test_airflow_is_not_started_for_a_wrong_line_or_none(wrong_space, retune, tmp_path):
    home = tmp_path / "airflow"
    with socket.socket() as taken:  # so that an Airflow that is started all the same is not waited for
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        command = ("up", "--home", str(home), "--port", str(taken.getsockname()[1]))
        answer = retune(*command)
        assert (answer.code, "http" in answer.out) == (2, False)
        assert answer.err.startswith(f"{wrong_space}: search.space.markov.step: ")
        for file in wrong_space.parent.iterdir():
            file.unlink()
        answer = retune(*command)
    assert (answer.code, "http" in answer.out) == (2, False)
    assert answer.err.startswith(f"{wrong_space.parent}: must hold a file NAME.toml for each line, but holds none.")
    assert not home.exists()
