import pytest

from retune.lease import AlreadySupervised, Lease, Running, last_supervisor, running

NOTE = Running(pid=4711, url="http://127.0.0.1:8080", components={"scheduler": 4712}, restarts={"scheduler": 1})


def test_a_home_has_one_supervisor_and_the_second_is_told_who_it_is(tmp_path):
    lease = Lease.take(tmp_path / "home")
    lease.write(NOTE)
    with pytest.raises(AlreadySupervised, match="supervised already by process 4711 at http:"):
        Lease.take(tmp_path / "home")
    lease.give_back()
    Lease.take(tmp_path / "home").give_back()


def test_what_is_running_can_be_read_only_while_the_lease_is_held(tmp_path):
    assert running(tmp_path / "home") is None
    lease = Lease.take(tmp_path / "home")
    lease.write(NOTE)
    assert running(tmp_path / "home") == NOTE
    lease.give_back()
    assert running(tmp_path / "home") is None
    assert last_supervisor(tmp_path / "home") == NOTE
