"""Propose configurations from what earlier searches found, as far as they prove right in the new one."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.search_space import intersection_search_space
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from recsys.tuning import arguments
from recsys.tuning.encoding import Encoding, Parameters, Points, gone_from
from recsys.tuning.evidence import LARGEST, PastStudy, learned, spread, standardised, thinned
from recsys.tuning.kernel import Vector
from recsys.tuning.outcomes import LOST, OUT_OF_TIME
from recsys.tuning.surrogate import Belief, Past, believe

log = logging.getLogger(__name__)

DRAWN, BEST_PAST, VARIED = 160, 40, 100  # candidates of each origin
BELIEVED = 0.6  # a correlation above this is as good as the whole past: what it expects is tried before what it doubts
OPTIMISM = 0.3  # deviations by which it may be wrong to the better, then
PROBED = 0.4  # share of the proposals that go to the kind of model tried least, where the past says nothing
COLD = 0.15  # a correlation below this is as good as none
CORRELATION = "warm:correlation"  # the system attribute that keeps how much the past said when a trial was proposed
EXPECTED = "warm:expected"  # likewise, what the past alone expected of the proposal, in its standard deviations


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
    >>> optuna.logging.set_verbosity(optuna.logging.WARNING)
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
        self._space = space
        self._candidates = candidates
        self._start, self._seed = arguments.whole("start", start), arguments.whole("seed", seed)
        self._gathered: dict[str, Past | None] = {}
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
        rng = np.random.default_rng([self._seed, trial.number])
        encoding = self._encoding(search_space)
        points, values, running = _trials(study, encoding, trial.number)
        past = self._past(encoding) if self._past_studies else None
        candidates = None if self._candidates is None else encoding.points(self._candidates)
        if past is None and len(values) < self._start:
            choice = encoding.draw(1, rng) if candidates is None else _fresh(candidates, points, running)
            return self._searched(encoding, rng.permutation(choice)[0], search_space)
        if candidates is None:
            candidates = draw_candidates(encoding, points, values, past, rng)
        candidates = _fresh(candidates, points, running)
        with np.errstate(over="ignore", invalid="ignore"):  # it is said below
            belief = foresee(points, values, running, candidates, encoding.categorical, past)
            gains = promise(belief, values, past)
        if not _finite(belief, gains):
            log.error(
                "trial %d of %s is drawn at random: what is believed of it is not finite",
                trial.number,
                study.study_name,
            )
            return self._searched(encoding, rng.permutation(candidates)[0], search_space)
        if len(values) and rng.random() < PROBED * (1 - (belief.correlation if past is not None else 0.0)):
            gains = np.where(_least_tried(encoding, points, running, candidates), gains, -np.inf)
        point = candidates[int(np.argmax(gains))]
        if past is not None:
            self.correlation = belief.correlation
            expected = float(past.model.expected(point[None])[0])
            study._storage.set_trial_system_attr(trial._trial_id, CORRELATION, belief.correlation)
            study._storage.set_trial_system_attr(trial._trial_id, EXPECTED, expected)
        return self._searched(encoding, point, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:  # noqa: ANN401  # as Optuna has it
        """Draw a parameter that the space does not have."""
        name = int.from_bytes(hashlib.sha256(param_name.encode()).digest()[:8], "big")
        state = int(np.random.SeedSequence([self._seed, trial.number, name]).generate_state(1)[0])
        return RandomSampler(seed=state).sample_independent(study, trial, param_name, param_distribution)

    def reseed_rng(self) -> None:
        """Do nothing: what is drawn follows from the number of the trial."""

    def _encoding(self, space: Mapping[str, BaseDistribution]) -> Encoding:
        distributions = {**space, **{name: distribution for name, (distribution, _) in self._settled.items()}}
        conditions = {name: pair for name, pair in self._conditions.items() if pair[0] in distributions}
        return Encoding(
            arguments.parents_first(distributions, conditions),
            conditions,
            {name: value for name, (_, value) in self._settled.items()},
            {name: scale for name, scale in self._scales.items() if name in distributions},
            gone_from(distributions, (trial.parameters for study in self._past_studies for trial in study.trials)),
        )

    def _past(self, encoding: Encoding) -> Past | None:
        """Gather the past once for each space: learning it takes longer than a proposal."""
        key = repr(sorted(encoding.distributions.items()))
        if key not in self._gathered:
            tried = {name for study in self._past_studies for trial in study.trials for name in trial.parameters}
            of_use = bool(tried & set(encoding.names))
            if not of_use:
                then, now = ", ".join(sorted(tried)) or "nothing", ", ".join(encoding.names)
                self._say_once(f"nothing of the past is used: it tried {then}, and what is searched is {now}")
            self._gathered[key] = gather(encoding, self._past_studies) if of_use else None
        return self._gathered[key]

    def _say_once(self, what: str) -> None:
        if what not in self._said:
            self._said.add(what)
            log.warning("%s", what)

    def _searched(self, encoding: Encoding, point: Vector, space: Mapping[str, BaseDistribution]) -> dict[str, Any]:
        """Give a value for every searched parameter; those that do not exist at the point are never asked for."""
        return {name: value for name, value in encoding.parameters(point).items() if name in space}


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


def _least_tried(encoding: Encoding, points: Points, running: Points, candidates: Points) -> NDArray[np.bool_]:
    """Mark the candidates of that kind which has been tried least; the first choice that others hang on tells kinds."""
    roots = {encoding.names.index(parent) for parent, _ in encoding.conditions.values() if parent in encoding.names}
    if not roots:
        return np.ones(len(candidates), bool)
    kinds = candidates[:, min(roots)]
    tried = np.concatenate([points, running])[:, min(roots)]
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


def _fresh(candidates: Points, points: Points, running: Points) -> Points:
    """Leave out what has been tried or is being tried, unless that is all there is."""
    known = {point.tobytes() for point in np.concatenate([points, running])}
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


def _trials(study: Study, encoding: Encoding, number: int) -> tuple[Points, Vector, Points]:
    """Give the points and values of what ended and the points of what runs; higher values are better."""
    sign = 1.0 if study.direction is StudyDirection.MAXIMIZE else -1.0
    ended: list[tuple[Parameters, float | None]] = []
    running: list[Parameters] = []
    for trial in study.get_trials(deepcopy=False):
        if trial.number == number or not trial.params or {LOST, OUT_OF_TIME} & set(trial.user_attrs):
            continue  # what did not come to its end for want of a worker or of time says nothing of its configuration
        if trial.state is TrialState.RUNNING:
            running.append(trial.params)
        elif trial.state.is_finished():
            ended.append((trial.params, _reached(trial, sign)))
    known = [value for _, value in ended if value is not None]
    worst = min(known, default=0.0)
    values = np.array([worst if value is None else value for _, value in ended])
    return encoding.points([parameters for parameters, _ in ended]), values, encoding.points(running)


def _reached(trial: FrozenTrial, sign: float) -> float | None:
    """Say what a trial showed: a pruned one what it had reached, one that failed or is too costly nothing.

    One that ended with a value that nothing can be computed with has failed, whatever its state says.
    """
    if any(excess > 0 for excess in trial.constraints.values()):
        return None
    steps = trial.intermediate_values
    if trial.state is TrialState.COMPLETE:
        value = trial.value
    else:
        value = steps[max(steps)] if trial.state is TrialState.PRUNED and steps else None
    return sign * value if value is not None and abs(value) < LARGEST else None  # NaN is not less than anything


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
