"""Refuse what a sampler cannot be told, and put every parameter after the one that it hangs on."""

from collections.abc import Iterable, Mapping
from numbers import Integral
from typing import Any

from optuna.distributions import BaseDistribution

from recsys.spelling import suggestion
from recsys.tuning.evidence import PastStudy


def studies(past: object) -> tuple[PastStudy, ...]:
    """Give the earlier searches.

    Raises:
        TypeError: They are no sequence of `PastStudy`.
    """
    if isinstance(past, Mapping) or not isinstance(past, Iterable):
        raise TypeError(f"past must be a sequence of PastStudy, but is {_kind(past)}.")
    found = []
    for at, study in enumerate(past):
        if not isinstance(study, PastStudy):
            raise TypeError(f"past must be a sequence of PastStudy, but past[{at}] is {_kind(study)}.")
        found.append(study)
    return tuple(found)


def whole(name: str, number: object) -> int:
    """Give a whole number of 0 or more.

    Raises:
        ValueError: It is something else.
    """
    if isinstance(number, bool) or not isinstance(number, Integral) or number < 0:
        raise ValueError(f"{name} must be a whole number of 0 or more, but is {number!r}.")
    return int(number)


def check(
    space: Mapping[str, BaseDistribution] | None,
    conditions: Mapping[str, tuple[str, Any]],
    settled: Mapping[str, tuple[BaseDistribution, Any]],
    candidates: Iterable[Mapping[str, Any]] | None,
) -> None:
    """Check that what is said of parameters fits together; without a space, only that it is of the right form.

    Raises:
        TypeError: Something is of another form.
        ValueError: It does not fit together.
    """
    for name, distribution in (space or {}).items():
        if not isinstance(distribution, BaseDistribution):
            raise TypeError(f"space must give a distribution for {name!r}, but gives {distribution!r}.")
    for name, pair in settled.items():
        if not _is_pair(pair) or not isinstance(pair[0], BaseDistribution):
            raise TypeError(f"settled must give a distribution and a value for {name!r}, but gives {pair!r}.")
    for name, condition in conditions.items():
        if not _is_pair(condition):
            raise TypeError(f"conditions must give a parameter and its value for {name!r}, but give {condition!r}.")
    _check_rings(conditions)
    if space is None:
        if candidates is not None:
            raise ValueError("candidates must come with a space, but space is None.")
        return
    if not space:
        raise ValueError("space must have a parameter or be None, but is empty.")
    known = [*space, *(name for name in settled if name not in space)]
    for child, (parent, _) in conditions.items():
        _check_known("conditions", child, known)
        _check_known(f"the condition of {child!r}", parent, known)
    if candidates is not None:
        listed = list(candidates)
        if not listed:
            raise ValueError("candidates must hold a configuration or be None, but are empty.")
        for name in dict.fromkeys(name for candidate in listed for name in candidate):
            _check_known("candidates", name, known)


def parents_first(
    distributions: Mapping[str, BaseDistribution], conditions: Mapping[str, tuple[str, Any]]
) -> dict[str, BaseDistribution]:
    """Put parameters that others hang on before those; everything else keeps its place.

    >>> from optuna.distributions import IntDistribution
    >>> one = IntDistribution(0, 1)
    >>> list(parents_first({"lr": one, "layers": one, "kind": one}, {"layers": ("kind", 1)}))
    ['lr', 'kind', 'layers']
    """
    ordered: dict[str, BaseDistribution] = {}
    for name in distributions:
        chain = [name]
        while chain[-1] in conditions and conditions[chain[-1]][0] in distributions:
            chain.append(conditions[chain[-1]][0])
        ordered.update({one: distributions[one] for one in reversed(chain)})
    return ordered


def _check_rings(conditions: Mapping[str, tuple[str, Any]]) -> None:
    for name in conditions:
        chain = [name]
        while chain[-1] in conditions:
            chain.append(conditions[chain[-1]][0])
            if chain[-1] == name:
                raise ValueError(f"conditions must not go round in a ring, but do: {' hangs on '.join(chain)}.")
            if len(chain) > len(conditions) + 1:
                break  # a ring further on, which is said of one of its own


def _check_known(said_by: str, name: str, known: Iterable[str]) -> None:
    if name not in known:
        raise ValueError(
            f"{said_by} must name parameters of the space or settled ones ({', '.join(known)}), but one is {name!r}."
            f"{suggestion(name, known)}"
        )


def _is_pair(pair: object) -> bool:
    return isinstance(pair, tuple | list) and len(pair) == 2


def _kind(found: object) -> str:
    return f"of type {type(found).__name__}"
