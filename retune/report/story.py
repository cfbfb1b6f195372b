"""Tell what happened to a line, from what its part of the store holds and from nothing else, and sum it up."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby
from pathlib import PurePosixPath
from typing import Any, TypeVar, cast

import pyarrow as pa
import pyarrow.parquet as pq

from recsys import channel, ledger, metrics
from recsys.errors import NotFound
from recsys.receipts import Receipt
from recsys.records import (
    Bundle,
    Candidate,
    Comparison,
    Dataset,
    DriftVerdict,
    Estimate,
    Plan,
    Refusal,
    Release,
    Scorecard,
    Study,
    Verdict,
    dump,
    parse,
)
from recsys.settings import Line
from recsys.store import Store
from retune.report.chapters import Round, Story, Turn, fate

SEED = 0  # of the bootstrap

log = logging.getLogger(__name__)

Record = TypeVar("Record")


def tell(line: Line, store: Store, *, started: datetime | None = None) -> Story:
    """Read the story of `line`.

    Args:
        line: Whose budgets, thresholds and confidence the story is told with.
        store: The line's part of the store.
        started: Leaves out what was written earlier, by the wall clock; None: nothing.

    Raises:
        StoreError: The store cannot be read.
        BadObject: The channel, an entry of the ledger or a record cannot be read.
    """
    shelf = _Shelf(store, started)
    entries = ledger.read(store, since=started)
    bundles = shelf.all(Bundle, "releases/*/manifest.json", even_older=True)
    datasets = {found.dataset_id: found for found in shelf.all(Dataset, "datasets/*/dataset.json", even_older=True)}
    releases = _releases(channel.history(store), bundles, started)
    rounds = _rounds(shelf, datasets, bundles, releases, line.gate.confidence)
    arrivals = _arrivals(shelf, entries)
    frozen = [bool(entry.evidence["cache_hit"]) for entry in entries if entry.what == "frozen"]
    story = Story(
        line=line,
        turns=_with_moves(_turns(shelf, arrivals, datasets, rounds), arrivals, releases),
        releases=releases,
        cache_hits=sum(frozen),
        cache_misses=len(frozen) - sum(frozen),
    )
    log.info(
        "the story of %s: %d turns, %d decisions, %d released, %d held, %d refused",
        *(line.name, len(story.turns), len(story.rounds), len(story.promoted), len(story.held), len(story.refused)),
    )
    return story


def summary(story: Story) -> dict[str, Any]:
    """Give the figures of `story` in JSON's types.

    Returns:
        line: Its name.
        production: What the channel names.
        releases: Those that the loop made after the baseline.
        moves: Every move of the channel.
        held: Candidates that the gate did not pass.
        quarantined: What was refused.
        quality: Of what is in production, of popularity and of Markov on the same holdout; None where never measured.
        turns, searches, measured: One each, in order.
        datasets: How many were frozen anew (`misses`) and how many were found to exist (`hits`).
    """
    card, measured = story.proof or (None, None)
    references = measured.references if measured else {}
    return {
        "line": story.line.name,
        "production": dump(story.current) if story.current else None,
        "releases": [_promoted(found) for found in story.promoted],
        "moves": [dump(release) for release in story.releases],
        "held": [_held(found) for found in story.held],
        "quarantined": [dump(refusal) for refusal in story.refused],
        "quality": {
            "dataset_id": card.dataset_id if card else None,
            "release": _ndcg(card),
            "popularity": _ndcg(references.get("popularity")),
            "markov": _ndcg(references.get("markov")),
        },
        "turns": [_turn(turn) for turn in story.turns],
        "searches": [
            _searched(found.plan, found.study) for found in story.rounds if found.study and found.study.trials
        ],
        "measured": [_measured(found, found.comparison) for found in story.rounds if found.comparison],
        "datasets": {"hits": story.cache_hits, "misses": story.cache_misses},
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Arrival:
    """What came with the batches of one moment."""

    at: datetime | None = None  # wall clock of the first commit; None: nothing was committed
    events: int = 0
    refused: tuple[Refusal, ...] = ()


class _Shelf:
    """The records in a line's part of the store."""

    def __init__(self, store: Store, started: datetime | None) -> None:
        self._store = store
        self._started = started

    def all(self, kind: type[Record], pattern: str, *, even_older: bool = False) -> list[Record]:
        """Give the records whose keys match `pattern`, in the order in which they were written."""
        found = [
            entry
            for entry in self._store.list(pattern.partition("*")[0])
            if PurePosixPath(entry.key).match(pattern)
            and (even_older or self._started is None or entry.modified >= self._started)
        ]
        found.sort(key=lambda entry: entry.modified)
        return [parse(kind, entry.key, self._store.get(entry.key).body) for entry in found]

    def ndcg_per_case(self, card: Scorecard) -> pa.Table | None:
        """Give the columns `user` and `ndcg` of the evidence behind a scorecard, or None where it is gone."""
        try:
            body = self._store.get(card.per_case_key).body
        except NotFound:
            return None
        return pq.read_table(pa.BufferReader(body), columns=["user", "ndcg"])


def _releases(
    moves: Sequence[channel.Pointer], bundles: Sequence[Bundle], started: datetime | None
) -> tuple[Release, ...]:
    """Say of every move of the channel what it brought into production."""
    by_id = {bundle.release_id: bundle for bundle in bundles}
    return tuple(
        Release(
            release_id=move.release_id,
            generation=move.generation,
            previous=move.previous,
            replaced=move.replaced,
            family=by_id[move.release_id].family,
            dataset_id=by_id[move.release_id].dataset_id,
            reason=move.reason,
            by=move.by,
            at=move.at,
        )
        for move in moves
        if started is None or move.at >= started
    )


def _arrivals(shelf: _Shelf, entries: Sequence[ledger.Entry]) -> dict[datetime, _Arrival]:
    """Count for every moment the events that were committed, and list what was refused."""
    committed = {entry.evidence["batch_id"]: entry for entry in entries if entry.what == "committed"}
    receipts = sorted(shelf.all(Receipt, "receipts/*.json"), key=lambda receipt: receipt.as_of)
    arrivals = {}
    for as_of, group in groupby(receipts, key=lambda receipt: receipt.as_of):
        together = list(group)
        commits = [committed[i] for i in {receipt.batch_id for receipt in together} if i in committed]
        refused = {refusal.kept_at: refusal for receipt in together for refusal in receipt.refused}
        arrivals[as_of] = _Arrival(
            at=min((commit.at for commit in commits), default=None),
            events=sum(cast(int, commit.evidence["rows_added"]) for commit in commits),
            refused=tuple(refused[key] for key in sorted(refused)),
        )
    return arrivals


def _turns(
    shelf: _Shelf, arrivals: Mapping[datetime, _Arrival], datasets: Mapping[str, Dataset], rounds: Sequence[Round]
) -> list[Turn]:
    """Gather what happened by the moment it happened for; what is about a dataset belongs to that dataset's moment."""
    judged = shelf.all(DriftVerdict, "drift/*/*/*/verdict.json")
    judged.sort(key=lambda verdict: bool(verdict.columns))  # that there was nothing to compare tells less
    verdicts = {verdict.dataset_id: verdict for verdict in judged}
    new = {found.dataset_id for found in shelf.all(Dataset, "datasets/*/dataset.json")}
    told = new | verdicts.keys() | {found.plan.dataset_id for found in rounds}
    by_moment = {found.as_of: found for found in datasets.values() if found.dataset_id in told}
    turns = []
    for as_of in sorted(arrivals.keys() | by_moment.keys()):
        arrival = arrivals.get(as_of, _Arrival())
        dataset = by_moment.get(as_of)
        about = dataset.dataset_id if dataset else ""
        turns.append(
            Turn(
                as_of=as_of,
                events=arrival.events,
                refused=arrival.refused,
                dataset=dataset,
                drift=verdicts.get(about),
                rounds=tuple(found for found in rounds if found.plan.dataset_id == about),
            )
        )
    return turns


def _with_moves(
    turns: Sequence[Turn], arrivals: Mapping[datetime, _Arrival], releases: Sequence[Release]
) -> tuple[Turn, ...]:
    """Give each turn the moves that no round made: those between its commit and the next one, by the wall clock."""
    made = [found.release for turn in turns for found in turn.rounds]
    begins = {turn.as_of: arrivals[turn.as_of].at for turn in turns if turn.as_of in arrivals}
    moves: dict[datetime, list[Release]] = {}
    for release in releases:
        before = [as_of for as_of, at in begins.items() if at is not None and at <= release.at]
        if before and release not in made:
            moves.setdefault(max(before), []).append(release)
    return tuple(replace(turn, moves=tuple(moves.get(turn.as_of, ()))) for turn in turns)


def _rounds(
    shelf: _Shelf,
    datasets: Mapping[str, Dataset],
    bundles: Sequence[Bundle],
    releases: Sequence[Release],
    confidence: float,
) -> list[Round]:
    """Follow every plan through search, bundle, measurement and verdict to its release."""
    studies = {study.plan.plan_id: study for study in shelf.all(Study, "studies/*/study.json")}
    candidates = {found.plan_id: found for found in shelf.all(Candidate, "studies/*/candidate.json")}
    comparisons = {found.candidate.release_id: found for found in shelf.all(Comparison, "releases/*/comparison.json")}
    verdicts = {found.candidate: found for found in shelf.all(Verdict, "releases/*/verdict.json")}
    moves = {release.release_id: release for release in reversed(releases)}  # the first to each; later ones go back
    rounds = []
    for plan in shelf.all(Plan, "studies/*/plan.json"):
        candidate = candidates.get(plan.plan_id)
        bundle = _bundle_of(candidate, bundles) if candidate else None
        release_id = bundle.release_id if bundle else ""
        comparison = comparisons.get(release_id)
        rounds.append(
            Round(
                plan=plan,
                dataset=datasets.get(plan.dataset_id),
                study=studies.get(plan.plan_id),
                candidate=candidate,
                bundle=bundle,
                comparison=comparison,
                verdict=verdicts.get(release_id),
                release=moves.get(release_id),
                gains=_gains(shelf, comparison, confidence) if comparison else {},
            )
        )
    return rounds


def _bundle_of(candidate: Candidate, bundles: Sequence[Bundle]) -> Bundle | None:
    """Find the bundle of a candidate; the same model packaged before lies there under the earlier candidate's name."""
    own = next((bundle for bundle in bundles if bundle.candidate_id == candidate.candidate_id), None)
    made_of = (candidate.dataset_id, candidate.family, dict(candidate.configuration))
    return own or next(
        (bundle for bundle in bundles if (bundle.dataset_id, bundle.family, dict(bundle.configuration)) == made_of),
        None,
    )


def _gains(shelf: _Shelf, comparison: Comparison, confidence: float) -> dict[str, Estimate]:
    """Estimate what the candidate gains over each reference, the same users drawn for both."""
    gains = {}
    mine = shelf.ndcg_per_case(comparison.candidate)
    for name, card in comparison.references.items():
        theirs = shelf.ndcg_per_case(card)
        if mine is None or theirs is None or not mine["user"].equals(theirs["user"]):
            continue  # what is left to tell are the two intervals
        gain = mine["ndcg"].to_numpy() - theirs["ndcg"].to_numpy()
        low, high = metrics.interval(gain, mine["user"].to_numpy(), seed=SEED, level=confidence)
        gains[name] = Estimate(value=float(gain.mean()), low=low, high=high)
    return gains


# --- the summary


def _promoted(found: Round) -> dict[str, Any]:
    assert found.release is not None
    return {
        "release_id": found.release.release_id,
        "family": found.release.family,
        "generation": found.release.generation,
        "reason": found.release.reason,
        "ndcg_gain": dump(found.comparison.ndcg_gain) if found.comparison else None,
    }


def _held(found: Round) -> dict[str, Any]:
    assert found.verdict is not None
    return {
        "candidate": found.verdict.candidate,
        "outcome": str(found.verdict.outcome),
        "reasons": list(found.reasons),
    }


def _ndcg(card: Scorecard | None) -> dict[str, float] | None:
    if card is None:
        return None
    found = card.ndcg_at_10
    return {"ndcg_at_10": found.value, "low": found.low, "high": found.high}


def _turn(turn: Turn) -> dict[str, Any]:
    drift = turn.drift
    return {
        "as_of": turn.as_of.isoformat(),
        "events": turn.events,
        "refused": len(turn.refused),
        "dataset_id": turn.dataset.dataset_id if turn.dataset else None,
        "drifted": drift.drifted if drift else None,
        "moved": [column.column for column in drift.columns if column.drifted] if drift else [],
        "moves": [dump(move) for move in turn.moves],
        "decisions": [
            {"action": str(r.plan.action), "ending": str(r.ending), "because": r.plan.because} for r in turn.rounds
        ],
    }


def _searched(plan: Plan, study: Study) -> dict[str, Any]:
    return {
        "plan_id": plan.plan_id,
        "trials": dict(Counter(trial.stage for trial in study.trials)),
        "ends": dict(Counter(fate(trial) for trial in study.trials)),
        "seconds": study.seconds,
        "ended": study.ended,
        "incumbent_misses": list(study.incumbent_misses),
    }


def _measured(found: Round, comparison: Comparison) -> dict[str, Any]:
    card = comparison.candidate
    return {
        "release_id": card.release_id,
        "dataset_id": card.dataset_id,
        "ending": str(found.ending),
        "ndcg_at_10": dump(card.ndcg_at_10),
        "gain_over": {name: dump(gain) for name, gain in found.gains.items()},
        "size_bytes": card.size_bytes,
        "latency": [dump(result) for result in card.latency],
    }
