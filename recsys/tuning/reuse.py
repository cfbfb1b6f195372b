"""Know the trial that is equal to an earlier one, on the same data and code, and so has that one's result."""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

from optuna.trial import FrozenTrial

import recsys
from recsys.models import COLD, Family
from recsys.records import Configuration, Evidence, TrialEvidence, TrialResult
from recsys.tuning.evidence import COMPLETE
from recsys.tuning.outcomes import result

CODE = (
    "models/*.py",
    "checkpoints.py",
    "dataset.py",
    "metrics.py",
    "parts.py",
    "sequences.py",
    "subsample.py",
    "thaw.py",
    "training.py",
    "transfer.py",
    "tuning/detectors.py",
    "tuning/objective.py",
)
"""What decides what a training comes to, below the package."""

LIBRARIES = ("numpy", "scipy", "torch")


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """The result of a training that has been done."""

    ndcg_at_10: float
    source: str  # the trial that it was trained in
    seconds: float  # that it had taken there, less what measuring the costs of serving had
    plan_id: str = ""  # of the search whose trial has it; empty: none


class Lookup(Protocol):
    """Whatever knows results of trainings."""

    def find(self, training: str) -> Known | None:
        """Give the result of the training called `training`, if it is known."""
        ...


class Results:
    """The results of earlier trials, of this study and of the line's closed ones.

    Args:
        plan_id: Of this study.
        trials: Gives the trials of this study as they are at the moment.
        evidence: What the line's closed searches found; what this study found is not looked for there.
    """

    def __init__(
        self, plan_id: str, trials: Callable[[], Sequence[FrozenTrial]], evidence: Iterable[Evidence] = ()
    ) -> None:
        self._plan_id, self._trials = plan_id, trials
        self._earlier: dict[str, Known] = {}
        for closed in evidence:
            for found in closed.trials if closed.plan_id != plan_id else ():
                if known := _known(found, closed.plan_id):
                    self._earlier.setdefault(found.training, known)

    def find(self, training: str) -> Known | None:
        """Give the result of the training called `training`, if a trial of it is complete.

        Nothing else is a result: what was pruned might have gone on beside other trials, and what failed may have
        failed for reasons that lie outside.
        """
        equal = (
            result(t) for t in self._trials() if t.state.is_finished() and t.user_attrs.get("training") == training
        )
        own = (known for found in equal if (known := _known(found, self._plan_id)))
        return next(own, None) or self._earlier.get(training)


def training_id(
    family: Family,
    configuration: Configuration,
    *,
    seed: int,
    share: float,
    dataset_id: str,
    device: str,
    weights: str = "",
) -> str:
    """Name a training by all that decides its result, and by nothing else.

    Left out are parameters that do nothing beside the others, the seed where nothing is drawn, and which stage asks: a
    configuration that is given half of 20 epochs is the one that is given all of 10.

    Args:
        family: Of the configuration.
        configuration: With the epochs that are trained.
        seed: Of the weights, the share and the order of batches.
        share: Part of the users to learn from.
        dataset_id: What is learned from and asked for.
        device: Where it is trained, because devices round differently.
        weights: SHA-256 of those that it begins from, where its configuration says that it begins from some.
    """
    drawn = seed if configuration["epochs"] or share < 1 else None  # what is only counted, on everything, draws nothing
    code = code_digest(Path(recsys.__path__[0]))
    begins = weights if configuration.get("start", COLD) != COLD else ""
    made_of = [family.name, family.effective(configuration), drawn, float(share), dataset_id, device, begins, code]
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:24]


@cache
def code_digest(package: Path) -> str:
    """Hash the code that trains and measures, and the versions of the libraries that calculate.

    Args:
        package: Folder below which the files of `CODE` lie.
    """
    digest = hashlib.sha256(json.dumps([version(library) for library in LIBRARIES]).encode())
    for file in sorted(found for pattern in CODE for found in package.glob(pattern)):
        body = file.read_bytes()
        digest.update(f"{file.relative_to(package).as_posix()} {len(body)}\n".encode() + body)
    return digest.hexdigest()


def _known(trial: TrialResult | TrialEvidence, plan_id: str) -> Known | None:
    if not trial.training or trial.state != COMPLETE or trial.ndcg_at_10 is None:
        return None
    return Known(
        ndcg_at_10=trial.ndcg_at_10,
        source=trial.reused or f"trial {trial.number} of {plan_id}",
        seconds=trial.saved_s if trial.reused else trial.seconds - trial.constraints_s,
        plan_id=plan_id,
    )
