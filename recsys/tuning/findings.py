"""Write down what each search finds, in terms that later ones can use."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from recsys.errors import BadObject, Conflict, NotFound
from recsys.records import Evidence, Plan, Study, TrialEvidence, TrialResult, parse, to_json
from recsys.settings import Line, Stage
from recsys.store import Store
from recsys.tuning.curves import rebased
from recsys.tuning.evidence import COMPLETE, INFEASIBLE, UNFINISHED
from recsys.tuning.past import FOLDER, everything, popularity
from recsys.tuning.ranking import identity
from recsys.tuning.readings import in_force


def keep(line: Line, store: Store, closed: Study) -> None:
    """Write down what a closed search found; writing it twice does no harm."""
    _write(line, store, closed.plan, lambda: closed, None, ended=True)


def keep_so_far(
    line: Line,
    store: Store,
    plan: Plan,
    results: Callable[[], Sequence[TrialResult]],
    evidence: Sequence[Evidence] | None = None,
) -> None:
    """Write down what a search has found that has not ended, so that it is not lost where the search never does.

    Several workers may do so at once: what lies there in the end has all trials that were results for any of them. What
    a search found that was closed stays as it is.

    Args:
        line: Whose search, with the rungs of the plan.
        store: The line's part of the store.
        plan: Of the search.
        results: Gives its trials that have ended, as they are at the moment.
        evidence: What all searches found, oldest first; None: it is read.
    """

    def so_far() -> Study:
        return Study(plan=plan, trials=tuple(results()), seconds=0.0, ended="", incumbent_misses=())

    _write(line, store, plan, so_far, evidence, ended=False)


def found_by(line: Line, store: Store, closed: Study, shares: Mapping[str, float] | None = None) -> Evidence:
    """Say what a search found, in terms that later ones can use.

    Args:
        line: Whose search, with the rungs of the plan.
        store: The line's part of the store.
        closed: What the search came to, or has come to so far.
        shares: Of its dataset's most popular items; None: they are read.
    """
    return Evidence(
        plan_id=closed.plan.plan_id,
        dataset_id=closed.plan.dataset_id,
        as_of=closed.plan.as_of,
        family=closed.plan.family,
        configuration=closed.plan.configuration,
        popularity=popularity(store, closed.plan.dataset_id) if shares is None else shares,
        trials=tuple(_trials(line, closed)),
    )


def _write(
    line: Line,
    store: Store,
    plan: Plan,
    found: Callable[[], Study],
    evidence: Sequence[Evidence] | None,
    *,
    ended: bool,
) -> None:
    """Write down what a search found, over what it had found before; it has seen the edits that its first trial had."""
    at = f"{FOLDER}{plan.plan_id}.json"
    while True:
        there, known = _lying(store, at)
        if known is not None and known.ended and not ended:
            return
        edits = (
            known.edits if known else in_force(line.search.past, everything(store) if evidence is None else evidence)
        )
        # Asked for after what lies there was read, so that nobody's trials are written over.
        made = found_by(line, store, found(), known.popularity if known else None)
        made = replace(made, edits=edits, ended=ended)
        try:
            if there is None:
                store.create(at, to_json(made))
            else:
                store.replace(at, to_json(made), etag=there)
        except Conflict:
            continue
        return


def _lying(store: Store, at: str) -> tuple[str | None, Evidence | None]:
    """Read what a search has found so far: its ETag, and the record where it can be read."""
    try:
        there = store.get(at)
    except NotFound:
        return None, None
    try:
        return there.etag, parse(Evidence, at, there.body)
    except BadObject:
        return there.etag, None


def _trials(line: Line, closed: Study) -> Iterable[TrialEvidence]:
    own = identity(closed.plan.family, closed.plan.configuration)
    level: dict[str, dict[int, TrialResult]] = defaultdict(dict)
    for trial in closed.trials:
        if trial.state == COMPLETE and trial.ndcg_at_10 is not None and _identity(trial) == own:
            level[trial.stage].setdefault(trial.seed, trial)  # a later one may be a duplicate, without a curve
    for trial in closed.trials:
        if not trial.family or not trial.configuration:
            continue
        stage: Stage = getattr(line.search, trial.stage)
        beside = level[trial.stage].get(trial.seed, next(iter(level[trial.stage].values()), None))
        known = trial.ndcg_at_10 is not None and beside is not None and beside.ndcg_at_10 is not None
        yield TrialEvidence(
            stage=trial.stage,
            share=stage.share,
            epochs=stage.epochs,
            seed=trial.seed,
            family=trial.family,
            configuration=trial.configuration,
            state=INFEASIBLE if trial.infeasible else UNFINISHED if trial.unfinished else trial.state,
            ndcg_at_10=trial.ndcg_at_10,
            gain=trial.ndcg_at_10 - beside.ndcg_at_10 if known else None,  # type: ignore[operator,union-attr]
            paired=beside is None or beside.seed == trial.seed,
            seconds=trial.seconds,
            number=trial.number,
            training=trial.training,
            reused=trial.reused,
            curve=rebased(trial, beside) if beside else {},
            saved_s=trial.saved_s,
            units=trial.units,
            evaluation_s=trial.evaluation_s,
            constraints_s=trial.constraints_s,
            block=trial.block,
        )


def _identity(trial: TrialResult) -> str:
    return identity(trial.family, trial.configuration)
