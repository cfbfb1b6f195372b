"""Show what becomes of every line inside Airflow's own pages.

Airflow reads this file in all of its processes, workers included, so the console is imported at its first request.
"""

from typing import Any

from airflow.plugins_manager import AirflowPlugin


async def console(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
    """Hand the request to the console."""
    from retune_airflow.console import app

    await app(scope, receive, send)


class RetunePlugin(AirflowPlugin):
    """The console under `/retune/`, and its entry in the menu."""

    name = "retune"
    fastapi_apps: list[Any] = [{"app": console, "url_prefix": "/retune", "name": "Retune"}]  # noqa: RUF012 - as Airflow has it
    external_views: list[Any] = [  # noqa: RUF012
        {"name": "Retune", "href": "/retune/", "destination": "nav", "category": "browse", "url_route": "retune"}
    ]
