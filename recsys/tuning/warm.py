"""Propose configurations from what earlier searches found, as far as they prove right in the new one."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.search_space import intersection_search_space
from optuna.trial import FrozenTrial

from recsys.tuning import arguments
from recsys.tuning.encoding import Encoding, Parameters, Points, gone_from
from recsys.tuning.evidence import PastStudy, learned, spread, standardised, thinned
from recsys.tuning.kernel import Vector
from recsys.tuning.observations import PROPOSAL, Observations, given, observe, tried
from recsys.tuning.surrogate import Belief, Past, believe

log = logging.getLogger(__name__)

DRAWN, BEST_PAST, VARIED = 160, 40, 100  # candidates of each origin
BELIEVED = 0.6  # a correlation above this is as good as the whole past: what it expects is tried before what it doubts
OPTIMISM = 0.3  # deviations by which it may be wrong to the better, then
PROBED = 0.4  # share of the proposals that go to the kind of model tried least, where the past says nothing
COLD = 0.15  # a correlation below this is as good as none
CORRELATION = "warm:correlation"  # the system attribute that keeps how much the past said when a trial was proposed
EXPECTED = "warm:expected"  # likewise, what the past alone expected of the trial, in its standard deviations

_TAKING = Lock()  # the threads of a process take their proposals one after another


class WarmSampler(BaseSampler):
    """An Optuna sampler with a past.

    It may be used with any study of one objective, to be maximised or minimised. Every proposal follows from the seed,
    the past and the trials of the study alone. Trials that are running count as if they had reached what is expected of
    them, so several workers do not propose the same.

    Of past values, greater ones are better whatever the study's direction: those of a search that minimised are given
    with the other sign. Values are compared within one earlier search alone, so each may have a scale of its own.

    Without a space, every parameter is drawn evenly and by itself until a trial is complete, and the past is not used.
    From then on, what all complete trials had in common, each in the same distribution, is proposed at once and from
    the past; a parameter that only some of them had is still drawn by itself.

    >>> import math
    >>> import optuna
    >>> from optuna.distributions import FloatDistribution, IntDistribution
    >>> from recsys.tuning import PastStudy, PastTrial, WarmSampler
    >>> def loss(trial, best):
    ...     rate, layers = trial.suggest_float("rate", 1e-4, 1.0, log=True), trial.suggest_int("layers", 1, 8)
    ...     return abs(math.log10(rate) - best) + 0.1 * abs(layers - 3)
    >>> before = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    >>> before.optimize(lambda trial: loss(trial, best=-2.0), n_trials=40)

    The losses of that study are to be small, so they become past values with the other sign. A search of the same
    parameters, whose best is not quite where it was, begins there:

    >>> past = PastStudy(
    ...     name="last week",
    ...     trials=tuple(PastTrial(parameters=trial.params, value=-trial.value) for trial in before.trials),
    ... )
    >>> space = {"rate": FloatDistribution(1e-4, 1.0, log=True), "layers": IntDistribution(1, 8)}
    >>> again = optuna.create_study(sampler=WarmSampler([past], space=space, seed=0))
    >>> again.optimize(lambda trial: loss(trial, best=-2.2), n_trials=5)
    >>> again.trials[0].value < 0.5
    True

    Args:
        past: Earlier searches, already carried into the new space; none for a cold search.
        space: Where to look, by parameter; None: what the study's own trials have in common.
        conditions: A parameter that exists only where another one, named first, has the value named second.
        settled: Parameters of the past that are searched no more, with the values that they have now.
        scales: Of parameters that have a list of numbers, what these numbers lie on.
        candidates: The only configurations that may be proposed, each once, where the space is not searched freely.
        start: Trials that a search without a past has drawn evenly, or was given, before it models anything.
        seed: Of everything that is drawn, 0 or more.

    Raises:
        TypeError: The past holds something else than `PastStudy`, or another argument is of another form.
        ValueError: Conditions or candidates name what is neither in the space nor settled, conditions go round in a
            ring, or there are candidates without a space.
    """

    def __init__(
        self,
        past: Sequence[PastStudy] = (),
        *,
        space: Mapping[str, BaseDistribution] | None = None,
        conditions: Mapping[str, tuple[str, Any]] | None = None,
        settled: Mapping[str, tuple[BaseDistribution, Any]] | None = None,
        scales: Mapping[str, BaseDistribution] | None = None,
        candidates: Sequence[Parameters] | None = None,
        start: int = 6,
        seed: int = 0,
    ) -> None:
        self._past_studies = arguments.studies(past)
        self._conditions = dict(conditions or {})
        self._settled = dict(settled or {})
        self._scales = dict(scales or {})
        arguments.check(space, self._conditions, self._settled, candidates)
        self._now = {name: value for name, (_, value) in self._settled.items()}
        self._space = space
        self._candidates = candidates
        self._start, self._seed = arguments.whole("start", start), arguments.whole("seed", seed)
        self._gathered: dict[str, Past | None] = {}
        self._listed: dict[str, dict[bytes, Parameters]] = {}
        self._said: set[str] = set()
        self.correlation: float | None = None
        """How much the past said of the study at the last proposal, 0 to 1; None without a past or a proposal."""

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Give the space that all parameters are proposed for at once."""
        if self._space is not None:
            return dict(self._space)
        common = intersection_search_space(study.get_trials(deepcopy=False))
        return {name: d for name, d in common.items() if not d.single()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Propose all parameters of a trial."""
        if len(study.directions) != 1:
            raise ValueError(f"WarmSampler takes studies of one objective, but this one has {len(study.directions)}.")
        if not search_space:
            if self._past_studies:
                self._say_once("no space is given, so the past is not used before a trial is complete")
            return {}
        fixed = {name: value for name, value in given(trial).items() if name in search_space}
        whole = self._encoding(search_space)
        past = self._past(whole) if self._past_studies else None
        encoding = replace(whole, settled={**whole.settled, **fixed})
        ranked, correlation = self._ranked(study, trial, encoding, past)
        point = self._take(study, trial, encoding, list(ranked))
        proposed = {name: value for name, value in self._read(encoding, point).items() if name in search_space}
        if past is not None and correlation is not None and not proposed.keys() <= fixed.keys():
            self.correlation = correlation
            expected = float(past.model.expected(point[None])[0])
            study._storage.set_trial_system_attr(trial._trial_id, CORRELATION, correlation)
            study._storage.set_trial_system_attr(trial._trial_id, EXPECTED, expected)
        return proposed

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:  # noqa: ANN401  # as Optuna has it
        """Draw a parameter that the space does not have."""
        name = int.from_bytes(hashlib.sha256(param_name.encode()).digest()[:8], "big")
        state = int(np.random.SeedSequence([self._seed, trial.number, name]).generate_state(1)[0])
        return RandomSampler(seed=state).sample_independent(study, trial, param_name, param_distribution)

    def reseed_rng(self) -> None:
        """Do nothing: what is drawn follows from the number of the trial."""

    def _ranked(
        self, study: Study, trial: FrozenTrial, encoding: Encoding, past: Past | None
    ) -> tuple[Points, float | None]:
        """Put the points that may be proposed in the order in which they should be.

        Returns:
            The points, and how much the past says of the study; None where that was not asked.
        """
        rng = np.random.default_rng([self._seed, trial.number])
        seen = observe(study, encoding, trial.number, self._now)
        candidates = None if self._candidates is None else _allowed(encoding, self._candidates, given(trial))
        if past is None and len(seen.values) < self._start:
            choice = encoding.draw(1, rng) if candidates is None else _fresh(candidates, seen)
            return rng.permutation(choice), None
        if candidates is None:
            candidates = draw_candidates(encoding, seen.points, seen.values, past, rng)
        candidates = _fresh(candidates, seen)
        with np.errstate(over="ignore", invalid="ignore"):  # it is said below
            belief = foresee(seen.points, seen.values, seen.running, candidates, encoding.categorical, past)
            gains = promise(belief, seen.values, past)
        if not _finite(belief, gains):
            log.error(
                "trial %d of %s is drawn at random: what is believed of it is not finite",
                trial.number,
                study.study_name,
            )
            return rng.permutation(candidates), None
        if len(seen.values) and rng.random() < PROBED * (1 - (belief.correlation if past is not None else 0.0)):
            gains = np.where(_least_tried(encoding, seen, candidates), gains, -np.inf)
        return candidates[np.argsort(-gains, kind="stable")], belief.correlation

    def _take(self, study: Study, trial: FrozenTrial, encoding: Encoding, ranked: Sequence[Vector]) -> Vector:
        """Store the first of the points that no other trial has by now, so that all others see it.

        Storages know no write on condition. Of two workers who store the same at the same moment, the one with the
        later trial sees it afterwards, and takes what comes next.
        """
        with _TAKING:
            others = self._tried(study, trial, encoding)
            for point in ranked:
                if point.tobytes() in others.values():
                    continue
                self._store(study, trial, encoding, point)
                others = self._tried(study, trial, encoding)
                if not any(number < trial.number and other == point.tobytes() for number, other in others.items()):
                    return point
            self._store(study, trial, encoding, ranked[0])
            return ranked[0]

    def _tried(self, study: Study, trial: FrozenTrial, encoding: Encoding) -> dict[int, bytes]:
        """Give the points of all other trials, by number."""
        found = tried(study, but=trial.number)
        points = encoding.points([{**self._now, **parameters} for parameters in found.values()])
        return {number: point.tobytes() for number, point in zip(found, points, strict=True)}

    def _store(self, study: Study, trial: FrozenTrial, encoding: Encoding, point: Vector) -> None:
        study._storage.set_trial_system_attr(trial._trial_id, PROPOSAL, self._read(encoding, point))

    def _read(self, encoding: Encoding, point: Vector) -> dict[str, Any]:
        """Read a point as parameters; a candidate to the last digit as it was given, so that it is known again."""
        key = repr(sorted(encoding.distributions.items()))
        if key not in self._listed:
            listed = self._candidates or ()
            points = encoding.points(listed)
            self._listed[key] = {at.tobytes(): one for at, one in zip(points, listed, strict=True)}
        return {**encoding.parameters(point), **self._listed[key].get(point.tobytes(), {})}

    def _encoding(self, space: Mapping[str, BaseDistribution]) -> Encoding:
        distributions = {**space, **{name: distribution for name, (distribution, _) in self._settled.items()}}
        conditions = {name: pair for name, pair in self._conditions.items() if pair[0] in distributions}
        return Encoding(
            arguments.parents_first(distributions, conditions),
            conditions,
            self._now,
            {name: scale for name, scale in self._scales.items() if name in distributions},
            gone_from(distributions, (trial.parameters for study in self._past_studies for trial in study.trials)),
        )

    def _past(self, encoding: Encoding) -> Past | None:
        """Gather the past once for each space: learning it takes longer than a proposal."""
        key = repr(sorted(encoding.distributions.items()))
        if key not in self._gathered:
            then = {name for study in self._past_studies for trial in study.trials for name in trial.parameters}
            of_use = bool(then & set(encoding.names))
            if not of_use:
                past, now = ", ".join(sorted(then)) or "nothing", ", ".join(encoding.names)
                self._say_once(f"nothing of the past is used: it tried {past}, and what is searched is {now}")
            self._gathered[key] = gather(encoding, self._past_studies) if of_use else None
        return self._gathered[key]

    def _say_once(self, what: str) -> None:
        if what not in self._said:
            self._said.add(what)
            log.warning("%s", what)


def foresee(
    points: Points,
    values: Vector,
    running: Points,
    candidates: Points,
    categorical: NDArray[np.bool_],
    past: Past | None,
) -> Belief:
    """Say what to expect of each candidate, those under way being taken for ended as expected.

    Args:
        points: Of the trials that ended, shape [n, D].
        values: What they reached, higher is better, shape [n].
        running: Points of trials under way, shape [k, D].
        candidates: Shape [m, D].
        categorical: Which columns hold choices, shape [D].
        past: What is known from before, if anything.
    """
    if len(running):
        expected = believe(points, values, running, categorical, past=past)
        points, values = np.concatenate([points, running]), np.concatenate([values, expected.mean])
    return believe(points, _tamed(values, past), candidates, categorical, past=past)


def promise(belief: Belief, values: Vector, past: Past | None) -> Vector:
    """Say how much each candidate promises, shape [m].

    The expected improvement over a poor first trial is largest where least is known. With a past that predicts, that
    wastes the trials that matter most: the best ones are known already, and are tried in their order.
    """
    if not len(values):
        return belief.mean
    if past is not None and belief.correlation > BELIEVED:
        return belief.optimistic(OPTIMISM)
    return belief.improvement(float(values.max()))


def _finite(belief: Belief, gains: Vector) -> bool:
    """Whether a choice can be made by what is believed; where no explanation is left, all look alike."""
    return bool(len(belief.weights)) and bool(np.isfinite(gains).all())


def _least_tried(encoding: Encoding, seen: Observations, candidates: Points) -> NDArray[np.bool_]:
    """Mark the candidates of that kind which has been tried least; the first choice that others hang on tells kinds."""
    roots = {encoding.names.index(parent) for parent, _ in encoding.conditions.values() if parent in encoding.names}
    if not roots:
        return np.ones(len(candidates), bool)
    kinds = candidates[:, min(roots)]
    tried = np.concatenate([seen.points, seen.running])[:, min(roots)]
    counts = {kind: int((tried == kind).sum()) for kind in np.unique(kinds)}
    return np.asarray(kinds == min(counts, key=lambda kind: counts[kind]), bool)


def draw_candidates(
    encoding: Encoding, points: Points, values: Vector, past: Past | None, rng: np.random.Generator
) -> Points:
    """Draw points from the whole space, and near to the best of the past and of the new trials; none twice."""
    pieces, centres = [encoding.draw(DRAWN, rng)], []
    if len(points):
        centres.append(points[np.argsort(-values, kind="stable")[:5]])
    if past is not None:
        best, _ = encoding.possible(past.points[np.argsort(-past.values, kind="stable")[: 2 * BEST_PAST]])
        best = _unique(best)[:BEST_PAST]
        pieces.append(best)
        centres.append(best[np.argsort(-past.model.expected(best), kind="stable")[:5]])
    if centres:
        near = np.concatenate(centres)
        pieces.append(_varied(encoding, near[rng.integers(len(near), size=VARIED)], rng))
    return _unique(np.concatenate(pieces))


def _allowed(encoding: Encoding, candidates: Sequence[Parameters], fixed: Parameters) -> Points:
    """Give the candidates that have a trial's fixed parameters; where none has them, all of them with these instead."""
    agreeing = [one for one in candidates if all(one.get(name, value) == value for name, value in fixed.items())]
    return encoding.points(agreeing) if agreeing else _unique(encoding.tidy(encoding.points(candidates)))


def _fresh(candidates: Points, seen: Observations) -> Points:
    """Leave out what has been tried or is being tried, unless that is all there is."""
    known = {point.tobytes() for point in np.concatenate([seen.points, seen.running])}
    fresh = np.array([point.tobytes() not in known for point in candidates])
    return candidates[fresh] if fresh.any() else candidates


def _varied(encoding: Encoding, points: Points, rng: np.random.Generator) -> Points:
    """Change one to three parameters of each point."""
    drawn = encoding.draw(len(points), rng)
    step = points + rng.normal(0, 0.15, points.shape)
    moved = np.where(encoding.categorical, drawn, step)
    columns = rng.random(points.shape).argsort(1) < rng.integers(1, 4, len(points))[:, None]
    return encoding.tidy(np.where(columns & ~np.isnan(moved), moved, points))


def _unique(points: Points) -> Points:
    seen: dict[bytes, Vector] = {}
    for point in points:
        seen.setdefault(point.tobytes(), point)
    return np.array(list(seen.values())).reshape(-1, points.shape[1])


def _tamed(values: Vector, past: Past | None) -> Vector:
    """Draw values far below the middle nearer: how bad they are tells nothing of where the best lie."""
    if len(values) < 4:
        return values
    middle, width = float(np.median(values)), float(values.max() - np.median(values))
    if past is not None:
        width = max(width, past.scale)
    floor = middle - 1.5 * width
    if width <= 0:
        return values
    low = values < floor
    return np.where(low, floor - width * np.log1p(np.maximum(floor - values, 0) / width), values)


def gather(encoding: Encoding, studies: Sequence[PastStudy]) -> Past | None:
    """Put earlier searches together as a past; nothing where they tried nothing.

    Of searches that hold too many trials together, those that `learned` leaves are told in the log. What a trial is
    worth within its search is told from all of them.
    """
    points, values, searches, doubts, scales = [], [], [], [], []
    told = [study for study in studies if study.trials]
    sizes = [len(study.trials) for study in told]
    counts = learned(sizes, [study.doubt for study in told])
    for number, (study, count) in enumerate(zip(told, counts, strict=True)):
        if count < len(study.trials):
            log.info("%d of %d trials of %s are learned from", count, len(study.trials), study.name)
        if not count:
            continue
        worth = standardised(study.trials)
        few = thinned(worth, count)
        points.append(encoding.points([study.trials[n].parameters for n in few]))
        values.append(worth[few])
        searches.append(np.full(count, number))
        doubts.append(np.full(count, study.doubt))
        scales.append(spread(study.trials))
    if not points:
        return None
    known = [scale for scale in scales if scale]
    return Past(
        points=np.concatenate(points),
        values=np.concatenate(values),
        searches=np.concatenate(searches),
        doubts=np.concatenate(doubts),
        categorical=encoding.categorical,
        scale=float(np.exp(np.mean(np.log(known)))) if known else 1.0,
    )
