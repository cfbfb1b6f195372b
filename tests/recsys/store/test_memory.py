import pytest

from recsys.store.memory import MemoryStore


def test_it_holds_no_tables():
    with pytest.raises(ValueError, match="no tables"):
        MemoryStore().table("feedback")


def test_two_stores_share_nothing():
    MemoryStore().put("a", b"1")
    assert list(MemoryStore().list("")) == []
