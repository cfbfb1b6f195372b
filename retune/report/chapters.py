"""Name the parts of a line's story: turns of its clock, the rounds in each, and how a round ended."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import chain

from recsys.records import (
    Action,
    Bundle,
    Candidate,
    Comparison,
    Dataset,
    DriftVerdict,
    Estimate,
    Outcome,
    Plan,
    Refusal,
    Release,
    Scorecard,
    Study,
    TrialResult,
    Verdict,
)
from recsys.settings import Line


class Ending(StrEnum):
    """How a round ended."""

    NOTHING = "nothing to do"
    NO_CANDIDATE = "no candidate"
    HELD = "held"
    RELEASED = "released"
    OPEN = "not ended"  # it still ran when the story was told, or a stage failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One decision and all that followed from it, as far as it came."""

    plan: Plan
    dataset: Dataset | None = None
    study: Study | None = None
    candidate: Candidate | None = None
    bundle: Bundle | None = None
    comparison: Comparison | None = None
    verdict: Verdict | None = None
    release: Release | None = None  # the move of the channel that it led to
    gains: Mapping[str, Estimate]  # NDCG@10 of the candidate less that of each reference, paired over users

    @property
    def references(self) -> Mapping[str, Scorecard]:
        """What popularity and Markov were worth on the candidate's holdout; nothing where that was not measured."""
        return self.comparison.references if self.comparison else {}

    def is_about(self, card: Scorecard) -> bool:
        """Whether `card` is the candidate's."""
        return self.comparison is not None and self.comparison.candidate.release_id == card.release_id

    @property
    def family(self) -> str:
        """The family of the candidate, or while there is none, that of the plan."""
        return self.candidate.family if self.candidate else self.plan.family

    @property
    def ending(self) -> Ending:
        """How it ended."""
        if self.plan.action is Action.NOTHING:
            return Ending.NOTHING
        if self.release is not None:
            return Ending.RELEASED
        if self.verdict is not None and self.verdict.outcome is not Outcome.PASS:
            return Ending.HELD
        if self.plan.action.searches and self.study is not None and self.candidate is None:
            return Ending.NO_CANDIDATE
        return Ending.OPEN

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it was held: what each check says that did not pass."""
        checks = self.verdict.checks if self.verdict else ()
        return tuple(check.because for check in checks if check.outcome is not Outcome.PASS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What came of one moment of the line's clock: what arrived, what it was frozen as, and what was done about it."""

    as_of: datetime
    events: int  # committed to the feedback table
    refused: tuple[Refusal, ...]
    dataset: Dataset | None = None
    drift: DriftVerdict | None = None
    rounds: tuple[Round, ...] = ()
    moves: tuple[Release, ...] = ()  # of the channel, that no round made: the baseline's, and rollbacks


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """All that happened to a line, in order."""

    line: Line
    turns: tuple[Turn, ...]
    releases: tuple[Release, ...]  # every move of the channel, the baseline's first
    cache_hits: int  # freezes whose content had been frozen before
    cache_misses: int

    @property
    def rounds(self) -> tuple[Round, ...]:
        """Every decision, in order."""
        return tuple(found for turn in self.turns for found in turn.rounds)

    @property
    def refused(self) -> tuple[Refusal, ...]:
        """Everything in quarantine, in order."""
        return tuple(found for turn in self.turns for found in turn.refused)

    @property
    def promoted(self) -> tuple[Round, ...]:
        """The rounds that moved the channel."""
        return tuple(found for found in self.rounds if found.ending is Ending.RELEASED)

    @property
    def held(self) -> tuple[Round, ...]:
        """The rounds whose candidate the gate did not pass."""
        return tuple(found for found in self.rounds if found.ending is Ending.HELD)

    @property
    def current(self) -> Release | None:
        """What is in production."""
        return self.releases[-1] if self.releases else None

    @property
    def proof(self) -> tuple[Scorecard, Round] | None:
        """What is known of the release in production: its scorecard, and the round in which it was measured.

        That is the round that released it; of the baseline, the newest round whose incumbent it was.
        """
        now = self.current.release_id if self.current else None
        measured = [(found, found.comparison) for found in reversed(self.rounds) if found.comparison]
        as_candidate = ((comparison.candidate, found) for found, comparison in measured)
        as_incumbent = ((comparison.incumbent, found) for found, comparison in measured)
        return next((known for known in chain(as_candidate, as_incumbent) if known[0].release_id == now), None)


def fate(trial: TrialResult) -> str:
    """Say how a trial ended: over budget or unsound before anything else, since that keeps it from being chosen."""
    if trial.infeasible:
        return "unsound" if trial.unsound else "over budget"
    return {"complete": "finished", "fail": "failed"}.get(trial.state, trial.state)
