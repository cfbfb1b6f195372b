"""Keep matrices of an ONNX graph as int8 with one scale for each row, stored once however often they are read.

A large row then costs only itself precision; with one scale for a whole matrix it would cost all others theirs.

Embeddings that a network both looks up and scores with (tied) stay one matrix. Nodes are laid out so that ONNX Runtime
fuses them: a scale that only its product reads makes `DequantizeLinear` and `MatMul` one kernel that reads int8, so
look-ups read the scales through a node that is folded away when the graph is opened.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto
from onnx.helper import get_attribute_value, make_node
from onnx.numpy_helper import from_array, to_array

DEQUANTISED, INTEGER = 127, 64
"""Largest int8: of what is dequantised in use, and of what is multiplied as integers, where processors without a
product of bytes (VNNI) add up pairs in 16 bits, which the full range would overflow."""


def shrink_embeddings(model: ModelProto, *, integer: bool = False) -> int:
    """Make every matrix that is looked up by row int8, with the products that score with it.

    Args:
        model: Changed in place.
        integer: Multiply in integers, activations being quantised as they come; else weights are dequantised in use.

    Returns:
        How many matrices were changed.
    """
    return _shrink(model, lookups=True, integer=integer)


def shrink_products(model: ModelProto) -> int:
    """Make every other matrix of a product int8, one scale for each of its results, to be dequantised in use.

    Args:
        model: Changed in place.

    Returns:
        How many matrices were changed.
    """
    return _shrink(model, lookups=False, integer=False)


def to_int8(matrix: NDArray[np.float32], largest: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round each row to whole multiples of its own scale.

    Returns:
        The multiples, shape [R, C], and the scales, shape [R].

    >>> rounded, scales = to_int8(np.array([[1.0, -0.5], [0.0, 0.0], [200.0, 100.0]], np.float32), 100)
    >>> rounded.tolist(), [round(float(scale), 2) for scale in scales]
    ([[100, -50], [0, 0], [100, 50]], [0.01, 1.0, 2.0])
    """
    most = np.abs(matrix).max(1)
    scales = np.where(most > 0, most / largest, 1.0).astype(np.float32)
    return np.rint(matrix / scales[:, None]).astype(np.int8), scales


class _Use(NamedTuple):
    """One place where a node reads a matrix."""

    node: NodeProto
    at: int

    @property
    def looks_up(self) -> bool:
        return self.node.op_type == "Gather" and self.at == 0 and not _attributes(self.node).get("axis", 0)

    @property
    def multiplies_rows(self) -> bool:
        """Whether each row gives one result: x W^T + b."""
        if self.node.op_type != "Gemm" or self.at != 1:
            return False
        usual = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}
        return {**usual, **_attributes(self.node)} == {**usual, "transB": 1}

    @property
    def multiplies_columns(self) -> bool:
        """Whether each column gives one result: x W."""
        return self.node.op_type == "MatMul" and self.at == 1


def _shrink(model: ModelProto, *, lookups: bool, integer: bool) -> int:
    graph = model.graph
    changed = 0
    for tensor in list(graph.initializer):
        read = _uses(graph, tensor.name)
        if tensor.data_type != TensorProto.FLOAT or len(tensor.dims) != 2 or not read:
            continue
        if any(use.looks_up for use in read) is not lookups:
            continue
        by_row = all(use.looks_up or use.multiplies_rows for use in read)
        if by_row or (not lookups and all(use.multiplies_columns for use in read)):
            _replace(graph, tensor, read, by_row=by_row, integer=integer)
            changed += 1
    return changed


def _uses(graph: GraphProto, name: str) -> list[_Use]:
    return [_Use(node, at) for node in graph.node for at, read in enumerate(node.input) if read == name]


def _replace(graph: GraphProto, tensor: TensorProto, read: list[_Use], *, by_row: bool, integer: bool) -> None:
    """Put the int8 matrix in the place of a float one, and new nodes in that of those which read it."""
    name, matrix = tensor.name, to_array(tensor)
    integer = integer and any(use.multiplies_rows for use in read)
    rounded, scales = to_int8(matrix if by_row else matrix.T, INTEGER if integer else DEQUANTISED)
    graph.initializer.remove(tensor)
    graph.initializer.extend(
        [
            from_array(rounded if by_row else np.ascontiguousarray(rounded.T), f"{name}.int8"),
            from_array(scales, f"{name}.scales"),
        ]
    )
    before = []
    if any(use.looks_up for use in read):
        graph.initializer.append(from_array(np.array([1]), f"{name}.axis"))
        before.append(make_node("Unsqueeze", [f"{name}.scales", f"{name}.axis"], [f"{name}.column"]))
    columns = f"{name}.int8"
    if any(use.multiplies_rows for use in read):
        columns = f"{name}.columns"
        before.append(make_node("Transpose", [f"{name}.int8"], [columns], perm=[1, 0]))
    if not integer and any(not use.looks_up for use in read):
        before.append(make_node("DequantizeLinear", [columns, f"{name}.scales"], [f"{name}.float"], axis=1))
    nodes: list[NodeProto] = []
    for node in graph.node:
        use = next((use for use in read if use.node is node), None)
        if use is None:
            nodes.append(node)
        elif use.looks_up:
            nodes += _look_up(name, node)
        elif integer:
            nodes += _multiply_integers(name, node)
        else:
            nodes += _multiply(name, node)
    copies = [NodeProto.FromString(node.SerializeToString()) for node in [*before, *nodes]]
    del graph.node[:]  # and with them what the list held of them
    graph.node.extend(copies)


def _look_up(name: str, node: NodeProto) -> Iterable[NodeProto]:
    ids, found = node.input[1], node.output[0]
    yield make_node("Gather", [f"{name}.int8", ids], [f"{found}.int8"], axis=0)
    yield make_node("Cast", [f"{found}.int8"], [f"{found}.whole"], to=TensorProto.FLOAT)
    yield make_node("Gather", [f"{name}.column", ids], [f"{found}.scale"], axis=0)
    yield make_node("Mul", [f"{found}.whole", f"{found}.scale"], [found])


def _multiply(name: str, node: NodeProto) -> Iterable[NodeProto]:
    yield from _plus(node, make_node("MatMul", [node.input[0], f"{name}.float"], [node.output[0]]))


def _multiply_integers(name: str, node: NodeProto) -> Iterable[NodeProto]:
    found = node.output[0]
    given = [f"{found}.given", f"{found}.given_scale", f"{found}.given_zero"]
    yield make_node("DynamicQuantizeLinear", [node.input[0]], given)
    yield make_node("MatMulInteger", [given[0], f"{name}.columns", given[2]], [f"{found}.sum"])
    yield make_node("Cast", [f"{found}.sum"], [f"{found}.whole"], to=TensorProto.FLOAT)
    yield make_node("Mul", [given[1], f"{name}.scales"], [f"{found}.scale"])
    yield from _plus(node, make_node("Mul", [f"{found}.whole", f"{found}.scale"], [found]))


def _plus(node: NodeProto, product: NodeProto) -> Iterable[NodeProto]:
    """Add what `node` adds to its product, if it does; not as `Add`, which would be fused into a float product."""
    bias = node.input[2] if node.op_type == "Gemm" and len(node.input) > 2 else ""
    if not bias:
        yield product
        return
    found = product.output[0]
    product.output[0] = f"{found}.product"
    yield product
    yield make_node("Sum", [f"{found}.product", bias], [found])


def _attributes(node: NodeProto) -> dict[str, object]:
    return {attribute.name: get_attribute_value(attribute) for attribute in node.attribute}
