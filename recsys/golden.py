"""Keep what a bundle's graph answers when it is packaged, and hold whoever opens it later to the same answers.

The bytes of a graph say nothing of who runs them: another version of the runtime, another processor or other threads
may score otherwise. So some real histories, and the empty one, are asked one at a time when a bundle is packaged, and
asked again in a fresh process before it is measured, by a release, and by serving when it takes the bundle up.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from recsys.bundles import FP32, GOLDEN, MANIFEST, VOCABULARY, identify, refer
from recsys.errors import BadBundle
from recsys.ranker import Ranker, Recommended
from recsys.records import Bundle, Golden, GoldenRequest, parse, to_json
from recsys.sequences import Cases

REQUESTS = 32  # real histories, beside the empty one
K = 10  # items of each answer
SAME = 1e-4  # scores nearer to each other than this share of all scores' range are the same; int8 rounds, see below
SAME_INT8 = 5e-3  # one activation that another processor rounds the other way moves a score by about a thousandth
TIMEOUT_S = 300.0  # of a fresh process that starts, opens a graph and answers


def added(bundle: Bundle, files: Mapping[str, bytes], cases: Cases) -> tuple[Bundle, dict[str, bytes]]:
    """Ask the graph that serves, and put its answers among the files of a bundle that is not kept yet.

    Args:
        bundle: What is being packaged.
        files: The bytes of its files.
        cases: Whose histories are asked, spread evenly; in the ids of the bundle's vocabulary.

    Returns:
        The bundle, which is called otherwise with one file more, and all its files.
    """
    ranker = Ranker.of(bundle, files)
    histories = [(), *_histories(cases.spread(REQUESTS), ranker)]
    golden = Golden(graph=ranker.graph, requests=tuple(_asked(ranker, history) for history in histories))
    bodies = {**files, GOLDEN: to_json(golden)}
    refs = {**bundle.files, GOLDEN: refer(bodies[GOLDEN])}
    release_id = identify(
        family=bundle.family,
        configuration=bundle.configuration,
        dataset_id=bundle.dataset_id,
        history_length=bundle.history_length,
        files=refs,
    )
    return replace(bundle, release_id=release_id, files=refs), bodies


def require(ranker: Ranker, files: Mapping[str, bytes]) -> int:
    """Ask an open bundle its golden requests.

    Args:
        ranker: The graph that serves, open.
        files: The bytes of the bundle's files.

    Returns:
        How many requests were answered as when the bundle was packaged; 0 of a bundle that was packaged without any.

    Raises:
        BadBundle: An answer is another one by more than ties.
    """
    if GOLDEN not in files:
        return 0
    golden = parse(Golden, f"{GOLDEN} of {ranker.bundle.release_id}", files[GOLDEN])
    if golden.graph != ranker.graph:
        raise BadBundle(
            f"{GOLDEN} of {ranker.bundle.release_id} must be of the graph that serves, {ranker.graph}, but is of "
            f"{golden.graph}.",
            file=GOLDEN,
        )
    wrong = [said for request in golden.requests if (said := _difference(request, ranker.recommend(request.history)))]
    if wrong:
        raise BadBundle(
            f"{ranker.graph} of {ranker.bundle.release_id} must answer the {len(golden.requests)} requests of {GOLDEN} "
            f"as when it was packaged, but does not answer {len(wrong)}; the first {wrong[0]}.",
            file=GOLDEN,
        )
    return len(golden.requests)


def require_elsewhere(bundle: Bundle, files: Mapping[str, bytes], *, threads: int = 1) -> int:
    """Do what `require` does in a fresh process, which has nothing in common with the one that packaged.

    Args:
        bundle: Which bundle.
        files: The bytes of its files.
        threads: CPU threads that one request may use.

    Raises:
        BadBundle: An answer is another one by more than ties, or the process cannot open the bundle.
    """
    if GOLDEN not in files:
        return 0
    with tempfile.TemporaryDirectory() as folder:
        for name in (bundle.serves, VOCABULARY, GOLDEN):
            (Path(folder) / name).write_bytes(files[name])
        (Path(folder) / MANIFEST).write_bytes(to_json(bundle))
        found = _run([sys.executable, "-m", "recsys.golden", folder, str(threads)], bundle)
    return int(found)


def main(arguments: Sequence[str]) -> None:
    """Hold the bundle in a folder to its golden requests; what is wrong goes to the error output."""
    folder, threads = Path(arguments[0]), int(arguments[1])
    bundle = parse(Bundle, MANIFEST, (folder / MANIFEST).read_bytes())
    files = {name: (folder / name).read_bytes() for name in (bundle.serves, VOCABULARY, GOLDEN)}
    try:
        answered = require(Ranker.of(bundle, files, threads=threads), files)
    except BadBundle as error:
        sys.exit(str(error))
    sys.stdout.write(str(answered))


def _run(command: Sequence[str], bundle: Bundle) -> str:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S, env=environment)
    except subprocess.TimeoutExpired as error:
        raise BadBundle(
            f"{bundle.serves} of {bundle.release_id} must answer {GOLDEN} within {TIMEOUT_S:g} s in a process of its "
            "own, but has not.",
            file=GOLDEN,
        ) from error
    if ended.returncode == 1 and ended.stderr.strip():
        raise BadBundle(ended.stderr.strip().splitlines()[-1], file=GOLDEN)
    if ended.returncode:
        raise BadBundle(
            f"{bundle.serves} of {bundle.release_id} must be a graph that runs in a process of its own, but that ended "
            f"with {ended.returncode}: {ended.stderr.strip()[-300:]}",
            file=bundle.serves,
        )
    return ended.stdout


def _histories(cases: Cases, ranker: Ranker) -> Iterator[tuple[str, ...]]:
    """Name the newest items before each case, as many as the graph reads."""
    for row in cases.histories(np.arange(len(cases)), ranker.bundle.history_length).tolist():
        yield tuple(ranker.vocabulary[at - 1] for at in row if at)


def _asked(ranker: Ranker, history: tuple[str, ...]) -> GoldenRequest:
    everything = ranker.recommend(history, k=len(ranker.vocabulary))
    scale = SAME if ranker.graph == FP32 else SAME_INT8
    return GoldenRequest(
        history=history,
        items=tuple(everything.items[:K]),
        scores=tuple(everything.scores[:K]),
        tolerance=scale * (everything.scores[0] - everything.scores[-1]) if everything.scores else 0.0,
    )


def _difference(request: GoldenRequest, found: Recommended) -> str:
    """Say how an answer differs by more than ties; empty: it does not.

    Place by place the scores must be the same. An item may stand in another place, or be there for one that is not, if
    the scores of both places were the same.
    """
    asked = f"after {list(request.history[-3:])}" if request.history else "after no history"
    if len(found.items) != len(request.items):
        return f"{asked} has {len(found.items)} items instead of {len(request.items)}"
    expected = dict(zip(request.items, request.scores, strict=True))
    places = zip(request.items, request.scores, found.items, found.scores, strict=True)
    for place, (item, score, other, other_score) in enumerate(places, start=1):
        stood_at = expected.get(other, request.scores[-1])
        same_score = abs(other_score - score) <= request.tolerance
        if not same_score or (item != other and abs(stood_at - score) > 2 * request.tolerance):
            return (
                f"{asked} has {other!r} with {other_score:.6g} in place {place} instead of {item!r} with {score:.6g}, "
                f"and {request.tolerance:.2g} is the same"
            )
    return ""


if __name__ == "__main__":
    main(sys.argv[1:])
