"""Look whether a candidate is new: neither what is in production, nor what a person has rolled back."""

from collections.abc import Sequence

from recsys import channel
from recsys.channel import Pointer
from recsys.records import Bundle, Check, Outcome, Verdict


def check(candidate: str, incumbent: str, moves: Sequence[Pointer], again: str | None) -> Check:
    """There is something to release, and nobody has decided against it.

    The same model packaged again is the same release. One that a person rolled back would otherwise come back as soon
    as the loop looks at the same dataset again, with all that was wrong with it.

    Args:
        candidate: Its release id.
        incumbent: That of what is in production.
        moves: Of the channel so far, oldest first.
        again: Why a release that was rolled back may come back; None: it may not.

    Raises:
        ValueError: `again` says nothing.
    """
    require_reason(again)
    same = candidate == incumbent
    back = channel.given_up(moves).get(candidate)
    if same or back is None:
        outcome = Outcome.FAIL if same else Outcome.PASS
        because = f"The candidate is {'the' if same else 'another than the'} release in production."
    else:
        outcome = Outcome.PASS if again else Outcome.FAIL
        because = (
            f"{back.by} rolled the candidate back in generation {back.generation} ({back.reason.strip().rstrip('.')}), "
            f"and {'somebody' if again else 'nobody'} has said why it may come back."
        )
    return Check(
        name="novelty",
        outcome=outcome,
        because=because,
        evidence={"generation": moves[-1].generation} if moves else {},  # a verdict is on one turn of production
    )


def refusal(
    bundle: Bundle, moves: Sequence[Pointer], *, by: str, again: str | None = None, overridden: bool = False
) -> Verdict | None:
    """Judge a candidate that is not worth a look at the holdout, as nothing that is measured could let it through.

    Args:
        bundle: The candidate's.
        moves: Of the channel so far, oldest first.
        by: Who asks.
        again: Why a release that was rolled back may come back; None: it may not.
        overridden: Whether a person wants it released whatever the verdict, which brings back what was rolled back.

    Returns:
        The verdict; None where the candidate is new, or may come back.

    Raises:
        ValueError: `again` says nothing.
    """
    require_reason(again)
    incumbent = moves[-1].release_id if moves else ""
    found = check(bundle.release_id, incumbent, moves, again)
    if found.outcome is Outcome.PASS or (overridden and bundle.release_id != incumbent):
        return None
    return Verdict(
        candidate=bundle.release_id,
        incumbent=incumbent,
        outcome=Outcome.FAIL,
        checks=(found,),
        because=f"{bundle.release_id} fails novelty, so it was not measured and {incumbent} stays: {found.because}",
        by=by,
        as_of=bundle.as_of,
    )


def require_reason(again: str | None) -> None:
    """Refuse to bring a release back without a reason.

    Raises:
        ValueError: `again` says nothing.
    """
    if again is not None and not again.strip():
        raise ValueError("again must say why a release that was rolled back may come back, but is empty.")
