"""Give a rung that did not rank as the next one does more data and epochs in the searches to come."""

import math
from collections.abc import Sequence
from itertools import pairwise

from recsys.records import Agreement, Evidence, Plan, Rung
from recsys.settings import Line, Stage
from recsys.tuning.agreement import LEAST, NO_RANKING, agreement, differ
from recsys.tuning.promotion import STAGES

CLOSE = 1.1  # what is nearer to the next rung by this factor is made equal to it


def fitted(line: Line, plan: Plan) -> Line:
    """Give the line as the plan searches it: with the shares and epochs that it has raised."""
    for rung in plan.rungs:
        line = _changed(line, rung)
    return line


def raised(line: Line, evidence: Sequence[Evidence]) -> tuple[Rung, ...]:
    """Decide what each rung but the last is to be given, by how earlier searches ranked on it and on the next.

    Share and epochs of a rung that does not rank go half the way to the next rung's, as a factor; and again, if
    searches at what it then has did not rank either. More configurations could be carried up instead, but each of those
    would be paid for on the dearer rung, and would still have been picked at random.

    Args:
        line: Says what each rung has been given.
        evidence: Of the line's earlier searches.

    Returns:
        The rungs of which something can be told, the highest first, with the reason; those that stay are said, too.
    """
    searches = [found.trials for found in evidence]
    told: list[Rung] = []
    for lower, upper in reversed(list(pairwise(STAGES))):
        because = []
        while differ(line, lower, upper):
            found = agreement(line, lower, upper, searches)
            if not found.configurations:
                break
            because.append(_said(found))
            if not _fails(found):
                break
            rung = _between(line, lower, upper)
            because[-1] += f", so {lower} is given a share of {rung.share:g} and {rung.epochs:g} of the epochs"
            line = _changed(line, rung)
        if because:
            own: Stage = getattr(line.search, lower)
            told.append(Rung(stage=lower, share=own.share, epochs=own.epochs, because=f"{'; then '.join(because)}."))
    return tuple(told)


def _fails(found: Agreement) -> bool:
    return found.tau is not None and found.tau.high < NO_RANKING


def _said(found: Agreement) -> str:
    pair = f"{found.lower} ranks as {found.upper} does"
    if found.tau is None:
        return f"Whether {pair} cannot be told from {found.configurations} configurations, for it takes {LEAST}"
    tau = f"Kendall's tau-b {found.tau.value:.2f} [{found.tau.low:.2f}, {found.tau.high:.2f}]"
    over = f"({tau} over {found.configurations} configurations)"
    return f"Nothing shows that {pair} {over}" if _fails(found) else f"As far as can be told, {pair} {over}"


def _between(line: Line, lower: str, upper: str) -> Rung:
    """Go half the way from one rung to the next."""
    below: Stage = getattr(line.search, lower)
    above: Stage = getattr(line.search, upper)
    share, epochs = (_half(getattr(below, name), getattr(above, name)) for name in ("share", "epochs"))
    return Rung(stage=lower, share=share, epochs=epochs, because="")


def _half(below: float, above: float) -> float:
    """Give the geometric mean to two digits, or `above` where that is near."""
    middle = round(math.sqrt(below * above), 2)
    return above if middle * CLOSE >= above else max(below, middle)


def _changed(line: Line, rung: Rung) -> Line:
    own: Stage = getattr(line.search, rung.stage)
    stage = own.model_copy(update={"share": rung.share, "epochs": rung.epochs})
    return line.model_copy(update={"search": line.search.model_copy(update={rung.stage: stage})})
