"""What every store promises; the same tests run against all of them."""

import itertools
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier

import pytest

from recsys.errors import Conflict, NotFound
from recsys.store import Store

ROOT = Path(__file__).resolve().parents[3]
BAD_KEYS = [
    "",
    "/a",
    "a/",
    "a//b",
    ".",
    "..",
    "a/../b",
    "./a",
    "a/.hidden",
    "a\\b",
    "a\nb",
    "a\x00b",
    "a/\udcff",  # how Python says a file name that is not in UTF-8
    "é" * 128,
    "/".join(["abc"] * 257),
]
GOOD_KEYS = [
    "a",
    "deep/er/and/deeper.json",
    "dots.in.the.middle..twice",
    "with space/+%25&=?#.json",
    "naïve/Zürich/日本",
    "landing/dt=1997-09-20/hour=03/part-0000.jsonl.gz",
    "x" * 255,
]


def keys(store: Store, prefix: str = "") -> list[str]:
    return [entry.key for entry in store.list(prefix)]


# --- reading and writing


def test_what_is_put_is_got(store):
    for key, body in itertools.product(GOOD_KEYS, [b"", b"\x00\xff\r\n", b"x" * 100_000]):
        etag = store.put(key, body)
        found = store.get(key)
        assert (found.body, found.etag) == (body, etag)
        assert keys(store) == [key]
        store.delete(key)


def test_an_object_says_when_it_was_written(store):
    store.put("a", b"1")
    now = datetime.now(UTC)
    [entry] = store.list("")
    for modified in (store.get("a").modified, entry.modified):
        assert modified.utcoffset() == timedelta(0)
        assert abs(modified - now) < timedelta(seconds=30)


def test_an_absent_object_is_not_found(store, tmp_path):
    store.put("a/b", b"1")
    for key in ("a", "c", "a/b/c", "a/c"):
        with pytest.raises(NotFound) as caught:
            store.get(key)
        assert caught.value.key == key
        with pytest.raises(NotFound):
            store.fetch(key, tmp_path / "fetched")
    assert not (tmp_path / "fetched").exists()


def test_put_writes_over_what_was_there(store):
    before = store.put("a", b"1")
    after = store.put("a", b"22")
    assert before != after
    assert store.get("a").body == b"22"


def test_the_same_content_has_the_same_etag(store):
    assert store.put("a", b"same") == store.put("b", b"same") == store.put("a", b"same")


def test_a_bad_key_is_refused_everywhere(store, tmp_path):
    (tmp_path / "file").write_bytes(b"1")
    calls = [
        store.get,
        store.delete,
        store.under,
        store.table,
        lambda key: store.put(key, b""),
        lambda key: store.create(key, b""),
        lambda key: store.replace(key, b"", etag="0"),
        lambda key: store.fetch(key, tmp_path / "fetched"),
        lambda key: store.upload(tmp_path / "file", key),
    ]
    for key, call in itertools.product(BAD_KEYS, calls):
        with pytest.raises(ValueError, match=f"key must.*{re.escape(repr(key))}"):
            call(key)
    assert keys(store) == []


def test_delete_removes_and_does_not_mind_absence(store):
    store.put("a/b", b"1")
    store.put("a/c", b"2")
    store.delete("a/b")
    store.delete("a/b")
    store.delete("never/was")
    store.delete("a")
    assert keys(store) == ["a/c"]
    with pytest.raises(NotFound):
        store.get("a/b")


# --- conditions


def test_create_refuses_what_exists(store):
    etag = store.create("a", b"1")
    assert store.get("a").etag == etag
    with pytest.raises(Conflict) as caught:
        store.create("a", b"2")
    assert caught.value.key == "a"
    assert store.get("a").body == b"1"
    store.delete("a")
    store.create("a", b"3")
    assert store.get("a").body == b"3"


def test_replace_refuses_what_has_changed(store):
    first = store.put("a", b"1")
    second = store.replace("a", b"2", etag=first)
    with pytest.raises(Conflict) as caught:
        store.replace("a", b"3", etag=first)
    assert caught.value.key == "a"
    assert store.get("a").body == b"2"
    store.replace("a", b"4", etag=second)
    assert store.get("a").body == b"4"


def test_replace_refuses_what_is_absent(store):
    etag = store.put("a", b"1")
    store.delete("a")
    with pytest.raises(Conflict):
        store.replace("a", b"2", etag=etag)
    with pytest.raises(Conflict):
        store.replace("never/was", b"2", etag=etag)
    assert keys(store) == []


def test_a_listed_etag_serves_to_replace(store):
    store.put("a", b"1")
    [entry] = store.list("")
    store.replace("a", b"2", etag=entry.etag)
    assert store.get("a").body == b"2"


def test_of_sixteen_creators_one_wins(store):
    start = Barrier(16)

    def create(number: int) -> bool:
        start.wait()
        try:
            store.create("the/one", str(number).encode())
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        for _ in range(3):
            won = list(pool.map(create, range(16)))
            assert sum(won) == 1
            assert store.get("the/one").body == str(won.index(True)).encode()
            store.delete("the/one")


def count_up(store: Store, key: str, times: int) -> None:
    for _ in range(times):
        while True:
            found = store.get(key)
            try:
                # Long enough for hashing it to let other threads run.
                store.replace(key, str(int(found.body) + 1).encode().rjust(100_000), etag=found.etag)
            except Conflict:
                continue
            break


def test_threads_that_count_together_lose_no_update(store):
    store.put("count", b"0")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: count_up(store, "count", 10), range(8)))
    assert int(store.get("count").body) == 80


def test_stores_rooted_differently_still_exclude_each_other(store):
    store.put("a/count", b"0")
    views = [(store, "a/count"), (store.under("a"), "count")] * 3
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda view: count_up(*view, times=10), views))
    assert int(store.get("a/count").body) == 60


COUNT_UP = """
import sys
from recsys.errors import Conflict
from recsys.store import open_store

store = open_store(sys.argv[1])
for _ in range(10):
    while True:
        found = store.get("count")
        try:
            store.replace("count", str(int(found.body) + 1).encode(), etag=found.etag)
            break
        except Conflict:
            pass
"""


def test_processes_that_count_together_lose_no_update(shared_store):
    shared_store.put("count", b"0")
    command = [sys.executable, "-c", COUNT_UP, shared_store.url]
    processes = [subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}) for _ in range(3)]
    assert [process.wait(timeout=120) for process in processes] == [0] * 3
    assert shared_store.get("count").body == b"30"


# --- listing


def test_a_listing_describes_each_object(store):
    etag = store.put("a/b", b"123")
    [entry] = store.list("a/")
    assert (entry.key, entry.etag, entry.size_bytes) == ("a/b", etag, 3)


def test_a_listing_is_ordered_by_key_and_exact_about_its_prefix(store):
    written = ["a/b", "a/b-c", "a/b.c", "a0", "a-b", "a.b", "A/x", "b/a", "ab/c", "é/ü", "z"]
    for key in written:
        store.put(key, b"")
    assert keys(store) == sorted(written)
    assert keys(store, "a/") == ["a/b", "a/b-c", "a/b.c"]
    assert keys(store, "a") == ["a-b", "a.b", "a/b", "a/b-c", "a/b.c", "a0", "ab/c"]
    assert keys(store, "a/b") == ["a/b", "a/b-c", "a/b.c"]
    assert keys(store, "a/b.") == ["a/b.c"]
    assert keys(store, "a/b/") == []
    assert keys(store, "nothing") == []
    assert keys(store, "nothing/at/all") == []


def test_a_bad_prefix_is_refused(store):
    for prefix in ("/a", "a//", "..", "a/../b", "/"):
        with pytest.raises(ValueError, match="key must"):
            store.list(prefix)


def test_an_empty_store_lists_nothing(store):
    assert keys(store) == []


def test_more_than_a_thousand_objects_are_listed_once_each(store):
    # Of each stem there is a folder and a file beside it, whose order servers with folders get wrong.
    written = [f"n/{i:04}{rest}" for i in range(550) for rest in ("/x", "-y")]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: store.put(key, b"1"), written))
    assert keys(store, "n/") == sorted(written)
    assert keys(store, "n/001") == sorted(key for key in written if key.startswith("n/001"))


def test_a_listing_survives_deletions_on_its_way(store):
    for number in range(10):
        store.put(f"a/{number}", b"1")
    listing = store.list("a/")
    assert next(listing).key == "a/0"
    for number in range(10):
        store.delete(f"a/{number}")
    list(listing)
    assert keys(store) == []


# --- files


def test_files_go_up_and_come_down_unchanged(store, tmp_path):
    source, target = tmp_path / "source", tmp_path / "new" / "folder" / "target"
    for size_bytes in (0, 1_000, 20_000_000):
        source.write_bytes(os.urandom(size_bytes))
        etag = store.upload(source, "releases/model.onnx")
        [entry] = store.list("releases/")
        assert (entry.etag, entry.size_bytes) == (etag, size_bytes)
        store.fetch("releases/model.onnx", target)
        assert target.read_bytes() == source.read_bytes()
        assert store.get("releases/model.onnx").body == source.read_bytes()
        assert [path.name for path in target.parent.iterdir()] == ["target"]


def test_fetch_writes_over_an_older_file(store, tmp_path):
    (tmp_path / "target").write_bytes(b"older and longer")
    store.put("a", b"new")
    store.fetch("a", tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == b"new"


def test_upload_needs_a_file(store, tmp_path):
    with pytest.raises(FileNotFoundError):
        store.upload(tmp_path / "absent", "a")
    assert keys(store) == []


# --- folders


def test_a_store_below_a_folder_sees_only_that_folder(store):
    line = store.under("lines/movielens")
    line.put("ledger/1", b"1")
    store.put("lines/movielens2/ledger/2", b"2")
    assert store.get("lines/movielens/ledger/1").body == b"1"
    assert keys(line) == ["ledger/1"]
    assert keys(line.under("ledger")) == ["1"]
    assert line.url == f"{store.url}/lines/movielens" or store.url == "memory://"
    with pytest.raises(NotFound):
        store.get("ledger/1")
