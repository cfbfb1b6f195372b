"""What Airflow's own interface, its scheduler's sweep and the task `release` make of people's answers."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from threading import Event
from typing import Any

import httpx
import pytest
from airflow.api_fastapi.app import create_app, get_auth_manager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.jobs.job import Job
from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from sqlalchemy import select

from recsys import channel, decisions, ledger, looks, synthetic
from recsys.records import Action, Plan
from recsys.settings import lines_folder
from retune import stages

pytestmark = [
    pytest.mark.airflow,
    pytest.mark.long,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning"),  # Airflow's, about .airflowignore
]

WHY = "a test of approvals"
BLUNT = {"steps": 16, "decay": 1.0, "smoothing": 1000.0}
PATIENT, HASTY = 24, 0.0001  # hours
PATIENCE_S = 120.0


def write_line(timeout_hours: float) -> None:
    """Describe `shop`, whose candidates ann or dag_test must approve; the latter is who starts every run here."""
    approval = f'\n[approval]\nusers = ["ann", "dag_test"]\ntimeout_hours = {timeout_hours}\n'
    (lines_folder() / "shop.toml").write_text(synthetic.LINE + approval)


@pytest.fixture(scope="module")
def site(site_environment) -> stages.Site:
    """The line with three weeks of feedback, and the baseline in production."""
    site_environment.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "a secret that is long enough for every token " * 2)
    write_line(PATIENT)
    opened = stages.site("shop")
    opened.store.put("landing/weeks.jsonl", synthetic.jsonl(synthetic.events(days=21)))
    as_of = (synthetic.START + timedelta(days=21)).to_pydatetime()
    version = stages.commit(opened, stages.check(opened, stages.pull(opened, as_of=as_of)))
    stages.baseline(opened, stages.freeze(opened, version), by="tests")
    return opened


def candidate(site: stages.Site, *, by: str, **refit: Any) -> str:
    """Refit by hand, and give the plan."""
    verdict = stages.judge(site, stages.newest_dataset(site))
    plan: Plan = stages.decide(site, verdict, by=by, reason=WHY, action=Action.REFIT, family="markov", **refit)
    stages.open_search(site, plan)
    stages.close_search(site, plan)
    stages.choose(site, plan)
    return plan.plan_id


@pytest.fixture(scope="module")
def good(site) -> str:
    return candidate(site, by="searcher")


@dataclass(frozen=True)
class Asked:
    """What stood before the person who answered."""

    status: int
    subject: str
    body: str
    assigned: list[str]


def waiting() -> TaskInstance | None:
    with create_session() as session:
        return session.scalar(select(TaskInstance).where(TaskInstance.state == "awaiting_input"))


def soon(found: Callable[[], Any]) -> Any:
    """Ask until there is an answer."""
    never, until = Event(), datetime.now(UTC) + timedelta(seconds=PATIENCE_S)
    while datetime.now(UTC) < until:
        if (answer := found()) is not None:
            return answer
        never.wait(0.1)
    raise AssertionError("nothing was asked")


def answers(user: str, option: str) -> Callable[[], Asked]:
    """Answer by Airflow's REST interface, signed in as `user`."""

    async def patch(instance: TaskInstance) -> Asked:
        transport = httpx.ASGITransport(app=create_app(apps="core"))
        token = get_auth_manager().generate_jwt(SimpleAuthManagerUser(username=user, role="op"))
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=headers) as client:
            at = f"/api/v2/dags/{instance.dag_id}/dagRuns/{instance.run_id}/taskInstances/approve/-1/hitlDetails"
            shown = (await client.get(at)).json()
            answered = await client.patch(at, json={"chosen_options": [option], "params_input": {}})
        return Asked(
            status=answered.status_code,
            subject=shown["subject"],
            body=shown["body"],
            assigned=[each["id"] for each in shown["assigned_users"]],
        )

    return lambda: asyncio.run(patch(soon(waiting)))


def sweep() -> None:
    """Let the scheduler look for questions whose time is over, until it has found this one."""
    soon(waiting)

    def over() -> bool | None:
        SchedulerJobRunner(job=Job()).check_awaiting_input_timeouts()
        return None if waiting() else True

    soon(over)


def unless_it_waits_for_ever(person: Callable[[], Any]) -> Any:
    """Let somebody answer; if that breaks, fail the question, so that the run ends."""
    try:
        return person()
    except BaseException:
        with create_session() as session:
            for parked in session.scalars(select(TaskInstance).where(TaskInstance.state == "awaiting_input")):
                parked.state = "failed"
        raise


@pytest.fixture(scope="module")
def promote(run, good) -> Iterator[Callable[..., Any]]:
    """Run `promote_shop` while somebody answers beside it; gives how it ended, and what the other one saw."""
    with ThreadPoolExecutor(1) as beside:

        def promote(person: Callable[[], Any], **conf: Any) -> tuple[Any, Any]:
            seen = beside.submit(unless_it_waits_for_ever, person)
            ended = run("promote_shop", **{"plan_id": good, "reason": WHY, **conf})
            return ended, seen.result(PATIENCE_S)

        yield promote


@pytest.fixture(scope="module")
def rejected(promote):
    return promote(answers("ann", "Reject"))


@pytest.fixture(scope="module")
def own(promote, rejected):
    return promote(answers("dag_test", "Approve"))


@pytest.fixture(scope="module")
def late(promote, own):
    write_line(HASTY)
    ended = promote(sweep)
    write_line(PATIENT)
    return ended


@pytest.fixture(scope="module")
def approved(promote, late):
    return promote(answers("ann", "Approve"))


def entries(site, what: str) -> list[ledger.Entry]:
    return ledger.read(site.store, what=what)


def test_the_question_says_what_the_gate_found_and_is_put_to_the_lines_people(rejected, site):
    asked = rejected[1]
    baseline = channel.history(site.store)[0].release_id
    assert asked.status == 200
    assert asked.assigned == ["ann", "dag_test"]
    assert asked.subject.startswith("May markov-")
    assert asked.subject.endswith(f" replace {baseline}?")
    assert "| quality | pass |" in asked.body
    assert "Asked by dag_test." in asked.body


def test_a_rejection_leaves_the_incumbent_and_a_run_that_ended_well(rejected, site):
    ended, _ = rejected
    assert (ended.state, ended.events) == ("success", {})
    assert (ended.tasks["approve"], ended.tasks["release"], ended.tasks["attribute"]) == (
        "success",
        "skipped",
        "skipped",
    )
    first = entries(site, "rejected")[0]
    assert first.who == "ann"
    assert first.why.startswith("ann rejected it, so popularity-")
    assert first.evidence["answer"]["run"] == ended.run_id


def test_nobody_approves_a_run_that_they_started(own, site):
    ended, asked = own
    assert asked.status == 200  # Airflow takes the answer: that it does not count is decided where production moves
    assert (ended.state, ended.tasks["approve"], ended.tasks["release"]) == ("success", "success", "skipped")
    second = entries(site, "rejected")[1]
    assert second.who == "dag_test"
    assert second.why.startswith("dag_test approved it, but had started the run that asks")


def test_no_answer_in_time_is_a_rejection(late, site):
    ended, _ = late
    assert (ended.state, ended.tasks["approve"], ended.tasks["release"]) == ("success", "success", "skipped")
    third = entries(site, "rejected")[2]
    assert (third.who, third.why.split(",")[0]) == ("nobody", "Nobody answered within 0.0001 h")


def test_what_another_person_approves_is_released_and_the_record_knows_of_every_answer(approved, site):
    ended, _ = approved
    assert (ended.state, ended.tasks["release"]) == ("success", "success")
    release_id = ended.events["retune://shop/release"]["release_id"]
    assert channel.current(site.store).release_id == release_id
    [entry] = entries(site, "approved")
    assert (entry.who, entry.evidence["candidate"]) == ("ann", release_id)
    kept = decisions.records(site.store, release_id)  # a policy each: the line was patient, hasty, and patient again
    assert [[(said.what, said.who) for said in record.said] for record in reversed(kept)] == [
        [("rejected", "ann"), ("rejected", "dag_test")],
        [("rejected", "nobody")],
        [("approved", "ann")],
    ]
    page = site.store.get(decisions.page_key(decisions.where(site.store, release_id)[1])).body.decode()
    assert "Nobody answered within 0.0001 h" in page


def test_an_outsider_may_not_answer_at_all(approved, promote, site):
    def both() -> tuple[Asked, Asked]:
        return answers("eve", "Approve")(), answers("ann", "Reject")()

    blunt = candidate(site, by="searcher", configuration=BLUNT)
    ended, (eve, ann) = promote(both, plan_id=blunt, override=True, reason="the shop wants it blunt")
    assert (eve.status, ann.status) == (403, 200)
    assert ended.tasks["release"] == "skipped"
    assert "**This overrides the verdict fail.** Asked by dag_test: the shop wants it blunt" in ann.body
    assert entries(site, "overridden") == []


def test_what_the_gate_holds_asks_nobody_and_an_override_needs_an_approval_and_gives_nothing_back(
    approved, promote, run, site
):
    blunt = candidate(site, by="searcher", configuration=BLUNT)
    held = run("promote_shop", plan_id=blunt, reason=WHY)
    assert (held.state, held.tasks["approve"], held.tasks["release"]) == ("success", "skipped", "skipped")
    before = looks.looks(site.store)
    ended, _ = promote(answers("ann", "Approve"), plan_id=blunt, override=True, reason="the shop wants it blunt")
    assert ended.tasks["release"] == "success"
    [entry] = entries(site, "overridden")
    assert (entry.who, entry.evidence["outcome"]) == ("dag_test", "fail")
    assert entry.why.endswith("although the verdict is fail: the shop wants it blunt.")
    assert entries(site, "approved")[-1].evidence["candidate"] == entry.evidence["candidate"]
    assert looks.looks(site.store) == before
    assert channel.current(site.store).release_id == entry.evidence["candidate"]
