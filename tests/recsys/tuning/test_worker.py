import re
from dataclasses import replace

from recsys import tuning
from recsys.models import FAMILIES
from recsys.tuning.past import everything
from recsys.tuning.space import search_space
from recsys.tuning.trials import Entry, Trials
from recsys.tuning.warm import WarmSampler


def test_a_warm_search_proposes_by_what_the_search_before_it_found(shop, retune, search, a_line, monkeypatch):
    first = retune(incumbent="markov")
    search(first)
    [found] = everything(shop.store)

    seen = []
    sample = WarmSampler.sample_relative

    def look(self, study, trial, space):
        proposed = sample(self, study, trial, space)
        seen.append((len(self._past_studies), self.correlation))
        return proposed

    monkeypatch.setattr(WarmSampler, "sample_relative", look)
    warm = replace(shop, line=a_line(warm=True, workers=1))
    plan = replace(first, plan_id="r20260202-00000000")
    tuning.open_study(warm.line, warm.store, plan, warm.studies)
    tuning.jobs(warm.line, warm.store, plan, "screen", warm.studies)
    trials = tuning.work(
        warm.line, warm.store, plan, "screen", warm.studies, owner=tuning.Attempt(run="r", map_index=0, attempt=1)
    )
    trials = [trial for trial in trials if trial.stage == "screen"]
    assert len(trials) == 5
    assert {n for n, _ in seen} == {1}
    assert all(0 <= correlation <= 1 for _, correlation in seen)
    assert {trial.family for trial in trials} <= set(search_space(warm.line).families)
    assert len(found.trials) > 0


TOWER = {**FAMILIES["two_tower"].defaults, "dim": 32, "hidden": 64, "history_length": 20, "epochs": 10}


def test_earlier_curves_stop_what_is_hopeless_with_the_numbers_but_no_incumbent_and_no_sentinel(shop, retune, a_line):
    line = a_line(
        warm=True, screen={"trials": 1, "share": 1.0, "epochs": 1.0}, refine={"trials": 1}, confirm={"trials": 1}
    )
    first = retune(verdict=shop.released("two_tower", TOWER), line=line)

    def run(plan, seed, *listed):
        """Screen towers of these learning rates, each with what is special about it."""
        tuning.open_study(line, shop.store, plan, shop.studies)
        entries = [
            Entry(name=f"{n}", seed=seed, family="two_tower", configuration={**TOWER, "lr": lr}, **special)
            for n, (lr, special) in enumerate(listed)
        ]
        Trials.load(plan, shop.studies).enter("screen", entries)
        owner = tuning.Attempt(run="r", map_index=0, attempt=1)
        ended = tuning.work(line, shop.store, plan, "screen", shop.studies, owner=owner)
        return [trial for trial in ended if trial.stage == "screen"]

    own = (TOWER["lr"], {"incumbent": True})
    rates = [1e-9, 3e-4, 1e-3, 2e-3, 8e-3, 0.012, 0.02, 0.03, 0.04]
    run(first, 7, own, *[(lr, {"sentinel": True}) for lr in rates])  # none is stopped
    tuning.close(line, shop.store, first, shop.studies)
    [found] = everything(shop.store)
    assert found.trials[0].curve == {1: 0.0, 2: 0.0, 3: 0.0}  # the incumbent beside itself
    assert all(set(trial.curve) == {1, 2, 3} for trial in found.trials if trial.stage == "screen")

    later = replace(first, plan_id="r20260202-00000000")
    good = [(lr, {"sentinel": True}) for lr in (0.001, 0.01, 0.03)]
    ended = run(later, 8, own, *good, (1e-9, {}), (1e-9, {"sentinel": True}))
    assert [trial.state for trial in ended] == ["complete"] * 4 + ["pruned", "complete"]
    assert re.match(
        r"stopped after \d of 10 epochs: a chance of \d\.\d % to be among the 1 that go on: after quarter \d it is at "
        r"-0\.\d+ NDCG@10 beside the incumbent, by 12 curves it would end at -0\.\d+ with a scale of",
        ended[4].reason,
    ), ended[4].reason
