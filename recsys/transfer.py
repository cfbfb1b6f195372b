"""Put what an earlier network has learned into a new one: items by their names, changed shapes as far as they agree.

Two checkpoints of a release may be begun from. Its weights have learned from all that lay before its holdout; its early
weights, those of the trial that was chosen, only from what lay before its first validation window. Which of them a
training may begin from is a matter of time: whatever they have learned must lie before the first event by which the
training is judged, or the judgement is a lie.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import Tensor, nn

from recsys.bundles import EARLY, VOCABULARY, WEIGHTS, read_file
from recsys.checkpoints import pack_weights, read_metadata
from recsys.dataset import dataset
from recsys.errors import BadBundle, BadObject, NoFeedback, NoRelease
from recsys.records import Bundle, Covered, Weights
from recsys.sequences import Sequences
from recsys.store import Store
from recsys.studies import key

TRAINED = "trained/"  # where below a plan's folder it lies what its trials have learned, until one of them is chosen
KNOWN = "known"  # where in the header of early weights it stands what they know, and until when


@dataclass(frozen=True, slots=True)
class Taken:
    """What a network has taken over."""

    covered: Covered
    marks: Mapping[str, Tensor]  # of each parameter of what learns, which numbers were; booleans of its shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Weights that a training begins from.

    `tensors` may be those of any network. Of one of which only a part learns, as of a hybrid, that part is found by the
    names of its parameters.
    """

    sha256: str  # of the file that holds them
    tensors: Mapping[str, Tensor]
    items: tuple[str, ...]  # [N of then] item of id i was items[i - 1]
    vocabulary: tuple[str, ...]  # [N or more] item of id i is vocabulary[i - 1] in the network that begins

    @classmethod
    def read(cls, store: Store, weights: Weights, vocabulary: Sequence[str]) -> Self:
        """Read the weights of a release.

        Args:
            store: The line's part of the store.
            weights: Which.
            vocabulary: Of the dataset that is to be learned from.

        Raises:
            NoRelease: The release is gone.
            BadBundle: A file is gone, or is not the one that was meant.
        """
        body = read_file(store, weights.release_id, weights.file)
        try:
            tensors, known = load_tensors(body), _known(body)
        except (SafetensorError, BadObject) as error:
            message = f"{weights.file} of {weights.release_id} must hold weights, but cannot be read: {error}"
            raise BadBundle(message, file=weights.file) from error
        items = known.get("vocabulary") or json.loads(read_file(store, weights.release_id, VOCABULARY))
        return cls(sha256=weights.sha256, tensors=tensors, items=tuple(items), vocabulary=tuple(vocabulary))

    def into(self, network: nn.Module, learned: Sequences) -> Taken:
        """Put into a prepared network what the weights hold of it; what is counted stays as it was counted.

        Rows of items are matched by name. New items begin where the known ones lie on average, with what was drawn for
        them on top. Of a parameter whose shape has changed, what both have is taken, and what is new stays as drawn;
        old units do not listen to new ones at first, and a new layer adds nothing, so that the scores are as near to
        those of then as can be (after Chen et al. 2016, "Net2Net").

        Args:
            network: A `Network` after `prepare`, changed in place.
            learned: What it is going to learn from.

        Returns:
            Which numbers it took over; none where the two have nothing in common, and then it is as it was drawn.
        """
        learner = getattr(network, "learner", network)
        own = dict(learner.named_parameters())
        theirs = _part(self.tensors, own)
        then = _rows(self.items, self.vocabulary[: learned.n_items])
        by_item: frozenset[str] = getattr(learner, "by_item", frozenset())
        taken = {name: torch.zeros(parameter.shape, dtype=torch.bool) for name, parameter in own.items()}
        with torch.no_grad():
            for name, parameter in own.items():
                if name in theirs and parameter.ndim == theirs[name].ndim:
                    put = _put_rows(parameter, theirs[name], then) if name in by_item else None
                    taken[name] = _put(learner, name, parameter, theirs[name]) if put is None else put
            _lengthen(learner, own, taken)
            _silence_new(learner, taken)
        return Taken(_covered(taken, by_item, then, learned), taken)


def usable_weights(store: Store, bundle: Bundle, *, before: datetime) -> tuple[Weights | None, str]:
    """Choose the weights of a release that have learned nothing from `before` or later, the later ones first.

    Args:
        store: The line's part of the store.
        bundle: Of the release.
        before: When the first event happens that a training from them is judged by.

    Returns:
        The weights, and nothing; or nothing, and why not.
    """
    if WEIGHTS not in bundle.files:
        return None, f"{bundle.release_id} keeps no weights"
    try:
        found = _weights(store, bundle)
    except (BadBundle, NoRelease) as error:
        return None, f"the weights of {bundle.release_id} cannot be read: {error}"
    if not found:
        return None, f"nothing says until when the weights of {bundle.release_id} have learned"
    usable = [weights for weights in found if weights.learned_before <= before]
    if usable:
        return max(usable, key=lambda weights: weights.learned_before), ""
    earliest = min(weights.learned_before for weights in found)
    return None, (
        f"the weights of {bundle.release_id} have learned from what happened until {earliest:%Y-%m-%d %H:%M}, and what "
        f"decides begins at {before:%Y-%m-%d %H:%M}"
    )


def early_key(plan_id: str, training: str) -> str:
    """Say where lies what a trial has learned, by the name of its training, until a candidate is chosen."""
    return key(plan_id, f"{TRAINED}{training}.safetensors")


def save_early(
    store: Store, at: str, network: nn.Module, *, vocabulary: Sequence[str], learned_before: datetime
) -> None:
    """Keep weights together with what must be known to begin from them.

    Args:
        store: The line's part of the store.
        at: The key.
        network: Which has learned.
        vocabulary: Item of id i is vocabulary[i - 1]; all that it knows.
        learned_before: When the first event happened that it has not learned from.
    """
    known = {"vocabulary": list(vocabulary), "learned_before": learned_before.isoformat()}
    # In one text, because the order of several is not the same from one process to the next.
    store.put(at, pack_weights(network, {KNOWN: json.dumps(known)}))


def _weights(store: Store, bundle: Bundle) -> list[Weights]:
    """List the checkpoints of a bundle of which it is known until when they have learned."""
    found = []
    with suppress(NoFeedback):  # where the dataset is gone, the early weights still say it of themselves
        found.append((WEIGHTS, dataset(store, bundle.dataset_id).holdout.begins))
    if EARLY in bundle.files:
        said = _known(read_file(store, bundle.release_id, EARLY))["learned_before"]
        found.append((EARLY, datetime.fromisoformat(said)))
    return [
        Weights(release_id=bundle.release_id, file=file, sha256=bundle.files[file].sha256, learned_before=until)
        for file, until in found
    ]


def _known(body: bytes) -> dict[str, Any]:
    """Give what a file of early weights says of itself; nothing where it holds other weights."""
    found: dict[str, Any] = json.loads(read_metadata(body).get(KNOWN, "{}"))
    return found


def _part(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Find the part of a network that has most of the names in `own`, and give its tensors by these names."""
    prefixes = {name.removesuffix(known) for name in tensors for known in own if f".{name}".endswith(f".{known}")}
    parts = [
        {name.removeprefix(prefix): tensors[name] for name in tensors if name.startswith(prefix)}
        for prefix in sorted(prefixes)
    ]
    return max(parts, key=lambda part: len(part.keys() & own.keys()), default={})


def _rows(items: Sequence[str], vocabulary: Sequence[str]) -> Tensor:
    """Give the row that each item had, 0 where it is new. Shape [N + 1]; the first, of no item, is 0 too."""
    ids = {item: at for at, item in enumerate(items, start=1)}
    return torch.tensor([0, *(ids.get(item, 0) for item in vocabulary)])


def _put_rows(parameter: Tensor, theirs: Tensor, then: Tensor) -> Tensor:
    """Put the rows of known items in their places, and let the new ones begin where the known ones lie on average."""
    taken = torch.zeros(parameter.shape, dtype=torch.bool)
    known = (then > 0) & (then < len(theirs))
    if not known.any():
        return taken
    both = tuple(slice(0, min(now, before)) for now, before in zip(parameter.shape[1:], theirs.shape[1:], strict=True))
    own, mark = parameter[(slice(None), *both)], taken[(slice(None), *both)]  # views of [N + 1, what both have]
    rows = theirs[then][(slice(None), *both)].to(parameter.dtype)
    own[~known] += (rows[known] - own[known]).mean(0)
    known[0] = True  # the row of no item is the same one
    own[known], mark[known] = rows[known], True
    return taken


def _put(learner: nn.Module, name: str, parameter: Tensor, theirs: Tensor) -> Tensor:
    """Put what both have in its place, piece by piece where a matrix is made of several, and mark it."""
    taken = torch.zeros(parameter.shape, dtype=torch.bool)
    path, _, kind = name.rpartition(".")
    around, _, part = path.rpartition(".")
    grain = getattr(learner.get_submodule(around), "grain", {}).get(part, (1, 1))[: parameter.ndim]
    pairs = zip(_pieces(parameter, grain), _pieces(theirs, grain), _pieces(taken, grain), strict=True)
    for own, other, mark in pairs:
        both = tuple(slice(0, min(now, before)) for now, before in zip(own.shape, other.shape, strict=True))
        if isinstance(learner.get_submodule(path), nn.Linear) and kind == "weight":
            own[both[0], both[1].stop :] = 0  # what is new is not listened to at first
        own[both] = other[both].to(own.dtype)
        mark[both] = True
    return taken


def _pieces(tensor: Tensor, grain: Sequence[int]) -> list[Tensor]:
    """Cut a tensor into views of equal size, `grain` of them along each axis; whole where that does not come out."""
    if any(size % pieces for size, pieces in zip(tensor.shape, grain, strict=False)):
        grain = [1] * len(grain)
    found = [tensor]
    for axis, pieces in enumerate(grain):
        found = [view for part in found for view in part.chunk(pieces, axis)]
    return found


def _lengthen(learner: nn.Module, own: Mapping[str, Tensor], taken: Mapping[str, Tensor]) -> None:
    """Let places of the history that are new begin as the oldest known one, of parameters that tell places apart."""
    for name, parameter in own.items():
        known = taken[name].flatten(0, -2).any(0) if taken[name].ndim > 1 else taken[name]
        if name.rpartition(".")[2] in getattr(learner, "by_age", ()) and known.any():
            last = int(known.nonzero().max())
            parameter[..., last + 1 :] = parameter[..., last : last + 1]


def _silence_new(learner: nn.Module, taken: Mapping[str, Tensor]) -> None:
    """Let new layers add nothing at first, in a network of which others were taken over."""
    if not any(mark.any() for mark in taken.values()):
        return
    for path, module in learner.named_modules():
        inside = [mark for name, mark in taken.items() if path and name.startswith(f"{path}.")]
        if hasattr(module, "silence") and not any(mark.any() for mark in inside):
            module.silence()


def _covered(taken: Mapping[str, Tensor], by_item: frozenset[str], then: Tensor, learned: Sequences) -> Covered:
    numbers = sum(mark.numel() for mark in taken.values())
    known = (then > 0).numpy() if any(taken[name].any() for name in by_item) else np.zeros(len(then), bool)
    named = learned.items[learned.items > 0]
    return Covered(
        parameters=sum(int(mark.sum()) for mark in taken.values()) / max(numbers, 1),
        items=float(known[1:].mean()) if len(known) > 1 else 0.0,
        interactions=float(known[named].mean()) if len(named) else 0.0,
    )
