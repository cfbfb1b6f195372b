"""Ask people whether a judged candidate may be released, and hand on what they say."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator, HITLOperator
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowSkipException

from recsys import people
from recsys.errors import Held
from recsys.records import Answer, Outcome, Verdict, dump, load
from recsys.settings import Line
from retune_airflow import policies, runs


def ask(line: Line, verdict: Any) -> Any:  # noqa: ANN401 - promises of JSON
    """Add the task `approve` to the DAG, on a line that asks people.

    Args:
        line: Whose approvers are asked.
        verdict: The promise of what the gate says.

    Returns:
        The promise of their answer; None where nobody is asked.
    """
    if line.approval is None:
        return None
    return Approve(
        task_id="approve",
        verdict=verdict,
        subject=f"May {line.name} release its candidate?",
        defaults=ApprovalOperator.REJECT,
        response_timeout=policies.patience(line),
        assigned_users=[{"id": user, "name": user} for user in line.approval.users],
    ).output


class Approve(ApprovalOperator):
    """Asks, and gives the answer as JSON; whether it counts is decided where production moves.

    A verdict that nothing follows from is no question. A rejection skips nothing: the task `release` writes it down.
    """

    template_fields = (*ApprovalOperator.template_fields, "verdict")

    def __init__(self, *, verdict: Any, **others: Any) -> None:  # noqa: ANN401 - of Airflow
        super().__init__(**others)
        self.verdict = verdict

    def execute(self, context: Context) -> None:
        """Ask, with what the gate said.

        Raises:
            AirflowSkipException: The gate does not pass the candidate, and nobody overrides that, or nobody may.
        """
        verdict, override = load(Verdict, self.verdict), runs.override(context)
        if verdict.outcome is not Outcome.PASS and override is None:
            raise AirflowSkipException(verdict.because)
        if verdict.outcome is not Outcome.PASS and override is not None:
            try:
                people.check_override(verdict, override)
            except Held as held:  # which the task `release` writes down
                raise AirflowSkipException(str(held)) from held
        self.subject = f"May {verdict.candidate} replace {verdict.incumbent}?"
        self.body = _body(verdict, asked_by=runs.by(context), why=override.reason if override else "")
        super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Give what people said, or that nobody did."""
        said: Mapping[str, Any] = HITLOperator.execute_complete(self, context, event)
        by = said["responded_by_user"] or {"id": "", "name": ""}
        answer = Answer(
            approved=said["chosen_options"] == [self.APPROVE],
            by=str(by["id"]),
            name=str(by["name"]),
            asked_by=runs.by(context),
            run=context["dag_run"].run_id,
            of=people.digest(load(Verdict, self.verdict)),
            at=said["responded_at"].astimezone(UTC) if said["responded_at"] else datetime.now(UTC),
        )
        self.log.info("%s by %s: %s", said["chosen_options"], answer.name or "nobody in time", answer.of)
        return dump(answer)


def _body(verdict: Verdict, *, asked_by: str, why: str) -> str:
    """Write the question in Markdown: the verdict, and every check with its reason."""
    asked = f"Asked by {asked_by}."
    if why:
        asked = f"**This overrides the verdict {verdict.outcome}.** Asked by {asked_by}: {why}"
    rows = [f"| {_cell(c.name)} | {c.outcome} | {_cell(c.because)} |" for c in verdict.checks]
    return "\n".join([asked, "", verdict.because, "", "| check | verdict | because |", "| --- | --- | --- |", *rows])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
