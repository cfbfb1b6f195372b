from retune.vigil import Patience, Vigil

PATIENCE = Patience(stale_s=20, hung_s=20, start_s=60)


def replaced_at(vigil, silent, started, moments):
    """The moments at which a component is to be replaced; each replacement is a new start."""
    found = []
    for now in moments:
        if vigil.hung({"scheduler"} & set(silent(now)), {"scheduler": started}, now=now):
            found.append(now)
            started = now
    return found


def test_a_component_that_answers_is_left_alone():
    assert replaced_at(Vigil(PATIENCE), lambda now: (), 0, range(0, 1000, 5)) == []


def test_silence_counts_from_its_beginning_and_ends_with_one_answer():
    vigil = Vigil(PATIENCE)
    assert replaced_at(vigil, lambda now: {"scheduler"} if now != 115 else (), 0, range(100, 140, 5)) == []
    assert replaced_at(vigil, lambda now: {"scheduler"}, 0, [140]) == [140]  # silent since 120


def test_the_silence_of_somebody_else_is_not_its_own():
    vigil = Vigil(PATIENCE)
    started = {"scheduler": 0, "triggerer": 0}
    assert vigil.hung({"triggerer"}, started, now=100) == {}
    assert vigil.hung({"triggerer"}, started, now=121) == {"triggerer": 21}


def test_a_machine_too_slow_for_the_start_gets_twice_the_time_with_every_try():
    # 60 + 20 s, then 120 + 20 s, then 240 + 20 s.
    found = replaced_at(Vigil(PATIENCE), lambda now: {"scheduler"}, 0, range(0, 500, 1))
    assert found == [80, 220, 480]


def test_one_healthy_life_gives_back_the_short_patience():
    # Silent until it is replaced at 80, healthy from 90 to 300, silent from then on.
    found = replaced_at(Vigil(PATIENCE), lambda now: () if 90 <= now < 300 else {"scheduler"}, 0, range(0, 330, 1))
    assert found == [80, 320]
