from dataclasses import replace

from recsys import tuning
from recsys.tuning.past import everything
from recsys.tuning.space import search_space
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
