"""Read what was found under earlier names and in earlier units as the line's file says, and no edit twice."""

from collections.abc import Iterable, Mapping

from recsys.errors import LineError
from recsys.models import FAMILIES
from recsys.records import Configuration, Evidence, Reading
from recsys.settings import Line, Past
from recsys.spelling import suggestion
from recsys.tuning.encoding import is_number


def check_past(line: Line) -> None:
    """Refuse a `search.past` that names a family or parameters of today which there are not, or says what cannot be.

    Names of then may be any: what parameters were called is for the line's owner to know, and so is what families were,
    but one that is called so today is no other one.

    Raises:
        LineError: It does; the message has key, rule, finding and near match of all that is wrong.
    """
    wrong = [said for then, past in line.search.past.items() for said in _wrong(f"search.past.{then}", then, past)]
    if wrong:
        raise LineError("\n".join(wrong))


def in_force(edits: Mapping[str, Past], earlier: Iterable[Evidence] = ()) -> dict[str, Reading]:
    """Say which edits a search that begins now has seen: its trials are in the terms that come after all of them.

    Args:
        edits: What the line's file says, by the family's name of then.
        earlier: What the searches before it found. What one of them had seen, this one has, whether or not the file
            still says it.
    """
    found: dict[str, Reading] = {}
    for stated in (*(evidence.edits for evidence in earlier), {then: _reading(past) for then, past in edits.items()}):
        for then, reading in stated.items():
            found[then] = _joined(found.get(then, Reading()), reading)
    return found


def unseen(edits: Mapping[str, Past], found: Evidence) -> dict[str, Past]:
    """Give of all edits those that a search had not seen: what it found is in the terms that come after the others.

    Args:
        edits: What the line's file says, by the family's name of then.
        found: What the search left.
    """
    return {then: _left(past, found.edits.get(then, Reading())) for then, past in edits.items()}


def edit(
    past: Past, family: str, configuration: Configuration
) -> tuple[str, dict[str, int | float | str | bool], list[str]]:
    """Carry out edits of a configuration's names and values of then.

    Returns:
        The family and configuration as they read today, and what was changed.
    """
    changes = [f"{family} is {past.family} today"] if past.family else []
    made: dict[str, int | float | str | bool] = {}
    for then, value in configuration.items():
        name = _today(then, past.renamed, configuration)
        if name != then and name in configuration and name not in past.renamed:
            changes.append(f"{then} is left out, because {name} was there beside it")
            continue
        if name != then:
            changes.append(f"{then} is {name} today")
        for factor in past.scaled.get(name, ()) if is_number(value) else ():
            changes.append(f"{name} is multiplied by {factor:g}")
            value = value * factor  # type: ignore[operator]
        made[name] = value
    for name, value in past.implied.items():
        if name not in made:
            changes.append(f"{name} did not exist and amounted to {value!r}")
            made[name] = value
    return past.family or family, made, changes


def _wrong(key: str, then: str, past: Past) -> Iterable[str]:
    """Say what is wrong with one family's table, a sentence each."""
    today = past.family or then
    if today not in FAMILIES:
        at = f"{key}.family"
        found = f"is {past.family!r}" if past.family else f"is missing, and no family of today is called {then!r}"
        yield f"{at}: must be one of {sorted(FAMILIES)}, but {found}.{suggestion(today, FAMILIES)}"
        return
    if then in FAMILIES and today != then:
        yield f"{key}.family: must be left out, because {then} is a family of today, but is {past.family!r}."
        return
    known = FAMILIES[today].defaults
    named = [(f"renamed.{before}", _today(before, past.renamed)) for before in past.renamed]
    named += [(f"scaled.{name}", name) for name in past.scaled] + [(f"implied.{name}", name) for name in past.implied]
    for at, name in named:
        if name not in known:
            rule = f"must name a parameter that {today} has today, one of {sorted(known)}"
            yield f"{key}.{at}: {rule}, but names {name!r}.{suggestion(name, known)}"
    for name in past.scaled:
        if name in known and not is_number(known[name]):
            rule = "must name a parameter that is a number"
            yield f"{key}.scaled.{name}: {rule}, but {name} is {known[name]!r} by default."
    yield from _impossible(f"{key}.implied", today, {n: value for n, value in past.implied.items() if n in known})


def _impossible(key: str, family: str, implied: Configuration) -> Iterable[str]:
    """Say which values no model of the family can have had; one that others make possible is no mistake."""
    if not _why_not(family, implied):
        return
    alone = {name: said for name, value in implied.items() if (said := _why_not(family, {name: value}))}
    for name, said in alone.items() or [("", _why_not(family, implied))]:
        yield f"{key}{'.' if name else ''}{name}: must be what {family} can have, but: {said}"


def _why_not(family: str, values: Configuration) -> str:
    """Say why no model can be built with such values beside the family's defaults; empty: one can."""
    own = FAMILIES[family]
    try:
        own.sketch({**own.defaults, **values}, n_items=1)  # whatever the catalogue: no rule is about its size
    except ValueError as error:
        return str(error)
    return ""


def _today(then: str, renamed: Mapping[str, str], beside: Iterable[str] = ()) -> str:
    """Follow a name through one renaming after the other, but not through that of a namesake `beside` it."""
    passed, name = {then}, renamed.get(then, then)
    while name in renamed and name not in beside and name not in passed:
        passed.add(name)
        name = renamed[name]
    return name


def _reading(past: Past) -> Reading:
    return Reading(
        family=past.family or "",
        renamed=dict(past.renamed),
        scaled={name: tuple(factors) for name, factors in past.scaled.items()},
    )


def _joined(earlier: Reading, later: Reading) -> Reading:
    longest = {
        name: max(earlier.scaled.get(name, ()), later.scaled.get(name, ()), key=len)
        for name in {**earlier.scaled, **later.scaled}
    }
    return Reading(
        family=later.family or earlier.family,
        renamed={**earlier.renamed, **later.renamed},
        scaled=longest,
    )


def _left(past: Past, seen: Reading) -> Past:
    """Take from a family's edits those that were seen; the factors of a parameter were written one after the other."""
    renamed = {then: name for then, name in past.renamed.items() if seen.renamed.get(then) != name}
    scaled = {}
    for name, factors in past.scaled.items():
        then = [name, *(before for before in renamed if _today(before, renamed) == name)]  # what it was called
        scaled[name] = factors[max(len(seen.scaled.get(called, ())) for called in then) :]
    return Past(
        family=past.family if past.family != seen.family else None,
        renamed=renamed,
        scaled={name: factors for name, factors in scaled.items() if factors},
        implied=past.implied,  # changes nothing where there was such a parameter
    )
