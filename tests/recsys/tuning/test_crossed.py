from dataclasses import replace

import numpy as np
import pytest

from recsys.models import FAMILIES
from recsys.records import Estimate, Findings, Importance, Interaction
from recsys.settings import Past
from recsys.tuning.crossed import blocks, untold
from recsys.tuning.factorial import runs

TOWER = FAMILIES["two_tower"].defaults
LEVELS = {"lr": (0.001, 0.01), "dropout": (0.1, 0.5), "epochs": (10, 20)}


def worth(run):
    """0.02 for the higher lr, 0.004 more for it at the higher dropout and as much less at the lower one."""
    lr, dropout = (1 if run[name] == LEVELS[name][1] else -1 for name in ("lr", "dropout"))
    return 0.1 + 0.01 * lr + 0.002 * lr * dropout


@pytest.fixture
def search(trial_evidence, search_evidence):
    """Make what a search with a block of runs and repeats left, and trials beside it that are none of the block's."""

    def trial(number, configuration, value, block="", **said):
        known = {"share": 0.5, "epochs": 0.5, "number": number, "block": block}
        return trial_evidence("two_tower", configuration, value, **known, **said)

    def search(noise=(0.0, 0.001, -0.001), left_out=0, levels=LEVELS):
        own = [trial(0, TOWER, 0.1 + noise[0])]
        laid_out = [
            trial(1 + n, {**TOWER, **run}, worth(run), "run", state="complete" if n >= left_out else "fail")
            for n, run in enumerate(runs(levels))
        ]
        repeats = [trial(20 + n, TOWER, 0.1 + off, "repeat", seed=n) for n, off in enumerate(noise[1:], 1)]
        later = [trial(30, TOWER, 0.9, stage="confirm", seed=5), trial(31, {**TOWER, "lr": 0.002}, 0.05)]
        known = {"plan_id": "r1", "family": "two_tower", "configuration": TOWER}
        return search_evidence(*own, *laid_out, *repeats, *later, **known)

    return search


def test_a_pair_that_works_together_is_told_from_pairs_that_do_not(search):
    [block] = blocks([search(noise=(0.0, 0.0004, -0.0004))], {})
    found = {pair.parameters: pair for pair in block.effects}
    together = found["lr", "dropout"]
    assert together.effect.value == pytest.approx(0.004)  # half of 0.024 - 0.016
    assert together.above_noise
    assert [pair.effect.value for name, pair in found.items() if name != ("lr", "dropout")] == pytest.approx([0, 0])
    assert (block.family, block.runs, block.repeats) == ("two_tower", 8, 3)
    assert block.levels == LEVELS
    assert block.because == (
        "8 complete runs on epochs, lr, dropout, and the incumbent with 3 seeds: lr and dropout (+0.0040) work "
        "together; 2 pairs do no more together than seeds do."
    )


def test_the_interval_is_students_from_what_seeds_do_to_the_incumbent(search):
    [block] = blocks([search(noise=(0.0, 0.003, -0.003))], {})
    deviation = 0.003  # of 0, 0.003 and -0.003
    together = block.effects[0].effect
    assert block.deviation == pytest.approx(deviation)
    # Of a difference of the means of four and four runs; 2.92 is Student's 95 % point of 2 degrees of freedom.
    assert together.high - together.value == pytest.approx(2.920 * deviation * (2 / 4) ** 0.5, rel=1e-3)
    assert not block.effects[0].above_noise


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"left_out": 2}, "6 complete runs on epochs, lr, dropout, and the incumbent with 3 seeds: too few"),
        ({"noise": (0.0,)}, "8 complete runs on epochs, lr, dropout, and the incumbent with 0 seeds: too few"),
    ],
)
def test_a_block_that_came_to_too_little_tells_nothing(how, said, search):
    [block] = blocks([search(**how)], {})
    assert block.effects == ()
    assert block.because.startswith(said)


def test_one_lost_run_leaves_what_the_others_tell(search):
    [block] = blocks([search(left_out=1)], {})
    assert block.runs == 7
    assert block.effects[0].effect.value == pytest.approx(0.004)


def test_what_is_counted_on_everything_has_no_noise(search):
    [block] = blocks([search(noise=(0.0, 0.0, 0.0))], {})
    assert [(pair.p, pair.above_noise) for pair in block.effects][:1] == [(0.0, True)]


def test_names_of_then_are_read_as_the_line_says(search):
    old = search()
    trials = [
        replace(t, configuration={("rate" if k == "lr" else k): v for k, v in t.configuration.items()})
        for t in old.trials
    ]
    renamed = replace(old, trials=tuple(trials), configuration=trials[0].configuration)
    [block] = blocks([renamed], {"two_tower": Past(renamed={"rate": "lr"})})
    assert block.effects[0].parameters == ("lr", "dropout")


def test_a_search_without_a_block_has_none(search):
    found = search()
    assert blocks([replace(found, trials=tuple(replace(t, block="") for t in found.trials))], {}) == []


def findings(*pairs, mattering=("lr",)):
    return Findings(
        family="two_tower",
        studies=("r1",),
        trials=60,
        left_out=0,
        importances=tuple(
            Importance(parameter=name, share=None, alone=None, p=None, above_chance=name in mattering, best=None)
            for name in LEVELS
        ),
        interactions=tuple(
            Interaction(parameters=pair, share=Estimate(value=high / 2, low=0.0, high=high), p=0.5, above_chance=sure)
            for pair, high, sure in pairs
        ),
    )


def test_pairs_that_might_matter_and_are_not_known_are_untold_the_least_known_first():
    over = findings(
        (("lr", "dropout"), 0.2, False),
        (("lr", "epochs"), 0.4, False),
        (("lr", "dim"), 0.09, False),  # little even if it were true
        (("lr", "softmax"), 0.5, True),  # known to matter
        (("dropout", "epochs"), 0.5, False),  # neither matters by itself
    )
    assert untold(over, []) == [("lr", "epochs"), ("lr", "dropout")]


def test_what_a_block_has_told_is_not_untold(search):
    over = findings((("dropout", "lr"), 0.2, False), (("lr", "dim"), 0.4, False))
    assert untold(over, blocks([search()], {})) == [("lr", "dim")]
    assert len(untold(replace(over, family="sasrec"), blocks([search()], {}))) == 2


def test_the_effects_of_noise_alone_are_seldom_called_more(search):
    rng = np.random.default_rng(3)
    wrong = 0
    for _ in range(200):
        found = search(noise=tuple(rng.normal(0, 0.01, 5)))
        trials = [
            replace(t, ndcg_at_10=0.1 + float(rng.normal(0, 0.01))) if t.block == "run" else t for t in found.trials
        ]
        [block] = blocks([replace(found, trials=tuple(trials))], {})
        wrong += any(pair.above_noise for pair in block.effects)
    assert wrong <= 20
