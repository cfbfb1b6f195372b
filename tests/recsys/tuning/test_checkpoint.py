import os
import time

from recsys.checkpoints import FILE
from recsys.store.memory import MemoryStore
from recsys.tuning.checkpoint import CarriedCheckpoint, checkpoint_key

KEY = "studies/p/checkpoints/k"


class SlowStore(MemoryStore):
    """Takes 50 ms to upload."""

    def upload(self, path, key):
        busy_until = time.monotonic() + 0.05
        while time.monotonic() < busy_until:
            pass
        return super().upload(path, key)


def save(carried, content, at):
    carried.folder.mkdir(exist_ok=True)
    (carried.folder / FILE).write_bytes(content)
    os.utime(carried.folder / FILE, (at, at))


def test_what_one_attempt_keeps_the_next_one_fetches(tmp_path):
    store = MemoryStore()
    first = CarriedCheckpoint(store, KEY, tmp_path / "a")
    first.fetch()  # there is nothing yet
    first.keep()
    assert list(store.list("")) == []
    save(first, b"epoch 1", at=1)
    first.keep()

    second = CarriedCheckpoint(store, KEY, tmp_path / "b")
    second.fetch()
    assert (second.folder / FILE).read_bytes() == b"epoch 1"
    second.drop()
    assert list(store.list("")) == []


def test_copying_takes_at_most_a_tenth_of_the_time(tmp_path):
    store = SlowStore()
    carried = CarriedCheckpoint(store, KEY, tmp_path)
    save(carried, b"epoch 1", at=1)
    began = time.monotonic()
    carried.keep()
    save(carried, b"epoch 2", at=2)
    carried.keep()  # too early
    assert store.get(KEY).body == b"epoch 1"
    while store.get(KEY).body == b"epoch 1":
        carried.keep()
    assert time.monotonic() - began >= 10 * 0.05
    assert carried.seconds >= 0.1


def test_a_file_that_has_not_changed_is_not_copied_again(tmp_path):
    store = MemoryStore()
    carried = CarriedCheckpoint(store, KEY, tmp_path)
    save(carried, b"epoch 1", at=1)
    carried.keep()
    store.delete(KEY)
    until = time.monotonic() + 0.05
    while time.monotonic() < until:
        carried.keep()
    assert list(store.list("")) == []


def test_a_key_names_what_decides_the_training_and_nothing_else():
    key = checkpoint_key("p", "f", {"lr": 0.1, "dim": 8}, seed=1, share=0.5)
    assert key.startswith("studies/p/checkpoints/")
    assert key == checkpoint_key("p", "f", {"dim": 8, "lr": 0.1}, seed=1, share=0.5)
    others = [
        checkpoint_key("p", "f", {"lr": 0.1, "dim": 9}, seed=1, share=0.5),
        checkpoint_key("p", "g", {"lr": 0.1, "dim": 8}, seed=1, share=0.5),
        checkpoint_key("p", "f", {"lr": 0.1, "dim": 8}, seed=2, share=0.5),
        checkpoint_key("p", "f", {"lr": 0.1, "dim": 8}, seed=1, share=1.0),
        checkpoint_key("q", "f", {"lr": 0.1, "dim": 8}, seed=1, share=0.5),
    ]
    assert len({key, *others}) == 6
