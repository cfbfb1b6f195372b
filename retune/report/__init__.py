"""Tell a line's story: read it from the store, sum it up for programs, and lay it out as one page for people."""

from retune.report.chapters import Ending, Round, Story, Turn
from retune.report.page import render
from retune.report.story import summary, tell

__all__ = ["Ending", "Round", "Story", "Turn", "render", "summary", "tell"]
