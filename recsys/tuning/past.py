"""Put together what earlier searches found as the past of a new one, in the terms of its space."""

import json
import logging
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution

from recsys import parts
from recsys.columns import ITEM
from recsys.dataset import dataset
from recsys.errors import BadObject, NoFeedback, NotFound
from recsys.models import FAMILIES
from recsys.records import Configuration, Evidence, Known, Plan, TrialEvidence, parse, to_json
from recsys.settings import Line, Past, Stage
from recsys.store import Store
from recsys.studies import key
from recsys.tuning.curves import Pair, earlier_pairs
from recsys.tuning.encoding import same
from recsys.tuning.evidence import COMPLETE, FAILED, INFEASIBLE, MOST, PRUNED, UNFINISHED, PastStudy, PastTrial, learned
from recsys.tuning.promotion import STAGES
from recsys.tuning.readings import edit, unseen
from recsys.tuning.space import FAMILY, Space, span

log = logging.getLogger(__name__)

FOLDER = "evidence/"
POPULAR = 500  # items whose shares are kept
HALVING_DAYS = 180.0  # after so many days of feedback a value is worth half
DRIFTED = 0.5  # Hellinger distance of the items' shares at which it is worth half, too


@dataclass(frozen=True, slots=True, kw_only=True)
class Recalled:
    """The past of a new search."""

    studies: tuple[PastStudy, ...]
    carried: tuple[str, ...]  # one sentence a study or family: what was carried over as it was, changed, and dropped


def recall(line: Line, store: Store, plan: Plan, space: Space, evidence: Sequence[Evidence] | None = None) -> Recalled:
    """Gather all that earlier searches of the line found, in the terms of the new one's space.

    Every study is there once. A value is worth less the older it is and the further the items' shares have drifted
    since; how much the past is worth altogether is for the new trials to say.

    Args:
        line: Says in `search.past` how old names and values read today.
        store: The line's part of the store.
        plan: Of the new search; its own evidence is left out.
        space: Where the new search looks.
        evidence: What all searches found, oldest first; None: it is read.
    """
    left: list[str] = []
    earlier = before(store, plan, everything(store, left=left) if evidence is None else evidence)
    known = assemble(earlier, space, line.search.past, asking=plan, now=popularity(store, plan.dataset_id))
    return replace(known, carried=(*left, *known.carried))


def assemble(
    evidence: Iterable[Evidence],
    space: Space,
    edits: Mapping[str, Past],
    *,
    asking: Plan | Evidence,
    now: Mapping[str, float],
) -> Recalled:
    """Put searches together as the past of who asks, a study each.

    Args:
        evidence: What they found, oldest first.
        space: Where the one who asks looks.
        edits: How old names and values read today, by the family's name of then.
        asking: The search for which they are the past, or the newest of them.
        now: Share of the interactions that popular items have in its dataset.
    """
    studies: list[PastStudy] = []
    told: list[str] = []
    for found in evidence:
        trials, sentence = carry(found, space, edits)
        told.append(sentence)
        if trials:
            studies.append(PastStudy(name=found.plan_id, trials=trials, doubt=doubt(found, asking, now)))
    return Recalled(studies=tuple(studies), carried=(*told, *_too_many(studies)))


def curves(line: Line, store: Store, plan: Plan, stage: str, evidence: Sequence[Evidence] | None = None) -> list[Pair]:
    """Gather what earlier searches' learning curves say of trials of `stage`, discounted as the past is.

    Args:
        line: Says what the stage gives a trial, and how old names and values read today.
        store: The line's part of the store.
        plan: Of the new search.
        stage: Whose trials.
        evidence: What all searches found, oldest first; None: it is read, a broken record being told and passed over.
    """
    now = popularity(store, plan.dataset_id)
    rung: Stage = getattr(line.search, stage)
    return earlier_pairs(
        before(store, plan, evidence), stage, rung, lambda found: doubt(found, plan, now), line.search.past
    )


def everything(store: Store, *, left: list[str] | None = None) -> list[Evidence]:
    """Read all evidence of a line that can be read, oldest first.

    A record that cannot be read is told in the log and passed over: it must not keep every later search from running.

    Args:
        store: The line's part of the store.
        left: Gets a sentence for each record that was passed over.
    """
    found = []
    for entry in store.list(FOLDER):
        try:
            found.append(parse(Evidence, entry.key, store.get(entry.key).body))
        except BadObject as error:
            log.warning("evidence is passed over: %s", error)
            if left is not None:
                left.append(f"{entry.key}: dropped, because it cannot be read.")
    return sorted(found, key=_age)


def remember(store: Store, plan: Plan, evidence: Iterable[Evidence]) -> None:
    """Write down what of the past there is when a plan is made: all of its workers see that, and nothing of later.

    Args:
        store: The line's part of the store.
        plan: Which.
        evidence: What searches have found until now.
    """
    found = list(evidence)
    known = Known(
        ended=tuple(one.plan_id for one in found if one.ended), open=tuple(one for one in found if not one.ended)
    )
    store.put(key(plan.plan_id, "past.json"), to_json(known))


def before(store: Store, plan: Plan, evidence: Sequence[Evidence] | None = None) -> list[Evidence]:
    """Give what searches before that of `plan` had found when it was made, oldest first.

    Args:
        store: The line's part of the store.
        plan: Of the new search.
        evidence: What all searches found, oldest first; None: it is read, a broken record being told and passed over.
    """
    kept = everything(store) if evidence is None else evidence
    earlier = [found for found in kept if found.plan_id != plan.plan_id and found.as_of <= plan.as_of]
    known = _known(store, plan)
    if known is None:
        return earlier
    ended = [found for found in earlier if found.plan_id in known.ended]
    return sorted([*ended, *(found for found in known.open if found.as_of <= plan.as_of)], key=_age)


def carry(found: Evidence, space: Space, edits: Mapping[str, Past]) -> tuple[tuple[PastTrial, ...], str]:
    """Write one search's findings in the terms of a space, and say in one sentence what became of them.

    Args:
        found: What the search left.
        space: Where another one looks.
        edits: How old names and values read today, by the family's name of then; those that the search had seen are
            not carried out again.

    Returns:
        Each configuration once, with what it showed in the last stage that it reached; and the sentence.
    """
    by_configuration: dict[str, list[TrialEvidence]] = defaultdict(list)
    left: Counter[str] = Counter()
    changed: Counter[str] = Counter()
    beside: Counter[str] = Counter()
    edits = unseen(edits, found)
    for finding in found.trials:
        if finding.state == UNFINISHED:
            left["their worker or their time was lost"] += 1
            continue
        family, configuration, edited = edit(edits.get(finding.family, Past()), finding.family, finding.configuration)
        if family not in space.families:
            left[f"{family} is not searched"] += 1
            continue
        parameters, changes = translate(space, family, configuration)
        for change in [*edited, *changes]:
            changed[change] += 1
        beside.update(name for name in parameters if _is_gone(space.distributions[name], parameters[name]))
        by_configuration[json.dumps(parameters, sort_keys=True)].append(finding)
    rebased = any(finding.gain is not None for finding in found.trials)
    trials = []
    for written, findings in by_configuration.items():
        made = _trial(json.loads(written), findings, rebased=rebased)
        if made.value is None and made.state in (COMPLETE, PRUNED):
            left["the incumbent has no score beside theirs"] += len(findings)
        else:
            trials.append(made)
    name = found.plan_id if found.ended else f"{found.plan_id}, which has not ended"
    kept = f"{name}: {len(trials)} {'configuration' if len(trials) == 1 else 'configurations'} carried over"
    notes = [f"{what} ({_counted(n)} changed)" for what, n in changed.items()]
    notes += [f"{what} is none of {span(space.distributions[what])} in {_counted(n)}" for what, n in beside.items()]
    notes += [f"{_counted(n)} dropped, because {why}" for why, n in left.items()]
    return tuple(trials), "; ".join([kept, *notes]) + "."


def translate(space: Space, family: str, configuration: Configuration) -> tuple[dict[str, Any], list[str]]:
    """Write a configuration of before as parameters of `space`, by Optuna's names.

    A parameter that it lacks had the family's default, because that is what the code did before there was such a
    parameter. One that the family no longer has is passed over. A value that may no longer be chosen stays what it was:
    it lies outside, and says what it says from there.

    Returns:
        The parameters, and what was changed to make them.
    """
    own = FAMILIES[family]
    changes = [
        f"{name} did not exist and amounted to {own.defaults[name]!r}"
        for name in own.space
        if name not in configuration
    ]
    changes += [f"{name} is gone" for name in configuration if name not in own.defaults]
    whole = {**own.defaults, **{name: value for name, value in configuration.items() if name in own.defaults}}
    searched = space.families[family]
    return {
        FAMILY: family,
        **{f"{family}.{name}": whole[name] for name in searched if own.matters(name, whole)},
    }, changes


def doubt(found: Evidence, asking: Plan | Evidence, now: Mapping[str, float]) -> float:
    """Say how much less a value of that search is worth than one of who asks: 1 or more."""
    age = max(0.0, (asking.as_of - found.as_of) / timedelta(days=1))
    moved = distance(found.popularity, now) if found.popularity and now else 0.0  # of a dataset that is gone: unknown
    return float(2.0 ** (age / HALVING_DAYS + moved / DRIFTED))


def distance(a: Mapping[str, float], b: Mapping[str, float]) -> float:
    """Give the Hellinger distance between items' shares, 0 to 1 (Deza and Deza 2016, section 14.1).

    >>> distance({"x": 0.5, "y": 0.5}, {"x": 0.5, "y": 0.5})
    0.0
    >>> distance({"x": 1.0}, {"y": 1.0})
    1.0
    """
    common = sum(math.sqrt(share * b.get(item, 0.0)) for item, share in a.items())
    left = math.sqrt(max(0.0, 1 - sum(a.values())) * max(0.0, 1 - sum(b.values())))  # what neither list names
    return math.sqrt(max(0.0, 1 - min(1.0, common + left)))


def popularity(store: Store, dataset_id: str) -> dict[str, float]:
    """Give the shares of a dataset's most popular items; none where the dataset is gone."""
    try:
        vocabulary = parts.read(store, dataset(store, dataset_id), "vocabulary.parquet")
    except (NoFeedback, NotFound):
        return {}
    items, events = vocabulary[ITEM].to_pylist(), vocabulary["events"].to_pylist()
    ranked = sorted(zip(items, events, strict=True), key=lambda pair: (-pair[1], pair[0]))
    total = sum(events) or 1
    return {item: times / total for item, times in ranked[:POPULAR]}


def _known(store: Store, plan: Plan) -> Known | None:
    """Read what there was when a plan was made; nothing for one that is still being made, or of an older version."""
    if not plan.plan_id:
        return None
    at = key(plan.plan_id, "past.json")
    try:
        return parse(Known, at, store.get(at).body)
    except NotFound:
        return None


def _too_many(studies: Sequence[PastStudy]) -> Iterable[str]:
    """Say which searches are learned from in part or not at all, because all of them hold too many configurations."""
    sizes = [len(study.trials) for study in studies]
    for study, size, count in zip(studies, sizes, learned(sizes, [study.doubt for study in studies]), strict=True):
        if count < size:
            yield (
                f"{study.name}: {count} of its {size} configurations are learned from, because all searches hold "
                f"{sum(sizes)} and no more than {MOST} are."
            )


def _trial(parameters: Mapping[str, Any], findings: Sequence[TrialEvidence], *, rebased: bool) -> PastTrial:
    """Take what the configuration showed in the last stage that it reached, as the mean over the seeds.

    What failed there with every seed has failed, and what may not be released with one of them may not be at all,
    whatever an earlier stage had promised.

    Args:
        parameters: By Optuna's names.
        findings: All that the search tells of it.
        rebased: Whether the search has differences to the incumbent. A score without one cannot stand beside them, so
            that of an earlier stage is taken that has one.
    """
    by_stage = [[f for f in findings if f.stage == stage] for stage in sorted(_stages(findings), key=STAGES.index)]
    seconds = sum(finding.seconds for finding in findings)
    if state := _barred(by_stage[-1]):
        return PastTrial(parameters=parameters, value=None, state=state, seconds=seconds)
    sound = [[f for f in reached if f.state in (COMPLETE, PRUNED)] for reached in reversed(by_stage)]
    shown = [[f for f in reached if f.state == COMPLETE] or reached for reached in sound if reached]
    valued = next((reached for reached in shown if _values(reached, rebased=rebased)), shown[0])
    values = _values(valued, rebased=rebased)
    return PastTrial(
        parameters=parameters,
        value=sum(values) / len(values) if values else None,
        state=valued[0].state,
        seconds=seconds,
    )


def _barred(reached: Sequence[TrialEvidence]) -> str:
    """Say how all came to nothing that a configuration did in the last stage it reached; empty: it did not."""
    if any(finding.state == INFEASIBLE for finding in reached):
        return INFEASIBLE
    return "" if any(finding.state in (COMPLETE, PRUNED) for finding in reached) else FAILED


def _is_gone(distribution: BaseDistribution, choice: object) -> bool:
    """Whether a value is no more among several choices; where there is only one, it is not searched at all."""
    if not isinstance(distribution, CategoricalDistribution) or distribution.single():
        return False
    return not any(same(choice, each) for each in distribution.choices)


def _stages(findings: Iterable[TrialEvidence]) -> set[str]:
    return {finding.stage for finding in findings}


def _values(findings: Sequence[TrialEvidence], *, rebased: bool) -> list[float]:
    """Give scores, or gains where there are any; those that hold what seeds do only where there are no others."""
    if not rebased:
        return [finding.ndcg_at_10 for finding in findings if finding.ndcg_at_10 is not None]
    gains = [finding for finding in findings if finding.gain is not None]
    fair = [finding for finding in gains if finding.paired] or gains
    return [finding.gain for finding in fair if finding.gain is not None]


def _age(evidence: Evidence) -> tuple[datetime, str]:
    return evidence.as_of, evidence.plan_id


def _counted(trials: int) -> str:
    return f"{trials} trial" if trials == 1 else f"{trials} trials"
