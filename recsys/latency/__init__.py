"""Say how long requests to a bundle take, beside another bundle, on a machine that does other things as well."""

from recsys.latency.server import Served
from recsys.latency.sidebyside import CANDIDATE, INCUMBENT, SideBySide, time_side_by_side

__all__ = ["CANDIDATE", "INCUMBENT", "Served", "SideBySide", "time_side_by_side"]
