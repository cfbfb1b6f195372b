"""Lead a search through its three stages: what each one tries, and how the search is opened and closed."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from optuna.trial import TrialState
from pydantic import JsonValue

from recsys import ledger
from recsys.errors import NotFound, NoTime
from recsys.records import Action, Plan, Study, Transfer, TrialResult, dump, parse, to_json
from recsys.settings import Line
from recsys.store import Store
from recsys.studies import key
from recsys.tuning import cases, findings, hindsight, past
from recsys.tuning.accounts import spending, stage_gains
from recsys.tuning.agreement import agreements
from recsys.tuning.block import block
from recsys.tuning.contract import Contract
from recsys.tuning.control import said, transferred
from recsys.tuning.ending import ending
from recsys.tuning.luck import luck
from recsys.tuning.outcomes import CLOSED, Progress
from recsys.tuning.promotion import STAGES, contenders, entries, is_incumbent
from recsys.tuning.ranking import Standing, identity
from recsys.tuning.readings import check_past
from recsys.tuning.refresh import Room, room
from recsys.tuning.rungs import fitted
from recsys.tuning.space import search_space
from recsys.tuning.tiers import Tiers
from recsys.tuning.trials import Reservation, Trials

log = logging.getLogger(__name__)

SILENCE_S = 60.0  # after which a worker is taken for dead: it gives a sign after each epoch, though not every second


def open_study(line: Line, store: Store, plan: Plan, studies: str, *, now: datetime | None = None) -> None:
    """Create the study of a plan to search, set its seconds aside, and start its clock.

    A study that is opened again before it was closed keeps its trials and gets its whole budget once more: whoever
    opens it again wants it to end. A closed one stays as it is.

    Args:
        line: Whose search.
        store: The line's part of the store.
        plan: What `decide` gave.
        studies: Path of a journal file, or URL of a database.
        now: When that is; None: now.

    Raises:
        LineError: The line's space is not a part of its families', or its past names what they do not have today.
        NoTime: The search would not end before the line's next feature refresh; nothing was opened.
    """
    if not plan.action.searches or _closed(store, plan):
        return
    search_space(line)
    check_past(line)
    now = now or datetime.now(UTC)
    try:
        found = room(line, plan, now)
    except NoTime as late:
        _tell_put_off(store, plan, late)
        raise
    until = found.until.timestamp() if found.until else None
    Trials.create(plan, studies, Reservation(seconds=found.seconds, until=until))
    _tell_opened(store, plan, found, now)
    log.info("study %s opened: %s", plan.plan_id, found.because)


def jobs(line: Line, store: Store, plan: Plan, stage: str, studies: str) -> list[dict[str, int]]:
    """Begin a stage: end the ones before it, list what it tries, and say which workers it needs.

    Call it once before the workers of each stage start, and never beside them; calling it again after it died does no
    harm.

    Args:
        line: Whose search.
        store: The line's part of the store.
        plan: What `decide` gave.
        stage: One of `STAGES`.
        studies: Where the study lies.

    Returns:
        One entry a worker; none where nothing is left to try.

    Raises:
        ValueError: The study has not been opened, or there is no such stage.
    """
    check_stage(stage)
    if not plan.action.searches or _closed(store, plan):
        return []
    line, trials = fitted(line, plan), Trials.load(plan, studies)
    at = STAGES.index(stage)
    for earlier in STAGES[:at]:
        trials.end_stage(earlier, because=f"the stage {stage} began")
    for own in STAGES[at:]:  # a worker of an earlier stage may have been lost on a rung above it
        trials.take_back(own, because=f"the stage {stage} began anew")
    drawn = stage == "screen" and plan.action is Action.RETUNE
    tiers = _tiers(line, store, plan) if drawn else None
    apart = block(line, store, plan, search_space(line, plan)) if drawn else []
    trials.enter(stage, entries(line, plan, stage, trials.results(), tiers=tiers, block=apart))
    n_workers = min(line.search.workers, len(trials.of(stage, TrialState.WAITING)))
    log.info("stage %s of %s: %d workers", stage, plan.plan_id, n_workers)
    return [{"worker": number} for number in range(n_workers)]


def leave(plan: Plan, studies: str) -> None:
    """Put what runs back on its list, because somebody has ended the search and with it all of its workers.

    Args:
        plan: What `decide` gave.
        studies: Where the study lies.

    Raises:
        ValueError: The study has not been opened.
    """
    trials = Trials.load(plan, studies)
    for stage in STAGES:
        trials.take_back(stage, because="the search was ended by hand")


def check_left(plan: Plan, studies: str) -> None:
    """Make sure that nothing works on a search, as far as can be seen from here: it may be on other machines.

    Args:
        plan: What `decide` gave.
        studies: Where the study lies.

    Raises:
        ValueError: A trial has given a sign of life within the last `SILENCE_S` seconds, or nobody can tell, because
            no studies can lie or be read there.
    """
    trials = Trials.find(plan, studies)
    ago = trials.seen_s_ago() if trials else None
    if ago is not None and ago < SILENCE_S:
        raise ValueError(
            f"nothing may work any more on the search that is taken up, but a trial of {plan.plan_id} gave a sign of "
            f"life {ago:.0f} s ago. Where its worker was killed, wait until that is {SILENCE_S:.0f} s ago."
        )


def close(line: Line, store: Store, plan: Plan, studies: str) -> Study:
    """End the study, whatever became of its workers, and keep the record of what it did.

    Args:
        line: Whose search.
        store: The line's part of the store.
        plan: What `decide` gave.
        studies: Where the study lies.

    Returns:
        The record, which also lies in the store; that of an earlier call where there was one.

    Raises:
        ValueError: The study has not been opened.
    """
    if found := _closed(store, plan):
        return found
    line = fitted(line, plan)
    closed = _searched(line, store, plan, studies) if plan.action.searches else _not_searched(plan)
    for entry in store.list(key(plan.plan_id, "checkpoints/")):
        store.delete(entry.key)
    if plan.action.searches:
        findings.keep(line, store, closed)
        cases.sweep(store)
        _tell_ledger(store, closed)
    # The record comes last: where it lies, a later call takes the study for closed and does nothing of the above.
    store.put(key(plan.plan_id, "study.json"), to_json(closed))
    log.info("study %s closed: %s", plan.plan_id, closed.ended)
    return closed


def progress(plan: Plan, studies: str) -> list[Progress]:
    """Say how far each stage of a search that has begun has come.

    Raises:
        ValueError: The study has not been opened.
    """
    return Trials.load(plan, studies).progress()


def study(store: Store, plan_id: str) -> Study:
    """Give the record of a closed study.

    Raises:
        NotFound: There is no such study, or it has not been closed.
    """
    at = key(plan_id, "study.json")
    return parse(Study, at, store.get(at).body)


def check_stage(stage: str) -> None:
    """Refuse a name that is no stage's.

    Raises:
        ValueError: It is none.
    """
    if stage not in STAGES:
        raise ValueError(f"stage must be one of {STAGES} but is {stage!r}.")


def _tiers(line: Line, store: Store, plan: Plan) -> Tiers | None:
    """Say what the trials of a cold search may not vary; one that starts from a past may vary everything."""
    space, evidence = search_space(line, plan), past.everything(store)
    if line.search.warm and past.recall(line, store, plan, space, evidence).studies:
        return None
    return Tiers.of(space, plan, past.before(store, plan, evidence))


def _closed(store: Store, plan: Plan) -> Study | None:
    try:
        return study(store, plan.plan_id)
    except NotFound:
        return None


def _searched(line: Line, store: Store, plan: Plan, studies: str) -> Study:
    trials = Trials.load(plan, studies)
    evidence = past.before(store, plan)
    contract = Contract(line, plan, trials, evidence)
    for stage in STAGES:
        trials.end_stage(stage, because=CLOSED)
    results = trials.results()
    plateau = trials.plateau
    transfer = transferred(plan, results)
    found = Study(
        plan=plan,
        trials=tuple(results),
        seconds=trials.taken_s,
        ended="",
        incumbent_misses=_incumbent_misses(plan, results),
        reserved_s=trials.reservation.seconds,
        spending=spending(trials.all(), plateau_at=plateau.at if plateau else None),
        stages=stage_gains(plan, results),
        transfer=transfer,
    )
    searches = [*evidence, findings.found_by(line, store, found)]
    found = replace(found, agreements=agreements(line, [search.trials for search in searches]))
    told = [
        ending(contract, plan, trials, results),
        _agreed(found),
        hindsight.said(trials.all()),
        _weights_said(plan, transfer),
    ]
    return replace(found, ended=" ".join(filter(None, told)))


def _agreed(found: Study) -> str:
    """Say in one sentence how far the rungs ranked alike; nothing where no configuration has ended on two."""
    because = [agreement.because for agreement in found.agreements if agreement.configurations]
    return f"Ranks agreed, by Kendall's tau-b, {'; '.join(because)}." if because else ""


def _incumbent_misses(plan: Plan, results: Sequence[TrialResult]) -> tuple[str, ...]:
    own = identity(plan.family, plan.configuration)
    missed = (r.infeasible for r in results if r.over_budget and identity(r.family, r.configuration) == own)
    return next(missed, ())


def _not_searched(plan: Plan) -> Study:
    ended = f"A plan for {plan.action} searches nothing."
    return Study(plan=plan, trials=(), seconds=0.0, ended=ended, incumbent_misses=())


def _weights_said(plan: Plan, transfer: Transfer | None) -> str:
    """Say in one sentence what the incumbent's weights were worth, or why nothing began from them."""
    if transfer:
        return said(transfer)
    return f"Every training began cold, because {plan.cold_because}." if plan.cold_because else ""


def _gained(plan: Plan, ranked: Sequence[Standing], results: Sequence[TrialResult]) -> dict[str, JsonValue]:
    """Say what the best configuration gained over the incumbent's beside it, and how much luck there was in that.

    Returns:
        `relative_gain`, a share, 0 where the incumbent's is the best, and `rivals` and `noise`; nothing without it.
    """
    own = next((standing for standing in ranked if is_incumbent(plan, standing)), None)
    if own is None or own.ndcg_at_10 <= 0:
        return {}
    chosen = luck(ranked, results, own.ndcg_at_10)
    gain = ranked[0].ndcg_at_10 / own.ndcg_at_10 - 1
    return {"relative_gain": gain, "rivals": chosen.rivals, "noise": chosen.noise}


def _tell_put_off(store: Store, plan: Plan, late: NoTime) -> None:
    evidence: dict[str, JsonValue] = {
        "plan_id": plan.plan_id,
        "budget_s": plan.budget_s,
        "ends": late.ends.isoformat(),
        "refresh": late.refresh.isoformat(),
    }
    name = f"put-off-{plan.plan_id}-{late.refresh:%Y%m%dT%H%M%S}"
    ledger.append(store, ledger.Entry(what="put off", who=plan.by, why=str(late), evidence=evidence, id=name))


def _tell_opened(store: Store, plan: Plan, found: Room, now: datetime) -> None:
    evidence: dict[str, JsonValue] = {
        "plan_id": plan.plan_id,
        "reserved_s": found.seconds,
        "budget_s": plan.budget_s,
        "until": found.until.isoformat() if found.until else None,
    }
    why = f"The search {plan.plan_id} was opened. {found.because}"
    name = f"opened-{plan.plan_id}-{now:%Y%m%dT%H%M%S}"
    ledger.append(store, ledger.Entry(what="opened", who=plan.by, why=why, evidence=evidence, id=name))


def _tell_ledger(store: Store, closed: Study) -> None:
    plan, best = closed.plan, contenders(closed.plan, closed.trials)
    evidence: dict[str, JsonValue] = {
        "plan_id": plan.plan_id,
        "dataset_id": plan.dataset_id,
        "as_of": plan.as_of.isoformat(),
        "trials": dict(Counter(trial.state for trial in closed.trials)),
        "infeasible": sum(bool(trial.infeasible) for trial in closed.trials),
        "unsound": sum(trial.unsound for trial in closed.trials),
        "agreements": [dump(agreement) for agreement in closed.agreements],
        "duplicates": sum(bool(trial.reused) for trial in closed.trials),
        "incumbent_misses": list(closed.incumbent_misses),
        "seconds": closed.seconds,
        "budget_s": plan.budget_s,
        "reserved_s": closed.reserved_s,
        "spending": {part.cause: part.seconds for part in closed.spending},
        "saved_s": sum(part.saved_s for part in closed.spending),
        "stages": [dump(stage) for stage in closed.stages],
    }
    evidence |= _gained(plan, best, closed.trials)
    if plan.weights:
        evidence["weights"] = dump(plan.weights)
    if closed.transfer:
        evidence["transfer"] = dump(closed.transfer)
    if best:
        evidence |= {"best_family": best[0].family, "best_ndcg_at_10": best[0].ndcg_at_10, "best_stage": best[0].stage}
    misses = f" The incumbent misses the line's own budgets: {'; '.join(closed.incumbent_misses)}."
    ledger.append(
        store,
        ledger.Entry(
            what="searched",
            who=plan.by,
            why=closed.ended + (misses if closed.incumbent_misses else ""),
            evidence=evidence,
            id=f"searched-{plan.plan_id}",
        ),
    )
