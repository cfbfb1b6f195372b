"""Find what is unsound about a trained network, whatever NDCG it reached: collapsed, dead, stifled, blown up, or told.

Each limit stands beside what was measured on MovieLens-100K: the worst of sound trainings, of all families and at the
ends of their search spaces, and the best of those that were broken on purpose (learning rate 1, dropout 0.95, weight
decay 10, vectors of zeros).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recsys.metrics import Evaluation, evaluate
from recsys.models import TorchScorer
from recsys.sequences import Cases, Sequences

CASES = 256  # of training and of validation that are looked at
ROWS = 2048  # items whose vectors are looked at

MIN_RANK = 0.25  # effective rank of the items' vectors, as a share of what it could be: sound 0.71, broken 0.23 and 0
MAX_COSINE = 0.5  # mean over pairs of items: sound 0.10, broken 1
MAX_DEAD = 0.5  # share of a layer's units: sound 0.19, broken 0.69
EPOCHS = 3  # fewer are merely short: one, of the smallest model with the fewest negatives, knew what popularity knows
MOVED = 0.25  # how far weights have come, as a share of what was drawn: merely short trainings 0.14, stifled ones 0.29
LEAST_GAIN = 1.5  # times popularity's NDCG on training: sound 1.7, hardly any negatives 1.3, stifled 1.2
LEAST_LEARNED = 0.99  # of popularity's loss: sound 0.97, stifled 1.00, hardly any negatives 1.01
HEARD = 0.25  # what the history moves, times what it moved before training: short trainings 0.62, stifled 0.10
MAX_LOSS = 1.5  # worst epoch's loss, as a share of popularity's: sound 1.02, broken 2.1
MOST_GAIN = 1.5  # what validation may gain over popularity, as a share of what training gains
ERRORS = 3.0  # standard errors by which it must be more, before that is no chance


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """One measurement of a network."""

    name: str
    excess: float  # beyond what is still sound: positive where it is not
    said: str  # the finding with its numbers


def examine(
    network: nn.Module, learned: Sequences, window: Cases, *, losses: Sequence[float], fresh: nn.Module
) -> list[Sign]:
    """Measure a network on samples of what it learned and of what it is asked.

    Args:
        network: A `Network` after its training.
        learned: What it was trained on.
        window: The first validation window, whose cases lie next to what was learned.
        losses: Of its epochs; none for what only counts, which may well say the same to everybody.
        fresh: The same network with weights as they were drawn; not looked at where there are no losses.

    Returns:
        All signs that apply to such a network, the sound ones included; none where nothing is asked.
    """
    if not (window.targets > 0).any():
        return []
    asked = _asked(window)
    signs = [_constant(_scores(network, asked)), _told(network, asked), _told_in_training(learned, window)]
    if not losses:
        return signs
    learner, drawn = _learner(network), _learner(fresh)
    with _firing(learner) as fired:
        scores = _scores(learner, asked)
    heard = _heard(scores) / max(_heard(_scores(drawn, asked)), np.finfo(np.float64).tiny)
    gains = _Gains.of(learner, learned, window)
    known = np.unique(learned.items)
    for module in learner.modules():
        if isinstance(module, nn.Embedding):
            signs += _collapsed(module.weight.detach().cpu().double()[known[known > 0][:ROWS]])
    signs += _dead(fired)
    entropy = _entropy(learned)
    signs += [
        *([_stifled(_moved(learner, drawn), heard, losses[-1], entropy, gains)] if len(losses) >= EPOCHS else []),
        _blown_up(losses, entropy),
        _too_good(gains),
    ]
    return signs


def effective_rank(vectors: Tensor) -> float:
    """Give the effective rank of vectors: exp of the entropy of their singular values (Roy and Vetterli 2007).

    Args:
        vectors: Shape [n, D].

    Returns:
        1 where all lie on one line, up to D where they fill all directions alike; 0 where all are zero.

    >>> round(effective_rank(torch.eye(4)), 6)
    4.0
    """
    singular = torch.linalg.eigvalsh(vectors.T @ vectors).clamp(min=0).sqrt()  # [D]
    if not singular.sum():
        return 0.0
    return float(torch.special.entr(singular / singular.sum()).sum().exp())


def mean_cosine(vectors: Tensor) -> float:
    """Give the mean cosine of all pairs of vectors that are not zero; 1 where there is no such pair.

    >>> round(mean_cosine(torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 1.0]])), 6)  # pairs at 90, 90 and 0 degrees
    0.333333
    """
    lengths = vectors.norm(dim=1)
    units = vectors[lengths > 0] / lengths[lengths > 0, None]
    n = len(units)
    return float((units.sum(0).square().sum() - n) / (n * (n - 1))) if n > 1 else 1.0


def _constant(scores: NDArray[np.float64]) -> Sign:
    """The gate refuses a bundle for a single case of it."""
    share = float((scores.max(1) == scores.min(1)).mean())
    return Sign(name="constant_scores", excess=share, said=f"all items score alike in {share:.1%} of the cases")


def _told(network: nn.Module, asked: Cases) -> Sign:
    """Put another item in the place of each target: nothing that is asked before it may change."""
    items = asked.sequences.items.copy()
    items[asked.positions] = asked.targets % asked.sequences.n_items + 1
    other = replace(asked, sequences=replace(asked.sequences, items=items))
    told = float((_scores(network, asked) != _scores(network, other)).any(1).mean())
    return Sign(
        name="told_the_target",
        excess=told,
        said=f"leakage: in {told:.1%} of the cases the scores depend on the item that is asked for",
    )


def _told_in_training(learned: Sequences, window: Cases) -> Sign:
    times = window.sequences.times[window.positions]
    late = float((learned.times >= times.min(initial=np.iinfo(np.int64).max)).mean())
    return Sign(
        name="told_in_training",
        excess=late,
        said=f"leakage: {late:.2%} of what was learned happened when validation had begun",
    )


def _collapsed(vectors: Tensor) -> list[Sign]:
    """Find vectors that differ in few directions (Jing et al. 2022, "dimensional collapse") or in none."""
    most = min(vectors.shape)
    rank, cosine = effective_rank(vectors), mean_cosine(vectors)
    return [
        Sign(
            name="collapsed_rank",
            excess=MIN_RANK * most - rank,
            said=f"collapsed embeddings: effective rank {rank:.1f} of {most}, under {MIN_RANK * most:g}",
        ),
        Sign(
            name="collapsed_cosine",
            excess=cosine - MAX_COSINE,
            said=f"collapsed embeddings: mean cosine of two items {cosine:.2f}, over {MAX_COSINE:g}",
        ),
    ]


def _dead(fired: dict[str, Tensor]) -> list[Sign]:
    """Find layers whose units are silent whatever is asked (Lu et al. 2020, "Dying ReLU")."""
    shares = [float((~units).float().mean()) for units in fired.values()]
    if not shares:
        return []
    worst = max(shares)
    said = f"dead units: {worst:.0%} of a layer fire in none of the cases, over {MAX_DEAD:.0%}"
    return [Sign(name="dead_units", excess=worst - MAX_DEAD, said=said)]


def _stifled(moved: float, heard: float, loss: float, entropy: float, gains: "_Gains") -> Sign:
    """Find what has had its steps and still knows no more than popularity, even of its own training.

    One whose training was merely short is close to the weights that were drawn, and one that has begun to learn makes
    more of the history than they did.
    """
    train, validation, popular = (float(found.ndcg.mean()) for found in (gains.train, gains.validation, gains.popular))
    return Sign(
        name="over_regularised",
        excess=min(moved - MOVED, HEARD - heard, LEAST_GAIN * popular - train, loss - LEAST_LEARNED * entropy),
        said=f"over-regularised: NDCG@10 is {train:.3f} on training and {validation:.3f} on validation, where "
        f"popularity has {popular:.3f} on training, and the loss {loss:.2f}, where popularity has {entropy:.2f}",
    )


def _blown_up(losses: Sequence[float], entropy: float) -> Sign:
    """Find trainings whose steps were so long that they have not come back to what popularity knows."""
    return Sign(
        name="blown_up",
        excess=min(max(losses) - MAX_LOSS * entropy, losses[-1] - entropy),
        said=f"blown up: the loss was {max(losses):.2f} in its worst epoch, over {MAX_LOSS:g} times that of "
        f"popularity, and {losses[-1]:.2f} in its last, where popularity has {entropy:.2f}",
    )


def _too_good(gains: "_Gains") -> Sign:
    """Find validation that is easier than training by more than chance: somebody told, however it came about."""
    (train, train_error), (validation, error) = gains.over_popularity
    return Sign(
        name="validation_over_training",
        excess=validation - MOST_GAIN * max(train, 0.0) - ERRORS * float(np.hypot(error, MOST_GAIN * train_error)),
        said=f"leakage: NDCG@10 gains {validation:.3f} over popularity on validation and only {train:.3f} on training",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gains:
    """How a network and popularity rank what was learned last and what is asked next."""

    train: Evaluation
    validation: Evaluation
    popular: Evaluation  # popularity, on training
    popular_later: Evaluation  # on validation

    @classmethod
    def of(cls, network: nn.Module, learned: Sequences, window: Cases) -> "_Gains":
        newest, next_ = _newest(learned), _known(window)
        popular = _Popular(np.bincount(learned.items, minlength=learned.n_items + 1).astype(np.float32))
        return cls(
            train=evaluate(TorchScorer(network), newest),
            validation=evaluate(TorchScorer(network), next_),
            popular=evaluate(popular, newest),
            popular_later=evaluate(popular, next_),
        )

    @property
    def over_popularity(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """The mean gain in NDCG@10 and its standard error, on training and on validation."""
        return _mean(self.train, self.popular), _mean(self.validation, self.popular_later)


@dataclass(frozen=True, slots=True)
class _Popular:
    """Scores everybody's items by how often they were taken."""

    counts: NDArray[np.float32]  # [N + 1]
    history_length: int = 1

    def __call__(self, history: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.repeat(self.counts[None], len(history), 0)


def _mean(one: Evaluation, other: Evaluation) -> tuple[float, float]:
    """Mean difference in NDCG and its standard error, cases of one user being taken as alike."""
    gain = one.ndcg - other.ndcg
    of_users = np.bincount(np.unique(one.users, return_inverse=True)[1], gain - gain.mean())
    return float(gain.mean()), float(np.sqrt((of_users**2).sum()) / len(gain))


def _asked(window: Cases) -> Cases:
    """Take one case of each user, so that no target is another case's history."""
    first = np.unique(window.users, return_index=True)[1]
    return _spread(window, window.positions[first])


def _known(window: Cases) -> Cases:
    """Take cases whose targets could be named."""
    return _spread(window, window.positions[window.targets > 0])


def _newest(learned: Sequences) -> Cases:
    """Take cases from the newest quarter of what was learned, which is most like what comes next."""
    has_before = np.ones(learned.n_events, bool)
    has_before[learned.offsets[:-1][np.diff(learned.offsets) > 0]] = False
    places = np.flatnonzero(has_before & (learned.items > 0))
    newest = np.sort(places[np.argsort(learned.times[places], kind="stable")[-max(CASES, len(places) // 4) :]])
    return _spread(Cases(sequences=learned, positions=newest), newest)


def _spread(cases: Cases, positions: NDArray[np.int64]) -> Cases:
    kept = np.unique(np.linspace(0, len(positions) - 1, min(len(positions), CASES)).round().astype(np.int64))
    return replace(cases, positions=positions[kept])


def _scores(network: nn.Module, cases: Cases) -> NDArray[np.float64]:
    """Score the catalogue for each case. Shape [C, N]."""
    scorer = TorchScorer(network)
    scores = scorer(cases.histories(np.arange(len(cases)), scorer.history_length))
    return scores[:, 1:].astype(np.float64)


def _heard(scores: NDArray[np.float64]) -> float:
    """Give the share of the scores' variance within a case that differs between cases."""
    within = scores - scores.mean(1, keepdims=True)
    return float((within - within.mean(0)).var() / max(within.var(), np.finfo(np.float64).tiny))


def _entropy(learned: Sequences) -> float:
    """Give the loss of naming every item with its popularity, in nats."""
    counts = np.bincount(learned.items[learned.items > 0])
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def _moved(learner: nn.Module, drawn: nn.Module) -> float:
    """Say how far the matrices are from those that were drawn, as a share of these."""
    pairs = [
        (now.detach().cpu(), then.detach())
        for now, then in zip(learner.parameters(), drawn.parameters(), strict=True)
        if now.ndim > 1
    ]
    way = sum(float((now - then).square().sum()) for now, then in pairs)
    return float(np.sqrt(way / sum(float(then.square().sum()) for _, then in pairs)))


def _learner(network: nn.Module) -> nn.Module:
    """Give the part that learns by steps, of a network that has others, too."""
    return getattr(network, "learner", network)


@contextmanager
def _firing(network: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Note of each unit behind a ReLU whether it has fired, whatever the network is asked inside."""
    fired: dict[str, Tensor] = {}

    def note(name: str, out: Tensor) -> None:
        units = (out > 0).flatten(0, -2).any(0)
        fired[name] = units | fired[name] if name in fired else units

    hooks = [
        module.register_forward_hook(lambda _module, _inputs, out, name=name: note(name, out))
        for name, module in network.named_modules()
        if isinstance(module, nn.ReLU)
    ]
    try:
        yield fired
    finally:
        for hook in hooks:
            hook.remove()
