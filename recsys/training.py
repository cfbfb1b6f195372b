"""Train any network on sequences, in one loop that loses one epoch at most to an interruption."""

import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recsys.checkpoints import Progress, load_checkpoint, load_weights, save_checkpoint, save_weights
from recsys.errors import Diverged
from recsys.models import COLD, FROZEN, Configuration
from recsys.records import Covered
from recsys.rounding import rounded_loss
from recsys.sequences import Sequences
from recsys.subsample import portion
from recsys.thaw import Rest, Thaw
from recsys.transfer import Start

__all__ = ["Training", "load_weights", "save_weights", "train"]

logger = logging.getLogger(__name__)

CLIP_NORM = 1.0  # longer gradients are shortened to it, so that one odd batch cannot undo an epoch
WARMUP = 0.05  # share of all steps in which the learning rate rises


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """What a training did."""

    epochs: int  # finished, those before an interruption included
    losses: tuple[float, ...]  # mean over the batches of each epoch
    seconds: float  # wall clock of this call
    cpu_seconds: float  # of all threads of this process in this call
    stopped: str  # "finished", "asked" by on_epoch, or "deadline"
    resumed_after: int  # epochs that a checkpoint had already done, 0 without one
    covered: Covered | None = None  # how much it began with; None: it began cold


def train(
    network: nn.Module,
    sequences: Sequences,
    configuration: Configuration,
    *,
    seed: int,
    device: str = "cpu",
    share: float = 1.0,
    start: Start | None = None,
    checkpoint: Path | None = None,
    on_checkpoint: Callable[[], None] | None = None,
    on_epoch: Callable[[int, nn.Module], bool] | None = None,
    deadline: float | None = None,
) -> Training:
    """Fit `network` to `sequences`; on one thread the same seed gives the same weights, interrupted or not.

    The learning rate rises over the first steps and then falls to zero along a cosine (Loshchilov and Hutter 2017,
    "SGDR", equation 5), so the number of epochs is part of the configuration and not only a limit.

    Args:
        network: A `Network`, moved to `device` and left there in evaluation mode.
        sequences: What to learn from.
        configuration: `epochs` (0 for networks that only count), `lr`, `batch_size` in targets a step, `weight_decay`,
            `start` and `int8_share` are read here.
        seed: Fixes the weights, the share, the order of batches and everything random inside the network.
        device: Where to train, as PyTorch names it.
        share: Part of the users to learn from, in (0, 1], drawn by `recsys.subsample`; a smaller share is contained
            in a larger one of the same seed.
        start: Weights to begin from where the configuration's `start` asks for some; a cold one leaves them.
        checkpoint: Folder that keeps the state after each epoch, and from which an interrupted training goes on.
        on_checkpoint: Called each time that the folder holds a new state.
        on_epoch: Called with the number of finished epochs and the network in evaluation mode, before that epoch's
            state is kept; True ends the training, and the state is not kept. After an interruption it is called again
            for an epoch whose state had not been kept, so that what was to end does.
        deadline: Instant of `time.monotonic()` after which no epoch begins.

    Raises:
        BadObject: The checkpoint is not whole.
        Diverged: A loss is not finite.
        ValueError: The share is out of range, weights to begin from are missing, or the checkpoint belongs to another
            training.
    """
    began, cpu_began = time.monotonic(), time.process_time()
    known = portion(sequences, share, seed=seed)
    network.prepare(known, seed)  # type: ignore[operator]
    epochs = int(configuration["epochs"])
    start = _start(configuration, start)
    begun = start.into(network, known) if start else None
    thaw = Thaw(network, begun.marks, epochs) if begun and configuration["start"] == FROZEN else None
    network.to(device)
    losses: list[float] = []
    resumed_after, stopped = 0, "finished"
    if epochs:
        optimiser = _optimiser(network, configuration)
        fingerprint = _fingerprint(known, configuration, seed, start)
        progress = load_checkpoint(checkpoint, network, optimiser, fingerprint) if checkpoint else None
        if progress:
            losses, resumed_after = list(progress.losses), progress.epoch
        for epoch in range(resumed_after + 1, epochs + 1):
            if deadline is not None and time.monotonic() >= deadline:
                stopped = "deadline"
                break
            with thaw.during(epoch) if thaw else nullcontext() as rest:
                losses.append(
                    _epoch(network, optimiser, known, configuration, epoch=epoch, seed=seed, device=device, rest=rest)
                )
            if on_epoch is not None and on_epoch(epoch, network):
                stopped = "asked"
                break
            if checkpoint:
                save_checkpoint(
                    checkpoint, network, optimiser, Progress(epoch=epoch, losses=tuple(losses), fingerprint=fingerprint)
                )
                if on_checkpoint is not None:
                    on_checkpoint()
    network.eval()
    return Training(
        epochs=len(losses),
        losses=tuple(losses),
        seconds=time.monotonic() - began,
        cpu_seconds=time.process_time() - cpu_began,
        stopped=stopped,
        resumed_after=resumed_after,
        covered=begun.covered if begun else None,
    )


def _epoch(
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    sequences: Sequences,
    configuration: Configuration,
    *,
    epoch: int,
    seed: int,
    device: str,
    rest: Rest | None,
) -> float:
    """Take one step per batch and give the mean loss; all that is random follows from `seed` and `epoch` alone."""
    began = time.monotonic()
    rng = np.random.default_rng([seed, epoch])
    batches = list(windows(sequences, int(network.history_length), int(configuration["batch_size"]), rng))  # type: ignore[arg-type]
    n_steps = len(batches) * int(configuration["epochs"])
    total = torch.zeros((), device=device)
    step_loss = _step_loss(network, configuration, epoch)
    network.train()
    logger.debug("Epoch %d of %s begins.", epoch, configuration["epochs"])
    with torch.random.fork_rng(devices=[device] if device != "cpu" else []):
        torch.manual_seed(int(rng.integers(2**63)))
        for number, batch in enumerate(batches):
            rate = learning_rate((epoch - 1) * len(batches) + number, n_steps) * float(configuration["lr"])
            for group in optimiser.param_groups:
                group["lr"] = rate
            loss = step_loss(torch.from_numpy(batch).to(device))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            if rest:
                rest.calm()
            nn.utils.clip_grad_norm_(network.parameters(), CLIP_NORM)
            optimiser.step()
            if rest:
                rest.restore()
            total += loss.detach()
    network.eval()
    mean = total.item() / max(len(batches), 1)
    if not math.isfinite(mean):
        raise Diverged(f"The loss of epoch {epoch} is {mean}; lr is {configuration['lr']}.", epoch=epoch, loss=mean)
    logger.info("Epoch %d of %s: loss %.4f, %.1f s.", epoch, configuration["epochs"], mean, time.monotonic() - began)
    return mean


def _step_loss(network: nn.Module, configuration: Configuration, epoch: int) -> Callable[[Tensor], Tensor]:
    """Give the loss of an epoch, with the weights that int8 will leave it in the last `int8_share` of the epochs."""
    epochs, share = int(configuration["epochs"]), float(configuration.get("int8_share", 0.0))
    if epoch > epochs - round(share * epochs):
        return partial(rounded_loss, network)
    return cast("Callable[[Tensor], Tensor]", network.loss)


def windows(
    sequences: Sequences, history_length: int, batch_size: int, rng: np.random.Generator
) -> Iterator[NDArray[np.int64]]:
    """Cut the sequences into windows and give batches of windows of similar length, in random order.

    Every item that the vocabulary knows is a target once; a window without such a target is left out, as there is
    nothing to learn from it. (Windows of several widths in one batch are padded to the widest, and there the item that
    begins a narrower one is a target once more, after padding alone.) A user with more than L items is cut at places
    that are drawn anew each time; a window begins with the item before its first target, or with padding at the user's
    beginning, from which a network learns what to say of a new user.

    Yields:
        Items, left padded with 0, shape [B, W + 1] with W <= `history_length` and B x W about `batch_size` targets.
    """
    begins, ends = sequences.offsets[:-1], sequences.offsets[1:]
    lengths = ends - begins
    # The first window of a long user is of random length, so that the cuts fall elsewhere in every epoch.
    first = np.where(lengths > history_length, rng.integers(1, history_length + 1, len(lengths)), lengths)
    n_windows = np.where(lengths > 0, 1 + -(-(lengths - first) // history_length), 0)
    user = np.repeat(np.arange(len(lengths)), n_windows)
    number = np.arange(len(user)) - np.repeat(np.cumsum(n_windows) - n_windows, n_windows)
    stop = np.minimum(begins[user] + first[user] + number * history_length, ends[user])
    start = np.where(number == 0, begins[user], begins[user] + first[user] + (number - 1) * history_length)
    known = np.concatenate([[0], np.cumsum(sequences.items > 0)])  # [E + 1] how many before each place
    order = rng.permutation(np.flatnonzero(known[stop] > known[start]))
    order = order[np.argsort(start[order] - stop[order], kind="stable")]  # longest first, equal lengths shuffled
    groups, at = [], 0
    while at < len(order):
        width = stop[order[at]] - start[order[at]]
        groups.append(order[at : at + max(1, batch_size // width)])
        at += len(groups[-1])
    for group in (groups[i] for i in rng.permutation(len(groups))):
        width = (stop[group] - start[group]).max()
        at = stop[group][:, None] + np.arange(-width - 1, 0)
        inside = at >= np.maximum(start[group] - 1, begins[user[group]])[:, None]
        yield np.where(inside, sequences.items[np.maximum(at, 0)], 0).astype(np.int64)


def learning_rate(step: int, n_steps: int) -> float:
    """Give the share of the highest learning rate that step `step` of `n_steps` takes.

    >>> [round(learning_rate(step, 101), 3) for step in (0, 4, 5, 53, 100)]
    [0.167, 0.833, 1.0, 0.5, 0.0]
    """
    rising = int(WARMUP * n_steps)
    if step < rising:
        return (step + 1) / (rising + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / (n_steps - rising)))


def _optimiser(network: nn.Module, configuration: Configuration) -> torch.optim.Optimizer:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019) on matrices; biases and gains are left alone."""
    matrices = [parameter for parameter in network.parameters() if parameter.ndim >= 2]
    vectors = [parameter for parameter in network.parameters() if parameter.ndim < 2]
    return torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": float(configuration["weight_decay"])},
            {"params": vectors, "weight_decay": 0.0},
        ],
        lr=float(configuration["lr"]),
        betas=(0.9, 0.98),
        fused=True,
    )


def _start(configuration: Configuration, given: Start | None) -> Start | None:
    """Take the weights that the configuration asks for, if it does."""
    asked = configuration.get("start", COLD)
    if asked == COLD:
        return None
    if given is None:
        raise ValueError(f"A training whose start is {asked!r} must be given weights to begin from, but has none.")
    return given


def _fingerprint(sequences: Sequences, configuration: Configuration, seed: int, start: Start | None) -> str:
    """Name a training by all that decides its result."""
    weights = [start.sha256] if start else []
    made_of = [dict(sorted(configuration.items())), seed, sequences.n_items, *weights]
    digest = hashlib.sha256(json.dumps(made_of).encode())
    digest.update(sequences.items.tobytes())
    digest.update(sequences.offsets.tobytes())
    return digest.hexdigest()
