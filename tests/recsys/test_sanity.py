import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx
import pytest
import safetensors.numpy
from onnx import TensorProto, helper, numpy_helper

from recsys import bundles, golden
from recsys import dataset as datasets
from recsys.bundles import FP32, GOLDEN, INT8, MANIFEST, VOCABULARY, WEIGHTS, identify, keep_bundle, read_bundle, refer
from recsys.export import package
from recsys.models import FAMILIES
from recsys.quantize import quantisations
from recsys.records import Bundle, Golden, Outcome, parse, to_json
from recsys.sanity import Inspected, inspect
from recsys.sequences import Cases
from recsys.store import Store, open_store

PASS, FAIL = Outcome.PASS, Outcome.FAIL
NAMES = ["bytes", "graphs", "vocabulary", "embeddings", "scores", "golden"]
CONFIGURATION = {"dim": 4, "hidden": 8, "history_length": 3, "epochs": 1}


@dataclass(frozen=True)
class Made:
    """A sound bundle of a network, from which each test makes an unsound one."""

    store: Store
    frozen: datasets.Frozen
    bundle: Bundle
    files: Mapping[str, bytes]
    cases: Cases

    def inspect(self, release_id: str) -> Inspected:
        return inspect(self.store, release_id, self.frozen)

    def spoilt(self, **changes: bytes) -> Inspected:
        """Keep a bundle with other files, whose manifest knows of them, and look at it."""
        names = {"graph": FP32, "vocabulary": VOCABULARY, "weights": WEIGHTS, "golden": GOLDEN}
        files = {**self.files, **{names[name]: body for name, body in changes.items()}}
        refs = {name: refer(body) for name, body in files.items()}
        release_id = identify(
            family=self.bundle.family,
            configuration=self.bundle.configuration,
            dataset_id=self.bundle.dataset_id,
            history_length=self.bundle.history_length,
            files=refs,
        )
        keep_bundle(self.store, replace(self.bundle, release_id=release_id, files=refs), files)
        return self.inspect(release_id)

    def graph(self, change: Callable[[onnx.ModelProto], None]) -> bytes:
        model = onnx.load_model_from_string(self.files[FP32])
        change(model)
        return bytes(model.SerializeToString())

    def failure(self, found: Inspected) -> tuple[str, str]:
        """Give name and reason of the first check that fails."""
        assert not found.sound
        failed = next(check for check in found.checks if check.outcome is FAIL)
        assert failed.evidence == {}
        return failed.name.removeprefix("sanity: "), failed.because


@pytest.fixture(scope="module")
def made(shop_at, tmp_path_factory, a_candidate):
    """Package a two-tower network with drawn weights, so that fp32 serves and every file is there."""
    shop = shop_at(tmp_path_factory.mktemp("sanity") / "shop")
    frozen = datasets.load(shop.store, shop.dataset)
    family = FAMILIES["two_tower"]
    configuration = {**family.defaults, **CONFIGURATION}
    network = family.build(configuration, n_items=frozen.before_holdout.n_items)
    network.prepare(frozen.before_holdout, 3)
    bundle = package(shop.line, shop.store, a_candidate(shop, network, configuration, family="two_tower"))
    whole, files = read_bundle(shop.store, bundle.release_id)
    kept = {name: files[name] for name in (FP32, VOCABULARY, WEIGHTS)}
    positions = np.flatnonzero(frozen.before_holdout.times >= frozen.begins[0])
    cases = Cases(sequences=frozen.before_holdout, positions=positions)
    fp32 = replace(whole, serves=FP32, files={name: refer(body) for name, body in kept.items()})
    fp32, kept = golden.added(fp32, kept, cases)
    return Made(shop.store, frozen, keep_bundle(shop.store, fp32, kept), kept, cases)


def table_of(model: onnx.ModelProto, made: Made) -> onnx.TensorProto:
    """Give the table of items in the graph, whichever way it stands."""
    n, dim = made.bundle.n_items + 1, CONFIGURATION["dim"]
    return next(each for each in model.graph.initializer if sorted(each.dims) == sorted((n, dim)))


def test_a_sound_bundle_passes_every_check_with_its_evidence(made):
    found = made.inspect(made.bundle.release_id)
    assert [check.name for check in found.checks] == [f"sanity: {name}" for name in NAMES]
    assert found.sound
    assert (found.bundle, found.files) == (made.bundle, made.files)
    evidence = {check.name.removeprefix("sanity: "): check.evidence for check in found.checks}
    assert evidence["bytes"] == {"bytes": sum(map(len, made.files.values()))}
    assert evidence["vocabulary"] == {"items": made.bundle.n_items}
    assert evidence["embeddings"] == {"dead": 0, "share": 0.0, "limit": 0.01}
    assert evidence["scores"] == {"histories": 257, "alike": 0, "share": 0.0}
    assert evidence["golden"] == {"requests": 33}
    assert evidence["graphs"][f"opset of {FP32}"] == 20


def test_whatever_graph_a_pass_makes_is_sound_when_it_serves(made):
    variants = quantisations(made.files[FP32])
    assert set(variants) == {"int8-rows", "int8-matmul", "int8", "int8-integer", "int8-weights"}
    for name, graph in variants.items():
        files = {**{each: made.files[each] for each in (FP32, VOCABULARY, WEIGHTS)}, INT8: graph}
        int8 = replace(made.bundle, serves=INT8, files={each: refer(body) for each, body in files.items()})
        bundle, files = golden.added(int8, files, made.cases)
        found = made.inspect(keep_bundle(made.store, bundle, files).release_id)
        assert found.sound, (name, found.checks)
        evidence = {check.name.removeprefix("sanity: "): check.evidence for check in found.checks}
        assert evidence["embeddings"] == {"dead": 0, "share": 0.0, "limit": 0.01}
        assert evidence["golden"] == {"requests": 33}


@pytest.mark.parametrize("name", [FP32, VOCABULARY, GOLDEN])
def test_bytes_that_are_not_the_manifest_s_fail_and_nothing_else_is_looked_at(made, name):
    at = bundles.key(made.bundle.release_id, name)
    made.store.put(at, made.files[name] + b" ")
    found = made.inspect(made.bundle.release_id)
    made.store.put(at, made.files[name])
    assert len(found.checks) == 1
    check, because = made.failure(found)
    assert check == "bytes"
    assert because.startswith(
        f"{name} of {made.bundle.release_id} must have the SHA-256 {refer(made.files[name]).sha256}"
    )


def test_a_manifest_of_another_bundle_fails(made):
    at = bundles.key(made.bundle.release_id, MANIFEST)
    made.store.put(at, to_json(replace(made.bundle, history_length=9)))
    found = made.inspect(made.bundle.release_id)
    made.store.put(at, to_json(made.bundle))
    assert made.failure(found)[0] == "bytes"
    assert "manifest.json" in made.failure(found)[1]


def test_a_graph_with_data_in_another_file_fails(made):
    def lies_elsewhere(model: onnx.ModelProto) -> None:
        tensor = table_of(model, made)
        onnx.external_data_helper.set_external_data(tensor, location="secret.bin")
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL

    check, because = made.failure(made.spoilt(graph=made.graph(lies_elsewhere)))
    assert check == "graphs"
    assert because.startswith("model.onnx must hold all of its data, but its tensor ")


def test_a_graph_with_an_operator_that_the_runtime_has_not_fails(made):
    def conjures(model: onnx.ModelProto) -> None:
        model.opset_import.append(helper.make_opsetid("evil", 1))
        model.graph.node[-1].domain, model.graph.node[-1].op_type = "evil", "Conjure"

    check, because = made.failure(made.spoilt(graph=made.graph(conjures)))
    assert check == "graphs"
    assert "model.onnx must be made of operators that ONNX Runtime" in because
    assert because.endswith("but evil:Conjure is none.")


def test_a_graph_of_an_opset_that_is_too_new_fails(made):
    def is_too_new(model: onnx.ModelProto) -> None:
        model.opset_import[0].version = 99

    check, because = made.failure(made.spoilt(graph=made.graph(is_too_new)))
    assert check == "graphs"
    assert because.endswith("but has 99.")


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (lambda items: [items[1], *items[1:]], "must name each item once, but names 1 again, such as "),
        (lambda items: items[:-1], "items of the manifest, but names "),
        (lambda items: [items[1], items[0], *items[2:]], "but its order is another: id 1 is "),
        (lambda items: ["stranger", *items[1:]], "but 2 items are in one and not in the other, such as "),
        (lambda items: {"items": items}, "must be a list of names, but is "),
        (lambda items: [1, *items[1:]], "must be a list of names, but is "),
    ],
    ids=["twice", "too few", "order", "of another dataset", "a table", "a number"],
)
def test_a_vocabulary_that_is_not_the_dataset_s_fails_however_the_manifest_knows_it(made, change, finding):
    body = json.dumps(change(list(made.frozen.vocabulary))).encode()
    check, because = made.failure(made.spoilt(vocabulary=body))
    assert check == "vocabulary"
    assert because.startswith("vocabulary.json of two_tower-")
    assert finding in because


def test_a_vocabulary_that_cannot_be_read_fails(made):
    assert "vocabulary.json" in made.failure(made.spoilt(vocabulary=b"[\xff"))[1]


def test_a_graph_of_another_number_of_items_fails(made, lookup):
    check, because = made.failure(made.spoilt(graph=lookup(np.eye(5))))
    assert check == "vocabulary"
    assert "model.onnx" in because
    assert "must read histories and give scores of the shapes" in because


def test_a_table_with_dead_rows_fails_from_one_in_a_hundred_on(made):
    weights = safetensors.numpy.load(made.files[WEIGHTS])
    table = weights["items.weight"].copy()
    table[7] = 0.0
    check, because = made.failure(made.spoilt(weights=safetensors.numpy.save({**weights, "items.weight": table})))
    assert check == "embeddings"  # one of 60 is more than one in a hundred
    assert f"1 of {made.bundle.n_items} rows of items.weight in weights.safetensors are empty" in because


def test_scores_that_are_no_numbers_fail_and_name_a_history(made):
    def is_poisoned(model: onnx.ModelProto) -> None:
        tensor = next(each for each in model.graph.initializer if list(each.dims) == [made.bundle.n_items + 1])
        values = numpy_helper.to_array(tensor).copy()
        values[4] = np.inf
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))

    check, because = made.failure(made.spoilt(graph=made.graph(is_poisoned)))
    assert check == "scores"
    assert "model.onnx of two_tower-" in because
    assert "must be finite numbers, but do not after 257 of 257 histories, the first of which ends in []" in because


def silenced(model: onnx.ModelProto, share: float, made: Made) -> None:
    """Let the scores of some items be one and the same."""
    n = made.bundle.n_items + 1
    keep = np.ones(n, np.float32)
    keep[1 : 1 + round(share * (n - 1))] = 0.0
    [scores] = model.graph.output
    for node in model.graph.node:
        for at, name in enumerate(node.output):
            if name == scores.name:
                node.output[at] = "before"
    model.graph.initializer.append(numpy_helper.from_array(keep, "keep"))
    model.graph.node.append(helper.make_node("Mul", ["before", "keep"], [scores.name]))


def test_scores_that_are_all_alike_fail(made):
    check, because = made.failure(made.spoilt(graph=made.graph(lambda model: silenced(model, 1.0, made))))
    assert check == "scores"
    assert "must tell items apart, but do not after 257 of 257 histories" in because


def test_items_that_no_score_tells_apart_fail_a_model_that_learns(made):
    check, because = made.failure(made.spoilt(graph=made.graph(lambda model: silenced(model, 0.1, made))))
    assert check == "scores"
    alike = round(0.1 * made.bundle.n_items)
    assert f"must tell all but 1% of the items apart, but {alike} of {made.bundle.n_items} items score as" in because


def test_a_graph_that_answers_otherwise_than_when_it_was_packaged_fails(made):
    kept = parse(Golden, GOLDEN, made.files[GOLDEN])
    first, second, *rest = kept.requests[5].items
    changed = replace(kept.requests[5], items=(second, first, *rest))
    requests = (*kept.requests[:5], changed, *kept.requests[6:])
    check, because = made.failure(made.spoilt(golden=to_json(replace(kept, requests=requests))))
    assert check == "golden"
    assert f"instead of {second!r}" in because
    assert "must answer the 33 requests of golden.json as when it was packaged, but does not answer 1" in because


def test_counted_models_may_have_items_that_nothing_tells_apart(shop, frozen_shop):
    frozen = datasets.load(open_store((frozen_shop[0] / "shop").as_uri()), frozen_shop[1])
    n = len(frozen.vocabulary)
    table = np.tile(np.repeat(np.arange(n // 2 + 1), 2)[: n + 1], (n + 1, 1))
    found = inspect(shop.store, shop.bundle(table, frozen.vocabulary, name="popularity").release_id, frozen)
    assert found.sound
    said = {check.name.removeprefix("sanity: "): check for check in found.checks}
    assert said["scores"].evidence["share"] > 0.9
    assert "which counts may" in said["scores"].because
    assert (
        said["golden"].because == "The bundle was packaged without golden.json, so there are no answers to hold it to."
    )
    assert said["embeddings"].because == "The model has no table of items to be dead in."
