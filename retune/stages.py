"""List the loop's stages in the order of its flow; each takes records, does one thing, and gives a record.

The DAGs and the command line call these functions and no others. Heavy libraries are imported where a stage begins, so
that importing this module costs nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from pydantic import JsonValue

from recsys.errors import NoCandidate, NotFound, Unsound
from recsys.records import (
    Ablation,
    AblationPlan,
    Action,
    Answer,
    Attribution,
    Batch,
    Bundle,
    Candidate,
    CheckedBatch,
    Comparison,
    Configuration,
    Dataset,
    DriftVerdict,
    Override,
    Plan,
    Release,
    Review,
    Study,
    TableVersion,
    TrialResult,
    Verdict,
    WatchVerdict,
)
from recsys.settings import Line, read_line, store_url, studies_url
from retune.lines import check_search, file_named, file_of

if TYPE_CHECKING:
    from recsys.store import Store
    from recsys.tuning import Attempt
    from retune.edits import Edited

SEARCH_STAGES = ("screen", "refine", "confirm")

HEAVY_MODULES = ("torch", "torch.onnx", "onnxscript", "optuna", "great_expectations", "evidently")
"""What stages import that takes seconds; a process that forks its workers may import it once for all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A line with the places where its objects and studies lie."""

    line: Line
    store: "Store"  # the line's part of it
    studies: str  # path of a journal file, or URL of a database


def site(name: str, *, probe: bool = True) -> Site:
    """Open the line called `name` where the environment says that things lie.

    Args:
        name: The line.
        probe: Whether the store must show at once that it honours conditional writes, for which it must be written to.
            Who only looks passes False, and then needs no more than to read.

    Raises:
        LineError: The line's file is missing or wrong.
        StoreError: The store cannot be reached or ignores conditional writes.
    """
    from recsys.store import open_store

    line = read_line(file_of(name))
    return Site(line=line, store=open_store(store_url(), probe=probe).under(line.name), studies=studies_url())


# --- feedback


def pull(site: Site, *, as_of: datetime) -> Batch:
    """Read the objects that have landed since the last commit.

    Raises:
        LineError: The line could never be searched; better said now than when its first search begins.
        NoFeedback: Nothing new can be read; what could not be read is in quarantine.
    """
    from recsys import feedback

    check_search(site.line)
    return feedback.pull(site.line, site.store, as_of=as_of)


def check(site: Site, batch: Batch) -> CheckedBatch:
    """Put into quarantine the rows that break the line's contract.

    Raises:
        RefusedBatch: The contract is broken for the whole batch.
    """
    import expectations

    return expectations.check(site.line, site.store, batch)


def commit(site: Site, checked: CheckedBatch) -> TableVersion:
    """Add the accepted rows to the feedback table, exactly once however often it is called."""
    from recsys import feedback

    return feedback.commit(site.line, site.store, checked)


def freeze(site: Site, version: TableVersion) -> Dataset:
    """Snapshot the table as a dataset; the same content gives the same dataset.

    Raises:
        NoFeedback: There are too few events to split.
    """
    from recsys import dataset

    return dataset.freeze(site.line, site.store, version)


def baseline(site: Site, dataset: Dataset, *, by: str) -> Release:
    """Make sure that there is an incumbent: the popularity baseline, unless the channel names a release already."""
    from recsys import release

    return release.install_baseline(site.line, site.store, dataset, by=by)


# --- drift and decision


def newest_dataset(site: Site, dataset_id: str | None = None) -> Dataset:
    """Give the dataset called `dataset_id`, or the newest.

    Raises:
        NoFeedback: There is none.
    """
    from recsys import dataset

    return dataset.dataset(site.store, dataset_id)


def judge(site: Site, dataset: Dataset) -> DriftVerdict:
    """Compare the newest window with what the incumbent was made from.

    Raises:
        NoRelease: The channel is empty.
    """
    from monitoring import drift

    return drift.judge(site.line, site.store, dataset)


def watch(site: Site, *, by: str, as_of: datetime) -> WatchVerdict:
    """Compare what became of what the release in production served with the release before it.

    Raises:
        NoRelease: The channel is empty.
    """
    from monitoring import watch

    return watch.judge(site.line, site.store, by=by, as_of=as_of)


def take_back(site: Site, verdict: WatchVerdict) -> Release | None:
    """Put the release before back into production, if the verdict says so; None: nothing was to be moved."""
    from monitoring import watch

    return watch.take_back(site.line, site.store, verdict)


def decide(
    site: Site,
    verdict: DriftVerdict,
    *,
    by: str,
    reason: str | None = None,
    action: Action | None = None,
    family: str | None = None,
    configuration: Configuration | None = None,
    budget_s: float | None = None,
    nonce: str = "",
) -> Plan:
    """Choose between nothing, a refit, sentinels and a retune; `action` overrides by hand and then needs a `reason`.

    Args:
        site: The line and its places.
        verdict: What drift found.
        by: Who decides; a person, or `schedule`.
        reason: Why a person overrides.
        action: What the person wants; None leaves it to the verdict, the incumbent's age and the budget.
        family: Family of the configuration to refit; None: the incumbent's.
        configuration: What to refit; None: the incumbent's.
        budget_s: Seconds the search may take; None: the line's.
        nonce: Tells apart plans for the same dataset and incumbent, such as the id of a manual run.

    Raises:
        ValueError: An argument is wrong, or `RETUNE_STUDIES` is; better said before a decision is recorded.
        LineError: The line cannot be searched.
    """
    from recsys import tuning

    tuning.check_studies(site.studies)
    with file_named(site.line):
        return tuning.decide(
            site.line,
            site.store,
            verdict,
            by=by,
            reason=reason,
            action=action,
            family=family,
            configuration=configuration,
            budget_s=budget_s,
            nonce=nonce,
        )


# --- search


def open_search(site: Site, plan: Plan) -> None:
    """Create the plan's study, set its seconds aside, and start its clock.

    Raises:
        NoTime: The search would not end before the line's next feature refresh.
        LineError: The line cannot be searched.
    """
    from recsys import tuning

    with file_named(site.line):
        tuning.open_study(site.line, site.store, plan, site.studies)


def jobs(site: Site, plan: Plan, stage: str) -> list[dict[str, int]]:
    """End the stages before, list what this one tries, and say which workers it needs, one entry each.

    Raises:
        LineError: The line cannot be searched any more.
    """
    from recsys import tuning

    with file_named(site.line):
        return tuning.jobs(site.line, site.store, plan, stage, site.studies)


def work(
    site: Site,
    plan: Plan,
    stage: str,
    *,
    owner: "Attempt",
    on_trial: Callable[[TrialResult], None] | None = None,
) -> list[TrialResult]:
    """Run trials of `stage` until its list or the budget ends.

    Raises:
        LineError: The line cannot be searched any more.
    """
    from recsys import tuning

    with file_named(site.line):
        return tuning.work(site.line, site.store, plan, stage, site.studies, owner=owner, on_trial=on_trial)


def close_search(site: Site, plan: Plan) -> Study:
    """End the study: no trial stays running, and the record says what was tried and why it ended."""
    from recsys import tuning

    return tuning.close(site.line, site.store, plan, site.studies)


def open_plan(site: Site, plan_id: str) -> Plan:
    """Give a plan whose search has not come to its end, so that it can be taken up again.

    Raises:
        ValueError: There is no such plan, nothing of it is left to do, or something still works on it.
    """
    from recsys import studies, tuning

    try:
        plan = tuning.plan(site.store, plan_id)
    except NotFound as error:
        waiting = [each.plan_id for each in studies.unclosed(site.store)]
        rule = f"must be one of {', '.join(waiting)}, but" if waiting else "must be open, but none is, and"
        raise ValueError(f"the plan of {site.line.name} {rule} none is called {plan_id!r}.") from error
    if plan.action is Action.NOTHING:
        raise ValueError(f"the plan must be one to search or to refit, but {plan_id} decided to do nothing.")
    try:
        chosen = tuning.candidate(site.store, plan_id)
    except NoCandidate:
        tuning.check_left(plan, site.studies)
        return plan
    raise ValueError(
        f"the plan's search must be open, but that of {plan_id} was closed and has the candidate {chosen.candidate_id}."
    )


def leave_search(site: Site, plan: Plan) -> None:
    """Put what runs back on its list, because somebody has ended the search and with it all of its workers."""
    from recsys import tuning

    tuning.leave(plan, site.studies)


def newest_search(site: Site) -> Plan:
    """Give the plan of the newest search whose findings are kept.

    Raises:
        NotFound: There is none.
    """
    from recsys import tuning

    return tuning.plan(site.store, tuning.newest_search(site.store))


def review(site: Site, plan: Plan, *, by: str | None = None) -> Review:
    """Say what all searches up to that of `plan` tell of what the line searches, and propose changes of it.

    Args:
        site: The line and its places.
        plan: Of the newest search that counts.
        by: Who asks for it; None: who planned the search.

    Raises:
        NotFound: Nothing of a search is kept.
        LineError: The line cannot be searched any more.
    """
    from recsys import tuning

    with file_named(site.line):
        return tuning.review(site.line, site.store, plan, by=by)


def apply_review(site: Site, plan: Plan, *, by: str, only: str | None = None, reason: str | None = None) -> "Edited":
    """Write what the kept review of `plan` proposes into the line's file; the ledger says who did.

    Args:
        site: The line and its places.
        plan: Whose review.
        by: Who applies it.
        only: The name of one proposal; None: all.
        reason: Why, in the person's words; None: the proposals' own reasons.

    Raises:
        NotFound: There is no such review.
        ValueError: There is no such proposal.
        LineError: The file has changed since, or would be wrong.
    """
    from recsys import ledger, tuning
    from retune import edits

    edited = edits.apply(file_of(site.line.name), tuning.kept_review(site.store, plan.plan_id), only=only)
    if edited.applied:
        why = reason or " ".join(proposal.because for proposal in edited.applied)
        names = [proposal.name for proposal in edited.applied]
        evidence: dict[str, JsonValue] = {"plan_id": plan.plan_id, "proposals": [*names], "diff": edited.diff}
        ledger.append(site.store, ledger.Entry(what="edited", who=by, why=why, evidence=evidence))
    return edited


def plan_ablation(
    site: Site,
    *,
    by: str,
    release_id: str | None = None,
    of_candidate: bool = False,
    dataset_id: str | None = None,
    seeds: int | None = None,
    budget_s: float | None = None,
) -> AblationPlan:
    """Say what there is to take apart in a release, and how it is measured; the same question gives the same plan.

    Args:
        site: The line and its places.
        by: Who asks.
        release_id: A release, or a bundle that was held; None: what is in production.
        of_candidate: Take the newest candidate instead.
        dataset_id: On which data; None: the newest.
        seeds: Trainings of each variant; None: as many as the line confirms with, at least 2.
        budget_s: Seconds that trials may run; None: the line's.

    Raises:
        ValueError: An argument is wrong, or `RETUNE_STUDIES` is.
        NoRelease: There is no such release, or none in production.
        NoCandidate: There is no candidate.
        NoFeedback: There is no such dataset.
    """
    from recsys import tuning

    tuning.check_studies(site.studies)
    return tuning.plan_ablation(
        site.line,
        site.store,
        by=by,
        release_id=release_id,
        of_candidate=of_candidate,
        dataset_id=dataset_id,
        seeds=seeds,
        budget_s=budget_s,
    )


def ablation_jobs(site: Site, plan: AblationPlan) -> list[dict[str, int]]:
    """Open the ablation's study and say which workers it needs, one entry each; none where it is known already.

    Raises:
        LineError: The line cannot be searched.
    """
    from recsys import tuning

    with file_named(site.line):
        return tuning.ablation_jobs(site.line, site.store, plan, site.studies)


def work_ablation(
    site: Site,
    plan: AblationPlan,
    *,
    owner: "Attempt",
    on_trial: Callable[[TrialResult], None] | None = None,
) -> list[TrialResult]:
    """Train the release's configuration without one component at a time, until the list or the budget ends."""
    from recsys import tuning

    with file_named(site.line):
        return tuning.work_ablation(site.line, site.store, plan, site.studies, owner=owner, on_trial=on_trial)


def close_ablation(site: Site, plan: AblationPlan) -> Ablation:
    """Say what each component is worth by what was trained, and keep it."""
    from recsys import tuning

    return tuning.close_ablation(site.line, site.store, plan, site.studies)


def choose(site: Site, plan: Plan) -> Candidate:
    """Pick the best confirmed configuration and refit it on everything before the holdout.

    Raises:
        NoCandidate: No feasible trial finished.
    """
    from recsys import tuning

    return tuning.choose(site.line, site.store, plan, site.studies)


# --- promotion


def newest_candidate(site: Site, plan_id: str | None = None) -> Candidate:
    """Give the candidate of `plan_id`, or the newest.

    Raises:
        NoCandidate: There is none.
    """
    from recsys import tuning

    return tuning.candidate(site.store, plan_id)


def package(site: Site, candidate: Candidate) -> Bundle:
    """Export, check and quantise the candidate into an immutable bundle.

    Raises:
        BadBundle: The exported graph does not score as the network does.
    """
    from recsys import export

    return export.package(site.line, site.store, candidate)


def measure(
    site: Site, bundle: Bundle, *, by: str, again: str | None = None, override: Override | None = None
) -> Comparison:
    """Measure the bundle and the incumbent on the same locked holdout, side by side; the ledger says who read it.

    Args:
        site: The line.
        bundle: The candidate's.
        by: Who asks.
        again: Why a release that was rolled back may come back; None: it may not.
        override: Who wants it released whatever the gate says, which the ledger has if it is refused here.

    Raises:
        Held: The bundle is what is in production, or was rolled back and may not come back, or is not sound. Nothing
            was measured of it, the holdout was not read, and the verdict is kept.
        ValueError: `again` says nothing.
    """
    from recsys import channel, gate, novelty, release, scorecard

    moves = channel.history(site.store)
    found = novelty.refusal(bundle, moves, by=by, again=again, overridden=override is not None)
    if found is None or not moves:
        try:
            return scorecard.measure(site.line, site.store, bundle, by=by)
        except Unsound as unsound:
            found = unsound.verdict
    verdict = gate.keep(site.line, site.store, found, dataset_id=bundle.dataset_id)
    release.require_pass(site.line, site.store, verdict, override)
    raise AssertionError("nobody overrides what is broken, or in production already")


def verdict(site: Site, release_id: str) -> Verdict:
    """Give the newest verdict on a bundle.

    Raises:
        NoRelease: It has not been judged.
    """
    from recsys import gate

    return gate.verdict(site.store, release_id)


def gate(site: Site, comparison: Comparison, *, by: str, again: str | None = None) -> Verdict:
    """Judge the comparison by the line's thresholds; `again` says why a release that was rolled back may come back.

    Raises:
        BadObject: The comparison is none of those of which the ledger says that they were measured.
    """
    from recsys import gate, measured

    measured.require(site.store, comparison)
    return gate.gate(site.line, site.store, comparison, by=by, again=again)


def release(site: Site, verdict: Verdict, *, answer: Answer | None = None, override: Override | None = None) -> Release:
    """Move the channel to the candidate, if the gate passes it or a person overrides that, and if people agree.

    Raises:
        Held: The verdict is not a pass and nobody may or does override it, or people did not approve.
        LostRace: Production has changed since the comparison.
    """
    from recsys import release

    return release.release(site.line, site.store, verdict, answer=answer, override=override)


def attribute(site: Site, release_id: str | None = None, *, by: str) -> Attribution:
    """Divide what a release gained over its predecessor among the knobs that changed; None: what is in production.

    Raises:
        NoRelease: There is no such release, or it was never measured against another.
        Forgotten: One of the two is of a family that is gone.
    """
    from recsys import attribution

    return attribution.attribute(site.line, site.store, release_id, by=by)


def rollback(site: Site, *, to: str | None, reason: str, by: str, nonce: str | None = None) -> Release:
    """Move the channel back to the previous release, or to `to`; once for each `nonce`, such as the id of a run.

    Raises:
        NoRelease: There is nothing to go back to, or `to` never passed the gate.
    """
    from recsys import release

    return release.rollback(site.line, site.store, to=to, reason=reason, by=by, nonce=nonce)
