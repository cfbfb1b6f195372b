import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from recsys import bundles
from recsys.bundles import (
    FP32,
    MANIFEST,
    VOCABULARY,
    fetch_bundle,
    find_bundle,
    identify,
    keep_bundle,
    read_bundle,
    refuse_external_data,
)
from recsys.errors import BadBundle, NoRelease
from recsys.records import dump

ITEMS = ("a", "b", "c")
TABLE = np.arange(16).reshape(4, 4)


@pytest.fixture
def bundle(shop):
    return shop.bundle(TABLE, ITEMS)


def test_a_bundle_comes_back_as_it_was_kept(shop, bundle, tmp_path):
    found, files = read_bundle(shop.store, bundle.release_id)
    assert found == bundle == find_bundle(shop.store, bundle.release_id)
    assert json.loads(files[VOCABULARY]) == list(ITEMS)
    folder = fetch_bundle(shop.store, bundle.release_id, tmp_path / "copy")
    assert {path.name for path in folder.iterdir()} == {*bundle.files, MANIFEST}
    assert all((folder / name).read_bytes() == files[name] for name in bundle.files)


@pytest.mark.parametrize("name", [FP32, VOCABULARY])
@pytest.mark.parametrize("where", [0.0, 0.5, 0.999])
def test_one_flipped_bit_of_any_file_is_refused_and_nothing_is_copied(shop, bundle, tmp_path, name, where):
    at = bundles.key(bundle.release_id, name)
    body = bytearray(shop.store.get(at).body)
    body[int(where * len(body))] ^= 1
    shop.store.put(at, bytes(body))
    with pytest.raises(BadBundle, match=bundle.files[name].sha256) as refused:
        fetch_bundle(shop.store, bundle.release_id, tmp_path / "copy")
    assert refused.value.file == name
    assert bundles.refer(bytes(body)).sha256 in str(refused.value)  # what was found stands beside what was expected
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda manifest: manifest | {"configuration": {"slow": 1}},
        lambda manifest: manifest | {"dataset_id": "another"},
        lambda manifest: manifest | {"history_length": 3},
        lambda manifest: manifest | {"family": "sasrec"},
        lambda manifest: manifest | {"release_id": "markov-0000000000000000"},
        lambda manifest: manifest | {"serves": "model.int8.onnx"},
        lambda manifest: manifest | {"files": {FP32: manifest["files"][FP32]}},
        lambda manifest: {"release_id": manifest["release_id"]},
        lambda manifest: ["no record"],
    ],
)
def test_a_manifest_that_describes_another_bundle_is_refused(shop, bundle, spoil):
    shop.store.put(bundles.key(bundle.release_id, MANIFEST), json.dumps(spoil(dump(bundle))).encode())
    with pytest.raises(BadBundle) as refused:
        find_bundle(shop.store, bundle.release_id)
    assert refused.value.file == MANIFEST


def test_a_manifest_that_is_no_json_is_refused(shop, bundle):
    shop.store.put(bundles.key(bundle.release_id, MANIFEST), b"\xff{")
    with pytest.raises(BadBundle, match="that this version can read"):
        read_bundle(shop.store, bundle.release_id)


def test_a_file_that_is_gone_is_named(shop, bundle):
    shop.store.delete(bundles.key(bundle.release_id, VOCABULARY))
    with pytest.raises(BadBundle, match="gone") as refused:
        read_bundle(shop.store, bundle.release_id)
    assert refused.value.file == VOCABULARY


def test_without_a_manifest_there_is_no_bundle(shop, bundle):
    shop.store.delete(bundles.key(bundle.release_id, MANIFEST))
    with pytest.raises(NoRelease, match=bundle.release_id):
        find_bundle(shop.store, bundle.release_id)


def test_the_first_manifest_stays(shop, bundle):
    files = read_bundle(shop.store, bundle.release_id)[1]
    assert keep_bundle(shop.store, replace(bundle, by="somebody else"), files) == bundle
    assert find_bundle(shop.store, bundle.release_id).by == bundle.by


def test_the_name_follows_from_everything_that_is_served():
    file = bundles.refer(b"graph")
    what = {
        "family": "markov",
        "configuration": {"steps": 3},
        "dataset_id": "d",
        "history_length": 3,
        "files": {FP32: file},
    }
    names = [
        identify(**what | change)
        for change in (
            {},
            {"family": "sasrec"},
            {"configuration": {"steps": 4}},
            {"dataset_id": "e"},
            {"history_length": 4},
            {"files": {FP32: bundles.refer(b"other")}},
            {"files": {VOCABULARY: file}},
        )
    ]
    assert len(set(names)) == len(names)
    assert identify(**what) == names[0]
    assert names[0].startswith("markov-")
    assert identify(**what | {"configuration": dict(reversed([("steps", 3), ("decay", 1)]))}) == identify(
        **what | {"configuration": {"steps": 3, "decay": 1}}
    )


def external(tensor: TensorProto) -> TensorProto:
    """Say of a tensor that its numbers lie in another file."""
    onnx.external_data_helper.set_external_data(tensor, location="secret.bin")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    return tensor


def model(nodes, weights=()) -> bytes:
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])]
    return helper.make_model(helper.make_graph(nodes, "graph", [], outputs, list(weights))).SerializeToString()


def weight() -> TensorProto:
    return numpy_helper.from_array(np.ones(2, np.float32), "w")


def branch(tensor: TensorProto) -> onnx.GraphProto:
    return helper.make_graph(
        [helper.make_node("Constant", [], ["z"], value=tensor)],
        "branch",
        [],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [2])],
    )


@pytest.mark.parametrize(
    "build",
    [
        lambda w: model([helper.make_node("Identity", ["w"], ["y"])], [w]),
        lambda w: model([helper.make_node("Constant", [], ["y"], value=w)]),
        lambda w: model(
            [helper.make_node("If", ["c"], ["y"], then_branch=branch(w), else_branch=branch(weight()))],
            [numpy_helper.from_array(np.array(True), "c")],
        ),
    ],
    ids=["initializer", "attribute", "branch"],
)
def test_a_graph_that_would_open_other_files_is_refused_wherever_it_says_so(build):
    refuse_external_data(build(weight()), name="model.onnx")
    with pytest.raises(BadBundle, match="'w' lies in another file"):
        refuse_external_data(build(external(weight())), name="model.onnx")


def test_what_is_no_graph_is_refused():
    with pytest.raises(BadBundle, match="cannot be read"):
        refuse_external_data(b"\x00not a graph", name="model.onnx")
