"""Show how candidates were judged, judge them by another policy, and follow a release back to its feedback."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recsys.errors import BadObject, NoRelease
from recsys.records import GateRecord, dump
from recsys.settings import read_policy
from retune import stages
from retune.answers import HELD, counted, show
from retune.commands.options import AsJson, line_names, only_line
from retune.sheet import Sheet

if TYPE_CHECKING:
    from retune.rejudge import Rejudged
    from retune.why import Chain

SHOWN_BATCHES = 10

LineOrRelease = Annotated[
    str | None, typer.Argument(help="The line; may be left out where there is only one.", metavar="[LINE]")
]
ReleaseName = Annotated[str | None, typer.Argument(help="The release.", metavar="RELEASE")]


def gate(
    line: LineOrRelease = None,
    release: ReleaseName = None,
    *,
    page: Annotated[Path | None, typer.Option(help="Write the newest record's page to this file.")] = None,
    replay: Annotated[bool, typer.Option("--replay", help="Judge past candidates again; needs --policy.")] = False,
    policy: Annotated[
        Path | None, typer.Option(help="A TOML file with [gate] and [budgets], as in a line's file.", metavar="FILE")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show how a candidate was judged, the newest time first, or judge all past ones by another policy."""
    if replay != (policy is not None):
        raise ValueError("--replay and --policy belong together: the one judges again, the other says by what.")
    if policy is not None:
        if release is not None or page is not None:
            raise ValueError("--replay judges all past candidates of a line, and goes with no release and no --page.")
        _replay(line or only_line(), policy, as_json=as_json)
        return
    name, release_id = _named(line, release)
    _show(stages.site(name, probe=False), release_id, page, as_json=as_json)


def why(line: LineOrRelease = None, release: ReleaseName = None, *, as_json: AsJson = False) -> None:
    """Follow a release from the bytes that serve back to the feedback; exit code 1 if anything is missing or wrong."""
    from retune import why as chains  # reads the feedback table

    name, release_id = _named(line, release)
    found = chains.follow(stages.site(name, probe=False).store, release_id)
    whole = not found.wrong
    show(
        as_json,
        {"outcome": "whole" if whole else "broken", "chain": _as_json(found)},
        f"{release_id} of {name}: "
        + ("every link is there, and all matches." if whole else f"{counted(len(found.wrong), 'thing')} wrong."),
        *_sheets(found),
    )
    if not whole:
        raise typer.Exit(HELD)


def _named(first: str | None, second: str | None) -> tuple[str, str]:
    """Tell line and release apart where only one of them is given.

    Raises:
        ValueError: No release is given, or no line where there are several.
    """
    if second is not None:
        return first or only_line(), second
    if first is None or first in line_names():
        raise ValueError("RELEASE must be given; `retune history` names those that were released.")
    return only_line(), first


def _show(site: stages.Site, release_id: str, page: Path | None, *, as_json: bool) -> None:
    from recsys import decisions

    records, broken = decisions.records(site.store, release_id), decisions.unreadable(site.store, release_id)
    if not records:
        if broken:
            raise broken[0]
        raise NoRelease(f"{release_id!r} must have been judged, but no record of a gating is kept.")
    newest = records[0]
    lies = decisions.page_key(decisions.lies(site.store, newest))
    if page is not None:
        _write(page, site.store.get(lies).body)
    verdict, url = newest.verdict, f"{site.store.url}/{lies}"
    show(
        as_json,
        {"outcome": str(verdict.outcome), "page": url, "records": [*map(dump, records)], "unreadable": _said(broken)},
        f"{verdict.outcome.capitalize()}: {verdict.because}\nThe page: {page or url}",
        Sheet(("", ""), _facts(newest)),
        Sheet(("check", "outcome", "because"), [(c.name, str(c.outcome), c.because) for c in verdict.checks]),
        Sheet(
            ("when", "what", "who", "why"),
            [(f"{said.at:%Y-%m-%d %H:%M:%S}", said.what, said.who, said.why) for said in newest.said],
            title="What people said",
        ),
        Sheet(
            ("when", "outcome", "because"),
            [(f"{r.at:%Y-%m-%d %H:%M:%S}", str(r.verdict.outcome), r.verdict.because) for r in records[1:]],
            title="Earlier gatings",
        ),
        Sheet(("",), [(said,) for said in _said(broken)], title="Records that cannot be read"),
    )


def _said(broken: Sequence[BadObject]) -> list[str]:
    return [str(each) for each in broken]


def _write(page: Path, body: bytes) -> None:
    try:
        page.write_bytes(body)
    except OSError as error:
        raise ValueError(f"--page {page}: must be a file that can be written, but {error.strerror}.") from error


def _facts(record: GateRecord) -> list[tuple[str, str]]:
    look = record.look
    spent = f"{look.number}, which spent {look.level:.3g} of a year's {look.budget:g}" if look else "not counted"
    measured = "not known" if record.measured_s is None else f"{record.measured_s:.1f} s"
    return [
        ("judged", f"{record.at:%Y-%m-%d %H:%M:%S}, asked by {record.verdict.by}"),
        ("incumbent", record.verdict.incumbent),
        ("dataset", record.dataset_id),
        ("look", spent),
        ("took", f"{measured} to measure, {record.judged_s:.3f} s to judge"),
    ]


def _replay(name: str, policy: Path, *, as_json: bool) -> None:
    from retune import rejudge, remeasure

    site = stages.site(name, probe=False)
    found = rejudge.rejudge(site.line, read_policy(policy, site.line), site.store)
    left = {key: sum(1 for each in found if key in each.open) for key in remeasure.WHY}
    cannot = [(key, remeasure.WHY[key], times) for key, times in left.items() if times]
    changed = sum(1 for each in found if each.then is not None and each.then is not each.now)
    show(
        as_json,
        {
            "outcome": "replayed",
            "policy": str(policy),
            "candidates": [dump(each) for each in found],
            "cannot_judge": [{"key": key, "because": why, "comparisons": times} for key, why, times in cannot],
            "cannot_know": list(rejudge.LIMITS),
        },
        f"{counted(len(found), 'comparison')} of {name} by {policy}: {counted(changed, 'verdict')} would be another. "
        "Nothing is written.",
        Sheet(("candidate", "judged", "then", "now", "what changes, and why"), [_row(each) for each in found]),
        Sheet(
            ("key", "why", "comparisons"),
            [(key, why, str(times)) for key, why, times in cannot],
            title="Keys of the policy that the evidence cannot judge",
        ),
        Sheet(("",), [(limit,) for limit in rejudge.LIMITS], title="What this cannot know"),
    )


def _row(each: "Rejudged") -> tuple[str, ...]:
    when = f"{each.at:%Y-%m-%d %H:%M}" if each.at else "never"
    changed = "; ".join(each.changed) or "nothing"
    because = f". {each.because}" if each.then is not each.now or each.unreadable else ""
    return (each.candidate, when, str(each.then or "–"), str(each.now), f"{changed}{because}")


def _sheets(chain: "Chain") -> list[Sheet]:
    links = [
        (
            link.what,
            f"{link.at:%Y-%m-%d %H:%M}" if link.at else "",
            link.who,
            "\n".join([link.says, *(f"WRONG: {said}." for said in link.wrong)]),
        )
        for link in chain.links
    ]
    batches = [
        (f"{b.at:%Y-%m-%d %H:%M}", str(b.version), str(len(b.objects)), f"{b.rows_added:,}", b.batch_id)
        for b in chain.batches[-SHOWN_BATCHES:]
    ]
    earlier = len(chain.batches) - len(batches)
    return [
        Sheet(("link", "when", "who", "what"), links),
        Sheet(
            ("when", "version", "objects", "events", "batch"),
            batches,
            title="Batches of feedback" + (f", the last {len(batches)}; --json has {earlier} more" if earlier else ""),
        ),
        Sheet(
            ("part", "begins", "ends", "events"),
            [(p.name, f"{p.begins:%Y-%m-%d %H:%M}", f"{p.ends:%Y-%m-%d %H:%M}", f"{p.events:,}") for p in chain.parts],
            title="The dataset's parts",
        ),
        Sheet(
            ("file", "bytes", "is", "SHA-256"),
            [
                (f.name, f"{f.size_bytes:,}", "right" if f.right else "wrong" if f.found else "gone", f.sha256)
                for f in chain.files
            ],
            title="Files that serve, against the bytes in the store",
        ),
    ]


def _as_json(chain: "Chain") -> dict[str, object]:
    return {**asdict(chain), "wrong": list(chain.wrong)}
