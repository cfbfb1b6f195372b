import pytest
import torch

from recsys.models.dropout import Dropout


@pytest.mark.parametrize("probability", [0.05, 0.3, 0.7])
def test_as_many_are_dropped_as_asked_and_the_mean_stays(probability):
    torch.manual_seed(0)
    out = Dropout(probability)(torch.ones(1000, 997))
    assert (out == 0).float().mean().item() == pytest.approx(probability, abs=1 / 256)
    assert out.mean().item() == pytest.approx(1, abs=0.01)
    assert len(out.unique()) == 2


def test_neighbours_are_dropped_independently():
    torch.manual_seed(0)
    kept = (Dropout(0.5)(torch.ones(1_000_000)) > 0).float() - 0.5
    for distance in range(1, 17):  # eight bytes come from one word
        assert abs((kept[:-distance] * kept[distance:]).mean().item()) < 0.002


@pytest.mark.parametrize("dropout", [Dropout(0.4).eval(), Dropout(0.0)])
def test_nothing_is_dropped_outside_training_or_at_zero(dropout):
    given = torch.randn(3, 5)
    assert dropout(given) is given


def test_gradient_is_that_of_what_was_kept():
    torch.manual_seed(0)
    given = torch.ones(64, requires_grad=True)
    out = Dropout(0.25)(given)
    out.sum().backward()
    assert torch.equal(given.grad, out.detach())


@pytest.mark.parametrize("probability", [-0.1, 1.0])
def test_probability_must_lie_in_its_range(probability):
    with pytest.raises(ValueError, match=r"dropout must lie in \[0, 1\)"):
        Dropout(probability)
