import numpy as np
import optuna
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from recsys.tuning.encoding import Encoding
from recsys.tuning.observations import PROPOSAL, observe, tried

SPACE = {"x": FloatDistribution(0, 10), "y": FloatDistribution(0, 10)}


def study_of(*trials, direction="maximize"):
    study = optuna.create_study(direction=direction)
    study.add_trials([create_trial(**trial) for trial in trials])
    return study


def at(x, **ending):
    return {"params": {"x": x}, "distributions": {"x": SPACE["x"]}, **ending}


def seen(study, number=-1, **settled):
    return observe(study, Encoding(SPACE), number, settled)


def test_what_failed_counts_as_the_worst_that_was_reached_and_what_was_lost_as_nothing():
    study = study_of(
        at(1.0, value=3.0),
        at(2.0, state=TrialState.PRUNED, intermediate_values={1: 9.0, 2: 2.0}),
        at(3.0, state=TrialState.FAIL),
        at(4.0, value=float("inf")),
        at(5.0, state=TrialState.FAIL, user_attrs={"lost": True}),
        at(6.0, value=7.0),
    )
    found = seen(study, number=5)
    np.testing.assert_allclose(found.points[:, 0], [0.1, 0.2, 0.3, 0.4])
    assert list(found.values) == [3.0, 2.0, 2.0, 2.0]
    assert len(found.running) == 0


def test_lower_values_are_better_where_they_are_minimised():
    assert list(seen(study_of(at(1.0, value=3.0), direction="minimize")).values) == [-3.0]


def test_a_running_trial_is_where_it_was_proposed_given_or_has_gone():
    attributes = {PROPOSAL: {"x": 1.0, "y": 2.0}, "fixed_params": {"y": 3.0}}
    running = {"state": TrialState.RUNNING, "system_attrs": attributes}
    study = study_of(running, {**at(4.0), **running}, {"state": TrialState.RUNNING}, at(5.0, value=1.0))
    np.testing.assert_allclose(seen(study).running, [[0.1, 0.3], [0.4, 0.3]])
    assert tried(study, but=0) == {1: {"x": 4.0, "y": 3.0}, 3: {"x": 5.0}}


def test_what_is_settled_is_so_in_every_trial_that_does_not_say_otherwise():
    study = study_of(at(1.0, value=3.0), {"state": TrialState.RUNNING, "system_attrs": {PROPOSAL: {"x": 2.0}}})
    found = seen(study, y=5.0)
    np.testing.assert_allclose(found.points, [[0.1, 0.5]])
    np.testing.assert_allclose(found.running, [[0.2, 0.5]])
