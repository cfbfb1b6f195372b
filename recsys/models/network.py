"""Say what every model is to the rest of the project: a network that scores the whole catalogue for a history.

Shape legend of this package: B batch, L history length, N items, D embedding, T positions that have a target, M
neighbours.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, FloatDistribution
from torch import Tensor, nn

from recsys.models.knob import FIXED, Knob
from recsys.sequences import Sequences

Value = int | float | str | bool
Configuration = Mapping[str, Value]

TRAINING = frozenset({"epochs", "lr", "batch_size", "weight_decay", "start", "int8_share"})
"""Keys of a configuration that the training loop reads; all others go to the network."""

COLD, INCUMBENT, FROZEN = STARTS = ("cold", "incumbent", "frozen")
"""How a training begins: drawn, from the incumbent's weights, or from them while all but the newest rests at first."""


ON_REQUEST: Mapping[str, BaseDistribution] = MappingProxyType({"int8_share": FloatDistribution(0.0, 1.0)})
"""What every family that learns by steps can also search, and searches only for a line that asks for it."""


@runtime_checkable
class Network(Protocol):
    """A module that learns from sequences and scores every item; ids are 1..N and 0 is padding or unknown.

    One of which only a part learns by steps gives that part, itself a `Network`, as its `learner`.

    What learns by steps may say more, for `recsys.transfer`: in `by_item` which parameters have a row for each item, in
    `by_age` which have a column for each place of the history, newest first; and of a layer inside, in `grain` how many
    pieces a matrix of it is made of by row and by column, and by a method `silence` how it comes to add nothing.
    """

    history_length: int
    n_items: int

    def prepare(self, train: Sequences, seed: int) -> None:
        """Draw fresh weights from `seed` and take from `train` what is counted rather than learned."""
        ...

    def loss(self, windows: Tensor) -> Tensor:
        """Give the mean loss of naming each item from those before it.

        Args:
            windows: Consecutive items of one user a row, left padded with 0. Shape [B, L + 1].

        Returns:
            A scalar that carries gradients.
        """
        ...

    def forward(self, history: Tensor) -> Tensor:
        """Score the catalogue after each history.

        Args:
            history: Items, oldest first, left padded with 0; all 0 is a user of whom nothing is known. Shape [B, L],
                int64.

        Returns:
            Scores, shape [B, N + 1], float32; column 0 means nothing.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One kind of model: how it is built, what it is set to by default, and where a search may look."""

    name: str
    network: Callable[..., nn.Module]
    defaults: Configuration
    space: Mapping[str, BaseDistribution]
    knobs: Mapping[str, Knob]  # what each of the defaults means
    on_request: Mapping[str, BaseDistribution] = field(default_factory=dict)  # searched where a line's space names it
    shape_parameters: frozenset[str] = field(default=frozenset())  # those that change the exported graph
    log_probabilities: bool = False  # whether its scores are log probabilities of what comes next, up to a constant
    conditions: Mapping[str, tuple[str, Value]] = field(default_factory=dict)
    """What is searched only where a parameter before it has a value; elsewhere it means nothing and stays at its
    default."""

    def __post_init__(self) -> None:
        for place, keys in (
            ("space", set(self.space)),
            ("on_request", set(self.on_request)),
            ("shape_parameters", self.shape_parameters),
        ):
            if strangers := keys - set(self.defaults):
                raise ValueError(f"{place} of {self.name} names {sorted(strangers)}, which its defaults do not have.")
        self._check_knobs()
        order = list(self.space)
        for child, (parent, value) in self.conditions.items():
            if child not in order or parent not in order[: order.index(child)]:
                raise ValueError(
                    f"conditions of {self.name}: {child} must come after {parent} in the space {order}, but does not."
                )
            if type(value) is not type(self.defaults[parent]):
                raise ValueError(f"conditions of {self.name}: {parent} cannot be {value!r}.")

    @property
    def ranges(self) -> Mapping[str, BaseDistribution]:
        """Where a search may look at all: what it searches by itself, and what a line can ask for."""
        return {**self.space, **self.on_request}

    def _check_knobs(self) -> None:
        if odd := set(self.knobs) ^ set(self.defaults):
            raise ValueError(f"knobs of {self.name} must be those of its defaults, but differ in {sorted(odd)}.")
        for name, knob in self.knobs.items():
            if (name in self.space) == (knob.tier == FIXED):
                rule = f"below {FIXED}, because it is searched," if name in self.space else f"{FIXED}, as it is not,"
                raise ValueError(f"tier of {name} of {self.name} must be {rule} but is {knob.tier}.")
            if strangers := {key for left_out in knob.without for key in left_out.values} - set(self.defaults):
                raise ValueError(
                    f"{name} of {self.name} leaves out {sorted(strangers)}, which its defaults do not have."
                )

    def matters(self, name: str, configuration: Configuration) -> bool:
        """Whether a parameter does anything, given the others."""
        if name not in self.conditions:
            return True
        parent, value = self.conditions[name]
        return configuration.get(parent) == value and self.matters(parent, configuration)

    def effective(self, configuration: Configuration) -> dict[str, Value]:
        """Give what a configuration says that does anything, numbers of the type that the defaults have.

        Configurations of which this is the same are the same, however they are written.
        """
        return {
            name: float(value) if type(self.defaults.get(name)) is float else value
            for name, value in configuration.items()
            if self.matters(name, configuration)
        }

    def shape(self, configuration: Configuration) -> dict[str, Value | None]:
        """Give what a configuration says of the exported graph; equal shapes cost the same to serve."""
        return {name: configuration.get(name) for name in sorted(self.shape_parameters)}

    def build(self, configuration: Configuration, *, n_items: int) -> nn.Module:
        """Build the network of a whole configuration, with weights that mean nothing yet.

        Args:
            configuration: A value for every key of `defaults`, and nothing else.
            n_items: N, so that ids run 1..N.

        Returns:
            A module that is a `Network`.

        Raises:
            ValueError: A key is missing or unknown, or a value has the wrong type or lies where the network cannot be
            built.
        """
        self.check(configuration)
        return self.network(
            n_items=n_items, **{key: configuration[key] for key in configuration if key not in TRAINING}
        )

    def sketch(self, configuration: Configuration, *, n_items: int) -> nn.Module:
        """Build the network in shapes alone, which takes no memory however large it is; it can score nothing.

        Args:
            configuration: As for `build`.
            n_items: As for `build`.

        Raises:
            ValueError: As of `build`.
        """
        with torch.device("meta"):
            return self.build(configuration, n_items=n_items)

    def check(self, configuration: Configuration) -> None:
        """Refuse a configuration whose keys or types are not those of `defaults`, or with which nothing can be trained.

        Raises:
            ValueError: Naming the keys, what must hold and what was found.
        """
        missing = sorted(set(self.defaults) - set(configuration))
        unknown = sorted(set(configuration) - set(self.defaults))
        if missing or unknown:
            raise ValueError(
                f"A configuration of {self.name} must have the keys {sorted(self.defaults)}, "
                f"but misses {missing} and has the unknown {unknown}."
            )
        for key, default in self.defaults.items():
            allowed = (int, float) if type(default) is float else (type(default),)
            if type(configuration[key]) not in allowed:
                raise ValueError(
                    f"{key} of {self.name} must be {allowed[-1].__name__} but is {configuration[key]!r} "
                    f"of type {type(configuration[key]).__name__}."
                )
            if type(default) is float and not math.isfinite(configuration[key]):  # type: ignore[arg-type]
                raise ValueError(f"{key} of {self.name} must be a finite number but is {configuration[key]}.")
        self._check_training(configuration)

    def _check_training(self, configuration: Configuration) -> None:
        """Refuse what the training loop cannot take; all other values are the network's to judge."""
        counted = self.defaults["epochs"] == 0
        if (configuration["epochs"] != 0) if counted else (configuration["epochs"] < 1):  # type: ignore[operator]
            rule = "0, because it is counted," if counted else "1 or more"
            raise ValueError(f"epochs of {self.name} must be {rule} but is {configuration['epochs']}.")
        for key, (rule, holds) in _TRAINING_RULES.items():
            if key in configuration and not holds(float(configuration[key])):
                raise ValueError(f"{key} of {self.name} must be {rule} but is {configuration[key]}.")
        if "start" in configuration and configuration["start"] not in STARTS:
            raise ValueError(f"start of {self.name} must be one of {STARTS} but is {configuration['start']!r}.")


_TRAINING_RULES: Mapping[str, tuple[str, Callable[[float], bool]]] = {
    "lr": ("positive", lambda value: value > 0),
    "batch_size": ("1 or more", lambda value: value >= 1),
    "weight_decay": ("0 or more", lambda value: value >= 0),
    "int8_share": ("within 0 and 1", lambda value: 0 <= value <= 1),
}


@dataclass(frozen=True, slots=True)
class TorchScorer:
    """Scores histories given as arrays with a PyTorch network, as an ONNX session would."""

    network: nn.Module

    @property
    def history_length(self) -> int:
        """L, how many items of history the network reads."""
        return int(self.network.history_length)  # type: ignore[arg-type]

    def __call__(self, history: NDArray[np.int64]) -> NDArray[np.float32]:
        """Score the catalogue after each history. Shapes [B, L] to [B, N + 1]."""
        was_training = self.network.training
        self.network.eval()
        device = next(iter(self.network.state_dict().values())).device
        with torch.inference_mode():
            scores: NDArray[np.float32] = self.network(torch.from_numpy(history).to(device)).float().cpu().numpy()
        self.network.train(was_training)
        return scores
