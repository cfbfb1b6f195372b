"""Time a candidate and the incumbent as a service would run them, each in two fresh processes.

Two processes that serve the same differ by a few per cent for as long as they live, by where their memory came to lie
(Kalibera and Jones 2013, "Rigorous Benchmarking in Reasonable Time"). Taken together, two of them do so less. And the
incumbent's second beside its first says what the machine makes of equals: where it tells them apart, nothing that is
told of the candidate can be believed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType

from recsys.latency.arrivals import Arrivals, measure_arrivals
from recsys.latency.blocks import P50, P99, Latencies, Roles, measure_latency
from recsys.latency.pace import told, within
from recsys.latency.server import Histories, Served, serving
from recsys.records import Arrived, LatencyResult, Outcome, Ratios
from recsys.settings import Budgets, Gate

CANDIDATE, INCUMBENT = "candidate", "incumbent"
TWINS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {CANDIDATE: (CANDIDATE, "candidate again"), INCUMBENT: (INCUMBENT, "incumbent again")}
)
"""The processes of a role."""
_STARTED = (CANDIDATE, INCUMBENT, INCUMBENT, CANDIDATE)  # in this order, because whoever starts first may be the slower
OTHERS_S = 2.0  # for each batch size but the first, and for the graph that does not serve: nothing is decided there
ARRIVALS_S = 6.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SideBySide:
    """What was timed of each role, at each of the line's batch sizes."""

    at: tuple[Latencies, ...]  # of candidate and incumbent, in the order of the batch sizes
    others: tuple[Latencies, ...]  # of whatever else is served, likewise
    arrivals: Arrivals | None
    cold_start_s: Mapping[str, float]  # the shortest of a role's processes: what else happens only makes it longer
    memory_mib: Mapping[str, float]  # the most that any of them held
    graphs: Mapping[str, str]
    confidence: float

    def results(self, role: str) -> tuple[LatencyResult, ...]:
        """Give what one role takes at each batch size."""
        found = (
            latencies.result(*_of(role), confidence=self.confidence)
            for latencies in (self.at if role in TWINS else self.others)
        )
        return tuple(replace(result, graph=self.graphs[role]) for result in found)

    def arrived(self, role: str) -> Arrived | None:
        """Give what one role takes of requests that come by themselves, if they were let come."""
        return self.arrivals.result(role, confidence=self.confidence) if self.arrivals else None

    @property
    def ratios(self) -> Ratios:
        """Compare the candidate with the incumbent at the first batch size."""
        return compared(self.at[0], confidence=self.confidence)

    @property
    def control(self) -> Ratios:
        """Compare the incumbent with itself."""
        return controlled(self.at[0], confidence=self.confidence)


def compared(found: Latencies, *, confidence: float) -> Ratios:
    """Compare the candidate's processes with the incumbent's."""
    return _ratios(found, TWINS[CANDIDATE], TWINS[INCUMBENT], confidence)


def controlled(found: Latencies, *, confidence: float) -> Ratios:
    """Compare the incumbent's second process with its first."""
    first, again = TWINS[INCUMBENT]
    return _ratios(found, (again,), (first,), confidence)


def _ratios(found: Latencies, roles: Roles, to: Roles, confidence: float) -> Ratios:
    p50, p99 = (found.ratio(roles, to, quantiles=quantiles, confidence=confidence) for quantiles in (P50, P99))
    return Ratios(p50=p50, p99=p99)


def tells(gate: Gate, budgets: Budgets, found: Latencies) -> bool:
    """Say whether what was timed so far decides about the candidate's p99 and both of its ratios, or fails one of them.

    Args:
        gate: Says what ratios are allowed.
        budgets: Say how long a request may take.
        found: What was timed.
    """
    p99 = found.result(*TWINS[CANDIDATE], confidence=gate.latency_confidence).p99_ms
    outcomes = [within(p99, budgets.p99_ms)]
    if p99.high > gate.ratios_from * budgets.p99_ms:
        ratios = compared(found, confidence=gate.latency_confidence)
        control = controlled(found, confidence=gate.latency_confidence)
        outcomes += [
            told(ratios.p50, control.p50, limit=gate.max_p50_ratio, margin=gate.latency_margin),
            told(ratios.p99, control.p99, limit=gate.max_p99_ratio, margin=gate.latency_margin),
        ]
    return Outcome.FAIL in outcomes or Outcome.INCONCLUSIVE not in outcomes


def _of(role: str) -> Roles:
    return TWINS.get(role, (role,))


def started(served: Mapping[str, Served]) -> dict[str, Served]:
    """Give what the processes of candidate and incumbent serve, by their names and in the order of their start."""
    names = {role: iter(names) for role, names in TWINS.items()}
    return {next(names[role]): served[role] for role in _STARTED}


def time_side_by_side(
    served: Mapping[str, Served], histories: Histories, *, budgets: Budgets, gate: Gate, seconds: float, seed: int
) -> SideBySide:
    """Time all roles in fresh processes, which share their cores.

    Args:
        served: What is served, by role; `CANDIDATE` and `INCUMBENT` among them.
        histories: Real histories, all that requests are made of.
        budgets: Say in which batches, and how often, requests come.
        gate: Says how precise ratios must be, and how sure.
        seconds: After which no ratio is waited for any longer.
        seed: Fixes what is drawn.

    Raises:
        NotServed: A process did not come up, or died.
        BadBundle: One of them cannot be served.
    """
    first, *more = budgets.batch_sizes
    confidence = gate.latency_confidence
    twins = started(served)
    others = {role: one for role, one in served.items() if role not in TWINS}
    with serving({**twins, **others}, histories) as servers:
        timed = partial(measure_latency, n_histories=len(histories), seed=seed)
        both = {role: servers[role] for role in twins}
        rest = {role: servers[role] for role in others}
        briefly = min(OTHERS_S, seconds)
        at = [timed(both, batch_size=first, seconds=seconds, enough=partial(tells, gate, budgets))]
        at += [timed(both, batch_size=batch_size, seconds=briefly) for batch_size in more]
        arrivals = (
            measure_arrivals(
                {role: servers[role] for role in TWINS},
                n_histories=len(histories),
                batch_size=first,
                per_s=budgets.arrivals_per_s,
                seconds=min(ARRIVALS_S, seconds),
                seed=seed,
            )
            if budgets.arrivals_per_s
            else None
        )
        return SideBySide(
            at=tuple(at),
            others=tuple(timed(rest, batch_size=n, seconds=briefly) for n in budgets.batch_sizes) if rest else (),
            arrivals=arrivals,
            cold_start_s={role: min(servers[each].started.cold_start_s for each in _of(role)) for role in served},
            memory_mib={role: max(servers[each].peak_mib for each in _of(role)) for role in served},
            graphs={role: one.graph for role, one in served.items()},
            confidence=confidence,
        )
