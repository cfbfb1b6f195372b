import pytest

from recsys.records import Rung
from recsys.tuning.rungs import fitted, raised

OPPOSITE, ALIKE = -1, 1


@pytest.fixture
def evidence(trial_evidence, search_evidence):
    """What a search leaves whose rungs have these shares and epochs, and rank `n` configurations alike or not."""

    def make(order, *, n=12, **rungs):
        fidelity = {"screen": (0.25, 0.25), "refine": (1.0, 1.0)} | rungs
        trials = [
            trial_evidence(
                "f",
                {"epochs": 8, "x": x},
                x if stage == "screen" else order * x,
                stage=stage,
                share=share,
                epochs=epochs,
                seed=7,
            )
            for stage, (share, epochs) in fidelity.items()
            for x in range(n)
        ]
        return search_evidence(*trials, plan_id=f"before-{order}-{n}-{len(rungs)}", family="f")

    return make


@pytest.fixture
def line(a_line):
    return a_line(
        screen={"trials": 9, "share": 0.25, "epochs": 0.25}, refine={"trials": 3}, confirm={"trials": 1, "seeds": 2}
    )


def test_without_evidence_every_rung_stays_and_nothing_is_said(line):
    assert raised(line, []) == ()


def test_a_rung_that_ranks_stays_and_is_said_so(line, evidence):
    [found] = raised(line, [evidence(ALIKE)])
    assert (found.stage, found.share, found.epochs) == ("screen", 0.25, 0.25)
    assert found.because == (
        "As far as can be told, screen ranks as refine does (Kendall's tau-b 1.00 [1.00, 1.00] over 12 configurations)."
    )


def test_too_few_configurations_change_nothing_and_are_said(line, evidence):
    [found] = raised(line, [evidence(OPPOSITE, n=7)])
    assert (found.share, found.epochs) == (0.25, 0.25)
    assert found.because == "Whether screen ranks as refine does cannot be told from 7 configurations, for it takes 8."


def test_a_rung_that_does_not_rank_goes_half_the_way_to_the_next(line, evidence):
    [found] = raised(line, [evidence(OPPOSITE)])
    assert (found.share, found.epochs) == (0.5, 0.5)  # the root of 0.25 x 1
    assert found.because == (
        "Nothing shows that screen ranks as refine does (Kendall's tau-b -1.00 [-1.00, -1.00] over 12 configurations), "
        "so screen is given a share of 0.5 and 0.5 of the epochs."
    )


def test_it_goes_on_to_be_raised_until_it_ranks_or_is_the_next_rung(line, evidence):
    searches = [evidence(OPPOSITE), evidence(OPPOSITE, screen=(0.5, 0.5))]
    [found] = raised(line, searches)
    assert (found.share, found.epochs) == (0.71, 0.71)
    assert found.because.count("; then Nothing shows") == 1
    searches += [evidence(OPPOSITE, screen=(0.71, 0.71)), evidence(OPPOSITE, screen=(0.84, 0.84))]
    [found] = raised(line, searches)
    assert (found.share, found.epochs) == (1.0, 1.0)  # 0.92 is near
    [found] = raised(line, [evidence(OPPOSITE), evidence(ALIKE, screen=(0.5, 0.5))])
    assert (found.share, found.epochs) == (0.5, 0.5)
    assert "; then As far as can be told, screen ranks as refine does" in found.because


def test_a_plan_is_searched_with_the_rungs_that_it_has_raised(line, a_plan):
    plan = a_plan(rungs=(Rung(stage="screen", share=0.5, epochs=0.75, because="a test says so."),))
    search = fitted(line, plan).search
    assert (search.screen.trials, search.screen.share, search.screen.epochs) == (9, 0.5, 0.75)
    assert search.refine == line.search.refine
    assert fitted(line, a_plan()) is line
