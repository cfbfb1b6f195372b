"""Report how well what lies before each split covers the users, items and contexts of what comes after it."""

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

import duckdb

from recsys.columns import ITEM, USER
from recsys.settings import Feedback
from recsys.split import Boundaries, moment


def measure(con: duckdb.DuckDBPyConnection, bounds: Boundaries, feedback: Feedback) -> dict[str, Any]:
    """Compare each part with all that lies before it.

    Users, items and contexts of type category or integer are compared value by value. Of a context of type number,
    `seen` says how many of its values lie within the range that was met before.

    Args:
        con: Holds the table `positives` that `recsys.split.cut` made. Names that are made here begin with an underscore
            beside the line's own, as no column of a line does.
        bounds: Where event time is cut.
        feedback: Names the contexts.

    Returns:
        `{"splits": [...]}`, one entry for every part but train: its `part`, `begins`, `events` and `columns`, where
        each column has `before`, `after` and `seen` (numbers of values), `new` and `vanished` (values only after, only
        before), `seen_share` of the values and `seen_event_share` of the events; shares of nothing are null.
    """
    contexts = {name: column for name, column in feedback.columns.items() if column.role == "context"}
    splits = []
    for part, (begin, end) in list(bounds.parts.items())[1:]:
        columns = {}
        for name in (USER, ITEM, *contexts):
            ranged = name in contexts and contexts[name].type == "number"
            columns[name] = _compare(con, name, begin, end, _SEEN_IN_RANGE if ranged else _SEEN_BEFORE)
        events = con.execute(
            "select count(*) from positives where _time >= $begin and _time < $end", {"begin": begin, "end": end}
        ).fetchall()[0][0]
        splits.append({"part": part, "begins": moment(begin).isoformat(), "events": events, "columns": columns})
    return {"splits": splits}


def page(report: Mapping[str, Any], *, title: str) -> str:
    """Show the report as one HTML page that needs nothing else.

    Args:
        report: What `measure` gave.
        title: Heading of the page.
    """
    return _PAGE.format(title=escape(title), tables="\n".join(_tables(report)))


_SEEN_BEFORE = "_value in (select _value from left_side)"
_SEEN_IN_RANGE = "_value between (select min(_value) from left_side) and (select max(_value) from left_side)"


def _compare(con: duckdb.DuckDBPyConnection, column: str, begin: int, end: int, seen: str) -> dict[str, Any]:
    positives = con.table("positives").filter(f'"{column}" is not null')
    positives.filter(f"_time < {begin}").project(f'"{column}" as _value').distinct().create_view("left_side")
    positives.filter(f"_time >= {begin} and _time < {end}").aggregate(
        f'"{column}" as _value, count(*) as _events', f'"{column}"'
    ).create_view("right_side")
    con.table("right_side").project(f"_value, _events, coalesce({seen}, false) as _seen").create_view("judged")
    before, after, known, events, known_events, vanished = con.sql(
        """
        select (select count(*) from left_side), count(*), count(*) filter (_seen),
               coalesce(sum(_events), 0)::bigint, coalesce(sum(_events) filter (_seen), 0)::bigint,
               (select count(*) from left_side where _value not in (select _value from right_side))
        from judged
        """
    ).fetchall()[0]
    return {
        "before": before,
        "after": after,
        "seen": known,
        "new": after - known,
        "vanished": vanished,
        "seen_share": known / after if after else None,
        "seen_event_share": known_events / events if events else None,
    }


def _tables(report: Mapping[str, Any]) -> Iterator[str]:
    for split in report["splits"]:
        yield f"<h2>{escape(split['part'])}: {split['events']:,} events from {escape(split['begins'])}</h2>"
        yield "<table><tr><th></th>" + "".join(f"<th>{heading}</th>" for heading in _HEADINGS.values()) + "</tr>"
        for column, found in split["columns"].items():
            yield (
                f"<tr><th>{escape(column)}</th>"
                + "".join(f"<td>{_cell(found[key])}</td>" for key in _HEADINGS)
                + "</tr>"
            )
        yield "</table>"


def _cell(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.1%}" if isinstance(value, float) else f"{value:,}"


_HEADINGS = {
    "before": "before",
    "after": "in this part",
    "seen": "seen before",
    "new": "new",
    "vanished": "vanished",
    "seen_share": "share of values seen before",
    "seen_event_share": "share of events on them",
}

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1b1f24; }}
table {{ border-collapse: collapse; width: 100%; }}
th, td {{ text-align: right; padding: .25rem .6rem; border-bottom: 1px solid #d8dee4; }}
td {{ font-variant-numeric: tabular-nums; }}
th:first-child {{ text-align: left; }}
@media (prefers-color-scheme: dark) {{
  body {{ background: #15181c; color: #e6e9ec; }}
  th, td {{ border-color: #3a4149; }}
}}
</style>
</head>
<body>
<h1>{title}</h1>
<p>How well what came before each part covers its users, items and contexts. Events without a value are left out.</p>
{tables}
</body>
</html>
"""
