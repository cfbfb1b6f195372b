"""Watch releases on made feedback: clicks by release and day, in a real feedback table."""

import json
import tomllib
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from monitoring import served, watch
from recsys import bundles, channel, ledger, synthetic, table
from recsys.errors import NoRelease
from recsys.records import Bundle, Health, WatchVerdict, dump, load, to_json
from recsys.settings import Line, Watch, WatchedValue
from recsys.store import open_store

START = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
EVENTS = 2000  # of a release and day
SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("event_id", "user_id", "item_id", "release_id")]
    + [("timestamp", pa.timestamp("us", "UTC")), ("clicked", pa.int64()), ("score", pa.float64())]
)


def line(**asked) -> Line:
    said = {"values": {"clicks": WatchedValue(column="clicked")}, "min_events": 500, **asked}
    made = Line.model_validate(tomllib.loads(synthetic.LINE))
    return made.model_copy(update={"watch": Watch(**said)})


@pytest.fixture
def store(tmp_path):
    return open_store(f"file://{tmp_path}/store").under("shop")


class Shop:
    """Serves, and writes down what was clicked."""

    def __init__(self, store):
        self.store, self.rng, self.batches = store, np.random.default_rng(7), 0

    def serve(self, release, day, rate, *, days=1, events=EVENTS, score=0.1, users=None):
        self.batches += 1
        n = days * events
        seconds = self.rng.integers(0, 86_400, n)
        rows = {
            "event_id": [f"e{self.batches}-{at}" for at in range(n)],
            "user_id": [f"u{who}" for who in self.rng.integers(0, users or 10 * events, n)],
            "item_id": ["i"] * n,
            "release_id": [release] * n,
            "timestamp": [START + (day + at // events) * DAY + timedelta(seconds=int(seconds[at])) for at in range(n)],
            "clicked": self.rng.binomial(1, rate, n),
            "score": [score] * n,
        }
        batch = pa.table(rows, SCHEMA)
        table.append(self.store, f"b{self.batches}", SCHEMA, lambda: batch)

    def release(self, to, day, *, expect=None, by="schedule", nonce=None):
        channel.move(
            self.store,
            to=to,
            expect=expect,
            by=by,
            reason="tests",
            nonce=nonce or f"n{to}{day}",
            at=START + (day - 0.5) * DAY,
        )


@pytest.fixture
def shop(store):
    return Shop(store)


def judged(shop, of=None, day=30) -> WatchVerdict:
    return watch.judge(of or line(), shop.store, by="tests", as_of=START + day * DAY)


def test_a_release_that_is_clicked_less_is_found_and_one_that_is_not_is_well(shop):
    shop.release("old", 0)
    shop.serve("old", 0, 0.1, days=14)
    shop.release("new", 14, expect="old")
    shop.serve("new", 14, 0.1, days=6)
    found = judged(shop)
    assert (found.health, found.release_id, found.previous, found.generation) == (Health.WELL, "new", "old", 2)
    [clicks] = found.values
    assert (clicks.windows, clicks.side_by_side, clicks.since) == (5, False, None)  # the sixth is not over
    assert clicks.before == pytest.approx(0.1, abs=0.005)
    assert clicks.low < 0 < clicks.high
    assert found.through == START + 19 * DAY

    shop.serve("new", 20, 0.07, days=8)
    found = judged(shop)
    assert found.health is Health.REGRESSED
    assert START + 20 * DAY <= found.values[0].since <= START + 24 * DAY
    assert found.values[0].change < 0
    assert "new does worse: clicks is 0.0" in found.because
    assert not found.rolls_back  # the line has not asked for it


def test_what_is_known_stands_in_the_ledger_once_and_under_the_release(shop):
    shop.release("old", 0)
    shop.serve("old", 0, 0.1, days=10)
    shop.release("new", 10, expect="old")
    shop.serve("new", 10, 0.1, days=4)
    found, again = judged(shop), judged(shop, day=31)
    assert again.values == found.values
    [entry] = ledger.read(shop.store, what="watched")
    assert load(WatchVerdict, entry.evidence) == found
    [kept] = list(shop.store.list("watch/new/"))
    assert shop.store.get(kept.key).body == to_json(again)


def test_days_on_which_both_serve_are_compared_pair_by_pair(shop):
    """On bad days nobody clicks much, and a canary shows that it is not the release's fault."""
    shop.release("old", 0)
    shop.serve("old", 0, 0.1, days=10)
    shop.release("new", 10, expect="old")
    for day in range(10, 18):
        for release in ("old", "new"):
            shop.serve(release, day, 0.05)
    found = judged(shop)
    assert (found.health, found.values[0].side_by_side, found.values[0].windows) == (Health.WELL, True, 7)
    shop.serve("old", 18, 0.1, days=8)
    shop.serve("new", 18, 0.06, days=8)
    assert judged(shop).health is Health.REGRESSED


@pytest.mark.parametrize(("better", "health"), [("higher", Health.WELL), ("lower", Health.REGRESSED)])
def test_of_what_is_better_low_a_rise_is_worse(shop, better, health):
    shop.release("old", 0)
    shop.serve("old", 0, 0.1, days=10)
    shop.release("new", 10, expect="old")
    shop.serve("new", 10, 0.15, days=8)
    value = WatchedValue(column="clicked", better=better)
    assert judged(shop, line(values={"v": value})).health is health


def test_calibration_is_watched_by_the_squared_error_of_what_was_foretold(shop):
    shop.release("old", 0)
    shop.serve("old", 0, 0.1, days=10, score=0.1)
    shop.release("new", 10, expect="old")
    shop.serve("new", 10, 0.1, days=8, score=0.4)
    brier = WatchedValue(column="clicked", predicted="score", better="lower")
    found = judged(shop, line(values={"calibration": brier, "clicks": WatchedValue(column="clicked")}))
    calibration, clicks = found.values
    assert (calibration.health, clicks.health) == (Health.REGRESSED, Health.WELL)
    assert calibration.before == pytest.approx(0.09, abs=0.005)
    assert calibration.now == pytest.approx(0.1 * 0.36 + 0.9 * 0.16, abs=0.005)


def test_what_cannot_be_known_is_said(shop):
    with pytest.raises(NoRelease, match="must be a release to watch"):
        judged(shop)
    shop.release("old", 0)
    found = judged(shop)
    assert (found.health, found.because) == (
        Health.UNKNOWN,
        "old is the first release, and there is none to compare it with.",
    )
    shop.release("new", 3, expect="old")
    assert "has not served a whole window of 24 h" in judged(shop).because
    shop.serve("old", 0, 0.1, days=3)
    shop.serve("new", 3, 0.1, days=4)
    assert "old must have 7 windows before new, or one beside it, of 500 events" in judged(shop).because
    assert "no window of new has 5000 events" in judged(shop, line(min_events=5000)).because
    assert "the line names no watch.values" in judged(shop, line(values={})).because


def test_a_user_who_clicks_a_lot_is_one_user(shop):
    shop.serve("one", 0, 0.1, days=2, users=20)
    shop.serve("many", 0, 0.1, days=2)
    asked = {"width": DAY, "since": served.number(START, DAY), "until": served.number(START, DAY) + 2}
    value = WatchedValue(column="clicked")
    found = served.read(shop.store, value, ("one", "many", "none"), **asked, min_events=500)
    assert [len(found[name].numbers) for name in ("one", "many", "none")] == [2, 2, 0]
    means, variances = found["many"].means, found["many"].variances
    assert variances == pytest.approx(means * (1 - means) / EVENTS, rel=0.2)
    rows = table.events(shop.store).to_table().to_pandas()
    day = rows[(rows.release_id == "one") & (rows.timestamp < START + DAY)]
    users = day.groupby("user_id").clicked.agg(["sum", "count"])
    residuals = users["sum"] - day.clicked.mean() * users["count"]
    by_hand = (residuals**2).sum() / len(day) ** 2 * len(users) / (len(users) - 1)
    assert found["one"].variances[0] == pytest.approx(by_hand)


def packaged(store, name: str) -> str:
    """Keep a bundle, of which only its bytes matter: a release that has served is not asked anything."""
    files = {bundles.FP32: b"", bundles.VOCABULARY: json.dumps([name]).encode()}
    what = {
        "family": "popularity",
        "configuration": {},
        "dataset_id": "d",
        "history_length": 4,
        "files": {each: bundles.refer(body) for each, body in files.items()},
    }
    bundle = Bundle(
        release_id=bundles.identify(**what),
        candidate_id=name,
        n_items=1,
        serves=bundles.FP32,
        serves_because="it is the only graph",
        graphs=(),
        largest_error=0.0,
        by="tests",
        as_of=START,
        **what,
    )
    bundles.keep_bundle(store, bundle, files)
    return bundle.release_id


@pytest.fixture
def regressed(shop):
    """Two releases, the second of which is clicked half as often."""
    shop.old, shop.new = packaged(shop.store, "old"), packaged(shop.store, "new")
    shop.release(shop.old, 0)
    shop.serve(shop.old, 0, 0.1, days=10)
    shop.release(shop.new, 10, expect=shop.old)
    shop.serve(shop.new, 10, 0.05, days=6)
    return shop


def test_a_release_that_does_worse_is_taken_back_once_where_the_line_says_so(regressed):
    asked = line(rollback=True)
    found = judged(regressed, asked)
    assert found.rolls_back
    moved = watch.take_back(asked, regressed.store, found)
    assert (moved.release_id, moved.replaced, moved.generation) == (regressed.old, regressed.new, 3)
    assert watch.take_back(asked, regressed.store, found) == moved
    assert [move.by for move in channel.history(regressed.store)] == ["schedule", "schedule", "watch"]
    assert regressed.new in channel.given_up(channel.history(regressed.store))  # and the loop does not bring it again
    [entry] = ledger.read(regressed.store, what="rolled back")
    assert f"{regressed.new} does worse" in entry.why
    assert watch.take_back(line(), regressed.store, judged(regressed, line())) is None


def test_the_watch_takes_nothing_back_so_soon_after_it_did_and_nothing_that_is_not_in_production(regressed):
    asked = line(rollback=True)
    found = judged(regressed, asked)
    watch.take_back(asked, regressed.store, found)
    now = channel.history(regressed.store)[-1].at
    day = (now - START) / DAY
    regressed.release("third", day + 0.6, expect=regressed.old)
    regressed.release("fourth", day + 0.7, expect="third")
    assert watch.take_back(asked, regressed.store, found).generation == 3  # what it did, and no other move
    regressed.serve("third", int(day) - 12, 0.1, days=12)
    regressed.serve("fourth", int(day) + 2, 0.02, days=4)
    soon = watch.judge(asked, regressed.store, by="tests", as_of=now + 6 * DAY)
    assert (soon.health, soon.rolls_back) == (Health.REGRESSED, False)
    later = watch.judge(asked, regressed.store, by="tests", as_of=now + 8 * DAY)
    assert later.rolls_back
    regressed.release("fifth", day + 9, expect="fourth")
    regressed.release("sixth", day + 10, expect="fifth")
    assert watch.take_back(asked, regressed.store, later) is None
    assert channel.current(regressed.store).release_id == "sixth"


def test_a_verdict_is_json(shop):
    shop.release("old", 0)
    found = judged(shop)
    assert load(WatchVerdict, dump(found)) == found
