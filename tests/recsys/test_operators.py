import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from recsys.errors import BadBundle
from recsys.graph import session
from recsys.operators import refuse_unknown

NAME = "model.onnx"


def value(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [2])


def model(*nodes, opset: int = 20, ir_version: int = 10, domains=(), functions=()) -> bytes:
    graph = helper.make_graph(list(nodes), "graph", [value("x")], [value("y")])
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    made = helper.make_model(graph, opset_imports=imports, ir_version=ir_version, functions=functions)
    return bytes(made.SerializeToString())


def node(operator: str, domain: str = "") -> onnx.NodeProto:
    return helper.make_node(operator, ["x"], ["y"], domain=domain)


def branching(operator: str) -> onnx.NodeProto:
    """Hide an operator in a branch of another one."""
    inner = helper.make_graph([helper.make_node(operator, ["x"], ["z"])], "inner", [], [value("z")])
    return helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)


TRUTH = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.array(True)))
DOUBLE = helper.make_function(
    "own", "Double", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 20)]
)


@pytest.mark.parametrize(
    ("graph", "nodes"),
    [
        (model(node("Relu")), 1),
        (model(node("Gelu", "com.microsoft"), domains=["com.microsoft"]), 1),
        (model(TRUTH, branching("Relu")), 4),  # the branch is there twice
        (model(node("Double", "own"), domains=["own"], functions=[DOUBLE]), 2),
    ],
    ids=["of ONNX", "of the runtime", "in a branch", "a function of its own"],
)
def test_what_the_runtime_has_passes_and_runs(graph, nodes):
    found = refuse_unknown(graph, name=NAME)
    assert (found["nodes"], found["opset"]) == (nodes, 20)
    assert session(graph).run(None, {"x": np.ones(2, np.float32)})


@pytest.mark.parametrize(
    ("graph", "finding"),
    [
        (model(node("Conjure")), "has, but ai.onnx:Conjure is none"),
        (model(node("Relu", "evil"), domains=["evil"]), "has, but evil:Relu is none"),
        (model(node("FusedWish", "com.microsoft"), domains=["com.microsoft"]), "com.microsoft:FusedWish is none"),
        (model(TRUTH, branching("Conjure")), "ai.onnx:Conjure is none"),
        (model(node("Relu"), opset=99), r"opset of ai\.onnx .* at most \d+, but has 99"),
        (model(node("Relu"), ir_version=99), r"IR version of at most \d+, but has 99"),
        (model(helper.make_node("Relu", ["nowhere"], ["y"])), "must be valid ONNX, but: .*nowhere"),
        (b"\x08\x0a\xff", "must be an ONNX graph"),
    ],
    ids=["operator", "domain", "of the runtime", "in a branch", "opset", "IR", "unconnected", "no graph"],
)
def test_what_it_has_not_is_refused_with_file_rule_and_finding(graph, finding):
    with pytest.raises(BadBundle, match=finding) as refused:
        refuse_unknown(graph, name=NAME)
    assert refused.value.file == NAME
    assert str(refused.value).startswith(f"{NAME} must ")
