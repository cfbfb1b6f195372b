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
from recsys.latency.blocks import Latencies, Roles, measure_latency
from recsys.latency.server import Histories, Served, serving
from recsys.records import Arrived, LatencyResult, Ratios
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
    cold_start_s: Mapping[str, float]
    memory_mib: Mapping[str, float]
    graphs: Mapping[str, str]
    confidence: float

    def results(self, role: str) -> tuple[LatencyResult, ...]:
        """Give what one role takes at each batch size."""
        found = (
            latencies.result(*TWINS.get(role, (role,)), confidence=self.confidence)
            for latencies in (self.at if role in TWINS else self.others)
        )
        return tuple(replace(result, graph=self.graphs[role]) for result in found)

    def arrived(self, role: str) -> Arrived | None:
        """Give what one role takes of requests that come by themselves, if they were let come."""
        return self.arrivals.result(role, confidence=self.confidence) if self.arrivals else None

    @property
    def ratios(self) -> Ratios:
        """Compare the candidate with the incumbent at the first batch size."""
        return self._ratios(TWINS[CANDIDATE], TWINS[INCUMBENT])

    @property
    def control(self) -> Ratios:
        """Compare the incumbent with itself."""
        first, again = TWINS[INCUMBENT]
        return self._ratios((again,), (first,))

    def _ratios(self, roles: Roles, to: Roles) -> Ratios:
        p50, p99 = (
            self.at[0].ratio(roles, to, quantile=quantile, confidence=self.confidence) for quantile in (0.5, 0.99)
        )
        return Ratios(p50=p50, p99=p99)


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
        timed = partial(measure_latency, n_histories=len(histories), seed=seed, confidence=confidence)
        both = {role: servers[role] for role in twins}
        rest = {role: servers[role] for role in others}
        briefly = min(OTHERS_S, seconds)
        compared = TWINS[CANDIDATE], TWINS[INCUMBENT]
        at = [timed(both, batch_size=first, seconds=seconds, compared=compared, width=gate.latency_margin)]
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
            cold_start_s={role: server.started.cold_start_s for role, server in servers.items()},
            memory_mib={role: server.peak_mib for role, server in servers.items()},
            graphs={role: one.graph for role, one in served.items()},
            confidence=confidence,
        )
