import logging

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from recsys.graph import session
from recsys.quantize import PASSES, is_int8, quantisations

N, D = 200, 16


def graph(*, reads: bool = False, multiplies: bool = False, tied: bool = False) -> bytes:
    """Score with embeddings: read the newest item's, or that of item 1, and multiply it with all, or add up."""
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
    if multiplies and tied:
        weights.append(numpy_helper.from_array(np.linspace(-1, 1, N + 1, dtype=np.float32), "bias"))
        nodes.append(helper.make_node("Gemm", ["user", "table", "bias"], ["scores"], transB=1))
    elif multiplies:
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
    assert list(made) == ["int8-rows", "int8-matmul", "int8", "int8-weights"]
    multiplied = {name: "MatMulInteger" in operators(body) for name, body in made.items()}
    assert multiplied == {"int8": True, "int8-weights": False, "int8-rows": False, "int8-matmul": True}
    assert {name: "DequantizeLinear" in operators(body) for name, body in made.items()}["int8-weights"]
    assert table_types(made["int8"]) == table_types(made["int8-weights"]) == {TensorProto.INT8}
    assert table_types(made["int8-rows"]) == table_types(made["int8-matmul"]) == {TensorProto.FLOAT, TensorProto.INT8}


def test_tied_embeddings_are_stored_once_but_where_only_products_are_int8():
    whole = graph(reads=True, multiplies=True, tied=True)
    made = quantisations(whole)
    assert list(made) == ["int8-rows", "int8-matmul", "int8-integer"]  # there is nothing else than the table
    assert len(made["int8-rows"]) < 0.55 * len(whole)
    assert len(made["int8-integer"]) < 0.55 * len(whole)
    assert len(whole) < len(made["int8-matmul"]) < 1.4 * len(whole)


@pytest.mark.parametrize("tied", [False, True])
def test_quantised_scores_are_those_of_fp32_up_to_rounding(tied):
    whole = graph(reads=True, multiplies=True, tied=tied)
    history = np.arange(1, N + 1)[:, None]
    [expected] = session(whole).run(None, {"history": history})
    for body in quantisations(whole).values():
        [found] = session(body).run(None, {"history": history})
        assert 0 < np.abs(found - expected).mean() < 0.02 * np.abs(expected).max()
        assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()  # sums that overflow are far off


@pytest.mark.parametrize(
    ("parts", "passes"),
    [
        ({}, []),  # nothing to make int8, and it says so by giving nothing
        ({"reads": True}, ["int8-rows"]),  # the other passes give the same, or nothing
        ({"multiplies": True}, ["int8-matmul", "int8-weights"]),
    ],
)
def test_a_pass_that_changes_nothing_new_is_left_out(parts, passes, caplog):
    caplog.set_level(logging.INFO)
    assert list(quantisations(graph(**parts))) == passes
    assert len([record for record in caplog.records if record.name == "recsys.quantize"]) == len(PASSES) - len(passes)


@pytest.mark.parametrize("spoil", ["types", "operators"])
def test_a_graph_that_is_int8_in_name_only_is_told(spoil):
    whole = graph(reads=True, multiplies=True)
    made = quantisations(whole)["int8-rows"]
    shows = PASSES["int8-rows"].shows
    assert is_int8(whole, made, shows)
    if spoil == "operators":
        assert not is_int8(whole, made, frozenset({"MatMulInteger"}))
    else:
        model = onnx.load_model_from_string(made)
        for tensor in model.graph.initializer:
            if tensor.data_type == TensorProto.INT8:
                tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.int16), tensor.name))
        assert not is_int8(whole, model.SerializeToString(), shows)


def test_the_same_graph_gives_the_same_bytes():
    whole = graph(reads=True, multiplies=True)
    assert quantisations(whole) == quantisations(whole)


def test_the_library_stays_silent(caplog):
    caplog.set_level(logging.INFO)
    quantisations(graph(reads=True, multiplies=True))
    assert [record for record in caplog.records if "onnxruntime" in record.pathname] == []
    logging.getLogger().info("and others are heard")
    assert caplog.records
