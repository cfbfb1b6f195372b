"""Give each test of the suite every kind of store, empty."""

import pytest

from recsys.store import Store, open_store
from recsys.store.memory import MemoryStore


def a_file_store(request) -> Store:
    return open_store((request.getfixturevalue("tmp_path") / "store").as_uri())


def an_s3_store(request) -> Store:
    return open_store(request.getfixturevalue("s3_url"))


def a_memory_store(request) -> Store:
    return MemoryStore()


SHARED_BY_PROCESSES = [
    pytest.param(a_file_store, id="file"),
    pytest.param(an_s3_store, id="s3", marks=pytest.mark.s3),
]


@pytest.fixture(params=[*SHARED_BY_PROCESSES, pytest.param(a_memory_store, id="memory")])
def store(request) -> Store:
    return request.param(request)


@pytest.fixture(params=SHARED_BY_PROCESSES)
def shared_store(request) -> Store:
    """A store that other processes can open by its URL."""
    return request.param(request)
