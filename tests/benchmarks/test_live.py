import pytest

from benchmarks.live import LINE, seconds_until
from recsys.settings import Line
from recsys.tuning.space import search_space

TRAINED = [(0.1, 2.0), (None, 1.0), (0.3, 4.0), (0.9, 8.0)]


@pytest.mark.parametrize(
    ("level", "found"), [(0.1, (2.0, True)), (0.3, (7.0, True)), (0.31, (15.0, True)), (1.0, (15.0, False))]
)
def test_seconds_count_until_a_complete_trial_reaches_the_level(level, found):
    assert seconds_until(TRAINED, level) == found


def test_the_line_can_be_searched():
    assert set(search_space(Line.model_validate(LINE)).families) == {"two_tower", "sasrec", "hybrid"}
