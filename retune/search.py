"""Run a whole search on this machine: every stage's workers side by side, with progress that people can follow."""

import logging
import multiprocessing
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from threading import Thread

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from recsys.records import Plan, Study, TrialResult
from retune import stages

log = logging.getLogger(__name__)

OnTrial = Callable[[TrialResult], None]


def run(site: stages.Site, plan: Plan, *, on_trial: OnTrial) -> Study:
    """Run all stages of the plan's study and close it.

    One worker runs in this process; several run in processes of their own.

    Args:
        site: The line and its places.
        plan: A refit has no trials, so its study is closed at once.
        on_trial: Called in this process for every trial that ended.
    """
    stages.open_search(site, plan)
    for stage in stages.SEARCH_STAGES:
        jobs = stages.jobs(site, plan, stage)
        if len(jobs) == 1:
            _work(site, plan, stage, 0, on_trial)
        elif jobs:
            _work_side_by_side(site, plan, stage, len(jobs), on_trial)
    return stages.close_search(site, plan)


def _work(site: stages.Site, plan: Plan, stage: str, worker: int, on_trial: OnTrial) -> None:
    from recsys.tuning import Attempt

    stages.work(site, plan, stage, owner=Attempt(run="by hand", map_index=worker, attempt=1), on_trial=on_trial)


def _work_side_by_side(site: stages.Site, plan: Plan, stage: str, workers: int, on_trial: OnTrial) -> None:
    context = multiprocessing.get_context("spawn")  # a forked process would share torch's threads
    with context.Manager() as manager:
        ended = manager.Queue()

        def listen() -> None:
            for result in iter(ended.get, None):
                on_trial(result)

        listener = Thread(target=listen)
        listener.start()
        try:
            with ProcessPoolExecutor(workers, mp_context=context) as pool:
                running = [pool.submit(_work_in, site.line.name, plan, stage, w, ended.put) for w in range(workers)]
                for future in running:
                    future.result()
        finally:
            ended.put(None)
            listener.join()


def _work_in(line: str, plan: Plan, stage: str, worker: int, on_trial: OnTrial) -> None:
    _work(stages.site(line), plan, stage, worker, on_trial)


@contextmanager
def live(plan: Plan, *, quiet: bool) -> Iterator[OnTrial]:
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


def _line(result: TrialResult) -> str:
    value = "-" if result.ndcg_at_10 is None else f"{result.ndcg_at_10:.4f}"
    why = "; ".join(result.infeasible) or result.reason or (result.reused and f"the result of {result.reused}")
    return (
        f"{result.stage} trial {result.number} {result.family} {result.state} NDCG@10 {value} "
        f"in {result.seconds:.1f} s{f': {why}' if why else ''}"
    )
