"""Define what one trial of a search or an ablation did."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from recsys.records.values import Configuration
from recsys.records.weights import Covered


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What a trial used of the machine that it ran on."""

    cpu_s: float  # of all threads of its process
    waited_s: float  # from when it was listed until a worker began it
    rss_growth_mib: float  # how far its process grew at most beyond where it stood
    gpu_s: float | None = None  # in which it held the GPU, training and evaluating; None: there was none
    gpu_peak_mib: float | None = None  # memory of the GPU at most


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialResult:
    """One trial that ended, however it ended."""

    number: int
    stage: str
    state: str  # complete, pruned, fail
    family: str
    configuration: Configuration
    seed: int
    ndcg_at_10: float | None
    seconds: float
    infeasible: tuple[str, ...] = ()  # the line's budgets that it would miss, or what is unsound, with the numbers
    reason: str = ""  # why it was pruned or failed
    unfinished: bool = False  # its worker or its time was lost, which says nothing of its configuration
    training: str = ""  # names what was trained, on which data and by which code; trials of one name end alike
    reused: str = ""  # the earlier trial whose result this one was given, instead of being trained once more
    curve: Mapping[int, float] = field(default_factory=dict)  # NDCG@10 after each quarter of its training, if measured
    saved_s: float = 0.0  # what training and judging that one had taken
    units: float = 0.0  # share of the users times epochs trained here
    evaluation_s: float = 0.0  # of the seconds, those in which nothing was trained
    constraints_s: float = 0.0  # of these, those in which what serving costs was measured; 0: it was known
    use: Use | None = None  # None: its worker was lost, or of an older version
    block: str = ""  # run or repeat: it is of the block that tells interactions apart
    windows: tuple[float, ...] = ()  # NDCG@10 in each validation window, oldest first
    covered: Covered | None = None  # how much of it was taken over from the incumbent; None: it began cold

    @property
    def over_budget(self) -> bool:
        """Whether it was not trained, because serving it would cost too much."""
        return bool(self.infeasible) and not self.training

    @property
    def unsound(self) -> bool:
        """Whether it was trained, and what it learned is unsound."""
        return bool(self.infeasible and self.training)
