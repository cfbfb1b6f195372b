"""Make int8 variants of an exported graph, and keep those that really are."""

import logging
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import onnx
from onnx import ModelProto, TensorProto
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

from recsys.rowwise import shrink_embeddings, shrink_products

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pass:
    """One way of making a graph int8."""

    steps: tuple[Callable[[ModelProto], ModelProto], ...]
    shows: frozenset[str]  # operators of which a graph has more where the pass changed anything


def quantisations(graph: bytes) -> dict[str, bytes]:
    """Make a graph int8 with every pass that changes it.

    Args:
        graph: An fp32 ONNX graph.

    Returns:
        Graphs by the name of the pass; a pass that left the weights as they were, or gave what another had given, is
        left out.
    """
    made: dict[str, bytes] = {}
    for name, each in PASSES.items():
        model = onnx.load_model_from_string(graph)
        for step in each.steps:
            model = step(model)
        found = model.SerializeToString(deterministic=True)
        same = next((other for other, body in made.items() if body == found), None)
        if same is not None:
            log.info("Pass %s gives what %s gave.", name, same)
        elif not is_int8(graph, found, each.shows):
            log.info("Pass %s made no weights int8, or added no %s.", name, " or ".join(sorted(each.shows)))
        else:
            made[name] = found
    return made


def is_int8(before: bytes, after: bytes, shows: frozenset[str]) -> bool:
    """Whether a pass has put weights into int8, and added operators that read them."""
    was, now = onnx.load_model_from_string(before), onnx.load_model_from_string(after)
    more = Counter(node.op_type for node in now.graph.node)
    more.subtract(Counter(node.op_type for node in was.graph.node))
    return _int8_weights(now) > _int8_weights(was) and any(more[operator] > 0 for operator in shows)


def _embeddings(model: ModelProto) -> ModelProto:
    shrink_embeddings(model)
    return model


def _embeddings_in_integers(model: ModelProto) -> ModelProto:
    shrink_embeddings(model, integer=True)
    return model


def _matrices(model: ModelProto) -> ModelProto:
    shrink_products(model)
    return model


def _products(model: ModelProto) -> ModelProto:
    """Multiply in integers: one scale for each column of the weights, activations quantised as they come.

    Weights keep to 7 bits: where the processor has no product of bytes (VNNI), pairs of products are added in 16 bits,
    and 8 bits overflow there without a word. (Seen: scores off by 44 % of the largest.)
    """
    # The library advises, at each call, to optimise the graph first. On our graphs that costs seconds and saves a
    # thousandth of the bytes.
    add_pre_process_metadata(model)
    with tempfile.TemporaryDirectory() as folder, _quietly():
        path = Path(folder) / "int8.onnx"
        quantize_dynamic(
            model,
            path,
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            # What shapes cannot be inferred of is what other steps have dequantised, which is float.
            extra_options={"DefaultTensorType": TensorProto.FLOAT},
        )
        return onnx.load(path)


_READ = frozenset({"Cast", "DequantizeLinear"})
_MULTIPLIED = frozenset({"MatMulInteger"})

PASSES: Mapping[str, Pass] = MappingProxyType(
    {
        "int8-rows": Pass((_embeddings,), _READ),
        "int8-matmul": Pass((_products,), _MULTIPLIED),
        "int8": Pass((_embeddings, _products), _MULTIPLIED),
        "int8-integer": Pass((_embeddings_in_integers, _products), _MULTIPLIED),
        "int8-weights": Pass((_embeddings, _matrices), _READ),
    }
)
"""What can be tried, by name.

`int8-rows` has the embeddings in int8, with one scale for each row; a network that scores with the embeddings it also
reads (tied) has them once. `int8-matmul` multiplies in integers and leaves look-ups alone, so that tied embeddings lie
there twice, once in each type, and the graph may be larger than fp32. `int8` does both: products but those with the
embeddings are integers. In `int8-integer` those are too, which pays for larger batches and rounds more. `int8-weights`
has all weights in int8 and dequantises them in use. Where activations are quantised as they come, which is in all but
`int8-rows` and `int8-weights`, all histories of a batch share their scales, so that scores depend a little on the
others of the batch.
"""


def _int8_weights(model: ModelProto) -> int:
    """Count the matrices that are stored as int8, scales and zero points apart."""
    return sum(tensor.data_type == TensorProto.INT8 and len(tensor.dims) > 1 for tensor in model.graph.initializer)


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep the library from telling every tensor that it passes over; it speaks through the root logger."""
    root = logging.getLogger()

    def is_not_the_library(record: logging.LogRecord) -> bool:
        return record.levelno > logging.WARNING or "onnxruntime" not in record.pathname

    root.addFilter(is_not_the_library)  # a logger's filter sees what was said to it, not what came up from below
    try:
        yield
    finally:
        root.removeFilter(is_not_the_library)
