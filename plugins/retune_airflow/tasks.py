"""Make a task of every stage: read what it needs from the run, call the stage, hand its record on as JSON.

`retune.stages` imports what is heavy where a stage begins, so the files that build DAGs stay quick to read.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, Context, TaskGroup, TriggerRule, get_current_context, task
from airflow.sdk.exceptions import AirflowSkipException

from recsys.errors import Forgotten, Held, NoFeedback, NoTime
from recsys.records import (
    AblationPlan,
    Action,
    Answer,
    Batch,
    Bundle,
    Candidate,
    CheckedBatch,
    Comparison,
    Dataset,
    Plan,
    Release,
    TableVersion,
    Verdict,
    WatchVerdict,
    dump,
    load,
)
from retune import stages
from retune_airflow import assets, runs

if TYPE_CHECKING:
    from recsys.tuning import Attempt

Json = Any
"""A record as JSON; while a DAG is built, the promise of one."""

GPU: dict[str, Any] = {"pool": "gpu", "queue": "gpu"}
"""Where whatever trains waits for its turn, on machines with a GPU where there are any."""


def _asked(context: Context, site: stages.Site) -> str | None:
    """Give the reason for the run, and refuse it if it was asked for what there is not.

    Of a run by hand, the ledger keeps who asked, why, and for what, once for each run.
    """
    from recsys import ledger

    runs.check_parameters(context)
    why = runs.reason(context)
    if why and (run := runs.nonce(context)):
        params = {name: given for name, given in context["params"].items() if name != "reason" and given is not None}
        dag = context["dag_run"].dag_id
        entry = ledger.Entry(
            what="asked",
            who=runs.by(context),
            why=why,
            evidence={"dag": dag, "run": run, "params": params},
            id=hashlib.sha256(f"{dag}|{run}".encode()).hexdigest()[:16],
        )
        ledger.append(site.store, entry)
    return why


@contextmanager
def _skipped(*nothing_to_do: type[Exception]) -> Iterator[None]:
    """Turn an answer that is no failure into a skipped task, with its reason."""
    try:
        yield
    except nothing_to_do as answer:
        raise AirflowSkipException(str(answer)) from answer


def _newest_dataset(context: Context, site: stages.Site, woken_by: Asset) -> Dataset:
    """Give the dataset that the run was asked for or woken with, else the newest; none yet skips the run."""
    named = runs.asked_for(context, "dataset_id", woken_by)
    with _skipped(*(() if named else (NoFeedback,))):  # one that is named and not there is a mistake
        return stages.newest_dataset(site, named)


def _owner() -> "Attempt":
    """Name this attempt of this task, to which the trials belong that it begins."""
    from recsys.tuning import Attempt

    instance = get_current_context()["ti"]
    return Attempt(run=instance.run_id, map_index=instance.map_index or 0, attempt=instance.try_number)


def _announced(line: str, moved: Release) -> Json:
    facts = {"release_id": moved.release_id, "generation": moved.generation, "replaced": moved.replaced}
    runs.emit(get_current_context(), assets.release(line), facts)
    return dump(moved)


# --- feedback


@task
def pull(line: str) -> Json:
    """Read the objects that have landed since the last commit; nothing new skips the run."""
    context = get_current_context()
    site = stages.site(line)
    _asked(context, site)
    with _skipped(NoFeedback):
        return dump(stages.pull(site, as_of=runs.as_of(context)))


@task
def check(line: str, batch: Json) -> Json:
    """Put into quarantine what breaks the line's contract; a batch that breaks it as a whole fails here."""
    return dump(stages.check(stages.site(line), load(Batch, batch)))


@task
def commit(line: str, checked: Json) -> Json:
    """Add the accepted rows to the feedback table, exactly once however often the task runs."""
    return dump(stages.commit(stages.site(line), load(CheckedBatch, checked)))


@task
def freeze(line: str, version: Json) -> Json:
    """Snapshot the table as a dataset; too little feedback to split skips the rest of the run."""
    with _skipped(NoFeedback):
        return dump(stages.freeze(stages.site(line), load(TableVersion, version)))


@task
def baseline(line: str, dataset: Json) -> Json:
    """Make sure that there is an incumbent, then announce the dataset."""
    context = get_current_context()
    frozen = load(Dataset, dataset)
    incumbent = stages.baseline(stages.site(line), frozen, by=runs.by(context))
    runs.emit(context, assets.dataset(line), {"dataset_id": frozen.dataset_id, "table_version": frozen.table_version})
    return dump(incumbent)


# --- drift


@task
def judge(line: str) -> Json:
    """Compare the newest window with what the incumbent was made from, and announce the verdict whatever it is."""
    context = get_current_context()
    site = stages.site(line)
    _asked(context, site)
    verdict = stages.judge(site, _newest_dataset(context, site, assets.dataset(line)))
    runs.emit(
        context,
        assets.drift(line),
        {
            "dataset_id": verdict.dataset_id,
            "release_id": verdict.release_id,
            "drifted": verdict.drifted,
            "because": verdict.because,
        },
    )
    return dump(verdict)


@task
def watch(line: str) -> Json:
    """Compare what the release in production did with the one before, and announce the verdict whatever it is."""
    context = get_current_context()
    site = stages.site(line)
    _asked(context, site)
    verdict = stages.watch(site, by=runs.by(context), as_of=runs.as_of(context))
    runs.emit(
        context,
        assets.watch(line),
        {
            "release_id": verdict.release_id,
            "generation": verdict.generation,
            "health": verdict.health.value,
            "because": verdict.because,
        },
    )
    return dump(verdict)


@task
def take_back(line: str, verdict: Json) -> Json:
    """Put the release before back into production, where the line says so and the verdict asks for it."""
    found = load(WatchVerdict, verdict)
    moved = stages.take_back(stages.site(line), found)
    if moved is None:
        raise AirflowSkipException(f"{found.health.value}: {found.because}")
    return _announced(line, moved)


# --- retune


@task
def decide(line: str) -> Json:
    """Choose what to do, or do what a person asks for; skips while there is no dataset."""
    context = get_current_context()
    site = stages.site(line)
    reason, asked = _asked(context, site), context["params"]
    plan = stages.decide(
        site,
        stages.judge(site, _newest_dataset(context, site, assets.drift(line))),
        by=runs.by(context),
        reason=reason,
        action=Action(asked["action"]) if asked["action"] else None,
        family=asked["family"],
        configuration=asked["configuration"],
        budget_s=asked["budget_s"],
        nonce=runs.nonce(context),
    )
    return dump(plan)


@task
def open_search(line: str, plan: Json) -> None:
    """Create the study and start its clock.

    A plan to do nothing skips the rest of the run, and so does a search that the line's feature refresh puts off.
    """
    decided = load(Plan, plan)
    if decided.action is Action.NOTHING:
        raise AirflowSkipException(decided.because)
    with _skipped(NoTime):
        stages.open_search(stages.site(line), decided)


def search(line: str, plan: Json) -> list[TaskGroup]:
    """Group the tasks of each stage of a search: one that counts the workers it needs, and the workers.

    A stage begins when all workers of the one before have ended, however they ended: a lost worker loses its trial and
    nothing else. Right behind the setup task, Airflow wants to see nothing but successes.
    """
    groups = []
    for number, stage in enumerate(stages.SEARCH_STAGES):
        with TaskGroup(stage, tooltip=f"stage {number + 1} of the search") as group:
            rule = TriggerRule.ALL_DONE if number else TriggerRule.ALL_SUCCESS
            counted = jobs.override(trigger_rule=rule)(line, plan, stage)
            work.partial(line=line, plan=plan, stage=stage).expand(job=counted)
        groups.append(group)
    return groups


@task
def jobs(line: str, plan: Json, stage: str) -> list[Json]:
    """Say which workers the stage needs: none for a refit."""
    return list(stages.jobs(stages.site(line), load(Plan, plan), stage))


@task(**GPU, map_index_template="{{ 'worker %d' % task_instance.map_index }}")
def work(line: str, plan: Json, stage: str, job: Json) -> list[Json]:
    """Run trials of the stage until its list or the budget ends; a later attempt takes up what an earlier one left."""
    return [dump(result) for result in stages.work(stages.site(line), load(Plan, plan), stage, owner=_owner())]


@task
def close_search(line: str, plan: Json) -> Json:
    """End the study, whatever became of its workers, so that no trial stays running."""
    study = stages.close_search(stages.site(line), load(Plan, plan))
    return {"plan_id": study.plan.plan_id, "trials": len(study.trials), "seconds": study.seconds, "ended": study.ended}


@task
def review(line: str, plan: Json) -> Json:
    """Say what all searches tell of what the line searches, and propose changes of it; a refit searched nothing."""
    searched = load(Plan, plan)
    if not searched.action.searches:
        raise AirflowSkipException(f"A plan for {searched.action} searches nothing.")
    made = stages.review(stages.site(line), searched)
    return {"plan_id": made.plan_id, "because": made.because, "proposals": [dump(each) for each in made.proposals]}


@task(**GPU)
def choose(line: str, plan: Json) -> Json:
    """Pick the best configuration, train it on everything before the holdout, and announce the candidate."""
    candidate = stages.choose(stages.site(line), load(Plan, plan))
    runs.emit(
        get_current_context(),
        assets.candidate(line),
        {"plan_id": candidate.plan_id, "candidate_id": candidate.candidate_id, "family": candidate.family},
    )
    return dump(candidate)


# --- promote


@task
def package(line: str) -> Json:
    """Export, check and quantise the candidate into an immutable bundle."""
    context = get_current_context()
    site = stages.site(line)
    runs.override(context)  # refused here, before anything is measured
    _asked(context, site)
    candidate: Candidate = stages.newest_candidate(site, runs.asked_for(context, "plan_id", assets.candidate(line)))
    return dump(stages.package(site, candidate))


@task
def measure(line: str, bundle: Json) -> Json:
    """Measure bundle and incumbent side by side on the same locked holdout; what is not sound or not new skips this."""
    context = get_current_context()
    again = runs.reason(context) if context["params"]["again"] else None
    with _skipped(Held):
        return dump(
            stages.measure(
                stages.site(line),
                load(Bundle, bundle),
                by=runs.by(context),
                again=again,
                override=runs.override(context),
            )
        )


@task
def gate(line: str, comparison: Json) -> Json:
    """Judge the comparison by the line's thresholds."""
    context = get_current_context()
    again = runs.reason(context) if context["params"]["again"] else None
    return dump(stages.gate(stages.site(line), load(Comparison, comparison), by=runs.by(context), again=again))


@task(trigger_rule=TriggerRule.NONE_FAILED)  # where nobody is to be asked, `approve` is skipped
def release(line: str, verdict: Json | None, answer: Json | None = None) -> Json:
    """Move production to the candidate and announce it; one that the gate or people hold skips this."""
    if verdict is None:
        raise AirflowSkipException(
            "Nothing was measured, so there is no verdict to release by; the task measure says why."
        )
    with _skipped(Held):
        moved = stages.release(
            stages.site(line),
            load(Verdict, verdict),
            answer=load(Answer, answer) if answer else None,
            override=runs.override(get_current_context()),
        )
    return _announced(line, moved)


@task
def attribute(line: str, released: Json) -> Json:
    """Divide what the release gained among the knobs that changed, by what the searches have measured already.

    It is skipped where the predecessor is of a family that is gone: the release stands all the same.
    """
    moved = load(Release, released)
    by = runs.by(get_current_context())
    with _skipped(Forgotten):
        found = stages.attribute(stages.site(line), moved.release_id, by=by)
    return {"release_id": found.release_id, "predecessor": found.predecessor, "because": found.because}


# --- ablate


@task
def plan_ablation(line: str) -> Json:
    """Say what there is to take apart and how it is measured; the same question gives the same plan."""
    context = get_current_context()
    site = stages.site(line)
    _asked(context, site)
    asked = context["params"]
    plan = stages.plan_ablation(
        site,
        by=runs.by(context),
        release_id=asked["release_id"],
        of_candidate=bool(asked["candidate"]),
        dataset_id=asked["dataset_id"],
        seeds=asked["seeds"],
        budget_s=asked["budget_s"],
    )
    return dump(plan)


@task
def ablation_jobs(line: str, plan: Json) -> list[Json]:
    """Open the study and say which workers it needs: none where the answer is known."""
    return list(stages.ablation_jobs(stages.site(line), load(AblationPlan, plan)))


@task(**GPU, map_index_template="{{ 'worker %d' % task_instance.map_index }}")
def work_ablation(line: str, plan: Json, job: Json) -> list[Json]:
    """Train variants until the list or the budget ends; a later attempt takes up what an earlier one left."""
    site, decided = stages.site(line), load(AblationPlan, plan)
    return [dump(result) for result in stages.work_ablation(site, decided, owner=_owner())]


@task
def close_ablation(line: str, plan: Json) -> Json:
    """Say what each component is worth, whatever became of the workers."""
    made = stages.close_ablation(stages.site(line), load(AblationPlan, plan))
    return {"plan_id": made.plan.plan_id, "of": made.plan.of, "seconds": made.seconds, "because": made.because}


# --- rollback


@task
def rollback(line: str) -> Json:
    """Move production back and announce what it serves now."""
    context = get_current_context()
    site = stages.site(line)
    moved = stages.rollback(
        site,
        to=context["params"]["to"],
        reason=str(_asked(context, site)),
        by=runs.by(context),
        nonce=runs.nonce(context),  # a second attempt goes no further back
    )
    return _announced(line, moved)
