"""Say the story's numbers and dates as a person would, each with its unit and its interval."""

from datetime import datetime

from recsys.records import MIB, Action, Configuration, DriftVerdict, Estimate, Span, Study
from retune.report.chapters import Round, Story, fate

REFERENCES = {"popularity": "popularity", "markov": "a tuned Markov model"}
"""What every release is shown beside, as a sentence says it."""


def headline(story: Story) -> str:
    """Say in one sentence what is in production and how much better it is than popularity and Markov."""
    now, proof = story.current, story.proof
    if now is None:
        return "Nothing is in production yet."
    if not story.promoted:
        return f"The {family(now.family)} baseline is in production; no candidate has replaced it."
    if proof is None:
        return f"{title(now.family)} is in production."
    card, measured = proof
    lifts = [lift(measured, name) for name in REFERENCES if name in measured.gains and measured.is_about(card)]
    if not lifts:
        return f"{title(now.family)} is in production, with NDCG@10 {interval(card.ndcg_at_10)}."
    return f"{title(now.family)} is in production: its NDCG@10 is {' and '.join(lifts)}."


def lift(measured: Round, reference: str) -> str:
    """Say how far the candidate of a round lies above or below a reference, with the interval of the difference."""
    base, gain = measured.references[reference].ndcg_at_10.value, measured.gains[reference]
    if base <= 0:
        return f"{change(gain)} from {REFERENCES[reference]}"
    percent, low, high = (100 * end / base for end in (gain.value, gain.low, gain.high))
    if low <= 0 <= high:
        return f"not surely above or below {REFERENCES[reference]} ({low:+.0f} to {high:+.0f} %)"
    if percent < 0:
        return f"{-percent:.0f} % ({-high:.0f} to {-low:.0f}) below {REFERENCES[reference]}"
    return f"{percent:.0f} % ({low:.0f} to {high:.0f}) above {REFERENCES[reference]}"


def interval(estimate: Estimate, digits: int = 3) -> str:
    """Say an estimate with its interval.

    >>> interval(Estimate(value=0.1204, low=0.11, high=0.1311))
    '0.120 (0.110 to 0.131)'
    """
    return f"{estimate.value:.{digits}f} ({estimate.low:.{digits}f} to {estimate.high:.{digits}f})"


def change(estimate: Estimate, digits: int = 3) -> str:
    """Say a difference with its interval, each with its sign.

    >>> change(Estimate(value=0.012, low=-0.001, high=0.025))
    '+0.012 (-0.001 to +0.025)'
    """
    return f"{estimate.value:+.{digits}f} ({estimate.low:+.{digits}f} to {estimate.high:+.{digits}f})"


def percent(estimate: Estimate) -> str:
    """Say a share in percent with its interval, each with its sign.

    >>> percent(Estimate(value=0.0012, low=-0.001, high=0.0034))
    '+0.12 (-0.10 to +0.34)'
    """
    scaled = Estimate(value=100 * estimate.value, low=100 * estimate.low, high=100 * estimate.high)
    return change(scaled, digits=2)


def milliseconds(estimate: Estimate) -> str:
    """Say milliseconds with their interval, the value in three figures.

    >>> milliseconds(Estimate(value=0.4312, low=0.4, high=0.47)), milliseconds(Estimate(value=12.31, low=11.9, high=13))
    ('0.431 ms (0.400 to 0.470)', '12.3 ms (11.9 to 13.0)')
    """
    digits = 3 if estimate.value < 1 else 2 if estimate.value < 10 else 1
    return f"{estimate.value:.{digits}f} ms ({estimate.low:.{digits}f} to {estimate.high:.{digits}f})"


def mebibytes(size_bytes: int) -> str:
    """Say a size.

    >>> mebibytes(3 << 19), mebibytes(5000)
    ('1.50 MiB', '0.005 MiB')
    """
    size_mib = size_bytes / MIB
    return f"{size_mib:.2f} MiB" if size_mib >= 0.1 else f"{size_mib:.3f} MiB"


def duration(seconds: float) -> str:
    """Say how long something took.

    >>> duration(8.24), duration(71), duration(3700)
    ('8.2 s', '1 min 11 s', '1 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def day(moment: datetime) -> str:
    """Say a date.

    >>> day(datetime(1998, 3, 4))
    '4 Mar 1998'
    """
    return f"{moment.day} {moment:%b %Y}"


def days(span: Span) -> str:
    """Say the dates that a span covers, as short as they allow.

    >>> from datetime import timedelta
    >>> def two_weeks_from(begins):
    ...     ends = begins + timedelta(days=14)
    ...     return days(Span(name="holdout", begins=begins, ends=ends, events=1, users=1, items=1))
    >>> two_weeks_from(datetime(1998, 3, 4)), two_weeks_from(datetime(1997, 12, 24))
    ('4 to 18 Mar 1998', '24 Dec 1997 to 7 Jan 1998')
    """
    begins, ends = span.begins, span.ends
    if begins.year != ends.year:
        return f"{day(begins)} to {day(ends)}"
    if begins.month != ends.month:
        return f"{begins.day} {begins:%b} to {day(ends)}"
    return f"{begins.day} to {day(ends)}"


def family(name: str) -> str:
    """Say a family within a sentence.

    >>> family("two_tower"), family("sasrec"), family("popularity")
    ('two-tower', 'SASRec', 'popularity')
    """
    return _FAMILIES.get(name, name.replace("_", "-"))


def title(name: str) -> str:
    """Say a family at the beginning of a sentence.

    >>> title("two_tower"), title("sasrec")
    ('Two-tower', 'SASRec')
    """
    said = family(name)
    return said[:1].upper() + said[1:]


def short(name: str, most: int = 30) -> str:
    """Cut a name that would leave a picture no room.

    >>> short("occupation"), short("what_the_user_said_about_the_item", 20)
    ('occupation', 'what_the_user_said_…')
    """
    return name if len(name) <= most else f"{name[: most - 1]}…"


def decision(found: Round) -> str:
    """Say what was decided."""
    return {
        Action.NOTHING: "Left as it is",
        Action.REFIT: f"Refitted {family(found.family)}",
        Action.SENTINELS: "Searched with a few sentinels",
        Action.RETUNE: "Retuned",
    }[found.plan.action]


def moved(verdict: DriftVerdict) -> str:
    """Say how many columns moved."""
    if not verdict.columns:
        return "nothing to compare with"
    return f"{sum(column.drifted for column in verdict.columns)} of {len(verdict.columns)} columns moved"


def trials(study: Study) -> str:
    """Say how many trials each stage ran, and how those ended that did not finish."""
    stages = [trial.stage for trial in study.trials]
    ends = [fate(trial) for trial in study.trials]
    said = [f"{stage} {stages.count(stage)}" for stage in dict.fromkeys(stages)]
    odd = [f"{ends.count(end)} {end}" for end in dict.fromkeys(ends) if end != "finished"]
    return "; ".join(part for part in (", ".join(said), ", ".join(odd)) if part)


def settings(configuration: Configuration) -> str:
    """Say a configuration in a line.

    >>> settings({"dim": 64, "lr": 0.00312345, "tied": True})
    'dim 64, lr 0.00312, tied True'
    """
    said = {name: f"{value:.3g}" if isinstance(value, float) else str(value) for name, value in configuration.items()}
    return ", ".join(f"{name} {value}" for name, value in said.items())


_FAMILIES = {"sasrec": "SASRec", "markov": "Markov"}  # proper names

FILTERS = {
    said.__name__: said
    for said in (
        *(change, day, days, decision, duration, family, fate, interval, mebibytes),
        *(milliseconds, moved, percent, settings, title, trials),
    )
}
"""What the page's template may call."""
