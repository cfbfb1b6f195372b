"""Guess which known name was meant by one that nobody knows."""

from collections.abc import Iterable
from difflib import get_close_matches


def suggestion(found: object, known: Iterable[str]) -> str:
    """Say which known name looks most like what was found, as a sentence that follows another.

    >>> suggestion("step", ["decay", "steps"])
    " Did you mean 'steps'?"
    >>> suggestion("x", ["decay", "steps"])
    ''
    """
    near = nearest(found, known)
    return f" Did you mean {near!r}?" if near is not None else ""


def nearest(found: object, known: Iterable[str]) -> str | None:
    """Give the known name that looks most like what was found; nothing where none is like it."""
    return next(iter(get_close_matches(str(found), list(known), n=1)), None)
