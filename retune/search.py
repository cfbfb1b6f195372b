"""Run a search or an ablation on this machine: workers side by side, with progress that people can follow."""

import logging
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.managers import SyncManager
from threading import Thread

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from recsys.records import Ablation, AblationPlan, Plan, Study, TrialResult
from retune import stages

log = logging.getLogger(__name__)

OnTrial = Callable[[TrialResult], None]

Work = Callable[..., object]
"""A stage as one worker does it: takes the site, who owns the worker's trials, and what to call with each of them."""


def run(site: stages.Site, plan: Plan, *, on_trial: OnTrial) -> Study:
    """Run all stages of the plan's study and close it.

    One worker runs in this process; several run in processes of their own, which end with this one however it ends.

    Args:
        site: The line and its places.
        plan: A refit has no trials, so its study is closed at once.
        on_trial: Called in this process for every trial that ended.

    Raises:
        KeyboardInterrupt: Somebody asked for the end; no worker is left, and the study stays open.
    """
    stages.open_search(site, plan)
    for stage in stages.SEARCH_STAGES:
        n_workers = len(stages.jobs(site, plan, stage))
        try:
            _work_by(n_workers, site, partial(stages.work, plan=plan, stage=stage), on_trial)
        except KeyboardInterrupt:
            stages.leave_search(site, plan)
            raise
    return stages.close_search(site, plan)


def run_ablation(site: stages.Site, plan: AblationPlan, *, on_trial: OnTrial) -> Ablation:
    """Train all variants of an ablation and compare them.

    Args:
        site: The line and its places.
        plan: One that was begun before goes on where it was ended; one that is known is not run again.
        on_trial: Called in this process for every trial that ended.

    Raises:
        KeyboardInterrupt: Somebody asked for the end; no worker is left, and the study stays open.
    """
    n_workers = len(stages.ablation_jobs(site, plan))
    _work_by(n_workers, site, partial(stages.work_ablation, plan=plan), on_trial)
    return stages.close_ablation(site, plan)


def account(study: Study) -> list[tuple[str, ...]]:
    """Lay out what each stage found and for how much, and below that what the trials' seconds went into."""
    rows: list[tuple[str, ...]] = [
        (part.stage, str(part.trials), f"{part.seconds:.1f}", _gain(part.gain), _gain(part.gain_per_hour), "")
        for part in study.stages
    ]
    for spent in study.spending:
        saved = f"{spent.saved_s:.1f} s saved" if spent.saved_s else ""
        rows.append((f"  {spent.cause}", str(spent.trials), f"{spent.seconds:.1f}", "", "", saved))
    return rows


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does, by a `KeyboardInterrupt`. Belongs in the main thread."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _work_by(workers: int, site: stages.Site, work: Work, on_trial: OnTrial) -> None:
    if workers == 1:
        _work(site, work, 0, on_trial)
    elif workers:
        _work_side_by_side(workers, site, work, on_trial)


def _work(site: stages.Site, work: Work, worker: int, on_trial: OnTrial) -> None:
    from recsys.tuning import Attempt

    work(site, owner=Attempt(run="by hand", map_index=worker, attempt=1), on_trial=on_trial)


def _work_side_by_side(workers: int, site: stages.Site, work: Work, on_trial: OnTrial) -> None:
    context = multiprocessing.get_context("spawn")  # a forked process would share torch's threads
    managed, working = context.Pipe(duplex=False), context.Pipe(duplex=False)
    manager = SyncManager(ctx=context)
    manager.start(_live_while_open, managed[:1])
    with managed[0], managed[1], working[0], working[1], manager:
        ended = manager.Queue()

        def listen() -> None:
            for result in iter(ended.get, None):
                on_trial(result)

        listener = Thread(target=listen, daemon=True)
        listener.start()
        try:
            with ProcessPoolExecutor(workers, context, _live_while_open, working[:1]) as pool:
                try:
                    running = [pool.submit(_work_in, site.line.name, work, w, ended.put) for w in range(workers)]
                    for future in running:
                        future.result()
                except BaseException:
                    working[1].close()  # else the pool would wait until every worker has done its part
                    raise
        finally:
            ended.put(None)
            listener.join()


def _work_in(line: str, work: Work, worker: int, on_trial: OnTrial) -> None:
    _work(stages.site(line), work, worker, on_trial)


def _live_while_open(pipe: Connection) -> None:
    """End this process when the other end of `pipe` is closed, as the kernel does when its holder dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the holder decides

    def watch() -> None:
        pipe.poll(None)
        os._exit(1)

    Thread(target=watch, daemon=True).start()


@contextmanager
def live(plan: Plan | AblationPlan, *, quiet: bool) -> Iterator[OnTrial]:
    """Show trials as they end: a moving bar on a terminal, one line each in a log, nothing where `quiet`."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[best]}"),
        console=Console(stderr=True),
    )
    moving = sys.stderr.isatty() and not quiet
    best = float("-inf")

    with bar if moving else nullcontext():
        task = bar.add_task(plan.plan_id, total=None, best="")

        def show(result: TrialResult) -> None:
            nonlocal best
            if result.ndcg_at_10 is not None and result.state == "complete":
                best = max(best, result.ndcg_at_10)
            if moving:
                bar.update(
                    task, advance=1, description=f"{result.stage} {result.family}", best=f"best NDCG@10 {best:.4f}"
                )
            elif not quiet:
                print(_line(result), file=sys.stderr, flush=True)  # noqa: T201 - progress, part of the command line
            log.info("%s", _line(result))

        yield show


def _gain(value: float | None) -> str:
    return "-" if value is None else f"{value:+.4f}"


def _line(result: TrialResult) -> str:
    value = "-" if result.ndcg_at_10 is None else f"{result.ndcg_at_10:.4f}"
    why = "; ".join(result.infeasible) or result.reason or (result.reused and f"the result of {result.reused}")
    return (
        f"{result.stage} trial {result.number} {result.family} {result.state} NDCG@10 {value} "
        f"in {result.seconds:.1f} s{f': {why}' if why else ''}"
    )
