"""Make int8 variants of an exported graph, and keep those that really are."""

import logging
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import onnx
from onnx import ModelProto, TensorProto
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

log = logging.getLogger(__name__)

PASSES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "int8": ("MatMul", "Gemm", "Gather"),
        "int8-matmul": ("MatMul", "Gemm"),
    }
)
"""Operators whose weights become int8, by the name of the pass.

A network that scores with the embeddings it also reads (tied embeddings) has them twice in the graph of `int8-matmul`,
once in each type, so that graph may be larger than fp32; `int8` makes both copies small but rounds what is read.
"""


def quantisations(graph: bytes) -> dict[str, bytes]:
    """Quantise a graph dynamically, weights ahead and activations as they come, with every pass that changes it.

    Args:
        graph: An fp32 ONNX graph.

    Returns:
        Graphs by the name of the pass; a pass that left the weights as they were, or gave what another had given, is
        left out.
    """
    made: dict[str, bytes] = {}
    for name, operators in PASSES.items():
        quantised = _quantise(graph, operators)
        if not _int8_weights(quantised):
            log.info("Pass %s found no weights to quantise in %s.", name, "/".join(operators))
        elif quantised not in made.values():
            made[name] = quantised
    return made


def _quantise(graph: bytes, operators: tuple[str, ...]) -> bytes:
    model = onnx.load_model_from_string(graph)
    # The library advises, at each call, to optimise the graph first. On our graphs that costs seconds and saves a
    # thousandth of the bytes.
    add_pre_process_metadata(model)
    with tempfile.TemporaryDirectory() as folder, _quietly():
        path = Path(folder) / "int8.onnx"
        quantize_dynamic(model, path, op_types_to_quantize=list(operators), weight_type=QuantType.QInt8)
        quantised: bytes = onnx.load(path).SerializeToString(deterministic=True)
        return quantised


def _int8_weights(graph: bytes) -> int:
    """Count the weights that are stored as int8, scales and zero points apart."""
    model: ModelProto = onnx.load_model_from_string(graph)
    small = (TensorProto.INT8, TensorProto.UINT8)  # what is only read becomes unsigned
    return sum(tensor.data_type in small and len(tensor.dims) > 1 for tensor in model.graph.initializer)


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep the library from telling every tensor that it passes over; it speaks through the root logger."""
    root = logging.getLogger()

    def is_not_the_library(record: logging.LogRecord) -> bool:
        return record.levelno > logging.INFO or "onnxruntime" not in record.pathname

    root.addFilter(is_not_the_library)  # a logger's filter sees what was said to it, not what came up from below
    try:
        yield
    finally:
        root.removeFilter(is_not_the_library)
