"""Describe the parameters of families to people: meaning, unit, who is asked, and when each is searched."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

OWNERS: Mapping[str, str] = MappingProxyType(
    {
        "training": "what a training costs, and whether it comes to an end",
        "modelling": "what is learned from the same training",
        "serving": "the graph that is served: its size and its latency",
    }
)
"""Who is asked about a knob, and what it decides."""

FIRST, LATER, FIXED = 1, 2, 3
"""Tiers: what moves quality most, the rest of what is searched, and what is not searched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Without:
    """A part of a model that a configuration can leave out, and how."""

    what: str  # the part, in words that follow "without"
    values: Mapping[str, int | float | str | bool]  # of the knobs that change to leave it out


@dataclass(frozen=True, slots=True, kw_only=True)
class Knob:
    """What people need to know of one parameter."""

    meaning: str  # one phrase
    unit: str
    owner: str
    tier: int
    capacity: bool = False  # whether more of it is a larger model, which needs more data to come out alike twice
    without: tuple[Without, ...] = ()  # what it can leave out of the model; none: it only says how something is done

    def __post_init__(self) -> None:
        if self.owner not in OWNERS:
            raise ValueError(f"owner of a knob must be one of {sorted(OWNERS)} but is {self.owner!r}.")
        if self.tier not in (FIRST, LATER, FIXED):
            raise ValueError(f"tier of a knob must be {FIRST}, {LATER} or {FIXED} but is {self.tier}.")
        if not self.meaning.strip() or not self.unit.strip():
            raise ValueError(f"A knob must have a meaning and a unit but has {self.meaning!r} and {self.unit!r}.")
        if any(not left_out.what.strip() or not left_out.values for left_out in self.without):
            raise ValueError(f"What a knob leaves out must be named and change something but is {self.without}.")


COUNTED: Mapping[str, Knob] = MappingProxyType(
    {
        "epochs": Knob(
            meaning="Always 0: what is counted is not trained in steps",
            unit="passes over the users",
            owner="training",
            tier=FIXED,
        )
    }
)
"""What every family has that only counts."""

TRAINED: Mapping[str, Knob] = MappingProxyType(
    {
        "epochs": Knob(
            meaning="How long it trains; the learning rate falls to zero over them",
            unit="passes over the users",
            owner="training",
            tier=FIRST,
        ),
        "lr": Knob(
            meaning="Highest learning rate, reached after a short rise", unit="per step", owner="training", tier=FIRST
        ),
        "batch_size": Knob(meaning="What one step learns from", unit="targets", owner="training", tier=FIXED),
        "weight_decay": Knob(
            meaning="How strongly matrices are drawn to zero, times the learning rate",
            unit="per step",
            owner="training",
            tier=LATER,
            without=(Without(what="weight decay", values={"weight_decay": 0.0}),),
        ),
        "start": Knob(
            meaning="What it begins from: drawn weights, the incumbent's, or the incumbent's that rest at first",
            unit="choice",
            owner="training",
            tier=FIRST,
        ),
        "int8_share": Knob(
            meaning="Last part of the epochs, in which it learns with the weights that int8 will leave it",
            unit="share of the epochs",
            owner="training",
            tier=FIXED,
        ),
        "dim": Knob(meaning="Length of an item's vector", unit="numbers", owner="serving", tier=LATER, capacity=True),
        "history_length": Knob(
            meaning="How many of a user's newest items are read",
            unit="items",
            owner="serving",
            tier=LATER,
            capacity=True,
            without=(Without(what="all but the newest item", values={"history_length": 1}),),
        ),
        "dropout": Knob(
            meaning="Activations that are left out at random while it trains",
            unit="share of the activations",
            owner="modelling",
            tier=FIRST,
            without=(Without(what="dropout", values={"dropout": 0.0}),),
        ),
        "softmax": Knob(
            meaning="Whether the loss compares with the full catalogue or a sample",
            unit="choice",
            owner="modelling",
            tier=LATER,
            without=(Without(what="sampling in the loss", values={"softmax": "full"}),),
        ),
        "negatives": Knob(meaning="Items in a sampled softmax", unit="items", owner="modelling", tier=LATER),
    }
)
"""What every family has that learns vectors of items by steps."""
