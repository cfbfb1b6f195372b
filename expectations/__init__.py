"""What must be true of feedback before anything learns from it, as code."""

import logging

logging.getLogger("great_expectations").setLevel(logging.WARNING)  # its import alone tells of itself in 200 lines

from expectations.checks import check  # noqa: E402 - after the line above

__all__ = ["check"]
