"""The console's pages: who may see them, and that nothing in a store becomes markup."""

import asyncio
import re
from datetime import UTC, datetime

import httpx
import pytest
from airflow.api_fastapi.app import create_auth_manager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.api_fastapi.core_api.security import get_user

import retune_plugin
from recsys import ledger, synthetic
from recsys.store import Store, open_store
from retune_airflow.console import app

ATTACK = "<script>alert('x')</script>"


def get(path: str) -> httpx.Response:
    """Ask the plugin's own ASGI application, as Airflow's does."""

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=retune_plugin.console)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.get(path)

    return asyncio.run(ask())


@pytest.fixture
def store(tmp_path, monkeypatch) -> Store:
    """A line called shop, without anything in its store."""
    (tmp_path / "shop.toml").write_text(synthetic.LINE)
    monkeypatch.setenv("RETUNE_LINES", str(tmp_path))
    monkeypatch.setenv("RETUNE_STORE", (tmp_path / "store").as_uri())
    create_auth_manager()
    return open_store((tmp_path / "store").as_uri()).under("shop")


def sign_in(role: str | None) -> None:
    app.dependency_overrides[get_user] = lambda: SimpleAuthManagerUser(username="vic", role=role)


@pytest.fixture
def viewer(store):
    sign_in("viewer")
    yield
    app.dependency_overrides.clear()


@pytest.mark.parametrize("path", ["/", "/shop/drift/abc"])
def test_nobody_sees_anything_without_signing_in(store, path):
    assert get(path).status_code == 401


def test_a_viewer_sees_the_lines(viewer):
    answer = get("/")
    assert answer.status_code == 200
    assert "shop" in answer.text
    assert "Owner: tests" in answer.text
    assert "Nothing is in production yet" in answer.text
    assert 'href="../dags/retune_shop/runs"' in answer.text


def test_who_may_read_no_dags_sees_no_line(viewer):
    sign_in(None)
    answer = get("/")
    assert answer.status_code == 200
    assert "shop" not in answer.text
    assert get("/shop/drift/abc").status_code == 403


def test_the_ledger_is_shown_newest_first_and_escaped(store, viewer):
    for day, (what, why) in enumerate([("decided", "an older reason"), ("judged", ATTACK)]):
        at = datetime.now(UTC).replace(microsecond=day)
        ledger.append(store, ledger.Entry(at=at, what=what, who=ATTACK, why=why, evidence={"dataset_id": "d"}))
    page = get("/").text
    assert "<script" not in page
    assert page.count("&lt;script&gt;") == 4  # two times who and once why in the table, and why above it
    assert page.index("alert") < page.rindex("an older reason")
    rows = page[page.index("<tbody>") :]
    assert rows.index("judged") < rows.index("decided")


def test_pages_may_run_no_scripts_and_reports_no_more_than_their_own(store, viewer):
    assert get("/").headers["content-security-policy"].startswith("default-src 'none'")
    store.put("drift/abc/report.html", b"<html>far</html>")
    report = get("/shop/drift/abc")
    assert report.text == "<html>far</html>"
    assert report.headers["content-security-policy"] == "sandbox allow-scripts"


def test_the_last_verdict_leads_to_its_report(store, viewer):
    place = "drift/dataset/popularity-1/settings"
    store.put(f"{place}/report.html", b"<html>far</html>")
    evidence = {"dataset_id": "dataset", "report_key": f"{place}/report.html"}
    ledger.append(store, ledger.Entry(what="judged", who="drift", why="far", evidence=evidence))
    [link] = re.findall(r'<a href="([^"]+)">Report</a>', get("/").text)
    assert link == f"shop/{place}"
    assert get(f"/{link}").text == "<html>far</html>"


@pytest.mark.parametrize("path", ["/shop/drift/none", "/books/drift/abc", "/shop/drift/..", "/shop/drift/.hidden"])
def test_what_is_not_there_is_not_found(viewer, path):
    assert get(path).status_code == 404


def test_only_what_is_shown_is_read(store, viewer):
    store.put("ledger/19970920T120000.000000Z-judged-x.json", b"whoever reads this stops")
    for minute in range(25):
        at = datetime(2026, 2, 1, 12, minute, tzinfo=UTC)
        ledger.append(store, ledger.Entry(at=at, what="judged", who="schedule", why=f"turn {minute}.", id=str(minute)))
    page = get("/").text
    assert "turn 24." in page
    assert page.count("<tr><td>") == 25
    assert "no entry of a ledger" not in page


def test_the_console_needs_no_more_than_to_read(viewer, monkeypatch, s3_to_look_at):
    monkeypatch.setenv("RETUNE_STORE", s3_to_look_at)
    page = get("/")
    assert page.status_code == 200
    assert "Nothing is in production yet" in page.text
    assert 'class="error"' not in page.text
    assert get("/shop/drift/abc").status_code == 404


def test_a_store_that_does_not_answer_is_said_on_every_page(viewer, monkeypatch, s3_environment):
    monkeypatch.setenv("RETUNE_STORE", "s3://there-is-no-such-bucket/lines")
    page = get("/")
    assert page.status_code == 200
    assert "NoSuchBucket" in page.text
    report = get("/shop/drift/abc")
    assert report.status_code == 503
    assert report.headers["content-security-policy"].startswith("default-src 'none'")
    assert "The drift report of shop at abc cannot be read: s3://there-is-no-such-bucket" in report.text
    assert "There is no line" not in report.text


def test_a_store_that_cannot_be_is_said(viewer, monkeypatch):
    monkeypatch.setenv("RETUNE_STORE", "ftp://somewhere")
    page = get("/")
    assert page.status_code == 200
    assert "must begin with file:// or s3://" in page.text


def test_a_wrong_line_and_a_lost_store_are_said(store, viewer, tmp_path, monkeypatch):
    (tmp_path / "typo.toml").write_text(synthetic.LINE.replace('name = "shop"', 'name = "typo"\nnmae = "<b>"'))
    (tmp_path / "store").mkdir(exist_ok=True)
    store.put("channel/production.json", b"not a channel")
    page = get("/").text
    assert "typo.toml: nmae: no such key" in page
    assert "names no release" in page
    assert "shop" in page
