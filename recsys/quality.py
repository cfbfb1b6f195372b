"""Check that a candidate is better than the incumbent, or no worse by more than the line trades for speed or size."""

from dataclasses import dataclass

from recsys.records import Check, Comparison, Estimate, Look, Outcome, Paired
from recsys.settings import Gate
from recsys.significance import ABSOLUTE, RELATIVE, Tails, estimate, tails

_SMALLEST = 1e-12  # level of an interval that is shown although nothing may be spent


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """What a candidate gains over the incumbent, with the interval that agrees with the gate's test."""

    found: Estimate  # in NDCG@10 of superiority, as a share of the incumbent's of non-inferiority
    margin: float
    p: Tails
    look: Look
    superiority: bool

    @classmethod
    def of(cls, gate: Gate, paired: Paired, look: Look) -> "Gain":
        """Test what was measured at the level that the look may spend."""
        superiority = gate.quality == "superiority"
        scale, margin = (ABSOLUTE, gate.min_ndcg_gain) if superiority else (RELATIVE, -gate.max_ndcg_loss)
        return cls(
            found=estimate(paired, scale, level=max(look.level, _SMALLEST)),
            margin=margin,
            p=tails(paired, scale, margin),
            look=look,
            superiority=superiority,
        )

    @property
    def outcome(self) -> Outcome:
        """Say whether the margin is shown to be exceeded, shown not to be, or neither."""
        if self.p.better <= self.look.level and self.found.low >= self.margin:
            return Outcome.PASS
        if self.p.worse <= self.look.level and self.found.high <= self.margin:
            return Outcome.FAIL
        return Outcome.INCONCLUSIVE

    def __str__(self) -> str:
        """Write the change and its interval."""
        return f"{self.say(self.found.value)} [{self.say(self.found.low)}, {self.say(self.found.high)}]"

    def say(self, number: float) -> str:
        """Write a number in the unit of the change."""
        return f"{number:+.4f}" if self.superiority else f"{number:+.2%}"


def gain(gate: Gate, comparison: Comparison) -> Gain | None:
    """Give what the candidate gains; None where the comparison says too little to test it.

    Args:
        gate: The line's margin, and whether it is of superiority or non-inferiority.
        comparison: What was measured.
    """
    paired, look = comparison.paired, comparison.look
    if paired is None or look is None or (gate.quality == "non-inferiority" and not paired.first[1]):
        return None
    return Gain.of(gate, paired, look)


def check(gate: Gate, comparison: Comparison) -> Check:
    """Check the gain against the line's margin, at the level that this look at the holdout may spend.

    Args:
        gate: The line's margin, and whether it is of superiority or non-inferiority.
        comparison: What was measured.
    """
    found = gain(gate, comparison)
    if found is None:
        return Check(name="quality", outcome=Outcome.INCONCLUSIVE, because=_untested(comparison))
    return Check(
        name="quality",
        outcome=found.outcome,
        because=(
            f"NDCG@10 changes by {found} from {comparison.incumbent.ndcg_at_10.value:.4f}, and the interval must lie "
            f"above {found.say(found.margin)}: p is {found.p.better:.2g}, and look {found.look.number} at a holdout "
            f"may spend {found.look.level:.2g} of a year's {found.look.budget:g}. "
            "No search has seen this holdout, so its winner looks no better here than it is."
        ),
        evidence={
            "value": found.found.value,
            "low": found.found.low,
            "high": found.found.high,
            "limit": found.margin,
            "p": found.p.better,
            "level": found.look.level,
            "look": found.look.number,
        },
    )


def _untested(comparison: Comparison) -> str:
    if comparison.paired is None or comparison.look is None:
        return "The comparison was made before looks at holdouts were counted, so the candidate must be measured again."
    return "The incumbent's NDCG@10 is 0, and no share of it can be lost."
