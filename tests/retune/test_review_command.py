"""`retune review`: what made searches tell of a line, and its file after a person has said yes."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from recsys import ledger, synthetic
from recsys.models import FAMILIES
from recsys.records import Action, Evidence, Plan, TrialEvidence, to_json
from recsys.settings import read_line
from recsys.store import Store
from retune import stages

MARKOV = FAMILIES["markov"].defaults
SPACE = """[search.space.markov]
steps = [9]
neighbours = [512]
decay = [0.4, 0.6]        # what happened before counts less
smoothing = [10.0, 100.0]

"""


@pytest.fixture
def file(lines: Path) -> Path:
    path = lines / "shop.toml"
    head, budgets = path.read_text().split("[budgets]")
    head = "".join(part for part in head.splitlines(keepends=True) if not part.startswith("families"))
    head = head.split("[search.space")[0].replace("[search]\n", '[search]\nfamilies = ["markov"]\n')
    path.write_text(f"{head}{SPACE}[budgets]{budgets}")
    read_line(path)
    return path


@pytest.fixture
def store(file: Path) -> Store:
    """Three searches in which `decay` gains up to its upper end, and `smoothing` nothing."""
    opened = stages.site("shop").store
    for number in (1, 2, 3):
        keep(opened, number)
    return opened


def keep(store: Store, number: int) -> None:
    rng = np.random.default_rng(number)
    as_of = synthetic.START.to_pydatetime() + timedelta(days=7 * number)
    trials = []
    for _ in range(30):
        decay, smoothing = float(rng.uniform(0.4, 0.6)), float(10 * 10 ** rng.random())
        gain = decay - 0.5 + float(rng.normal(0, 0.01))
        trials.append(
            TrialEvidence(
                stage="screen",
                share=1.0,
                epochs=1.0,
                seed=0,
                family="markov",
                configuration={**MARKOV, "decay": decay, "smoothing": smoothing},
                state="complete",
                ndcg_at_10=0.3 + gain,
                gain=gain,
                seconds=1.0,
            )
        )
    known = {"plan_id": f"r{number}", "dataset_id": "d", "family": "markov", "configuration": MARKOV, "as_of": as_of}
    plan = Plan(
        **known, action=Action.RETUNE, because="a test", release_id="markov-0", budget_s=60.0, seed=1, by="schedule"
    )
    store.put(f"studies/r{number}/plan.json", to_json(plan))
    store.put(f"evidence/r{number}.json", to_json(Evidence(**known, popularity={}, trials=tuple(trials))))


def test_the_review_is_shown_and_kept(store: Store, retune) -> None:
    answer = retune("review", "shop", "--by", "ann")
    assert answer.code == 0
    assert "Of 2 parameters of markov, 1 matter more than chance over 90 trials" in " ".join(answer.out.split())
    assert "search.space.markov.decay" in answer.out
    assert store.get("reviews/r3.json").body
    assert [entry.who for entry in ledger.read(store, what="reviewed")] == ["ann"]


def test_as_json_it_is_the_record(store: Store, retune) -> None:
    answer = retune("review", "shop", "--json")
    assert (answer.code, answer.json["outcome"]) == (0, "reviewed")
    assert [proposal["name"] for proposal in answer.json["review"]["proposals"]] == ["markov.decay", "markov.smoothing"]


def test_what_it_proposes_is_applied_with_one_command(store: Store, file: Path, retune) -> None:
    before = file.read_text()
    retune("review", "shop")
    answer = retune("review", "shop", "--apply", "--by", "ann", "--reason", "worth a try")
    assert answer.code == 0
    # 0.4 to 0.6 grows by half of what it is; smoothing stays at production's.
    wider = before.replace("decay = [0.4, 0.6]", "decay = [0.4, 0.7]")
    assert file.read_text() == wider.replace("[10.0, 100.0]", f"[{MARKOV['smoothing']}]")
    assert "+decay = [0.4, 0.7]        # what happened before counts less" in answer.out
    [entry] = ledger.read(store, what="edited")
    assert (entry.who, entry.why, entry.evidence["proposals"]) == (
        "ann",
        "worth a try",
        ["markov.decay", "markov.smoothing"],
    )


def test_one_proposal_can_be_applied_alone(store: Store, file: Path, retune) -> None:
    retune("review", "shop")
    answer = retune("review", "shop", "--apply", "--only", "markov.decay", "--json")
    assert (answer.json["outcome"], answer.json["applied"]) == ("applied", ["markov.decay"])
    assert read_line(file).search.space["markov"]["smoothing"] == (10.0, 100.0)


def test_to_apply_twice_is_no_error_and_no_decision(store: Store, retune) -> None:
    retune("review", "shop")
    retune("review", "shop", "--apply")
    again = retune("review", "shop", "--apply", "--json")
    assert (again.code, again.json["outcome"]) == (0, "nothing to apply")
    assert again.json["there_already"] == ["markov.decay", "markov.smoothing"]
    assert len(ledger.read(store, what="edited")) == 1


def test_a_file_that_has_changed_since_is_refused(store: Store, file: Path, retune) -> None:
    retune("review", "shop")
    file.write_text(file.read_text().replace("decay = [0.4, 0.6]", "decay = [0.5, 0.6]"))
    answer = retune("review", "shop", "--apply")
    assert answer.code == 2
    assert "search.space.markov.decay: must still be [0.4, 0.6] for markov.decay to be applied" in answer.err
    assert "Traceback" not in answer.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--apply",), "reviews/r3.json must hold the review after the search r3"),
        (("--only", "markov.decay"), "belong to --apply"),
        (("--reason", "why not"), "belong to --apply"),
    ],
)
def test_what_cannot_be_applied_is_said(store: Store, retune, arguments: tuple[str, ...], says: str) -> None:
    answer = retune("review", "shop", *arguments)
    assert answer.code == 2
    assert says in answer.err


def test_before_any_search_there_is_nothing_to_review(lines: Path, retune) -> None:
    answer = retune("review", "shop")
    assert answer.code == 2
    assert "must hold what a search found" in answer.err


def test_after_an_edit_the_next_review_looks_at_what_is_searched_then(store: Store, file: Path, retune) -> None:
    retune("review", "shop")
    retune("review", "shop", "--apply")
    told = retune("review", "shop", "--json").json["review"]
    [over] = told["over_studies"]
    assert [importance["parameter"] for importance in over["importances"]] == ["decay"]  # smoothing is fixed
    assert told["proposals"] == []  # nothing has been tried where the range is new
