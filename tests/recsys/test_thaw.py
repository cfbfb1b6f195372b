import pytest
import torch

from recsys.models import FAMILIES
from recsys.thaw import Thaw, layers

TOWER = {**FAMILIES["two_tower"].defaults, "dim": 4, "hidden": 4, "history_length": 3}
SASREC = {**FAMILIES["sasrec"].defaults, "dim": 4, "heads": 2, "layers": 2, "history_length": 3}


def network(family, configuration):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return FAMILIES[family].build(configuration, n_items=5)


def marks(learner, **partly):
    whole = {name: torch.ones(parameter.shape, dtype=torch.bool) for name, parameter in learner.named_parameters()}
    return {**whole, **{name.replace("__", "."): mark for name, mark in partly.items()}}


def test_layers_go_from_the_scores_back_to_the_items():
    first, *others = layers(network("sasrec", SASREC))
    assert first == ["bias", "norm.weight", "norm.bias"]
    assert [{name.rpartition(".")[0][:8] for name in names} for names in others[:2]] == [{"blocks.1"}, {"blocks.0"}]
    assert others[2] == ["items.weight"]
    tower = layers(network("two_tower", TOWER))
    assert [names[-1].split(".")[0] for names in tower] == ["user", "gate", "items"]
    assert tower[0][:2] == ["bias", "recency"]


def test_layers_thaw_one_after_the_other_until_half_of_the_epochs():
    learner = network("sasrec", SASREC)
    thaw = Thaw(learner, marks(learner), 10)
    resting = [sorted({name[:8] for name in thaw.resting(epoch)}) for epoch in range(1, 11)]
    three, two, one = ["blocks.0", "blocks.1", "items.we"], ["blocks.0", "items.we"], ["items.we"]
    assert resting == [three, three, two, two, one, [], [], [], [], []]


def test_what_is_new_never_rests():
    learner = network("sasrec", SASREC)
    fresh = {name: torch.zeros(p.shape, dtype=torch.bool) for name, p in learner.blocks[0].named_parameters()}
    thaw = Thaw(learner, {**marks(learner), **{f"blocks.0.{name}": mark for name, mark in fresh.items()}}, 4)
    assert not [name for name in thaw.resting(1) if name.startswith("blocks.0.")]
    assert [name for name in thaw.resting(1) if name.startswith("blocks.1.")]


def test_rows_that_were_taken_over_stay_to_the_last_bit_while_new_rows_learn():
    learner = network("two_tower", TOWER)
    mark = torch.ones(6, 4, dtype=torch.bool)
    mark[2] = False  # the item that is new
    thaw = Thaw(learner, marks(learner, items__weight=mark), 2)
    before = {name: parameter.detach().clone() for name, parameter in learner.named_parameters()}
    optimiser = torch.optim.AdamW(learner.parameters(), lr=0.1, weight_decay=0.5)
    windows = torch.tensor([[1, 2, 3, 4], [0, 2, 5, 1]])
    with thaw.during(1) as rest:
        for _ in range(3):
            optimiser.zero_grad(set_to_none=True)
            learner.loss(windows).backward()
            rest.calm()
            assert torch.equal(learner.items.weight.grad[mark], torch.zeros(20))
            optimiser.step()
            rest.restore()
    after = dict(learner.named_parameters())
    assert torch.equal(after["items.weight"][mark], before["items.weight"][mark])
    assert not torch.equal(after["items.weight"][2], before["items.weight"][2])
    assert torch.equal(after["gate.weight"], before["gate.weight"])  # rests whole
    assert not torch.equal(after["user.0.weight"], before["user.0.weight"])
    assert all(parameter.requires_grad for parameter in learner.parameters())


def test_what_rests_is_free_again_when_an_epoch_fails():
    learner = network("two_tower", TOWER)

    def fail():
        with Thaw(learner, marks(learner), 2).during(1):
            assert not learner.items.weight.requires_grad
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        fail()
    assert learner.items.weight.requires_grad


def test_of_a_hybrid_the_part_that_learns_thaws():
    hybrid = network("hybrid", {**FAMILIES["hybrid"].defaults, **SASREC, "steps": 2, "neighbours": 2})
    thaw = Thaw(hybrid, marks(hybrid.attention), 10)
    assert "items.weight" in thaw.resting(5)
    with thaw.during(5):
        assert not hybrid.attention.items.weight.requires_grad
