"""Refuse a graph that is no valid ONNX, or that asks for what the runtime which serves does not have."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cache

import onnx
from google.protobuf.message import DecodeError
from onnxruntime import __version__ as runtime
from onnxruntime.capi import onnxruntime_pybind11_state as ort

from recsys.errors import BadBundle

Name = tuple[str, str]
"""Domain and name of an operator; the domain of ONNX itself is empty."""


def refuse_unknown(graph: bytes, *, name: str) -> Mapping[str, float]:
    """Refuse a graph that this runtime could not run.

    Args:
        graph: The bytes of an ONNX file.
        name: What the file is called.

    Returns:
        Numbers to show: nodes, kinds of operators, and the opset.

    Raises:
        BadBundle: It cannot be read, has an opset or an operator that the runtime does not know, or breaks a rule of
            ONNX.
    """
    model = _read(graph, name)
    _refuse_opsets(model, name)
    own = {(function.domain, function.name) for function in model.functions}
    used = Counter(_operators(model))
    for domain, operator in used:
        if (domain, operator) not in own | _known():
            raise BadBundle(
                f"{name} must be made of operators that ONNX Runtime {runtime} has, but "
                f"{domain or 'ai.onnx'}:{operator} is none.",
                file=name,
            )
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        said = " ".join(str(error).split())
        raise BadBundle(f"{name} must be valid ONNX, but: {said:.300}.", file=name) from error
    opset = max((each.version for each in model.opset_import if each.domain in _ONNX), default=0)
    return {"nodes": used.total(), "operators": len(used), "opset": opset}


_ONNX = ("", "ai.onnx")


def _read(graph: bytes, name: str) -> onnx.ModelProto:
    try:
        return onnx.load_model_from_string(graph)
    except DecodeError as error:
        raise BadBundle(f"{name} must be an ONNX graph, but cannot be read as one: {error}.", file=name) from error


def _refuse_opsets(model: onnx.ModelProto, name: str) -> None:
    if model.ir_version > onnx.IR_VERSION:
        raise BadBundle(
            f"{name} must have an IR version of at most {onnx.IR_VERSION}, but has {model.ir_version}.", file=name
        )
    for opset in model.opset_import:
        newest = _newest().get(_plain(opset.domain))
        if newest is not None and opset.version > newest:
            raise BadBundle(
                f"{name} must have an opset of {opset.domain or 'ai.onnx'} that ONNX Runtime {runtime} knows, at most "
                f"{newest}, but has {opset.version}.",
                file=name,
            )


def _operators(model: onnx.ModelProto) -> Iterator[Name]:
    """List the operator of each node, those of branches, loops and functions included."""
    yield from _of(model.graph.node)
    for function in model.functions:
        yield from _of(function.node)


def _of(nodes: Iterable[onnx.NodeProto]) -> Iterator[Name]:
    for node in nodes:
        yield _plain(node.domain), node.op_type
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _of(graph.node)


def _plain(domain: str) -> str:
    return "" if domain in _ONNX else domain


@cache
def _known() -> frozenset[Name]:
    return frozenset((_plain(each.domain), each.name) for each in ort.get_all_operator_schema())


@cache
def _newest() -> Mapping[str, int]:
    """Give the newest version of each domain in which any operator was defined or changed."""
    newest: dict[str, int] = {}
    for each in ort.get_all_operator_schema():
        domain = _plain(each.domain)
        newest[domain] = max(newest.get(domain, 0), each.since_version)
    return newest
