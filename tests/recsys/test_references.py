import numpy as np
import pytest

from recsys import dataset as datasets
from recsys.metrics import evaluate
from recsys.models import FAMILIES, TorchScorer
from recsys.references import MARKOV, references, tune_markov
from recsys.store import open_store


@pytest.fixture(scope="module")
def frozen(frozen_shop):
    folder, dataset = frozen_shop
    return datasets.load(open_store((folder / "shop").as_uri()), dataset)


def test_markov_is_tuned_on_the_windows_with_the_defaults_among_what_is_tried(frozen):
    assert MARKOV[0] == FAMILIES["markov"].defaults
    assert len(MARKOV) <= 8
    scores = []
    for configuration in MARKOV:
        network = FAMILIES["markov"].build(configuration, n_items=frozen.train.n_items)
        network.prepare(frozen.train, 0)
        ndcg = np.concatenate([evaluate(TorchScorer(network), window).ndcg for window in frozen.windows])
        scores.append(ndcg.mean())
    assert tune_markov(frozen) == MARKOV[int(np.argmax(scores))]


def test_both_are_fitted_with_all_that_lies_before_the_holdout(frozen):
    shown = references(frozen)
    assert set(shown) == {"popularity", "markov"}
    for name, configuration in (("popularity", FAMILIES["popularity"].defaults), ("markov", tune_markov(frozen))):
        network = FAMILIES[name].build(configuration, n_items=len(frozen.vocabulary))
        network.prepare(frozen.before_holdout, 0)
        histories = frozen.windows[-1].histories(np.arange(20), network.history_length)
        assert np.array_equal(shown[name](histories), TorchScorer(network)(histories))
