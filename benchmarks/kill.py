"""Kill workers of real searches 100 times, at random moments, with kill -9, and count what was lost by it."""

import logging
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._hunt import WAITS_S, Findings, Hunt, known
from benchmarks._postgres import postgres
from benchmarks._table import ROOT, show
from recsys.records import Action, DriftVerdict, Plan
from recsys.settings import Budgets, Search, read_line
from recsys.store import open_store
from retune import replay, stages

KILLS = {"journal": 60, "PostgreSQL": 40}  # by where the study lies
SEED = 1
WEEKS = 7  # of MovieLens-100K, from the first

SPACE = {"epochs": [6, 10], "dim": [16], "layers": [1], "heads": [2], "history_length": [20], "softmax": ["full"]}
SEARCH: dict[str, Any] = {
    "families": ["sasrec", "hybrid"],
    "budget_s": 3_600,  # which no search here comes near: no trial is left out for want of time
    "workers": 2,
    "seed": SEED,
    "screen": {"trials": 7, "share": 0.5, "epochs": 0.8},
    "refine": {"trials": 2, "share": 1.0, "epochs": 0.8},
    "confirm": {"trials": 1, "seeds": 2},
    "space": {"sasrec": SPACE, "hybrid": SPACE},
}


def main() -> None:
    """Kill until every kind of storage has had its share, run one search twice, and print what was found."""
    logging.basicConfig(level=logging.CRITICAL)
    rng = np.random.default_rng(SEED)
    began = time.monotonic()
    found: dict[str, list[Findings]] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="retune-kill-")))
        kinds = {"journal": str(folder / "studies.journal"), "PostgreSQL": stack.enter_context(postgres())}
        site, verdict = prepare(folder / "store")
        nonces = map(str, count())
        for kind, studies in kinds.items():
            found[kind] = list(_until_killed(replace(site, studies=studies), verdict, KILLS[kind], nonces, rng))
        differing = run_twice(site, verdict, folder)
    _show(found, differing, time.monotonic() - began)


def prepare(root: Path) -> tuple[stages.Site, DriftVerdict]:
    """Land MovieLens in an empty store and take it through the loop up to the verdict about drift."""
    line = read_line(ROOT / "lines" / "movielens.toml").model_copy(
        update={"search": Search.model_validate(SEARCH), "budgets": Budgets(p99_ms=10_000, size_mib=1_000)}
    )
    site = stages.Site(line=line, store=open_store(root.as_uri()).under(line.name), studies="")
    weeks = replay.weeks(ROOT / "var" / "data")[:WEEKS]
    for week in weeks:
        replay.land(site.store, week)
    batch = stages.pull(site, as_of=weeks[-1].ends)
    dataset = stages.freeze(site, stages.commit(site, stages.check(site, batch)))
    stages.baseline(site, dataset, by="benchmarks")
    return site, stages.judge(site, dataset)


def run_twice(site: stages.Site, verdict: DriftVerdict, folder: Path) -> int:
    """Run one plan twice on one worker with what the searches so far have found, and count the trials that differ."""
    line = site.line.model_copy(update={"search": site.line.search.model_copy(update={"workers": 1, "warm": True})})
    plan = _plan(replace(site, line=line, studies=str(folder / "twice.journal")), verdict, "twice")
    outcomes = []
    for name in ("once", "again"):
        shutil.copytree(folder / "store", folder / name)
        own = open_store((folder / name).as_uri()).under(line.name)
        there = stages.Site(line=line, store=own, studies=str(folder / f"{name}.journal"))
        found = Hunt(there, plan, kills=0, rng=np.random.default_rng(SEED)).run()
        outcomes.append([(*known(trial), trial.intermediate_values) for trial in found.trials])
    once, again = outcomes
    return abs(len(once) - len(again)) + sum(one != other for one, other in zip(once, again, strict=False))


def _until_killed(
    site: stages.Site, verdict: DriftVerdict, kills: int, nonces: Iterator[str], rng: np.random.Generator
) -> Iterator[Findings]:
    """Search, cold and warm in turn, until so many workers have been killed."""
    while kills > 0:
        nonce = next(nonces)
        search = site.line.search.model_copy(update={"warm": int(nonce) % 2 == 1})
        at = replace(site, line=site.line.model_copy(update={"search": search}))
        began = time.monotonic()
        found = Hunt(at, _plan(at, verdict, nonce), kills=kills, rng=rng).run()
        kills -= len(found.kills)
        said = f"search {nonce}: {len(found.kills)} kills, {len(found.trials)} trials, {found.epochs} epochs"
        harm = f"{found.stuck} stuck, {found.lost} lost, {max(found.repeated, default=0)} repeated at most"
        print(f"{said}, {harm}, {time.monotonic() - began:.0f} s", flush=True)
        yield found


def _plan(site: stages.Site, verdict: DriftVerdict, nonce: str) -> Plan:
    why = "Is anything lost when workers are killed?"
    return stages.decide(site, verdict, by="benchmarks", action=Action.RETUNE, reason=why, nonce=nonce)


def _show(found: dict[str, list[Findings]], differing: int, seconds: float) -> None:
    everything = [findings for kind in found.values() for findings in kind]
    repeated = [number for findings in everything for number in findings.repeated]
    moments = Counter(moment for findings in everything for moment in findings.kills)
    figures: dict[str, Any] = {
        "kills": sum(moments.values()),
        "kills_by_storage": {kind: sum(len(f.kills) for f in findings) for kind, findings in found.items()},
        "kills_by_moment": dict(moments),
        "searches": len(everything),
        "stuck": sum(findings.stuck for findings in everything),
        "lost": sum(findings.lost for findings in everything),
        "dropped": sum(findings.dropped for findings in everything),
        "taken_up": len(repeated),
        "repeated_epochs_max": max(repeated, default=0),
        "repeated_epochs": sum(repeated),
        "epochs": sum(findings.epochs for findings in everything),
        "same_study": differing == 0,
        "seconds": round(seconds),
    }
    rows: list[tuple[str, int]] = [
        ("kill -9 of a worker", figures["kills"]),
        *((f"  of which the study lay in {kind}", n) for kind, n in figures["kills_by_storage"].items()),
        *((f"  of which it had just {moment}", moments[moment]) for moment in WAITS_S),
        ("searches", figures["searches"]),
        ("trials stuck (`stuck`)", figures["stuck"]),
        ("finished trials lost (`lost`)", figures["lost"]),
        ("listed configurations without a result", figures["dropped"]),
        ("trials taken up again", figures["taken_up"]),
        ("epochs repeated after one kill, at most (`repeated_epochs_max`)", figures["repeated_epochs_max"]),
        ("epochs repeated, altogether", figures["repeated_epochs"]),
        ("epochs begun, altogether", figures["epochs"]),
        ("trials that differ when one worker runs a plan twice", differing),
        ("seconds", figures["seconds"]),
    ]
    title = "kill -9 at random moments of searches on MovieLens-100K"
    show("kill", title=title, columns=("what", "measured"), rows=rows, figures=figures)


if __name__ == "__main__":
    main()
