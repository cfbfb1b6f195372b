"""Rank the configurations that a stage tried, by their mean over the seeds that all of them have."""

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from recsys.models import FAMILIES
from recsys.records import Configuration, TrialResult
from recsys.tuning.evidence import COMPLETE


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What one configuration reached in one stage."""

    stage: str
    family: str
    configuration: Configuration
    ndcg_at_10: float  # mean over the seeds that it is compared on
    seeds: int  # how many those are
    first: int  # number of its first complete trial


def rank(results: Iterable[TrialResult], stage: str) -> list[Standing]:
    """Order the configurations of `stage` that have a complete trial: the best first, of equals the earlier.

    They are compared on the seeds with which all that are trained have a complete trial, because a budget may end a
    stage when only some have had the next seed, and a lucky seed of one is no merit. What is only counted comes out the
    same with every seed. Without a seed in common, each counts with its own.
    """
    by_key: dict[str, list[TrialResult]] = defaultdict(list)
    for result in results:
        if result.stage == stage and result.state == COMPLETE and result.ndcg_at_10 is not None:
            by_key[identity(result.family, result.configuration)].append(result)
    shared = _shared_seeds(by_key.values())
    standings = (_standing(stage, trials, shared) for trials in by_key.values())
    return sorted(standings, key=lambda s: (-s.ndcg_at_10, s.first))


def identity(family: str, configuration: Configuration) -> str:
    """Name a configuration, whatever the order of its keys and the values of what does nothing beside the others.

    >>> identity("markov", {"steps": 2, "decay": 0.5})
    '["markov", {"decay": 0.5, "steps": 2}]'
    >>> identity("sasrec", {"softmax": "full", "negatives": 64})
    '["sasrec", {"softmax": "full"}]'
    """
    effective = FAMILIES[family].effective(configuration) if family in FAMILIES else dict(configuration)
    return json.dumps([family, effective], sort_keys=True)


def _shared_seeds(tried: Iterable[list[TrialResult]]) -> set[int]:
    trained = [{trial.seed for trial in trials} for trials in tried if trials[0].configuration["epochs"]]
    return set.intersection(*trained) if trained else set()


def _standing(stage: str, trials: list[TrialResult], shared: set[int]) -> Standing:
    compared = [trial for trial in trials if trial.seed in shared] or trials
    values = [trial.ndcg_at_10 for trial in compared if trial.ndcg_at_10 is not None]
    return Standing(
        stage=stage,
        family=trials[0].family,
        configuration=trials[0].configuration,
        ndcg_at_10=sum(values) / len(values),
        seeds=len(values),
        first=min(trial.number for trial in trials),
    )
