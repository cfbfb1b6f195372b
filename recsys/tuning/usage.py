"""Measure what a trial uses of the machine that it runs on: processor, memory, and the GPU where there is one."""

import resource
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from recsys.records import MIB

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_KIB = 1024  # bytes, the unit of both


@dataclass(slots=True)
class Meter:
    """What was used while it ran."""

    device: str
    used: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Measure what happens inside, in this process with all of its threads."""
        on_gpu = self.device != "cpu"
        if on_gpu:
            torch.cuda.init()  # type: ignore[no-untyped-call]  # the first trial of a worker is the first to ask for the GPU
            torch.cuda.reset_peak_memory_stats(self.device)
        stood_bytes, cpu_s = _begin_peak(), time.process_time()
        try:
            yield
        finally:
            self.used["cpu_s"] = round(time.process_time() - cpu_s, 4)
            self.used["rss_growth_mib"] = round(max(0, _peak_bytes() - stood_bytes) / MIB, 2)
            if on_gpu:
                self.used["gpu_peak_mib"] = round(torch.cuda.max_memory_allocated(self.device) / MIB, 2)

    def of_gpu(self, seconds: Mapping[str, float], causes: tuple[str, ...]) -> None:
        """Count the seconds in which the trial held the GPU: those of `causes`, whatever it did with it then."""
        if self.device != "cpu":
            self.used["gpu_s"] = round(sum(seconds.get(cause, 0.0) for cause in causes), 4)


def _begin_peak() -> int:
    """Forget the largest size of this process, where the system allows it, and give the size that it has now."""
    try:
        _RESET.write_text("5")  # proc(5): resets the peak resident set size
    except OSError:
        return _peak_bytes()  # then only what goes beyond all earlier trials is seen
    return _status_bytes("VmRSS") or _peak_bytes()


def _peak_bytes() -> int:
    """Give the largest size of this process since the peak was last forgotten."""
    if found := _status_bytes("VmHWM"):
        return found
    unit = 1 if sys.platform == "darwin" else _KIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _status_bytes(name: str) -> int | None:
    """Read a size from Linux's account of this process; None elsewhere."""
    try:
        lines = _STATUS.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * _KIB for line in lines if line.startswith(f"{name}:")), None)
