import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from recsys.fidelity import rank_agreement
from recsys.graph import session
from recsys.rowwise import shrink_embeddings, shrink_products, to_int8

N, D, H = 300, 32, 48


def model(table: np.ndarray, *, beta: float = 1.0) -> onnx.ModelProto:
    """Read the items of a history, mean them, put them through a layer, and score with the same table."""
    rng = np.random.default_rng(1)
    weights = {
        "table": table,
        "layer": rng.normal(size=(D, H)).astype(np.float32),
        "back": rng.normal(size=(D, H)).astype(np.float32),
        "bias": rng.normal(size=len(table)).astype(np.float32),
        "axis": np.array([1]),
    }
    nodes = [
        helper.make_node("Gather", ["table", "history"], ["read"], axis=0),
        helper.make_node("ReduceMean", ["read", "axis"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "layer"], ["hidden"]),
        helper.make_node("Gemm", ["hidden", "back"], ["user"], transB=1),
        helper.make_node("Gemm", ["user", "table", "bias"], ["scores"], transB=1, beta=beta),
    ]
    graph = helper.make_graph(
        nodes,
        "tied",
        [helper.make_tensor_value_info("history", TensorProto.INT64, ["batch", 4])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", len(table)])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def scores(made: onnx.ModelProto, history: np.ndarray) -> np.ndarray:
    [found] = session(made.SerializeToString()).run(None, {"history": history})
    return found


@pytest.fixture
def table():
    return np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)


@pytest.fixture
def history():
    return np.random.default_rng(2).integers(0, N, (50, 4))


@pytest.mark.parametrize("largest", [64, 127])
def test_every_number_is_off_by_half_a_step_of_its_own_row_at_most(table, largest):
    table[3] *= 1000
    table[5] = 0
    rounded, scales = to_int8(table, largest)
    assert np.abs(rounded).max() == largest
    assert (np.abs(rounded * scales[:, None] - table) <= scales[:, None] * 0.5001).all()
    assert scales == pytest.approx(np.where(np.abs(table).max(1) > 0, np.abs(table).max(1) / largest, 1))


@pytest.mark.parametrize("integer", [False, True])
def test_a_table_that_is_read_and_scored_with_is_stored_once(table, history, integer):
    made = model(table)
    expected = scores(made, history)
    assert shrink_embeddings(made, integer=integer) == 1
    onnx.checker.check_model(made)
    [kept] = [tensor for tensor in made.graph.initializer if list(tensor.dims) in ([N, D], [D, N])]
    assert kept.data_type == TensorProto.INT8
    found = scores(made, history)
    assert 0 < np.abs(found - expected).max() < 0.04 * np.abs(expected).max()


def test_matrices_of_products_are_changed_apart_from_tables(table, history):
    made = model(table)
    expected = scores(made, history)
    assert shrink_products(made) == 2
    assert shrink_embeddings(made) == 1
    assert [t for t in made.graph.initializer if t.data_type == TensorProto.FLOAT and len(t.dims) > 1] == []
    assert 0 < np.abs(scores(made, history) - expected).max() < 0.04 * np.abs(expected).max()
    assert shrink_products(made) == shrink_embeddings(made) == 0


def test_a_table_of_which_a_product_is_more_than_a_product_is_left_alone(table):
    made = model(table, beta=0.5)
    before = made.SerializeToString()
    assert shrink_embeddings(made) == 0
    assert made.SerializeToString() == before


@pytest.mark.parametrize(("integer", "agreement"), [(False, 0.998), (True, 0.99)])
def test_rows_of_forty_times_the_norm_cost_the_others_nothing(table, history, integer, agreement):
    table[:5] *= 40
    made = model(table)
    expected = scores(made, history)
    shrink_embeddings(made, integer=integer)
    others = scores(made, history)[:, 5:]
    assert rank_agreement(others, expected[:, 5:]) > agreement
