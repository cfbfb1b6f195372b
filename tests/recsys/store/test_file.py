import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from recsys.errors import StoreError
from recsys.store import open_store
from recsys.store.file import FileStore

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def store(tmp_path):
    return FileStore(tmp_path)


def test_objects_are_plain_files_at_their_keys(store, tmp_path):
    store.put("landing/part.jsonl", b"{}")
    assert (tmp_path / "landing" / "part.jsonl").read_bytes() == b"{}"
    assert [path.name for path in (tmp_path / "landing").iterdir()] == ["part.jsonl"]


def test_files_of_others_are_objects(store, tmp_path):
    (tmp_path / "landing").mkdir()
    (tmp_path / "landing" / "part.jsonl").write_bytes(b"{}")
    [entry] = store.list("landing/")
    assert entry.etag == store.get("landing/part.jsonl").etag
    store.replace("landing/part.jsonl", b"[]", etag=entry.etag)


def test_an_edit_past_the_store_changes_the_etag(store, tmp_path):
    etag = store.put("a", b"1")
    (tmp_path / "a").write_bytes(b"2")
    [entry] = store.list("")
    assert entry.etag == store.get("a").etag != etag


def others_file(path: Path, *, age_s: float) -> None:
    """Write a file past the store, at a moment ago."""
    path.write_bytes(b"1")
    then = time.time() - age_s
    os.utime(path, (then, then))


@pytest.mark.skipif(sys.platform != "linux", reason="extended attributes are Linux's")
@pytest.mark.parametrize(("age_s", "remembered"), [(60, True), (0, False)], ids=["at rest", "just written"])
def test_the_hash_of_others_files_is_remembered_once_they_are_at_rest(store, tmp_path, age_s, remembered):
    others_file(tmp_path / "a", age_s=age_s)
    [first] = store.list("")
    assert bool(os.listxattr(tmp_path / "a")) is remembered
    [again] = store.list("")
    assert again.etag == first.etag == store.get("a").etag
    (tmp_path / "a").write_bytes(b"2")
    [changed] = store.list("")
    assert changed.etag == store.get("a").etag != first.etag


def test_a_file_that_is_not_ours_to_mark_is_listed_all_the_same(store, tmp_path):
    others_file(tmp_path / "a", age_s=60)
    (tmp_path / "a").chmod(0o444)
    [entry] = store.list("")
    assert entry.etag == store.get("a").etag


def test_a_name_that_is_not_utf_8_stops_no_listing_and_is_said(store, tmp_path, caplog):
    store.put("landing/a.jsonl", b"1")
    (tmp_path / "landing" / os.fsdecode(b"b\xff.jsonl")).write_bytes(b"2")
    (tmp_path / "landing" / ".c.draft").write_bytes(b"3")
    with caplog.at_level(logging.WARNING):
        assert [entry.key for entry in store.list("landing/")] == ["landing/a.jsonl"]
    [said] = caplog.messages
    assert r"landing/b\udcff.jsonl" in said
    assert "UTF-8" in said
    said.encode()  # it can be written to a log


def test_a_file_system_without_extended_attributes_will_do(store, tmp_path):
    etag = store.put("a", b"1")
    if sys.platform == "linux" and os.listxattr(tmp_path / "a"):
        os.removexattr(tmp_path / "a", "user.retune.etag")
    [entry] = store.list("")
    assert entry.etag == etag


def test_drafts_and_hidden_folders_are_not_listed(store, tmp_path):
    store.put("a/b", b"1")
    (tmp_path / "a" / ".draft").write_bytes(b"half")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "c").write_bytes(b"1")
    assert [entry.key for entry in store.list("")] == ["a/b"]


def test_a_key_that_is_a_folder_or_lies_in_a_file_cannot_be_written(store):
    store.put("a/b", b"1")
    for write in (
        lambda: store.put("a", b"2"),
        lambda: store.create("a", b"2"),
        lambda: store.put("a/b/c", b"2"),
        lambda: store.create("a/b/c", b"2"),
    ):
        with pytest.raises(StoreError):
            write()
    assert [entry.key for entry in store.list("")] == ["a/b"]


WRITE_FOR_EVER = """
import sys
from recsys.store import open_store

store = open_store(sys.argv[1])
print("ready", flush=True)
number = 0
while True:
    number += 1
    store.put("a", str(number % 10).encode() * 1_000_000)
"""


def test_a_killed_writer_leaves_a_whole_object_and_no_lock(store, tmp_path):
    command = [sys.executable, "-c", WRITE_FOR_EVER, tmp_path.as_uri()]
    for _ in range(3):
        store.put("a", b"0" * 1_000_000)
        with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE) as writer:
            try:
                assert writer.stdout.readline() == b"ready\n"
                seen = set()
                while len(seen) < 5:
                    body = store.get("a").body
                    assert body == body[:1] * 1_000_000
                    seen.add(body[:1])
            finally:
                writer.kill()
        found = store.get("a")
        assert found.body == found.body[:1] * 1_000_000
        store.replace("a", b"after", etag=found.etag)


@pytest.mark.parametrize("url", ["file://relative/folder", "file://", "http://host/a", "/a/path", "file:///a?b", ""])
def test_a_malformed_url_is_a_wrong_argument(url):
    with pytest.raises(ValueError, match=r"must be"):
        open_store(url)


def test_a_url_leads_back_to_the_same_folder(tmp_path):
    store = FileStore(tmp_path / "with space and ü")
    store.put("a", b"1")
    assert open_store(store.url).get("a").body == b"1"


def test_a_table_lies_in_the_folder(store):
    from deltalake import DeltaTable, write_deltalake
    from pyarrow import table

    where = store.under("movielens").table("feedback")
    write_deltalake(where.uri, table({"a": [1, 2]}), storage_options=dict(where.options))
    assert DeltaTable(where.uri).to_pyarrow_table()["a"].to_pylist() == [1, 2]
    assert any(entry.key.startswith("movielens/feedback/_delta_log/") for entry in store.list(""))
