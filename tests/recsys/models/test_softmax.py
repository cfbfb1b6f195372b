import numpy as np
import pytest
import torch

from recsys.models.softmax import negatives_of, softmax_loss


def problem(n_items=40, positions=12, dim=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        "queries": torch.randn(positions, dim, generator=generator),
        "targets": torch.randint(1, n_items + 1, (positions,), generator=generator),
        "items": torch.randn(n_items + 1, dim, generator=generator),
        "bias": torch.randn(n_items + 1, generator=generator),
    }


def by_hand(queries, targets, items, bias):
    losses = []
    for query, target in zip(queries.numpy(), targets.numpy(), strict=True):
        logits = items.numpy()[1:] @ query + bias.numpy()[1:]
        losses.append(np.log(np.exp(logits).sum()) - logits[target - 1])
    return np.mean(losses)


@pytest.mark.parametrize("negatives", [0, 40, 100])
def test_whole_softmax_equals_the_formula_and_leaves_padding_out(negatives):
    given = problem()
    assert softmax_loss(**given, negatives=negatives).item() == pytest.approx(by_hand(**given), rel=1e-5)


def test_sampled_denominator_is_right_on_average():
    given = problem(positions=1)
    target = int(given["targets"][0])
    logits = (given["items"] @ given["queries"][0] + given["bias"]).double()
    torch.manual_seed(0)
    # exp(loss + own logit) is the sampled denominator: the target plus 40 / 10 times the other items that were drawn.
    drawn = [(softmax_loss(**given, negatives=10).double() + logits[target]).exp().item() for _ in range(2000)]
    # Each of the other items is drawn in a quarter of the samples and then counts four times.
    assert np.mean(drawn) == pytest.approx(logits[1:].exp().sum().item(), rel=0.03)


def test_target_in_the_sample_is_counted_once():
    given = problem(n_items=3, positions=50)
    torch.manual_seed(1)
    loss = softmax_loss(**given, negatives=2)
    assert torch.isfinite(loss)
    # With both other items drawn, the logits rise by log(3 / 2) and the loss is known for such positions.
    torch.manual_seed(1)
    drawn = set((1 + torch.randperm(3)[:2]).tolist())
    expected = []
    for query, target in zip(given["queries"], given["targets"].tolist(), strict=True):
        logits = given["items"] @ query + given["bias"]
        others = sum(1.5 * logits[item].exp() for item in drawn - {target})
        expected.append(torch.log(logits[target].exp() + others) - logits[target])
    assert loss.item() == pytest.approx(torch.stack(expected).mean().item(), rel=1e-5)


def test_gradients_reach_queries_items_and_bias():
    given = problem()
    for name in ("queries", "items", "bias"):
        given[name].requires_grad_()
    softmax_loss(**given, negatives=10).backward()
    assert all(given[name].grad.abs().sum() > 0 for name in ("queries", "items", "bias"))


def test_only_a_sampled_softmax_takes_negatives():
    assert negatives_of("sasrec", "full", 10) == 0
    assert negatives_of("sasrec", "sampled", 10) == 10


@pytest.mark.parametrize(
    ("softmax", "negatives", "message"),
    [
        ("half", 10, "softmax of sasrec must be 'full' or 'sampled' but is 'half'"),
        ("full", 0, "negatives of sasrec must be 1 or more but is 0"),
    ],
)
def test_a_softmax_that_does_not_exist_is_refused(softmax, negatives, message):
    with pytest.raises(ValueError, match=message):
        negatives_of("sasrec", softmax, negatives)
