import time

import numpy as np
import pytest

from recsys.tuning.usage import Meter


def test_the_seconds_of_the_processor_are_counted_and_not_those_of_the_clock():
    meter = Meter("cpu")
    with meter.running():
        until = time.process_time() + 0.05
        while time.process_time() < until:
            pass
    assert 0.05 <= meter.used["cpu_s"] < 1.0


def test_memory_is_how_far_the_process_grew_even_if_it_shrank_again():
    meters = [Meter("cpu"), Meter("cpu")]
    for meter, mib in zip(meters, (64, 1), strict=True):
        with meter.running():
            assert np.ones((mib, 2**20), np.uint8).sum() == mib * 2**20
    assert 60 <= meters[0].used["rss_growth_mib"] < 200
    assert meters[1].used["rss_growth_mib"] < 30  # of its own, and not what the one before had


def test_what_fails_is_measured_as_well():
    meter = Meter("cpu")
    with pytest.raises(ValueError, match="no"), meter.running():
        raise ValueError("no")
    assert set(meter.used) == {"cpu_s", "rss_growth_mib"}


def test_without_a_gpu_nothing_is_said_of_one():
    meter = Meter("cpu")
    meter.of_gpu({"training": 1.0}, ("training",))
    assert meter.used == {}
