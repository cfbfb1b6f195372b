import os
import subprocess
import sys
import textwrap
import uuid

import psutil
import pytest

from retune.guardian import KEEP_MARKS, MARK, end_marked, marked

# A worker that forks a task, which leaves the process group as Airflow's tasks do, and renames itself as they do.
FAMILY = """
    import os, time
    from setproctitle import setproctitle
    if os.fork() == 0:
        os.setsid()
        setproctitle("a title that is far longer than the command line " * 200)
        os.fork()
    os.write(1, b"ready\\n")
    time.sleep(600)
"""


@pytest.fixture
def mark():
    unique = f"{uuid.uuid4().hex}|"
    yield unique
    end_marked(unique)


def start_family(mark):
    family = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(FAMILY)],
        env={**os.environ, **KEEP_MARKS, MARK: mark},
        stdout=subprocess.PIPE,
    )
    for _ in range(3):
        assert family.stdout.readline() == b"ready\n"
    return family


def test_descendants_are_found_and_ended_outside_their_group_and_under_another_title(mark):
    family = start_family(mark)
    assert len(marked(mark)) == 3
    assert end_marked(mark) == 3
    assert marked(mark) == []
    family.wait(timeout=5)
    family.stdout.close()


def test_whoever_carries_another_mark_is_left_alone(mark):
    other = f"other-{mark}"
    family = start_family(other)
    assert end_marked(mark) == 0
    assert len(marked(other)) == 3
    assert end_marked(other) == 3
    family.wait(timeout=5)
    family.stdout.close()


def test_the_guardian_ends_everything_after_the_supervisor_was_killed(mark):
    supervisor = subprocess.Popen(
        [
            sys.executable,
            "-c",
            textwrap.dedent("""
                import os, subprocess, sys, time
                subprocess.Popen([sys.executable, "-m", "retune.guardian", sys.argv[1], str(os.getpid())],
                                 stdin=subprocess.PIPE, start_new_session=True)
                print("guarded", flush=True)
                time.sleep(600)
            """),
            mark,
        ],
        stdout=subprocess.PIPE,
    )
    assert supervisor.stdout.readline() == b"guarded\n"
    family = start_family(mark)
    processes = [psutil.Process(process.pid) for process in marked(mark)]
    supervisor.kill()
    _, alive = psutil.wait_procs(processes, timeout=20)
    assert alive == []
    supervisor.wait(timeout=5)
    family.wait(timeout=5)
    supervisor.stdout.close()
    family.stdout.close()
