"""Say which of the knobs that changed made a release what it is, beside what the gate measured of it."""

import logging
from dataclasses import replace

from pydantic import JsonValue

from recsys import channel, ledger
from recsys.bundles import find_bundle, key
from recsys.errors import Forgotten, NoRelease, NotFound
from recsys.models import FAMILIES
from recsys.records import Attribution, Bundle, Estimate, parse, to_json
from recsys.scorecard import comparison
from recsys.settings import Line
from recsys.store import Store
from recsys.tuning.past import everything
from recsys.tuning.shares import Named, divide

log = logging.getLogger(__name__)

RECORD = "attribution.json"


def attribute(line: Line, store: Store, release_id: str | None = None, *, by: str) -> Attribution:
    """Divide the difference between a release and what it was last measured against among what changed.

    What is foreseen comes from all that the line's searches tried by then; beside it stands what the gate measured. It
    is made once: later evidence does not change what is said of an earlier release.

    Args:
        line: Says how old names and values read today, and how sure intervals are to be.
        store: The line's part of the store.
        release_id: A bundle that was measured; None: what is in production.
        by: Who asks.

    Raises:
        NoRelease: There is no such bundle, it was never measured against another, or nothing is in production.
        BadBundle: A manifest cannot be read.
        BadObject: A record cannot be read.
        Forgotten: One of the two is of a family that nothing here knows any more.
    """
    bundle = find_bundle(store, _named(store, release_id))
    measured = comparison(store, bundle.release_id)
    if (found := kept(store, bundle.release_id)) and found.predecessor == measured.incumbent.release_id:
        return found
    predecessor = find_bundle(store, measured.incumbent.release_id)
    evidence = [found for found in everything(store) if found.as_of <= bundle.as_of]
    divided = divide(_known(predecessor), _known(bundle), evidence, line.search.past, confidence=line.gate.confidence)
    made = Attribution(
        release_id=bundle.release_id,
        predecessor=predecessor.release_id,
        shares=divided.shares,
        predicted=divided.total,
        measured=measured.ndcg_gain,
        confidence=line.gate.confidence,
        orders=divided.orders,
        studies=divided.studies,
        trials=divided.trials,
        by=by,
        as_of=bundle.as_of,
        because="",
    )
    made = replace(made, because=_sum_up(made))
    _tell_ledger(store, made)
    store.put(key(made.release_id, RECORD), to_json(made))
    log.info("%s", made.because)
    return made


def kept(store: Store, release_id: str) -> Attribution | None:
    """Give what was said of a release; nothing where nobody has asked.

    Raises:
        BadObject: It cannot be read.
    """
    at = key(release_id, RECORD)
    try:
        return parse(Attribution, at, store.get(at).body)
    except NotFound:
        return None


def _named(store: Store, release_id: str | None) -> str:
    if release_id is not None:
        return release_id
    now = channel.current(store)
    if now is None:
        raise NoRelease("There must be a release in production to ask about, but nothing is released.")
    return now.release_id


def _known(bundle: Bundle) -> Named:
    """Give family and configuration as they read today."""
    if bundle.family not in FAMILIES:
        raise Forgotten(
            f"{bundle.release_id} must be of a family of today, one of {sorted(FAMILIES)}, but is {bundle.family!r}."
        )
    defaults = FAMILIES[bundle.family].defaults
    own = {name: value for name, value in bundle.configuration.items() if name in defaults}
    return bundle.family, {**defaults, **own}


def _sum_up(made: Attribution) -> str:
    measured = f"at the gate it was {_said(made.measured)} on the holdout"
    if not made.shares:
        return f"{made.release_id} has the configuration of {made.predecessor}, on other data; {measured}."
    if made.predicted is None:
        names = ", ".join(share.knob for share in made.shares)
        return (
            f"Between {made.predecessor} and {made.release_id} changed {names}; what each did cannot be told from the "
            f"{made.trials} trials that there were; {measured}."
        )
    told = [f"{share.knob} {share.change.value:+.4f}" for share in made.shares if share.change]
    untold = [share.knob for share in made.shares if share.change is None]
    beside = f"; of {', '.join(untold)} nothing is known" if untold else ""
    return (
        f"{made.release_id} was foreseen to change NDCG@10 by {_said(made.predicted)} over {made.predecessor}: "
        f"{', '.join(told)}{beside}; {measured}."
    )


def _said(estimate: Estimate) -> str:
    return f"{estimate.value:+.4f} [{estimate.low:+.4f}, {estimate.high:+.4f}]"


def _tell_ledger(store: Store, made: Attribution) -> None:
    evidence: dict[str, JsonValue] = {
        "release_id": made.release_id,
        "predecessor": made.predecessor,
        "shares": {share.knob: share.change.value if share.change else None for share in made.shares},
        "predicted": made.predicted.value if made.predicted else None,
        "measured": made.measured.value,
        "trials": made.trials,
    }
    told = f"attributed-{made.release_id}-{made.predecessor}"
    ledger.append(store, ledger.Entry(what="attributed", who=made.by, why=made.because, evidence=evidence, id=told))
