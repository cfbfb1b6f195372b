from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from recsys.errors import Conflict, NotFound, StoreError, Unsupported
from recsys.store import open_store

pytestmark = pytest.mark.s3


@pytest.fixture
def store(s3_proxy, s3_url):
    opened = open_store(s3_url)
    s3_proxy.served.clear()
    return opened


@pytest.fixture
def wire(s3_proxy):
    return s3_proxy


# --- lost answers


def test_a_create_whose_answer_was_lost_has_succeeded(store, wire, faults):
    wire.plan("PUT", faults.lose)
    etag = store.create("a", b"mine")
    assert wire.served == [("PUT", 0), ("PUT", 412), ("HEAD", 200)]
    assert store.get("a").body == b"mine"
    assert store.get("a").etag == etag


def test_a_replace_whose_answer_was_lost_has_succeeded(store, wire, faults):
    etag = store.put("a", b"1")
    wire.plan("PUT", faults.lose, faults.lose)
    etag = store.replace("a", b"2", etag=etag)
    assert wire.served[1:] == [("PUT", 0), ("PUT", 0), ("PUT", 412), ("HEAD", 200)]
    assert store.replace("a", b"3", etag=etag) != etag


def test_a_lost_answer_to_a_lost_race_stays_a_conflict(store, wire, faults):
    store.create("a", b"theirs")
    wire.plan("PUT", faults.lose)
    with pytest.raises(Conflict):
        store.create("a", b"mine")
    with pytest.raises(Conflict):
        store.create("a", b"theirs")  # the same bytes are not the same write
    assert store.get("a").body == b"theirs"


def test_a_put_whose_answer_was_lost_is_sent_again(store, wire, faults):
    wire.plan("PUT", faults.lose)
    store.put("a", b"1")
    assert wire.served == [("PUT", 0), ("PUT", 200)]


# --- answers that ask for patience


def test_a_rival_write_under_way_is_waited_for(store, wire, faults):
    wire.plan("PUT", *[faults.refuse(409, "ConditionalRequestConflict")] * 3)
    store.create("a", b"1")
    assert [status for _, status in wire.served] == [409, 409, 409, 200]


def test_rival_writes_without_end_are_an_error_that_names_the_key(store, wire, faults):
    wire.plan("PUT", *[faults.refuse(409, "ConditionalRequestConflict")] * 8)
    with pytest.raises(StoreError, match="ConditionalRequestConflict") as caught:
        store.create("a", b"1")
    assert not isinstance(caught.value, Conflict)
    assert caught.value.key == "a"


def test_a_server_that_asks_to_slow_down_is_asked_again(store, wire, faults):
    store.put("a", b"1")
    wire.plan("GET", faults.refuse(503, "SlowDown"), faults.refuse(500, "InternalError"))
    assert store.get("a").body == b"1"


def test_absence_under_if_match_is_a_conflict_in_amazons_words_too(store, wire, faults):
    wire.plan("PUT", faults.refuse(404, "NoSuchKey"))
    with pytest.raises(Conflict):
        store.replace("a", b"1", etag="0")


# --- broken reads


def test_a_read_that_breaks_off_is_repeated(store, wire, faults):
    store.put("a", b"x" * 100_000)
    wire.plan("GET", faults.cut, faults.cut)
    assert store.get("a").body == b"x" * 100_000


def test_a_read_that_always_breaks_off_is_an_error(store, wire, faults):
    store.put("a", b"x" * 100)
    wire.plan("GET", *[faults.cut] * 8)
    with pytest.raises(StoreError) as caught:
        store.get("a")
    assert caught.value.key == "a"


def test_a_download_that_breaks_off_goes_on(store, wire, faults, tmp_path):
    body = bytes(range(256)) * 100_000  # several parts
    store.put("a", body)
    wire.plan("GET", faults.cut, faults.cut)
    store.fetch("a", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == body
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_download_that_fails_leaves_nothing(store, wire, faults, tmp_path):
    store.put("a", b"x" * 100)
    wire.plan("GET", *[faults.refuse(403, "AccessDenied")] * 8)
    with pytest.raises(StoreError) as caught:
        store.fetch("a", tmp_path / "a")
    assert caught.value.key == "a"
    assert list(tmp_path.iterdir()) == []


def test_an_upload_that_is_refused_names_its_key(store, wire, faults, tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    wire.plan("PUT", faults.refuse(403, "AccessDenied"))
    with pytest.raises(StoreError, match="AccessDenied") as caught:
        store.upload(tmp_path / "a", "a")
    assert caught.value.key == "a"


# --- opening


@pytest.mark.parametrize(
    ("name", "value"), [("AWS_SECRET_ACCESS_KEY", "wrong"), ("AWS_ACCESS_KEY_ID", "wrong")], ids=["secret", "id"]
)
def test_wrong_keys_are_an_error_at_once(s3_url, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(StoreError, match=r"SignatureDoesNotMatch|InvalidAccessKeyId") as caught:
        open_store(s3_url)
    assert caught.value.__cause__ is not None


def test_missing_keys_are_an_error_at_once(s3_url, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(StoreError, match="credentials"):
        open_store(s3_url)


@pytest.mark.usefixtures("s3_environment")
def test_a_missing_bucket_is_an_error_and_is_not_made():
    with pytest.raises(StoreError, match="NoSuchBucket") as caught:
        open_store("s3://no-such-bucket/prefix")
    assert not isinstance(caught.value, NotFound)
    with pytest.raises(StoreError, match="NoSuchBucket"):
        open_store("s3://no-such-bucket/prefix", probe=False).get("a")


def test_a_reader_need_not_be_able_to_write(s3_proxy, s3_url, faults):
    open_store(s3_url).put("a", b"1")
    s3_proxy.plan("PUT", *[faults.refuse(403, "AccessDenied")] * 9)
    reader = open_store(s3_url, probe=False)
    assert reader.get("a").body == b"1"
    with pytest.raises(StoreError, match="AccessDenied"):
        reader.create("b", b"2")


def test_the_probe_runs_once_and_leaves_nothing(s3_proxy, s3_url, s3_server):
    store = open_store(s3_url)
    assert [method for method, _ in s3_proxy.served].count("PUT") == 4
    store.create("a", b"1")
    store.under("b").create("c", b"1")
    assert [method for method, _ in s3_proxy.served].count("PUT") == 6
    bucket, prefix = s3_url.removeprefix("s3://").split("/")
    left = s3_server.client().list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]  # listings of ours hide probes
    assert [content["Key"] for content in left] == [f"{prefix}/a", f"{prefix}/b/c"]


@pytest.mark.parametrize("url", ["s3://", "s3:///prefix", "s3://bucket/a?b=c", "s3://bucket/a//b", "s3://bucket/../b"])
def test_a_malformed_url_is_a_wrong_argument(url):
    with pytest.raises(ValueError, match="must be"):
        open_store(url)


class Careless(BaseHTTPRequestHandler):
    """Accepts every write, whatever its conditions; some S3 servers are so."""

    protocol_version = "HTTP/1.1"

    def do_PUT(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(200)

    def do_DELETE(self):
        self._answer(204)

    def _answer(self, status):
        self.send_response(status)
        self.send_header("ETag", '"9dd4e461268c8034f5c8564e155c67a6"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args):
        pass


class Ignorant(Careless):
    """Knows no conditional writes and says so."""

    def do_PUT(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(501)


@pytest.mark.parametrize("server", [Careless, Ignorant])
def test_an_endpoint_without_conditional_writes_is_refused(monkeypatch, server):
    with ThreadingHTTPServer(("127.0.0.1", 0), server) as endpoint:
        thread = Thread(target=endpoint.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{endpoint.server_address[1]}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")
        try:
            with pytest.raises(Unsupported):
                open_store("s3://bucket/prefix")
            with pytest.raises(Unsupported):
                open_store("s3://bucket/prefix", probe=False).create("a", b"1")
        finally:
            endpoint.shutdown()
            thread.join()


# --- tables


def test_a_table_lies_where_its_options_lead(s3_url):
    from deltalake import DeltaTable, write_deltalake
    from pyarrow import table

    where = open_store(s3_url).under("movielens").table("feedback")
    assert where.uri == f"{s3_url}/movielens/feedback"
    options = dict(where.options)
    write_deltalake(where.uri, table({"a": [1, 2]}), mode="append", storage_options=options)
    write_deltalake(where.uri, table({"a": [3]}), mode="append", storage_options=options)
    assert sorted(DeltaTable(where.uri, storage_options=options).to_pyarrow_table()["a"].to_pylist()) == [1, 2, 3]


def test_secrets_stay_out_of_what_is_logged(s3_url, s3_server):
    where = open_store(s3_url).table("feedback")
    assert where.options["AWS_SECRET_ACCESS_KEY"] == s3_server.secret_key
    assert s3_server.secret_key not in repr(where)
