"""Say what serving a configuration would cost, before any training is paid for."""

import hashlib
import json
import logging
import math
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from recsys.errors import NotFound
from recsys.graph import rough_latency, session, to_onnx
from recsys.models import Family
from recsys.records import MIB, Configuration, dump, parse, to_json
from recsys.sequences import Cases
from recsys.settings import Budgets
from recsys.store import Store

log = logging.getLogger(__name__)

SECONDS = 0.3  # spent on timing a graph
HISTORIES = 512  # real ones that the timed requests cycle through
QUANTISED = frozenset({"Gather", "Gemm", "MatMul"})  # operators that read int8 weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What serving a graph of some shape costs."""

    size_mib: float  # weights as int8 where that applies, all else as it is
    p50_ms: float | None  # as `rough_latency` times fp32 with weights that mean nothing; None: too large to be timed
    p99_ms: float | None

    def excesses(self, budgets: Budgets) -> dict[str, float]:
        """Say by how much each budget is exceeded; what is not positive is met."""
        found = {"size_mib": self.size_mib - budgets.size_mib}
        if self.p99_ms is not None:
            found["p99_ms"] = self.p99_ms - budgets.p99_ms
        return found

    def misses(self, budgets: Budgets) -> tuple[str, ...]:
        """Say which budgets are missed, each with its numbers.

        >>> Cost(size_mib=9.5, p50_ms=None, p99_ms=None).misses(Budgets(p99_ms=8, size_mib=8))
        ('size of about 9.50 MiB is over the budget of 8 MiB',)
        """
        said = {
            "size_mib": f"size of about {self.size_mib:.2f} MiB is over the budget of {budgets.size_mib:g} MiB",
            "p99_ms": f"p99 of about {self.p99_ms or 0:.2f} ms is over the budget of {budgets.p99_ms:g} ms",
        }
        return tuple(said[name] for name, excess in self.excesses(budgets).items() if excess > 0)


class Costs:
    """Measures each shape of graph once for all workers of a search, which are taken to run on machines of one kind."""

    def __init__(self, store: Store, *, prefix: str, n_items: int, budgets: Budgets, cases: Cases) -> None:
        self._store, self._prefix, self._n_items, self._budgets, self._cases = store, prefix, n_items, budgets, cases
        self._measured: dict[str, Cost] = {}

    def of(self, family: Family, configuration: Configuration) -> Cost:
        """Measure the graph of a configuration, or remember what one of the same shape has cost.

        Raises:
            ValueError: The family cannot build the configuration.
        """
        family.check(configuration)
        if known := self.known(family, configuration):
            return known
        measured = self._measure(family, configuration)
        self._keep(self._shape(family, configuration), measured)
        return measured

    def known(self, family: Family, configuration: Configuration, *, earlier: str = "") -> Cost | None:
        """Remember what a graph of the shape of a configuration has cost; nothing where none was measured.

        Args:
            family: Of the configuration.
            configuration: One that the family can build.
            earlier: Prefix of another search's costs; what that one measured holds for this one from now on.
        """
        shape = self._shape(family, configuration)
        if shape not in self._measured:
            for prefix in filter(None, (self._prefix, earlier)):
                if found := self._read(f"{prefix}/{shape}.json"):
                    self._measured[shape] = found
                    if prefix != self._prefix:
                        self._keep(shape, found)
                    break
        return self._measured.get(shape)

    def _read(self, key: str) -> Cost | None:
        try:
            return parse(Cost, key, self._store.get(key).body)
        except NotFound:
            return None

    def _keep(self, shape: str, cost: Cost) -> None:
        self._measured[shape] = cost
        self._store.put(f"{self._prefix}/{shape}.json", to_json(cost))

    def _shape(self, family: Family, configuration: Configuration) -> str:
        made_of = [
            family.name,
            family.shape(configuration),
            self._n_items,
            self._budgets.batch_size,
            self._budgets.threads,
        ]
        return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:16]

    def _measure(self, family: Family, configuration: Configuration) -> Cost:
        # What is far too large must not be allocated to be refused.
        size_mib = smallest_bytes(family.sketch(configuration, n_items=self._n_items)) / MIB
        cost = Cost(size_mib=size_mib, p50_ms=None, p99_ms=None)
        if not cost.misses(self._budgets):
            cost = self._timed(family, configuration)
        log.info("a %s graph of %s costs %s", family.name, dict(configuration), dump(cost))
        return cost

    def _timed(self, family: Family, configuration: Configuration) -> Cost:
        network = family.build(configuration, n_items=self._n_items)
        with tempfile.TemporaryDirectory() as folder:
            graph = to_onnx(network, Path(folder) / "untrained.onnx").read_bytes()
        p50_ms, p99_ms = rough_latency(
            session(graph, threads=self._budgets.threads),
            self._histories(int(network.history_length)),  # type: ignore[arg-type]
            batch_size=self._budgets.batch_size,
            seconds=SECONDS,
        )
        return Cost(size_mib=served_bytes(graph) / MIB, p50_ms=p50_ms, p99_ms=p99_ms)

    def _histories(self, length: int) -> NDArray[np.int64]:
        some = self._cases.spread(HISTORIES)
        return some.histories(np.arange(len(some)), length)


def smallest_bytes(network: torch.nn.Module) -> int:
    """Give the fewest bytes that the network can be served in: int8 matrices, each stored once.

    >>> smallest_bytes(torch.nn.Linear(3, 5))  # 15 weights of one byte, 5 biases of four
    35
    """
    return sum(
        tensor.numel() * (1 if tensor.ndim > 1 and tensor.is_floating_point() else tensor.element_size())
        for tensor in network.state_dict().values()
    )


def served_bytes(graph: bytes) -> int:
    """Estimate the bytes of a graph after the pass `int8`.

    A float matrix becomes int8 with a scale for each of its rows, once, however many operators read it so: embeddings
    that are looked up and also multiplied with count once. It stays float as well where another kind of operator reads
    it. All else keeps its size.

    Args:
        graph: An fp32 ONNX file.
    """
    model = onnx.load_model_from_string(graph).graph
    readers: dict[str, set[str]] = defaultdict(set)
    for node in model.node:
        for name in node.input:
            readers[name].add(node.op_type)
    saved = 0
    for tensor in model.initializer:
        own = readers[tensor.name]
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) > 1 and own & QUANTISED:
            scales = tensor.dims[-1] if own & QUANTISED == {"MatMul"} else tensor.dims[0]
            saved += math.prod(tensor.dims) * (-1 if own - QUANTISED else 3) - 4 * scales
    return len(graph) - saved
