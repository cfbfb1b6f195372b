import logging

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from recsys.graph import session
from recsys.quantize import quantisations

N, D = 200, 16


def graph(*, reads: bool = False, multiplies: bool = False) -> bytes:
    """Score with tied embeddings: read the newest item's, or that of item 1, and multiply it with all, or add up."""
    table = np.random.default_rng(0).normal(size=(N + 1, D)).astype(np.float32)
    weights = [numpy_helper.from_array(np.array(0, np.int64), "newest"), numpy_helper.from_array(table, "table")]
    nodes = []
    if reads:
        nodes += [
            helper.make_node("Gather", ["history", "newest"], ["item"], axis=1),
            helper.make_node("Gather", ["table", "item"], ["user"], axis=0),
        ]
    else:
        weights.append(numpy_helper.from_array(np.array([[1.0] * D], np.float32), "anybody"))
        nodes += [
            helper.make_node("Cast", ["history"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["float", "anybody"], ["user"]),
        ]
    if multiplies:
        weights.append(numpy_helper.from_array(np.ascontiguousarray(table.T), "table_t"))
        nodes.append(helper.make_node("MatMul", ["user", "table_t"], ["scores"]))
    else:
        nodes.append(helper.make_node("Identity", ["user"], ["scores"]))
    made = helper.make_graph(
        nodes,
        "tied",
        [helper.make_tensor_value_info("history", TensorProto.INT64, ["batch", 1])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", N + 1 if multiplies else D])],
        weights,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return model.SerializeToString()


def operators(body: bytes) -> set[str]:
    return {node.op_type for node in onnx.load_model_from_string(body).graph.node}


def table_types(body: bytes) -> set[int]:
    """In which types the embeddings are kept."""
    return {tensor.data_type for tensor in onnx.load_model_from_string(body).graph.initializer if len(tensor.dims) == 2}


def test_each_pass_changes_the_operators_that_it_names():
    made = quantisations(graph(reads=True, multiplies=True))
    assert list(made) == ["int8", "int8-matmul"]
    assert {name: "MatMulInteger" in operators(body) for name, body in made.items()} == dict.fromkeys(made, True)
    small = {TensorProto.INT8, TensorProto.UINT8}
    assert table_types(made["int8"]) <= small
    assert table_types(made["int8-matmul"]) == {TensorProto.FLOAT, TensorProto.INT8}


def test_int8_is_smallest_and_matmul_alone_keeps_a_float_copy_of_tied_embeddings():
    whole = graph(reads=True, multiplies=True)
    made = quantisations(whole)
    assert len(made["int8"]) < 0.4 * len(whole)
    assert 0.5 * len(whole) < len(made["int8-matmul"]) < 0.8 * len(whole)


def test_quantised_scores_are_those_of_fp32_up_to_rounding():
    whole = graph(reads=True, multiplies=True)
    history = np.arange(1, N + 1)[:, None]
    [expected] = session(whole).run(None, {"history": history})
    for body in quantisations(whole).values():
        [found] = session(body).run(None, {"history": history})
        assert 0 < np.abs(found - expected).mean() < 0.02 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("parts", "passes"),
    [
        ({}, []),  # nothing to make int8, and it says so by giving nothing
        ({"reads": True}, ["int8"]),
        ({"multiplies": True}, ["int8"]),  # the pass for products alone gives the same bytes
    ],
)
def test_a_pass_that_changes_nothing_new_is_left_out(parts, passes):
    assert list(quantisations(graph(**parts))) == passes


def test_the_same_graph_gives_the_same_bytes():
    whole = graph(reads=True, multiplies=True)
    assert quantisations(whole) == quantisations(whole)


def test_the_library_stays_silent(caplog):
    caplog.set_level(logging.INFO)
    quantisations(graph(reads=True, multiplies=True))
    assert [record for record in caplog.records if "onnxruntime" in record.pathname] == []
    logging.getLogger().info("and others are heard")
    assert caplog.records
