"""Give tests every kind of store, a proxy that spoils what the S3 server says, and lines and records made by hand."""

import http.client
import json
import shutil
import tomllib
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from types import SimpleNamespace
from urllib.parse import urlsplit

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from recsys import bundles, channel, feedback, golden, synthetic
from recsys import dataset as datasets
from recsys.checkpoints import keep_weights
from recsys.records import (
    Bundle,
    Candidate,
    CheckedBatch,
    Comparison,
    Configuration,
    Dataset,
    Estimate,
    Evidence,
    Look,
    Ratios,
    Scorecard,
    TrialEvidence,
)
from recsys.sequences import Cases, Sequences
from recsys.settings import Line
from recsys.significance import pair
from recsys.store import Store, open_store
from recsys.store.memory import MemoryStore

SHOP = Line.model_validate(tomllib.loads(synthetic.LINE))


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


# --- records made by hand: whole ones, of which a test says what matters to it

AS_OF = datetime(2026, 1, 26, tzinfo=UTC)


@pytest.fixture(scope="session")
def trial_evidence() -> Callable[..., TrialEvidence]:
    """Make what a trial leaves to later searches: a whole one that ended in 1 s, unless it is said otherwise."""

    def make(family: str, configuration: Configuration, ndcg: float | None, **said) -> TrialEvidence:
        whole = {"stage": "screen", "share": 1.0, "epochs": 1.0, "seed": 0, "state": "complete"}
        known = {**whole, "ndcg_at_10": ndcg, "gain": None, "seconds": 1.0, **said}
        return TrialEvidence(family=family, configuration=configuration, **known)

    return make


@pytest.fixture(scope="session")
def search_evidence() -> Callable[..., Evidence]:
    """Make what a search with these trials leaves to later ones."""

    def make(*trials: TrialEvidence, **said) -> Evidence:
        incumbent = {"family": "markov", "configuration": {}}
        known = {"plan_id": "before", "dataset_id": "d", "as_of": AS_OF, **incumbent, "popularity": {}, **said}
        return Evidence(trials=trials, **known)

    return make


@pytest.fixture(scope="session")
def a_scorecard() -> Callable[..., Scorecard]:
    """Make what was measured of a bundle, with no doubt about it."""

    def make(release_id: str, ndcg: float, **said) -> Scorecard:
        quality = dict.fromkeys(("ndcg_at_10", "recall_at_10", "mrr"), exactly(ndcg))
        cases = {"cases": 100, "users": 100, "finite_share": 1.0, "constant_share": 0.0, "per_case_key": "k"}
        served = {"size_bytes": 1, "latency": (), "arrivals": None, "memory_mib": 0.0, "cold_start_s": 0.0}
        known = {"dataset_id": "d", "coverage": 0.5, "tail_share": 0.5, **served, **said}
        return Scorecard(release_id=release_id, **quality, **cases, **known)

    return make


@pytest.fixture(scope="session")
def a_comparison() -> Callable[..., Comparison]:
    """Compare two scorecards of bundles that are equally quick, with hardly a doubt about it."""

    def make(candidate: Scorecard, incumbent: Scorecard, **said) -> Comparison:
        spread = np.tile([-0.001, 0.001], 50)  # over 100 users
        look = Look(
            number=1,
            at=AS_OF,
            who="tests",
            dataset_id=candidate.dataset_id,
            candidate=candidate.release_id,
            incumbent=incumbent.release_id,
            level=0.001,
            budget=0.05,
            looks_a_year=50,
        )
        measured = {
            "ndcg_gain": exactly(candidate.ndcg_at_10.value - incumbent.ndcg_at_10.value),
            "ratios": Ratios(p50=exactly(1.0), p99=exactly(1.0)),
            "control": Ratios(p50=exactly(1.0), p99=exactly(1.0)),
            "other_latency": (),
            "quantisation_loss": None,
            "references": {},
            "paired": pair(
                candidate.ndcg_at_10.value + spread, np.full(100, incumbent.ndcg_at_10.value), np.arange(100)
            ),
            "look": look,
        }
        known = {**measured, "by": "tests", "as_of": AS_OF, **said}
        return Comparison(candidate=candidate, incumbent=incumbent, **known)

    return make


def exactly(value: float) -> Estimate:
    return Estimate(value=value, low=value, high=value)


@pytest.fixture(scope="session")
def keep_bundle() -> Callable[..., Bundle]:
    """Keep a bundle of these files, whatever is in them."""
    return keep_by_hand


def keep_by_hand(
    store: Store,
    files: dict[str, bytes],
    *,
    family: str,
    configuration: Configuration,
    dataset_id: str = "d",
    history_length: int = 1,
    **said,
) -> Bundle:
    what = {
        "family": family,
        "configuration": configuration,
        "dataset_id": dataset_id,
        "history_length": history_length,
        "files": {name: bundles.refer(body) for name, body in files.items()},
    }
    serves = {"serves": bundles.FP32, "serves_because": "It is the only graph.", "graphs": (), "largest_error": 0.0}
    known = {"candidate_id": "by hand", "n_items": 3, **serves, "by": "tests", "as_of": AS_OF, **said}
    return bundles.keep_bundle(store, Bundle(release_id=bundles.identify(**what), **what, **known), files)


# --- a line with something frozen


@pytest.fixture(scope="session")
def lookup() -> Callable[[np.ndarray], bytes]:
    """Build a graph that gives the row of the newest item."""
    return partial(lookup_graph, slow=0, length=1)


@pytest.fixture
def shop_line() -> Line:
    return SHOP


@pytest.fixture(scope="session")
def frozen_shop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Dataset]:
    """The folder of a store in which three weeks of the made shop are frozen; copied by `shop`."""
    folder = tmp_path_factory.mktemp("shop")
    store = open_store(folder.as_uri()).under(SHOP.name)
    store.put("landing/weeks.jsonl", synthetic.jsonl(synthetic.events(days=21, seed=1)))
    batch = feedback.pull(SHOP, store, as_of=datetime(2026, 2, 1, tzinfo=UTC))
    checked = CheckedBatch(
        batch=batch, accepted_key=batch.events_key, accepted_rows=batch.rows, refused=(), findings=()
    )
    return folder, datasets.freeze(SHOP, store, feedback.commit(SHOP, store, checked))


@dataclass(frozen=True)
class Shop:
    """A line, its part of a store, and a dataset in it; bundles are made by hand, with no training and no export."""

    line: Line
    store: Store
    dataset: Dataset

    def bundle(
        self, table: np.ndarray, vocabulary: Sequence[str], *, name: str = "markov", slow: int = 0, length: int = 2
    ) -> Bundle:
        """Keep a bundle whose graph looks the scores up in the row of the newest item.

        Args:
            table: Scores after each item, the first row after none, shape [N + 1, N + 1].
            vocabulary: Items of the ids 1..N.
            name: The family.
            slow: How many needless products the graph computes.
            length: L of the graph.
        """
        files = {
            bundles.FP32: lookup_graph(table, slow=slow, length=length),
            bundles.VOCABULARY: json.dumps(list(vocabulary)).encode(),
        }
        return keep_by_hand(
            self.store,
            files,
            family=name,
            configuration={"slow": slow},
            dataset_id=self.dataset.dataset_id,
            history_length=length,
            n_items=len(vocabulary),
            as_of=self.dataset.as_of,
        )

    def with_golden(self, bundle: Bundle, *, graph_of: Bundle | None = None) -> Bundle:
        """Keep a bundle again with golden requests, and with the graph of another one that answers otherwise.

        Args:
            bundle: Whose answers to the empty history and to its first item are golden.
            graph_of: Whose graph serves; none: its own.
        """
        files = bundles.read_bundle(self.store, bundle.release_id)[1]
        first = Sequences(items=np.array([1, 2], np.int32), times=np.arange(2), offsets=np.array([0, 2]), n_items=2)
        made, files = golden.added(bundle, files, Cases(sequences=first, positions=np.array([1])))
        if graph_of is not None:
            files[bundles.FP32] = bundles.read_file(self.store, graph_of.release_id, bundles.FP32)
        what = {"family": made.family, "configuration": made.configuration, "dataset_id": made.dataset_id}
        return keep_by_hand(
            self.store,
            files,
            **what,
            history_length=made.history_length,
            n_items=made.n_items,
            as_of=made.as_of,
        )

    def produce(self, bundle: Bundle) -> None:
        """Put a bundle into production, whatever is there."""
        now = channel.current(self.store)
        expect = now.release_id if now else None
        channel.move(
            self.store,
            to=bundle.release_id,
            expect=expect,
            by="tests",
            reason="by hand",
            nonce=f"{expect}-{bundle.release_id}",
        )


@pytest.fixture(scope="session")
def a_candidate() -> Callable[..., Candidate]:
    """Keep the weights of a network as a study would."""

    def make(shop: Shop, network: nn.Module, configuration: Configuration, *, family: str) -> Candidate:
        key, digest = keep_weights(shop.store, f"studies/plan-{family}", network)
        return Candidate(
            candidate_id=f"candidate-{family}",
            plan_id=f"plan-{family}",
            dataset_id=shop.dataset.dataset_id,
            family=family,
            configuration=configuration,
            seed=3,
            weights_key=key,
            weights_sha256=digest,
            validation_ndcg_at_10=0.1,
            by="schedule",
            as_of=shop.dataset.as_of,
        )

    return make


def lookup_graph(table: np.ndarray, *, slow: int, length: int) -> bytes:
    """Build `table[history[:, -1]]`, with `slow` products by a matrix that changes nothing."""
    nodes = [
        helper.make_node("Gather", ["history", "newest"], ["item"], axis=1),
        helper.make_node("Gather", ["table", "item"], ["scores" if not slow else "x0"], axis=0),
    ]
    weights = [
        numpy_helper.from_array(np.array(length - 1, np.int64), "newest"),
        numpy_helper.from_array(table.astype(np.float32), "table"),
    ]
    if slow:
        weights.append(numpy_helper.from_array(np.eye(len(table), dtype=np.float32), "unit"))
    for at in range(slow):
        last = "scores" if at == slow - 1 else f"x{at + 1}"
        nodes.append(helper.make_node("MatMul", [f"x{at}", "unit"], [last]))
    graph = helper.make_graph(
        nodes,
        "lookup",
        [helper.make_tensor_value_info("history", TensorProto.INT64, ["batch", length])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", len(table)])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(model.SerializeToString(deterministic=True))


@pytest.fixture(scope="session")
def shop_at(frozen_shop: tuple[Path, Dataset]) -> Callable[[Path], Shop]:
    """Make a shop in a folder that is not there yet, with nothing in production."""
    folder, dataset = frozen_shop

    def make(path: Path) -> Shop:
        shutil.copytree(folder, path)
        return Shop(SHOP, open_store(path.as_uri()).under(SHOP.name), dataset)

    return make


@pytest.fixture
def shop(shop_at: Callable[[Path], Shop], tmp_path: Path) -> Shop:
    """A shop of the test's own."""
    return shop_at(tmp_path / "shop")
