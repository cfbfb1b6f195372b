import pytest
from optuna.pruners import NopPruner
from optuna.trial import TrialState

from recsys.tuning import Attempt
from recsys.tuning.sampler import warm
from recsys.tuning.space import search_space
from recsys.tuning.trials import Entry, Trials

FIRST, AGAIN, OTHER = (Attempt(run="r", map_index=index, attempt=n) for index, n in ((0, 1), (0, 2), (1, 1)))


@pytest.fixture
def drawn(a_line, a_plan, tmp_path):
    """Draw six configurations in a study of its own, each claimed by the next of `owners` with a new sampler."""
    line = a_line(space={})
    space = search_space(line)

    def draw(name, owners, plan_id="r20260126-00000000"):
        plan = a_plan(plan_id=plan_id)
        trials = Trials.create(plan, str(tmp_path / name))
        trials.enter("screen", [Entry(name=f"screen-{n}", seed=0) for n in range(len(owners))])
        found = []
        for number, owner in enumerate(owners):
            trial = trials.claim(
                "screen",
                owner,
                sampler=lambda: warm(line, plan, space, ()),
                pruner=NopPruner(),
                fits=lambda _: True,
            )
            found.append(space.suggest(trial))
            trials.end(trial, TrialState.COMPLETE, float(number), {})
        return found

    return draw


def test_what_is_drawn_follows_from_the_plan_and_the_trials_whoever_works(drawn):
    steady = drawn("a", [FIRST] * 6)
    assert all(steady.count(found) == 1 for found in steady)
    assert drawn("b", [FIRST] * 3 + [AGAIN] * 3) == steady
    assert drawn("c", [FIRST, OTHER] * 3) == steady


def test_another_plan_of_the_same_line_begins_elsewhere(drawn):
    another = drawn("b", [FIRST] * 4, plan_id="r20260202-00000000")
    assert not any(found in another for found in drawn("a", [FIRST] * 4))
