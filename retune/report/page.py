"""Lay a story out as one self-contained page: figures first, then what happened, with pictures and reasons."""

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from retune.report import phrases, plots, svg
from retune.report.chapters import Ending, Story
from retune.report.searches import searches

_PICTURES = {"quality": plots.quality, "drift": plots.drift, "searches": searches, "latency": plots.latency}


def render(story: Story, summary: Mapping[str, Any]) -> str:
    """Give the page as HTML that loads nothing.

    Args:
        story: What happened.
        summary: Its figures; `seconds` and `tracebacks`, where they are there, are said at the foot.
    """
    page = _environment().get_template("page.html.j2")
    return page.render(
        story=story,
        summary=summary,
        headline=phrases.headline(story),
        REFERENCES=phrases.REFERENCES,
        light=svg.INK,
        dark=svg.DARK,
        plots={name: draw(story) for name, draw in _PICTURES.items()},
        Ending=Ending,
    )


def _environment() -> Environment:
    """Open the templates; every text is escaped, and a name that is not there is an error."""
    environment = Environment(
        loader=PackageLoader("retune.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(phrases.FILTERS)
    return environment
