"""Give tests every kind of store, empty, and a proxy before the S3 server that loses, cuts and refuses on demand."""

import http.client
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest

from recsys.store import Store, open_store
from recsys.store.memory import MemoryStore


def a_file_store(request) -> Store:
    return open_store((request.getfixturevalue("tmp_path") / "store").as_uri())


def an_s3_store(request) -> Store:
    return open_store(request.getfixturevalue("s3_url"))


def a_memory_store(request) -> Store:
    return MemoryStore()


SHARED_BY_PROCESSES = [
    pytest.param(a_file_store, id="file"),
    pytest.param(an_s3_store, id="s3", marks=pytest.mark.s3),
]


@pytest.fixture(params=[*SHARED_BY_PROCESSES, pytest.param(a_memory_store, id="memory")])
def store(request) -> Store:
    return request.param(request)


@pytest.fixture(params=SHARED_BY_PROCESSES)
def shared_store(request) -> Store:
    """A store that other processes can open by its URL."""
    return request.param(request)


class Exchange(BaseHTTPRequestHandler):
    """One request on its way to the server and one answer on its way back.

    The Host header goes through unchanged, so that signatures still verify.
    """

    protocol_version = "HTTP/1.1"

    def forward(self) -> tuple[int, list[tuple[str, str]], bytes]:
        """Send the request on and take the answer."""
        connection = http.client.HTTPConnection(self.server.upstream, timeout=30)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("expect", "connection"):
                    connection.putheader(name, value)
            connection.endheaders(self.body)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    def answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.server.served.append((self.command, status))
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("connection", "transfer-encoding"):
                self.send_header(name, value)
        if not any(name.lower() in ("content-length", "transfer-encoding") for name, _ in headers):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def drop(self) -> None:
        self.server.served.append((self.command, 0))
        self.close_connection = True

    def do_GET(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with self.server.lock:
            planned = self.server.plans[self.command]
            fault = planned.popleft() if planned else pass_on
        fault(self)

    def do_PUT(self) -> None:
        self.do_GET()

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        self.do_GET()

    def do_DELETE(self) -> None:
        self.do_GET()

    def log_message(self, *args) -> None:
        pass


Fault = Callable[[Exchange], None]


def pass_on(exchange: Exchange) -> None:
    exchange.answer(*exchange.forward())


def lose(exchange: Exchange) -> None:
    """Let the server do it, then hang up."""
    exchange.forward()
    exchange.drop()


def cut(exchange: Exchange) -> None:
    """Send half of the body that was announced, then hang up."""
    status, headers, body = exchange.forward()
    exchange.close_connection = True
    exchange.answer(status, headers, body[: len(body) // 2])


def refuse(status: int, code: str) -> Fault:
    """Answer in the server's place."""
    body = f"<Error><Code>{code}</Code><Message>by the proxy</Message></Error>".encode()
    return lambda exchange: exchange.answer(status, [("Content-Type", "application/xml")], body)


@pytest.fixture
def faults() -> SimpleNamespace:
    return SimpleNamespace(pass_on=pass_on, lose=lose, cut=cut, refuse=refuse)


class Proxy(ThreadingHTTPServer):
    """Keeps its faults in order for each HTTP method; without one it passes on."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), Exchange)
        self.upstream = upstream
        self.plans: dict[str, deque[Fault]] = defaultdict(deque)
        self.served: list[tuple[str, int]] = []
        self.lock = Lock()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def plan(self, method: str, *faults: Fault) -> None:
        with self.lock:
            self.plans[method].extend(faults)


@pytest.fixture
def s3_proxy(s3_environment, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """The environment leads to the server through this proxy."""
    with Proxy(urlsplit(s3_environment.endpoint).netloc) as proxy:
        thread = Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        yield proxy
        proxy.shutdown()
        thread.join()
