from recsys.checkpoints import FILE
from recsys.store.memory import MemoryStore
from recsys.tuning.checkpoint import CarriedCheckpoint, checkpoint_key

KEY = "studies/p/checkpoints/k"


def save(carried, content):
    carried.folder.mkdir(exist_ok=True)
    (carried.folder / FILE).write_bytes(content)


def test_what_one_attempt_keeps_the_next_one_fetches(tmp_path):
    store = MemoryStore()
    first = CarriedCheckpoint(store, KEY, tmp_path / "a")
    first.fetch()  # there is nothing yet
    save(first, b"epoch 1")
    first.keep()

    second = CarriedCheckpoint(store, KEY, tmp_path / "b")
    second.fetch()
    assert (second.folder / FILE).read_bytes() == b"epoch 1"
    second.drop()
    assert list(store.list("")) == []


def test_every_epoch_is_copied_however_soon_it_follows_the_one_before(tmp_path):
    store = MemoryStore()
    carried = CarriedCheckpoint(store, KEY, tmp_path)
    for content in (b"epoch 1", b"epoch 2", b"epoch 3"):
        save(carried, content)
        carried.keep()
        assert store.get(KEY).body == content
    assert carried.seconds > 0


def test_a_key_names_the_entry_and_what_decides_its_training_and_nothing_else():
    key = checkpoint_key("p", "e", "f", {"lr": 0.1, "dim": 8}, seed=1, share=0.5)
    assert key.startswith("studies/p/checkpoints/")
    assert key == checkpoint_key("p", "e", "f", {"dim": 8, "lr": 0.1}, seed=1, share=0.5)
    others = [
        checkpoint_key("p", "e", "f", {"lr": 0.1, "dim": 9}, seed=1, share=0.5),
        checkpoint_key("p", "e", "g", {"lr": 0.1, "dim": 8}, seed=1, share=0.5),
        checkpoint_key("p", "e", "f", {"lr": 0.1, "dim": 8}, seed=2, share=0.5),
        checkpoint_key("p", "e", "f", {"lr": 0.1, "dim": 8}, seed=1, share=1.0),
        checkpoint_key("p", "twin", "f", {"lr": 0.1, "dim": 8}, seed=1, share=0.5),
        checkpoint_key("q", "e", "f", {"lr": 0.1, "dim": 8}, seed=1, share=0.5),
    ]
    assert len({key, *others}) == 7
