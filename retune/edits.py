"""Write what a review proposes into a line's file, and leave everything else in it as people wrote it."""

import difflib
import os
import shutil
import tempfile
import tomllib
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.items import Table

from recsys.errors import LineError
from recsys.records import Edit, Proposal, Review
from recsys.settings import read_line
from retune.lines import check_search


@dataclass(frozen=True, slots=True, kw_only=True)
class Edited:
    """What became of a line's file."""

    applied: tuple[Proposal, ...]
    there_already: tuple[Proposal, ...]
    diff: str  # unified; empty where nothing was applied


def apply(path: Path, review: Review, *, only: str | None = None) -> Edited:
    """Apply proposals to the line's file: all of them or none.

    The edited file is read and checked as a line before it takes the place of the old one, at once and whole.

    Args:
        path: The line's file.
        review: What proposes.
        only: The name of one proposal; None: all.

    Raises:
        ValueError: There is no such proposal.
        LineError: What a proposal would change is not what it was when it was made, or the file would be wrong, or it
            cannot be written.
    """
    chosen = _chosen(review, only)
    try:
        before = path.read_bytes()
        document = tomlkit.parse(before.decode())
        open_edits = {proposal.name: _open(path, document, proposal) for proposal in chosen}
        applied = [proposal for proposal in chosen if open_edits[proposal.name]]
        made = [table for found in open_edits.values() for edit in found for table in _write(document, edit)]
        for table in made:
            table.add(tomlkit.nl())  # a new table stands apart from the next one
        after = tomlkit.dumps(document).encode()
        _check_said(path, after.decode(), applied)
        if applied:
            _replace(path, before, after)
    except OSError as error:
        raise LineError(f"{path}: must be a file that can be read and written, but {error}.") from error
    return Edited(
        applied=tuple(applied),
        there_already=tuple(proposal for proposal in chosen if proposal not in applied),
        diff=_diff(path.name, before.decode(), after.decode()) if applied else "",
    )


def _chosen(review: Review, only: str | None) -> Sequence[Proposal]:
    if only is None:
        return review.proposals
    if not (found := [proposal for proposal in review.proposals if proposal.name == only]):
        names = [proposal.name for proposal in review.proposals]
        raise ValueError(f"--only must name one of the proposals {names}, but is {only!r}.")
    return found


def _open(path: Path, document: Mapping[str, Any], proposal: Proposal) -> list[Edit]:
    """Give those of the proposal's edits that the file does not say already.

    Raises:
        LineError: The file says something that is neither what the proposal found nor what it wants.
    """
    found = [edit for edit in proposal.edits if _said(path, document, edit) != _as_written(edit.now)]
    for edit in found:
        if (said := _said(path, document, edit)) != _as_written(edit.was):
            raise LineError(
                f"{path}: {'.'.join(edit.key)}: must still be {_shown(edit.was)} for {proposal.name} to be applied, "
                f"but is {_shown(said)}. Review the line again."
            )
    return found


def _said(path: Path, document: Mapping[str, Any], edit: Edit) -> object:
    """Give what the file says under a key in Python's own types; None where it says nothing."""
    at: Any = document
    for depth, part in enumerate(edit.key):
        if not isinstance(at, Mapping):
            raise LineError(f"{path}: {'.'.join(edit.key[:depth])}: must be a table, but is {at!r}.")
        if part not in at:
            return None
        at = at[part]
    return at.unwrap() if hasattr(at, "unwrap") else at


def _write(document: MutableMapping[str, Any], edit: Edit) -> list[Table]:
    """Write one value, and give the table that had to be made for it, if any."""
    table: Any = document
    made: list[Table] = []
    *parents, name = edit.key
    for depth, part in enumerate(parents):
        if part not in table:
            table[part] = tomlkit.table(is_super_table=depth < len(parents) - 1)
            made = [table[part]]
        table = table[part]
    table[name] = _as_written(edit.now)
    return made


def _check_said(path: Path, after: str, applied: Sequence[Proposal]) -> None:
    """Read the edited text with the parser that lines are read with, as the one that wrote it may differ."""
    document = tomllib.loads(after)
    for edit in (edit for proposal in applied for edit in proposal.edits):
        if _said(path, document, edit) != _as_written(edit.now):
            raise LineError(
                f"{path}: {'.'.join(edit.key)}: cannot be edited where it stands; write {_shown(edit.now)}."
            )


def _as_written(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _shown(value: object) -> str:
    return "left out" if value is None else repr(_as_written(value))


def _replace(path: Path, before: bytes, after: bytes) -> None:
    """Check the edited file where nobody looks for lines, then put it into the place of the old one."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".edited-") as folder:
        draft = Path(folder) / path.name
        with draft.open("xb") as file:
            file.write(after)
            file.flush()
            os.fsync(file.fileno())
        shutil.copymode(path, draft)
        try:
            line = read_line(draft)
            check_search(line)
        except LineError as error:
            # The draft is gone when this is read, so the file's own name stands for it.
            said = str(error).replace(str(draft), str(path))
            raise LineError(f"{said}\nNothing was changed: with the proposals, the file would be wrong.") from error
        if path.read_bytes() != before:
            raise LineError(
                f"{path}: must not change while it is edited, but did. Nothing was changed by this command."
            )
        draft.replace(path)


def _diff(name: str, before: str, after: str) -> str:
    lines = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), f"a/{name}", f"b/{name}"
    )
    return "".join(lines)
