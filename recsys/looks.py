"""Count the looks at locked holdouts, and divide among them the chance of promoting what is no better.

Every look spends a level: the chance that it promotes a candidate which is no better than the incumbent. The levels of
any 365 days sum to the line's error budget at most, so by the union bound the chance of any false promotion among them
is within it, however much alike the p-values are; looks at overlapping holdouts, through the same users, are alike
(alpha-spending: Tian and Ramdas 2021, "Online control of the familywise error rate"). A level follows from the levels
and times of earlier looks and from no p-value, so nothing that was seen can buy a larger one, and nothing returns what
was spent: no pass, no failure, and nobody's override.

A look is taken before the holdout is read. Whoever reads it for the same pair again has that look already; another
pair, or another holdout, is another look.
"""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from recsys import ledger
from recsys.errors import Conflict
from recsys.records import Look, dump, load, parse, to_json
from recsys.store import Store

YEAR = timedelta(days=365)
SPARED = 0.1  # of a year's looks: so many more are always thought to come, so that none is left without a level
FEWEST_SPARED = 2.0  # looks; a line that looks once a year may have to look again

log = logging.getLogger(__name__)

_FOLDER = "looks/"


def take(
    store: Store,
    *,
    dataset_id: str,
    candidate: str,
    incumbent: str,
    who: str,
    budget: float,
    looks_a_year: int,
    at: datetime | None = None,
) -> Look:
    """Count a look at a holdout and say what it may spend; for the same holdout and pair, the one that was taken.

    Args:
        store: The line's part of the store.
        dataset_id: Whose holdout.
        candidate: Release id of the candidate's bundle.
        incumbent: Release id of what is in production.
        who: Who looks; a person, or `schedule`.
        budget: Chance of any false promotion in a year.
        looks_a_year: How many looks are expected.
        at: When, in UTC; None: now.

    Raises:
        BadObject: A look that was taken before cannot be read.
    """
    while True:
        taken = looks(store)
        pair = (dataset_id, candidate, incumbent)
        if same := [look for look in taken if (look.dataset_id, look.candidate, look.incumbent) == pair]:
            return same[0]
        now = at or datetime.now(UTC)
        look = Look(
            number=taken[-1].number + 1 if taken else 1,
            at=now,
            who=who,
            dataset_id=dataset_id,
            candidate=candidate,
            incumbent=incumbent,
            level=level(taken, now, budget=budget, looks_a_year=looks_a_year),
            budget=budget,
            looks_a_year=looks_a_year,
        )
        try:
            store.create(_key(look.number), to_json(look))  # of several at once, one gets this number
        except Conflict:
            continue
        _tell(store, look)
        return look


def level(taken: Sequence[Look], at: datetime, *, budget: float, looks_a_year: int) -> float:
    """Give what the next look may spend: what is left of the last year's budget, divided among the looks still to come.

    A line that looks as often as expected, or less, spends the same each time. One that looks more often is not
    stopped: from then on its levels shrink, until the year rolls, and the budget holds all the same.

    Args:
        taken: The looks so far.
        at: When the next one is taken.
        budget: Chance of any false promotion in a year.
        looks_a_year: How many looks are expected.

    >>> when = datetime(2026, 1, 1, tzinfo=UTC)
    >>> round(level([], when, budget=0.05, looks_a_year=50), 6)  # 0.05 / 55
    0.000909
    """
    recent = [look.level for look in taken if look.at > at - YEAR]
    to_come = max(looks_a_year - len(recent), 0) + max(SPARED * looks_a_year, FEWEST_SPARED)
    return max(budget - sum(recent), 0.0) / to_come


def looks(store: Store) -> list[Look]:
    """Give all looks of a line, oldest first, from its ledger.

    A look whose taker died before it stood in the ledger is entered there first.

    Raises:
        BadObject: One of them cannot be read.
    """
    told = {look.number: look for look in map(_of, ledger.read(store, what="looked"))}
    numbers = [int(found.key.removeprefix(_FOLDER).removesuffix(".json")) for found in store.list(_FOLDER)]
    for number in sorted(set(numbers) - set(told)):
        look = parse(Look, _key(number), store.get(_key(number)).body)
        _tell(store, look)
        told[number] = look
    return [told[number] for number in sorted(told)]


def _tell(store: Store, look: Look) -> None:
    ledger.append(
        store,
        ledger.Entry(
            at=look.at,
            what="looked",
            who=look.who,
            why=(
                f"look {look.number} at a holdout, that of {look.dataset_id}, at {look.candidate} against "
                f"{look.incumbent}, may spend {look.level:.3g} of a year's {look.budget:g}"
            ),
            evidence=dump(look),
            id=f"look-{look.number}",
        ),
    )
    log.info("look %d spends %.3g of %g: %s", look.number, look.level, look.budget, look.dataset_id)


def _of(entry: ledger.Entry) -> Look:
    return load(Look, entry.evidence)


def _key(number: int) -> str:
    return f"{_FOLDER}{number:06d}.json"
