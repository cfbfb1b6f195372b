"""List the families of models that a line may choose from; a new one is a file here and a line below."""

from collections.abc import Mapping
from types import MappingProxyType

from recsys.models import hybrid, markov, popularity, sasrec, two_tower
from recsys.models.knob import Knob, Without
from recsys.models.network import COLD, FROZEN, INCUMBENT, TRAINING, Configuration, Family, Network, TorchScorer, Value

FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        family.name: family
        for family in (
            popularity.FAMILY,
            markov.FAMILY,
            two_tower.FAMILY,
            sasrec.FAMILY,
            hybrid.FAMILY,
        )
    }
)

__all__ = [
    "COLD",
    "FAMILIES",
    "FROZEN",
    "INCUMBENT",
    "TRAINING",
    "Configuration",
    "Family",
    "Knob",
    "Network",
    "TorchScorer",
    "Value",
    "Without",
]
