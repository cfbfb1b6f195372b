"""Give tests of a search a small line, its frozen dataset, an incumbent, and what serving its graphs costs."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from recsys import feedback, tuning
from recsys.bundles import find_bundle
from recsys.dataset import dataset, freeze, load
from recsys.models import FAMILIES
from recsys.records import Action, Bundle, CheckedBatch, Dataset, DriftVerdict, Plan, Study, TrialResult
from recsys.settings import Line
from recsys.store import Store, open_store
from recsys.store.memory import MemoryStore
from recsys.synthetic import events, jsonl
from recsys.tuning.constraints import Costs

AS_OF = datetime(2026, 1, 26, tzinfo=UTC)

MARKOV = {"epochs": 0, "steps": 2, "decay": 0.8, "smoothing": 20.0, "neighbours": 128}
TOWER = {
    **FAMILIES["two_tower"].defaults,
    "epochs": 10,
    "dim": 32,
    "hidden": 64,
    "history_length": 20,
}


INCUMBENTS = {"popularity": FAMILIES["popularity"].defaults, "markov": MARKOV, "two_tower": TOWER}


@pytest.fixture(scope="session")
def lines():
    return make_line


@pytest.fixture(scope="session")
def release(keep_bundle):
    """Keep a bundle by hand that has no weights."""

    def release(store: Store, made_from: Dataset, family: str, configuration) -> Bundle:
        made_of = {"dataset_id": made_from.dataset_id, "n_items": made_from.n_items, "as_of": made_from.as_of}
        return keep_bundle(
            store, {"model.onnx": family.encode()}, family=family, configuration=configuration, **made_of
        )

    return release


@pytest.fixture
def a_line(lines):
    return lines


@pytest.fixture
def a_plan():
    def make(**changes) -> Plan:
        known = {
            "plan_id": "r20260126-00000000",
            "action": Action.RETUNE,
            "because": "a test asks for it",
            "dataset_id": "d",
            "release_id": "popularity-0",
            "family": "popularity",
            "configuration": FAMILIES["popularity"].defaults,
            "budget_s": 300.0,
            "seed": 7,
            "by": "tests",
            "as_of": AS_OF,
        }
        return Plan(**{**known, **changes})

    return make


@pytest.fixture
def a_trial():
    def make(number, configuration, ndcg, *, stage="confirm", state="complete", seed=0) -> TrialResult:
        return TrialResult(
            number=number,
            stage=stage,
            state=state,
            family="f",
            configuration=configuration,
            seed=seed,
            ndcg_at_10=ndcg,
            seconds=1.0,
        )

    return make


def make_line(**search) -> Line:
    return Line.model_validate(
        {
            "name": "shop",
            "task": "retrieval",
            "owner": "tests",
            "feedback": {
                "columns": {
                    "value": {"role": "label", "type": "number"},
                    "device": {"role": "context", "type": "category"},
                    "age": {"role": "context", "type": "integer"},
                }
            },
            "split": {"holdout_days": 3, "window_days": 2, "windows": 2},
            "search": {
                "families": ["markov", "two_tower"],
                "budget_s": 300,
                "workers": 2,
                "seed": 7,
                "screen": {"trials": 5, "share": 0.5, "epochs": 0.2},
                "refine": {"trials": 2, "share": 1.0, "epochs": 0.4},
                "confirm": {"trials": 1, "seeds": 2},
                # One shape a family, so that few graphs are exported.
                "space": {
                    "markov": {"steps": [2], "neighbours": [128]},
                    "two_tower": {"epochs": [10, 12], "dim": [32], "hidden": [64], "history_length": [20]},
                },
                **search,
            },
            "budgets": {"p99_ms": 1000, "size_mib": 4},
        }
    )


@dataclass(frozen=True, kw_only=True)
class Shop:
    """A line with everything that a search needs, in a store of its own."""

    line: Line
    store: Store
    studies: str
    dataset: Dataset
    releases: dict[str, str] = field(repr=False)  # family to release id
    folder: Path
    release: Callable[..., Bundle] = field(repr=False)

    def verdict(self, *, drifted=True, incumbent="popularity", as_of=AS_OF) -> DriftVerdict:
        return DriftVerdict(
            dataset_id=self.dataset.dataset_id,
            release_id=self.releases[incumbent],
            reference_id=self.dataset.dataset_id,
            drifted=drifted,
            columns=(),
            because="item popularity moved by 0.3, over 0.1.",
            report_key="drift/report.html",
            as_of=as_of,
        )

    def released(self, family, configuration) -> DriftVerdict:
        """Judge a line whose incumbent has this configuration."""
        bundle = self.release(self.store, self.dataset, family, configuration)
        return replace(self.verdict(), release_id=bundle.release_id)


@pytest.fixture(scope="session")
def template(tmp_path_factory, release) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    line, store = make_line(), open_store((folder / "store").as_uri())
    for day in range(0, 21, 7):
        store.put(f"landing/{day:02}.jsonl", jsonl(events(days=7, events_per_day=150, first_day=day, seed=3)))
    batch = feedback.pull(line, store, as_of=AS_OF)
    checked = CheckedBatch(
        batch=batch, accepted_key=batch.events_key, accepted_rows=batch.rows, refused=(), findings=()
    )
    made = freeze(line, store, feedback.commit(line, store, checked))
    for family, configuration in INCUMBENTS.items():
        release(store, made, family, configuration)
    return folder


@pytest.fixture(scope="session")
def measured(template) -> dict[str, bytes]:
    """What serving the incumbents' graphs costs, measured once; no search of these tests needs others."""
    line, store = make_line(), open_store((template / "store").as_uri())
    frozen = load(store, dataset(store))
    known = MemoryStore()
    costs = Costs(
        known,
        prefix="costs",
        n_items=frozen.before_holdout.n_items,
        budgets=line.budgets,
        cases=frozen.windows[-1],
    )
    for family, configuration in INCUMBENTS.items():
        costs.of(FAMILIES[family], configuration)
    return {entry.key: known.get(entry.key).body for entry in known.list("costs/")}


@pytest.fixture
def shop(template, tmp_path, release) -> Shop:
    shutil.copytree(template, tmp_path / "shop")
    store = open_store((tmp_path / "shop" / "store").as_uri())
    ids = sorted({entry.key.split("/")[1] for entry in store.list("releases/")})
    return Shop(
        line=make_line(),
        store=store,
        studies=str(tmp_path / "studies" / "journal"),
        dataset=dataset(store),
        releases={find_bundle(store, release_id).family: release_id for release_id in ids},
        folder=tmp_path,
        release=release,
    )


@pytest.fixture
def retune(shop, measured):
    """Decide to search, with the costs of the graphs known as if another worker had just measured them."""

    def decided(*, incumbent="popularity", line=None, verdict=None, **how) -> Plan:
        verdict = verdict or shop.verdict(incumbent=incumbent)
        plan = tuning.decide(line or shop.line, shop.store, verdict, by="schedule", **how)
        for key, body in measured.items():
            shop.store.put(f"studies/{plan.plan_id}/{key}", body)
        return plan

    return decided


@pytest.fixture
def search(shop):
    """Run a whole search with one worker in this process and close it."""

    def searched(plan, line=None, on_trial=None) -> Study:
        line = line or shop.line
        tuning.open_study(line, shop.store, plan, shop.studies)
        for stage in tuning.STAGES:
            jobs = tuning.jobs(line, shop.store, plan, stage, shop.studies)
            for job in jobs[:1]:
                owner = tuning.Attempt(run="monday", map_index=job["worker"], attempt=1)
                tuning.work(line, shop.store, plan, stage, shop.studies, owner=owner, on_trial=on_trial)
        return tuning.close(line, shop.store, plan, shop.studies)

    return searched
