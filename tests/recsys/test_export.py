from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch

from recsys import bundles, ledger
from recsys import dataset as datasets
from recsys.bundles import FP32, GOLDEN, INT8, MANIFEST, VOCABULARY, WEIGHTS, find_bundle, read_bundle
from recsys.checkpoints import keep_weights
from recsys.errors import BadBundle, BadObject
from recsys.export import MAX_ERROR, choose_graph, compare, package, try_graphs
from recsys.models import FAMILIES
from recsys.ranker import Ranker
from recsys.records import Candidate, Estimate, GraphTrial
from recsys.restore import restore
from recsys.settings import Budgets, Gate
from recsys.store import open_store
from recsys.training import train

CONFIGURATION = {"dim": 16, "hidden": 32, "history_length": 8, "epochs": 3}


def candidate_of(shop, network, configuration, *, family: str) -> Candidate:
    """Keep the weights of `network` as a study would."""
    key, digest = keep_weights(shop.store, f"studies/plan-{family}", network)
    return Candidate(
        candidate_id=f"candidate-{family}",
        plan_id=f"plan-{family}",
        dataset_id=shop.dataset.dataset_id,
        family=family,
        configuration=configuration,
        seed=3,
        weights_key=key,
        weights_sha256=digest,
        validation_ndcg_at_10=0.1,
        by="schedule",
        as_of=shop.dataset.as_of,
    )


@pytest.fixture(scope="module")
def trained(shop_at, tmp_path_factory):
    """A shop with a two-tower candidate, its network, and the bundle that was packaged of it."""
    shop = shop_at(tmp_path_factory.mktemp("export") / "shop")
    family = FAMILIES["two_tower"]
    configuration = {**family.defaults, **CONFIGURATION}
    known = datasets.load(shop.store, shop.dataset).before_holdout
    network = family.build(configuration, n_items=known.n_items)
    train(network, known, configuration, seed=3)
    candidate = candidate_of(shop, network, configuration, family="two_tower")
    return shop, candidate, network, package(shop.line, shop.store, candidate)


@pytest.fixture(scope="module")
def cases(frozen_shop):
    folder, dataset = frozen_shop
    return datasets.load(open_store((folder / "shop").as_uri()), dataset).windows[0]


def test_the_bundle_holds_what_serving_needs_and_says_where_it_came_from(trained):
    shop, candidate, _, bundle = trained
    assert set(bundle.files) == {FP32, INT8, WEIGHTS, VOCABULARY, GOLDEN}
    assert find_bundle(shop.store, bundle.release_id) == bundle
    assert (bundle.candidate_id, bundle.dataset_id) == (candidate.candidate_id, candidate.dataset_id)
    assert (bundle.family, bundle.configuration) == (candidate.family, candidate.configuration)
    assert (bundle.history_length, bundle.n_items) == (8, shop.dataset.n_items)
    assert bundle.release_id.startswith("two_tower-")
    assert [trial.graph for trial in bundle.graphs] == [
        "fp32",
        "int8-rows",
        "int8-matmul",
        "int8",
        "int8-integer",
        "int8-weights",
    ]
    assert bundle.graphs[0].size_bytes == bundle.files[FP32].size_bytes > bundle.files[INT8].size_bytes
    assert 0 <= bundle.largest_error <= MAX_ERROR
    assert bundle.files[bundle.serves]
    assert bundle.serves_graph in {trial.graph for trial in bundle.graphs}
    assert (bundle.serves_graph == "fp32") is (bundle.serves == FP32)
    assert "serves: int8" in bundle.serves_because
    [entry] = [entry for entry in ledger.read(shop.store) if entry.what == "packaged"]
    assert (entry.evidence["release_id"], entry.why) == (bundle.release_id, bundle.serves_because)


def test_both_graphs_rank_as_the_network_does(trained):
    shop, _, network, bundle = trained
    histories = np.random.default_rng(0).integers(0, bundle.n_items + 1, (50, 8))
    with torch.inference_mode():
        expected = network(torch.from_numpy(histories)).numpy()[:, 1:]
    for graph, tolerance in ((FP32, 1e-5), (INT8, 0.1)):
        found = Ranker.open(shop.store, bundle.release_id, graph=graph).scorer(histories)[:, 1:]
        assert np.abs(found - expected).max() < tolerance * np.ptp(expected)


def test_the_vocabulary_is_the_dataset_s(trained):
    shop, _, _, bundle = trained
    frozen = datasets.load(shop.store, shop.dataset)
    assert Ranker.open(shop.store, bundle.release_id).vocabulary == frozen.vocabulary


def test_packaged_again_it_is_the_same_release_and_nothing_of_it_is_written_twice(trained):
    shop, candidate, _, bundle = trained
    before = {entry.key: entry.etag for entry in shop.store.list("releases/")}
    packaged = ledger.read(shop.store, what="packaged")
    assert package(shop.line, shop.store, replace(candidate, candidate_id="another name", by="somebody")) == bundle
    assert {entry.key: entry.etag for entry in shop.store.list("releases/")} == before
    assert ledger.read(shop.store, what="packaged") == packaged


@pytest.mark.parametrize("name", [FP32, INT8, WEIGHTS, VOCABULARY, GOLDEN, MANIFEST])
@pytest.mark.parametrize("spoil", ["changed", "gone"])
def test_packaged_again_it_has_every_file_that_was_changed_or_lost(trained, name, spoil):
    shop, candidate, _, bundle = trained
    at = bundles.key(bundle.release_id, name)
    before = shop.store.get(at).body
    shop.store.put(at, before[:-9]) if spoil == "changed" else shop.store.delete(at)
    assert package(shop.line, shop.store, candidate) == bundle
    assert shop.store.get(at).body == before
    assert not bundles.damaged(shop.store, bundle)


def test_a_file_that_cannot_be_made_again_is_named_and_the_others_are_put_back(trained, cases):
    shop, _, _, bundle = trained
    bodies = read_bundle(shop.store, bundle.release_id)[1]
    for name in (VOCABULARY, WEIGHTS):
        shop.store.put(bundles.key(bundle.release_id, name), b"other bytes")
    with pytest.raises(
        BadBundle, match=r"^weights\.safetensors of two_tower-\w+ must have the bytes of the manifest"
    ) as bad:
        restore(shop.store, bundle, {**bodies, WEIGHTS: b"of another training"}, cases)
    assert bad.value.file == WEIGHTS
    assert bundles.damaged(shop.store, bundle) == [WEIGHTS]
    assert restore(shop.store, bundle, bodies, cases) == [WEIGHTS]


def test_the_graph_says_nothing_of_where_it_was_made(trained):
    shop, _, _, bundle = trained
    for name, body in read_bundle(shop.store, bundle.release_id)[1].items():
        assert str(__file__).rsplit("/tests/", 1)[0].encode() not in body, name
        assert b".py" not in body, name


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(trained, bad):
    shop, candidate, network, _ = trained
    spoiled = FAMILIES["two_tower"].build(candidate.configuration, n_items=network.n_items)
    spoiled.load_state_dict(network.state_dict())
    with torch.no_grad():
        spoiled.items.weight[3, 0] = bad
    before = sorted(entry.key for entry in shop.store.list("releases/"))
    other = candidate_of(shop, spoiled, candidate.configuration, family="two_tower")
    with pytest.raises(BadBundle, match=r"'items\.weight'") as refused:
        package(shop.line, shop.store, other)
    assert refused.value.file == WEIGHTS
    assert sorted(entry.key for entry in shop.store.list("releases/")) == before


def test_weights_that_are_not_those_of_the_candidate_are_refused(trained):
    shop, candidate, network, _ = trained
    other = FAMILIES["two_tower"].build(candidate.configuration, n_items=network.n_items)
    key, digest = keep_weights(shop.store, "studies/other", other)
    with pytest.raises(BadObject, match=f"must have the SHA-256 {candidate.weights_sha256}, but has {digest}") as error:
        package(shop.line, shop.store, replace(candidate, weights_key=key))
    assert error.value.key == key


def test_weights_of_another_configuration_are_refused(trained):
    shop, candidate, _, _ = trained
    with pytest.raises(BadObject):
        package(shop.line, shop.store, replace(candidate, configuration={**candidate.configuration, "dim": 8}))


class Table(torch.nn.Module):
    """Scores that a test writes down."""

    def __init__(self, table) -> None:
        super().__init__()
        self.history_length, self.n_items = 1, len(table) - 1
        self.register_buffer("table", torch.tensor(table, dtype=torch.float32))

    def forward(self, history):
        return self.table[history[:, -1]]


def table_of(cases) -> np.ndarray:
    size = cases.sequences.n_items + 1
    return np.random.default_rng(1).permutation(size * size).reshape(size, size).astype(np.float32)


def tail_of(cases) -> np.ndarray:
    """All but the unknown item and items 1 and 2."""
    return np.arange(cases.sequences.n_items + 1) > 2


def test_a_graph_of_the_same_scores_passes_and_one_of_others_is_refused(cases, lookup):
    table = table_of(cases)
    graph = lookup(table)
    assert compare(graph, Table(table), cases) == 0.0
    within, beyond = (table + share * MAX_ERROR * table.max() for share in (0.5, 2.0))
    assert 0 < compare(graph, Table(within), cases) <= MAX_ERROR
    with pytest.raises(BadBundle, match="of the largest score") as refused:
        compare(graph, Table(beyond), cases)
    assert refused.value.file == FP32


def test_near_scores_that_rank_other_items_first_are_refused_and_ties_are_not(cases, lookup):
    """One huge score makes every difference small beside it."""
    size = cases.sequences.n_items + 1
    table = np.tile(np.arange(size, dtype=np.float32), (size, 1))
    table[:, 1] = 1e6
    graph = lookup(table)
    backwards = table.copy()
    backwards[:, 2:] = table[:, :1:-1]
    with pytest.raises(BadBundle, match="the same 10 items first"):
        compare(graph, Table(backwards), cases)
    neighbours = table.copy()
    neighbours[:, [size - 10, size - 9]] = table[:, [size - 9, size - 10]]  # the tenth and eleventh, 1 in 1e6 apart
    assert 0 < compare(graph, Table(neighbours), cases) <= MAX_ERROR


def test_scores_that_are_all_alike_or_no_numbers_are_refused(cases, lookup):
    table = table_of(cases)
    for spoiled, reason in ((np.full_like(table, 2.0), "all items score the same"), (table * np.nan, "finite")):
        with pytest.raises(BadBundle, match=reason):
            compare(lookup(spoiled), Table(spoiled), cases)


def test_a_quantised_graph_with_scores_that_are_no_numbers_is_no_choice(shop_line, cases, lookup):
    table = table_of(cases)
    spoilt = table.copy()
    spoilt[1, 7] = np.inf  # one score of those who took item 1 last
    graphs = {"fp32": lookup(table), "int8": lookup(spoilt), "int8-matmul": lookup(np.round(table))}
    fp32, int8, matmul = try_graphs(shop_line, graphs, cases, history_length=1, tail=tail_of(cases))
    assert (int8.ndcg_at_10, int8.p50_ms) == (None, None)
    assert fp32.ndcg_at_10 == matmul.ndcg_at_10 > 0
    assert None not in (fp32.p50_ms, matmul.p50_ms)
    del graphs["int8-matmul"]
    assert (
        try_graphs(shop_line, graphs, cases, history_length=1, tail=tail_of(cases))[0].p50_ms is None
    )  # one alone needs no timing
    choice = choose_graph(shop_line, [fp32, int8])
    assert (choice.int8, choice.int8_serves) == (None, False)
    assert choice.because == "fp32 serves: int8 is no choice, because not all of its scores are finite numbers."


def test_a_graph_that_nothing_has_changed_may_not_give_scores_that_are_no_numbers(shop_line, cases, lookup):
    spoilt = table_of(cases)
    spoilt[1, 7] = np.nan
    with pytest.raises(BadBundle, match="finite scores on the validation windows") as refused:
        try_graphs(shop_line, {"fp32": lookup(spoilt)}, cases, history_length=1, tail=tail_of(cases))
    assert refused.value.file == FP32


def trial(graph: str, size_mib: float, ndcg: float | None, p50_ms: float | None) -> GraphTrial:
    return GraphTrial(graph=graph, size_bytes=int(size_mib * 2**20), ndcg_at_10=ndcg, p50_ms=p50_ms)


@pytest.mark.parametrize(
    ("trials", "kept", "serves"),
    [
        # fp32 scores 0.100 in 1 ms with 4 MiB, or 9 MiB where it does not fit into 8; int8 may lose 2 %.
        ([(4, 0.1, None)], None, False),
        ([(4, 0.1, 1.0), (1, 0.099, 0.9)], "int8", True),
        ([(4, 0.1, 1.0), (1, 0.099, 0.96)], "int8", False),  # 4 % is not faster for certain
        ([(9, 0.1, 1.0), (3, 0.099, 1.5)], "int8", True),  # slower, but the only one that fits
        ([(9, 0.1, 1.0), (8.5, 0.099, 1.5)], "int8", False),  # neither fits
        ([(4, 0.1, 1.0), (1, 0.097, 0.1)], "int8", False),  # loses 3 %
        ([(4, 0.1, 1.0), (1, 0.12, 0.9)], "int8", True),  # gains
        ([(4, 0.1, 1.0), (1, 0.099, 0.9), (3, 0.1, 0.5)], "int8-matmul", True),  # the fastest that is good enough
        ([(4, 0.1, 1.0), (1, 0.099, 0.51), (3, 0.1, 0.5)], "int8", True),  # timing cannot tell them: the smaller
        ([(9, 0.1, 1.0), (3, 0.099, 1.5), (8.5, 0.1, 0.5)], "int8", True),  # what does not fit is no choice
        ([(4, 0.1, 1.0), (1, 0.097, 0.9), (3, 0.1, 0.9)], "int8-matmul", True),  # int8 loses too much
        ([(4, 0.1, 1.0), (1, 0.090, 0.9), (3, 0.095, 0.9)], "int8-matmul", False),  # both do; the better is kept
        ([(4, 0.0, 1.0), (1, 0.0, 0.9)], "int8", True),  # nothing to lose
        ([(4, 0.1, 1.0), (1, None, None), (3, 0.1, 0.5)], "int8-matmul", True),  # int8 gives scores that are no numbers
        ([(4, 0.1, None), (1, None, None), (3, None, None)], None, False),  # both do
    ],
)
def test_int8_serves_where_it_loses_little_and_is_faster_or_the_only_one_that_fits(shop_line, trials, kept, serves):
    line = shop_line.model_copy(
        update={"budgets": Budgets(p99_ms=5, size_mib=8), "gate": Gate(max_quantisation_loss=0.02)}
    )
    named = [trial(name, *each) for name, each in zip(("fp32", "int8", "int8-matmul"), trials, strict=False)]
    choice = choose_graph(line, named)
    assert (choice.int8, choice.int8_serves) == (kept, serves)
    assert choice.because.startswith(f"{kept if serves else 'fp32'} serves: ")


@pytest.mark.parametrize(
    ("overlap", "agreement", "serves"), [(0.9, 0.95, True), (0.89, 0.95, False), (0.9, 0.949, False)]
)
def test_int8_that_ranks_otherwise_than_fp32_does_not_serve_however_fast(shop_line, overlap, agreement, serves):
    line = shop_line.model_copy(update={"gate": Gate(min_top10_overlap=0.9, min_tail_agreement=0.95)})
    fp32, int8 = trial("fp32", 4, 0.1, 1.0), trial("int8", 1, 0.1, 0.1)
    loss = Estimate(value=0.0, low=-0.011, high=0.012)
    choice = choose_graph(line, [fp32, replace(int8, ndcg_loss=loss, top10_overlap=overlap, tail_agreement=agreement)])
    assert (choice.int8, choice.int8_serves) == ("int8", serves)
    assert (
        f"int8 loses 0.00% [-1.10%, 1.20%] of NDCG@10 on the windows (2.00% is allowed), keeps {overlap:.2%} of the "
        f"top 10 (90.00% is asked) and ranks the tail with an agreement of {agreement:.4f} (0.95 is asked), takes 0.1"
    ) in choice.because


def test_each_graph_is_held_against_fp32(shop_line, cases, lookup):
    """Items of the tail are ranked the wrong way round; then only those of the head are."""
    table = table_of(cases)
    tail = tail_of(cases)
    backwards, head = table.copy(), table.copy()
    backwards[:, tail] = table[:, tail] @ np.eye(tail.sum(), dtype=np.float32) * -1 + table.max()
    head[:, 1:3] = table[:, 2:0:-1]
    graphs = {"fp32": lookup(table), "int8": lookup(backwards), "int8-rows": lookup(head)}
    fp32, int8, rows = try_graphs(shop_line, graphs, cases, history_length=1, tail=tail)
    assert (fp32.ndcg_loss, fp32.top10_overlap, fp32.tail_agreement) == (None, None, None)
    assert int8.tail_agreement == pytest.approx(-1.0)
    assert rows.tail_agreement == pytest.approx(1.0)
    assert rows.top10_overlap > int8.top10_overlap
    for each in (int8, rows):
        assert each.ndcg_loss.value == pytest.approx(1 - each.ndcg_at_10 / fp32.ndcg_at_10)
        assert each.ndcg_loss.low <= each.ndcg_loss.value <= each.ndcg_loss.high


def test_a_family_without_weights_to_quantise_serves_fp32_and_says_so(shop):
    family = FAMILIES["popularity"]
    known = datasets.load(shop.store, shop.dataset).before_holdout
    network = family.build(family.defaults, n_items=known.n_items)
    network.prepare(known, 0)
    bundle = package(shop.line, shop.store, candidate_of(shop, network, family.defaults, family="popularity"))
    assert set(bundle.files) == {FP32, WEIGHTS, VOCABULARY, GOLDEN}
    assert (bundle.serves, bundle.serves_because) == (FP32, "fp32 serves: its graph has no weights to make int8.")
    graph = onnx.load_model_from_string(shop.store.get(bundles.key(bundle.release_id, FP32)).body)
    assert [node.op_type for node in graph.graph.node].count("MatMul") == 0
