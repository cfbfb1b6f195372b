"""Tell how long others had our core, so that what is timed on a crowded machine can be told from the crowd."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Clock = Callable[[], int]
"""Nanoseconds that only ever grow."""


@contextmanager
def run_delay() -> Iterator[Clock]:
    """Open a clock of how long this thread was ready to run while others had its core (Linux's schedstat).

    It must be read by the thread that opened it, and stands still where the kernel keeps none.
    """
    try:
        file = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
    except OSError:
        yield lambda: 0
        return
    try:
        yield lambda: int(os.pread(file, 64, 0).split()[1])
    finally:
        os.close(file)
