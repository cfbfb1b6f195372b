"""Show people what is in production on every line, what the loop last decided, and why."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.api_fastapi.auth.managers.models.resource_details import DagDetails
from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import FastAPI, HTTPException
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader

from recsys.errors import LineError, NotFound, RecsysError, StoreError
from recsys.settings import Line
from retune import stages
from retune_airflow.lines import check_lines, good_lines

log = logging.getLogger(__name__)

DAGS = ("feedback", "drift", "watch", "retune", "promote", "rollback", "ablate")
SHOWN_ENTRIES = 25

app = FastAPI(title="Retune", docs_url=None, redoc_url=None, openapi_url=None)

_NOTHING_BUT_STYLE = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'"
_pages = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)


@app.get("/")
def overview(user: GetUserDep) -> HTMLResponse:
    """Show the lines whose DAGs the user may read."""
    return _page([_card(line) for line in good_lines() if _may_read(user, line.name)], wrong=_wrong_lines())


@app.get("/{name}/drift/{place:path}")
def drift(name: str, place: str, user: GetUserDep) -> HTMLResponse:
    """Show the drift report that lies at `place`, with its scripts shut off from Airflow's pages and cookies."""
    if not _may_read(user, name):
        raise HTTPException(403, "Forbidden")
    try:
        body = stages.site(name, probe=False).store.get(f"drift/{place}/report.html").body
    except (LineError, NotFound, ValueError) as error:
        raise HTTPException(404, f"There is no drift report of {name} at {place}.") from error
    except (StoreError, OSError) as error:
        log.warning("The console cannot show the drift report of %s at %s: %s", name, place, error)
        return _page([], wrong=f"The drift report of {name} at {place} cannot be read: {error}", status=503)
    return HTMLResponse(body, headers={"Content-Security-Policy": "sandbox allow-scripts"})


def _page(cards: Sequence[Mapping[str, Any]], *, wrong: str, status: int = 200) -> HTMLResponse:
    page = _pages.get_template("console.html.j2").render(lines=cards, wrong=wrong, dags=DAGS)
    return HTMLResponse(page, status, headers={"Content-Security-Policy": _NOTHING_BUT_STYLE})


def _may_read(user: BaseUser, line: str) -> bool:
    """Whether the user may read the line's DAGs, as told by the first of them."""
    details = DagDetails(id=f"{DAGS[0]}_{line}")
    return bool(get_auth_manager().is_authorized_dag(method="GET", details=details, user=user))


def _card(line: Line) -> dict[str, Any]:
    """Gather what the page shows of a line; that its store does not answer is one of these things."""
    from recsys import ledger, release

    card: dict[str, Any] = {"line": line, "production": None, "entries": [], "last": {}, "error": ""}
    try:
        store = stages.site(line.name, probe=False).store
        card["production"] = release.current(store)
        card["last"] = {entry.what: entry for entry in ledger.latest(store)}
        card["entries"] = ledger.read(store, limit=SHOWN_ENTRIES)[::-1]
    except (RecsysError, ValueError, OSError) as error:
        log.warning("The console cannot show %s: %s", line.name, error)
        card["error"] = str(error)
    return card


def _wrong_lines() -> str:
    try:
        check_lines()
    except LineError as error:
        return str(error)
    return ""
