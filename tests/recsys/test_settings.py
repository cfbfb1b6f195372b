import json
import re
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from recsys import landing, synthetic
from recsys.errors import LineError
from recsys.models import FAMILIES
from recsys.settings import Gate, Line, Schedule, lines_folder, read_line, read_lines, store_url, studies_url
from recsys.tuning.space import search_space

ROOT = Path(__file__).resolve().parents[2]
SHOP = ROOT / "examples" / "shop.toml"


@pytest.fixture
def write(tmp_path):
    def write(text, name="shop"):
        path = tmp_path / f"{name}.toml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write


def edit(old, new):
    """The shop's file with one thing changed."""
    text = SHOP.read_text()
    assert text.count(old) == 1, old
    return text.replace(old, new)


@pytest.mark.parametrize("path", [SHOP, ROOT / "lines" / "movielens.toml"], ids=lambda path: path.stem)
def test_the_lines_that_come_along_are_sound(path):
    line = read_line(path, FAMILIES)
    assert line.name == path.stem
    search_space(line)


def test_a_line_is_read_with_its_defaults(write):
    line = read_line(write(synthetic.LINE))
    assert line.split.holdout_days == 3
    assert line.split.head_share == 0.2
    assert line.gate.confidence == 0.95
    assert line.feedback.columns["device"].values == ("phone", "desktop")
    assert line.feedback.positive is None


def test_a_whole_number_may_stand_where_a_number_is_asked_for(write):
    assert read_line(write(edit("holdout_days = 3", "holdout_days = 3.5"))).split.holdout_days == 3.5


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        # keys
        (
            "holdout_days = 3",
            "holdout_day = 3",
            "split.holdout_day: no such key; it must be one of ['head_share', 'holdout_days', 'min_item_events', "
            "'min_train_events', 'train_days', 'window_days', 'windows']. Did you mean 'holdout_days'?",
        ),
        ("[budgets]", "[budget]", "budget: no such key; it must be one of "),
        (
            'role = "label"\ntype = "integer"',
            'role = "label"\ntype = "integer"\nmaxi = 1',
            "feedback.columns.clicked.maxi: no such key; it must be one of ['max', 'min', 'nullable', 'role', "
            "'type', 'values']. Did you mean 'max'?",
        ),
        ("[search.screen]\ntrials = 24", "[search.screen]", "search.screen.trials: must be given, but is missing."),
        ("size_mib = 64", "", "budgets.size_mib: must be given, but is missing."),
        # types
        ("workers = 4", 'workers = "4"', "search.workers: must be a valid integer, but is '4'."),
        ("windows = 2", "windows = 2.5", "split.windows: must be a valid integer, but is 2.5."),
        ("p99_ms = 15", "p99_ms = true", "budgets.p99_ms: must be a valid number, but is True."),
        (
            'families = ["markov", "sasrec"]',
            'families = "markov"',
            "search.families: must be a list of values, but is ",
        ),
        ("[gate]\nmin_ndcg_gain", "[schedule.gate]\nmin_ndcg_gain", "schedule.gate: no such key"),
        # ranges
        ("p99_ms = 15", "p99_ms = 0", "budgets.p99_ms: must be greater than 0, but is 0."),
        (
            "max_unknown_item_share = 0.2",
            "max_unknown_item_share = 1.2",
            "feedback.max_unknown_item_share: must be less than or equal to 1, but is 1.2.",
        ),
        ("min_users = 1000", "min_users = 1", "gate.min_users: must be greater than or equal to 2, but is 1."),
        ("min_ndcg_gain = 0.001", "min_ndcg_gain = nan", "gate.min_ndcg_gain: must be a finite number, but is nan."),
        ("budget_s = 7200", "budget_s = inf", "search.budget_s: must be a finite number, but is inf."),
        ('task = "retrieval"', 'task = "ranking"', "task: must be 'retrieval', but is 'ranking'."),
        (
            'role = "label"\ntype = "integer"',
            'role = "target"\ntype = "integer"',
            "feedback.columns.clicked.role: must be 'label' or 'context', but is 'target'.",
        ),
        ('owner = "storefront"', 'owner = ""', "owner: must name who is asked, but is ''."),
        ('owner = "storefront"', 'owner = "  "', "owner: must name who is asked, but is '  '."),
        ("holdout_days = 3", "holdout_days = 3e9", "split.holdout_days: must be less than or equal to 3650, but is "),
        ("windows = 2", "windows = 101", "split.windows: must be less than or equal to 100, but is 101."),
        ("workers = 4", "workers = 1025", "search.workers: must be less than or equal to 1024, but is 1025."),
        ("workers = 4", "workers = 4\nseed = -5", "search.seed: must be greater than or equal to 0, but is -5."),
        (
            "workers = 4",
            "workers = 4\nseed = 4294967296",
            "search.seed: must be less than 4294967296, but is 4294967296.",
        ),
        ("timeout_minutes = 180", "timeout_minutes = 1e12", "schedule.timeout_minutes: must be less than or equal to "),
        # contradictions
        (
            "min = 1\nmax = 200",
            "min = 201\nmax = 200",
            "feedback.columns.position: min must not be over max, but 201.0 is over 200.0.",
        ),
        (
            'type = "category"\nvalues',
            'type = "category"\nmin = 1\nvalues',
            "feedback.columns.device: min and max belong to a number or integer, but type is category.",
        ),
        (
            "min = 1\nmax = 200",
            "min = 0.5\nmax = 200",
            "feedback.columns.position.min: must be a whole number, because type is integer, but is 0.5.",
        ),
        (
            "min = 1\nmax = 200",
            "min = 1\nmax = 1.5",
            "feedback.columns.position.max: must be a whole number, because type is integer, but is 1.5.",
        ),
        (
            'type = "category"\nvalues = [',
            'type = "category"\nvalues = ["a", "a", ',
            "feedback.columns.device.values: must name each value once, but ['a'] stand there more than once.",
        ),
        (
            'type = "category"\nvalues',
            'type = "number"\nvalues',
            "feedback.columns.device: values belong to a category, but type is number.",
        ),
        (
            '[feedback.positive]\ncolumn = "clicked"',
            '[feedback.positive]\ncolumn = "position"',
            "feedback.positive.column: must be one of the labels ['clicked', 'dwell_s'], but is 'position'.",
        ),
        (
            "at_least = 1\n",
            "at_least = -1\n",
            "feedback.positive.at_least: must lie within min and max of clicked, 0.0 and 1.0, but is -1.0.",
        ),
        (
            "at_least = 1\n",
            "at_least = 2\n",
            "feedback.positive.at_least: must lie within min and max of clicked, 0.0 and 1.0, but is 2.0.",
        ),
        (
            '[feedback.columns.clicked]\nrole = "label"\ntype = "integer"\nmin = 0\nmax = 1',
            '[feedback.columns.clicked]\nrole = "label"\ntype = "category"',
            "feedback.positive.column: must be a number or integer, but clicked is of type category.",
        ),
        (
            "[feedback.columns.position]",
            "[feedback.columns.user_id]",
            "feedback.columns: user_id is a column that every line has, so it must not be declared.",
        ),
        (
            "[feedback.columns.position]",
            "[feedback.columns.Position]",
            "feedback.columns: names must be lower_case letters, digits and underscores, but one is 'Position'.",
        ),
        (
            "trials = 8",
            "trials = 80",
            "search: screen.trials, refine.trials and confirm.trials must not grow from one to the next, "
            "but are 24, 80 and 3.",
        ),
        (
            "share = 0.5",
            "share = 0.1",
            "search: screen.share, refine.share and confirm.share must not shrink from one to the next, "
            "but are 0.2, 0.1 and 1.0.",
        ),
        (
            "epochs = 0.3",
            "epochs = 0.7",
            "search: screen.epochs, refine.epochs and confirm.epochs must not shrink from one to the next, "
            "but are 0.7, 0.6 and 1.0.",
        ),
        (
            "workers = 4",
            "workers = 4\ninteractions = 5",
            "search.interactions: must be 0, or at least 6 (4 for two parameters and 2 for chance), but is 5.",
        ),
        (
            "epochs = 0.3",
            "epochs = 0.3\nseeds = 2",
            "search.screen.seeds: must be 1, because screening tries every configuration once, but is 2.",
        ),
        (
            'families = ["markov", "sasrec"]',
            'families = ["markov", "markov"]',
            "search.families: must name at least one family, each once, but are ['markov', 'markov'].",
        ),
        (
            'families = ["markov", "sasrec"]',
            'families = ["markov"]',
            "search.space.sasrec: must belong to one of search.families ['markov'].",
        ),
        (
            "timeout_minutes = 180",
            "timeout_minutes = 120",
            "search.budget_s: must be at most 5760, 0.8 of the 120 minutes of schedule.timeout_minutes, but is 7200.",
        ),
        (
            'retune = "@weekly"',
            'retune = "every full moon"',
            "schedule.retune: must be a cron expression or a preset such as @daily, but is 'every full moon': ",
        ),
        (
            'families = ["markov", "sasrec"]',
            'families = ["markov", "sasrec", "sasrek"]',
            "search.families: must be among ['hybrid', 'markov', 'popularity', 'sasrec', 'two_tower'], but one is "
            "'sasrek'. Did you mean 'sasrec'?",
        ),
        (  # the space of the family that was meant is there
            'families = ["markov", "sasrec"]',
            'families = ["markov", "sasrek"]',
            "search.families: must be among ['hybrid', 'markov', 'popularity', 'sasrec', 'two_tower'], but one is "
            "'sasrek'. Did you mean 'sasrec'?",
        ),
        ("[search.screen]", "[search.space]\nmarkov = 3\n[search.screen]", "search.space.markov: must be a table"),
        # what the gate asks
        ("[gate]", "[gate]\nmax_ndcg_loss = 0.1", "gate.max_ndcg_loss: belongs to quality = 'non-inferiority', but "),
        ("[gate]", '[gate]\nquality = "non-inferiority"', "gate.max_ndcg_loss: must be over 0, because quality is "),
        (
            "[gate]",
            '[gate]\nquality = "non-inferiority"\nmax_ndcg_loss = 0.01',
            "gate.min_ndcg_gain: belongs to quality = 'superiority', but quality is 'non-inferiority'.",
        ),
        ("[gate]", "[gate]\nerror_budget = 0.5", "gate.error_budget: must be less than 0.5, but is 0.5."),
        ("[gate]", "[gate]\ncohorts.all = {}", "gate.cohorts.all: must have either by or column, and not both."),
        (
            "[gate]",
            '[gate]\ncohorts.long = {by = "tenure"}',
            "gate.cohorts.long.bounds: must be given, because by is 'tenure'.",
        ),
        (
            "[gate]",
            '[gate]\ncohorts.long = {by = "tenure", bounds = [9, 3]}',
            "gate.cohorts.long.bounds: must grow from one to the next, but are [9.0, 3.0].",
        ),
        (
            "[gate]",
            '[gate]\ncohorts.long = {by = "popularity", bounds = [9]}',
            "gate.cohorts.long.bounds: must be left out, because split.head_share already divides",
        ),
        (
            "[gate]",
            '[gate]\ncohorts.long = {by = "popularity", margin = 0.3}',
            "gate.cohorts.long.must_find: must be over margin, which is 0.3, but is 0.2.",
        ),
        (
            "[gate]",
            '[gate]\ncohorts.taps = {column = "clicked"}',
            "gate.cohorts.taps.column: must be one of the contexts ['position', 'device', 'campaign'], but is ",
        ),
        (
            "[gate]",
            '[gate]\ncohorts.taps = {column = "device", bounds = [1]}',
            "gate.cohorts.taps.bounds: must be left out, because device is of type category.",
        ),
        # what is watched
        (
            "[gate]",
            '[watch.values.phones]\ncolumn = "device"\n[gate]',
            "watch.values.phones.column: must be one of the columns of type number or integer ['clicked', ",
        ),
        (
            "[gate]",
            '[watch.values.right]\ncolumn = "clicked"\npredicted = "dwell_s"\n[gate]',
            "watch.values.right.better: must be 'lower', because an error is watched, but is 'higher'.",
        ),
        ("[watch]", "[watch]\nerror_budget = 0.5", "watch.error_budget"),
        # who is asked
        (
            "[gate]",
            "[approval]\nusers = []\n[gate]",
            "approval.users: must name at least one person, each once, but are",
        ),
        ("[gate]", '[approval]\nusers = ["ann", "ann"]\n[gate]', "approval.users: must name at least one person, each"),
        ("[gate]", "[approval]\n[gate]", "approval.users: must be given, but is missing."),
        (
            "[gate]",
            '[approval]\nusers = ["ann"]\ntimeout_hours = 0\n[gate]',
            "approval.timeout_hours: must be greater than 0, but is 0.",
        ),
    ],
)
def test_a_wrong_key_type_range_or_contradiction_names_file_key_rule_and_finding(write, old, new, says):
    path = write(edit(old, new))
    with pytest.raises(LineError) as error:
        read_line(path, FAMILIES)
    assert any(said.startswith(f"{path}: {says}") for said in str(error.value).splitlines()), str(error.value)


def test_where_families_are_not_known_a_space_without_its_family_names_the_likely_slip(write):
    with pytest.raises(
        LineError,
        match=r"search\.space\.sasrec: must belong to one of search\.families .*'sasrek'\], "
        r"where 'sasrek' looks like a slip of it\.$",
    ):
        read_line(write(edit('families = ["markov", "sasrec"]', 'families = ["markov", "sasrek"]')))


def test_a_single_value_where_a_list_is_searched_says_that_it_must_be_a_list(write):
    text = re.sub(r"(?ms)^\[search\.space.*?(?=^\[budgets)", "[search.space.sasrec]\ndim = 32\n\n", SHOP.read_text())
    with pytest.raises(LineError, match=r"search\.space\.sasrec\.dim: must be a list of values, but is 32\.$"):
        read_line(write(text))


def test_every_sentence_ends_with_one_full_stop(write):
    with pytest.raises(LineError, match=r"[^.]\.$"):
        read_line(write(edit('retune = "@weekly"', 'retune = "every full moon"')))


def test_every_mistake_of_a_file_is_named_at_once(write):
    with pytest.raises(LineError) as error:
        read_line(write(edit("p99_ms = 15", "p99_ms = -1").replace("workers = 4", "workers = 0")))
    assert len(str(error.value).splitlines()) == 2


def test_the_name_must_be_the_files_own(write):
    path = write(SHOP.read_text(), name="store")
    with pytest.raises(
        LineError, match=re.escape(f"{path}: name: must be the file's own name 'store', but is 'shop'.")
    ):
        read_line(path)


@pytest.mark.parametrize(
    "text", ["name = shop", "[feedback\n", 'name = "a"\nname = "b"', b"\xff\xfe", "x" * 3], ids=range(5)
)
def test_what_is_not_toml_says_so(write, text):
    path = write(text)
    with pytest.raises(LineError, match=re.escape(f"{path}: must be TOML, but ")):
        read_line(path)


def test_a_missing_file_names_the_lines_beside_it(write, tmp_path):
    write(SHOP.read_text())
    missing = tmp_path / "shoes.toml"
    with pytest.raises(LineError, match=re.escape(f"{missing}: there must be such a file, but")) as error:
        read_line(missing)
    assert "['shop']" in str(error.value)


def test_of_a_folder_every_wrong_file_is_named_at_once(write, tmp_path):
    write(SHOP.read_text())
    assert [line.name for line in read_lines(tmp_path)] == ["shop"]
    write("", name="other")
    write("name = ", name="third")
    with pytest.raises(LineError, match=r"(?s)other\.toml: name: must be given.*third\.toml: must be TOML"):
        read_lines(tmp_path)


@pytest.mark.parametrize("folder", [".", "nowhere"])
def test_a_folder_without_lines_is_refused_by_name(tmp_path, folder):
    with pytest.raises(LineError, match=re.escape(f"{tmp_path / folder}: must hold a file NAME.toml for each line")):
        read_lines(tmp_path / folder)


def test_places_come_from_the_environment_or_lie_under_var(monkeypatch, tmp_path):
    for name in ("RETUNE_STORE", "RETUNE_STUDIES", "RETUNE_LINES", "RETUNE_VAR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    assert (store_url(), studies_url()) == ((tmp_path / "var/store").as_uri(), str(tmp_path / "var/studies.journal"))
    assert lines_folder() == tmp_path / "lines"
    monkeypatch.setenv("RETUNE_STORE", "s3://bucket/prefix")
    monkeypatch.setenv("RETUNE_STUDIES", "postgresql+psycopg://host/studies")
    monkeypatch.setenv("RETUNE_LINES", str(tmp_path / "mine"))
    assert (store_url(), studies_url()) == ("s3://bucket/prefix", "postgresql+psycopg://host/studies")
    assert lines_folder() == tmp_path / "mine"


@pytest.mark.parametrize(
    ("gate", "schedule", "looks"),
    [
        ({}, {}, 52),  # by hand
        ({"looks_a_year": 7}, {"retune": "@daily"}, 7),
        ({}, {"retune": "0 4 * * 1"}, 52),
        ({}, {"retune": "@monthly", "feedback": "@quarterly"}, 16),
        ({}, {"retune": "@daily"}, 365),
        ({}, {"feedback": "*/10 * * * *", "retune": "@daily"}, 365),  # at most one a day
    ],
)
def test_a_year_has_as_many_looks_as_are_said_or_as_the_schedule_decides(shop_line, gate, schedule, looks):
    changed = {"gate": Gate(**gate), "schedule": Schedule(**schedule)}
    assert shop_line.model_copy(update=changed).looks_a_year == looks


# --- the documentation


def told_keys():
    """Section, key and default of every row of docs/lines.md."""
    section, rows = "", []
    for text in (ROOT / "docs" / "lines.md").read_text().splitlines():
        if text.startswith("## "):
            section = "" if text == "## The line" else text.removeprefix("## ")
        elif found := re.match(r"\| `(\w+)` \| (.*?) \|", text):
            rows += [(each, *found.groups()) for each in section.split(", ")]
    return sorted(rows)


def known_keys(model=Line, section=""):
    rows = []
    for name, field in model.model_fields.items():
        below = [t for t in (field.annotation, *get_args(field.annotation)) if isinstance(t, type)]
        tables = [t for t in below if issubclass(t, BaseModel)]
        rows.append((section, name, in_words(field, is_table=bool(tables))))
        for table in tables:
            rows += known_keys(table, f"{section}.{name}".removeprefix("."))
    return sorted(rows)


def in_words(field, *, is_table):
    if field.is_required():
        return "–"
    if field.default is None:
        return "*none*"
    if is_table and field.default != {}:
        return "all defaults"
    return f"`{json.dumps(field.default)}`"


def test_the_documentation_lists_every_key_with_its_default():
    assert told_keys() == known_keys()


def test_the_event_that_the_example_shows_can_be_read():
    shown = re.search(r"```json\n(.*)\n```", (SHOP.parent / "README.md").read_text())
    assert shown is not None
    [row] = landing.read(read_line(SHOP).feedback, "landing/13.jsonl", shown[1].encode()).to_pylist()
    assert row["item_id"] == "sku-4410"
    assert row["timestamp"].isoformat() == "2026-03-01T13:05:10.250000+00:00"
    assert row["dwell_s"] == 12.5


def test_a_folder_in_the_place_of_a_file_is_a_wrong_line_and_no_crash(tmp_path):
    (tmp_path / "shop.toml").mkdir()
    with pytest.raises(LineError) as error:
        read_lines(tmp_path)
    assert str(error.value) == f"{tmp_path / 'shop.toml'}: must be a file that can be read, but: Is a directory."
