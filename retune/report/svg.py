"""Turn a matplotlib figure into SVG that is a part of the page: the page's font, its colours, and ids of its own.

Figures are drawn in the light palette, whose colours are then replaced by their names (`var(--ink)`), so that a page's
dark scheme repaints them.
"""

import io
import re
from collections.abc import Callable, Mapping
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

INK = {
    "ink": "#1c2330",
    "muted": "#5b6475",
    "rule": "#d9dde5",
    "card": "#ffffff",
    "accent": "#0b7a70",
    "amber": "#98590a",
    "grey": "#8089a0",
    "bad": "#c0362c",
    "screen": "#93aed6",
    "refine": "#5a86c5",
    "confirm": "#1f4e9e",
}
"""The light palette by name. No two are equal, since a colour in a drawing is turned back into its name."""

DARK = {
    "ink": "#e6e9ef",
    "muted": "#9aa4b5",
    "rule": "#343b48",
    "card": "#1a1f28",
    "accent": "#3fbdb0",
    "amber": "#e0a04a",
    "grey": "#7f8aa0",
    "bad": "#f0776c",
    "screen": "#4d6690",
    "refine": "#6f9be0",
    "confirm": "#b5d0ff",
}
"""The dark palette, by the same names."""

FONT_PT = 9.0


def draw(name: str, on: Callable[[Figure], None], *, width_in: float, height_in: float) -> str:
    """Draw a figure and give it as an `<svg>` element without width, height or anything that is loaded.

    Args:
        name: Begins every id in the drawing; unique on its page.
        on: Draws on the figure; in the colours of `INK` alone.
        width_in: Width; a page may scale it.
        height_in: Height.
    """
    with mpl.rc_context(_style(name)):  # type: ignore[arg-type]  # matplotlib spells out all its keys
        figure = Figure(figsize=(width_in, height_in), layout="constrained")
        on(figure)
        drawn = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(drawn, format="svg", transparent=True, metadata=nothing)
    return _inline(name, drawn.getvalue())


def _style(name: str) -> dict[str, Any]:
    return {
        "svg.fonttype": "none",  # letters stay text: small, searchable, in the page's font
        "svg.hashsalt": name,  # the same story is the same page
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib, so room for text is measured alike everywhere
        "text.parse_math": False,  # a dollar in a name is a dollar
        "font.size": FONT_PT,
        "figure.labelsize": FONT_PT,
        "figure.constrained_layout.h_pad": 0.08,
        "figure.constrained_layout.hspace": 0.04,
        "figure.constrained_layout.wspace": 0.03,
        "axes.titlesize": FONT_PT,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.labelsize": FONT_PT,
        "axes.labelcolor": INK["muted"],
        "axes.edgecolor": INK["rule"],
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "grid.color": INK["rule"],
        "grid.linewidth": 0.7,
        "legend.fontsize": FONT_PT,
        "text.color": INK["ink"],
        "xtick.color": INK["rule"],
        "ytick.color": INK["rule"],
        "xtick.labelcolor": INK["muted"],
        "ytick.labelcolor": INK["ink"],
        "path.simplify": True,
    }


def _inline(name: str, drawn: str) -> str:
    """Keep the drawing and drop the document around it; text is left as matplotlib escaped it."""
    svg = drawn[drawn.index("<svg") :]
    svg = re.sub(r"<(metadata|style)\b.*?</\1>", "", svg, flags=re.DOTALL)  # line joins stand in the page's style
    used = set(re.findall(r'<[^>]*(?:href="#|url\(#)([^")]+)', svg))
    ids = {old: f"{name}-{number}" for number, old in enumerate(sorted(used))}
    svg = re.sub(r"<[^>]*>", lambda tag: _tag(tag[0], ids), svg)
    return re.sub(r">\s*\n\s*<", "><", svg).strip()


def _tag(tag: str, ids: Mapping[str, str]) -> str:
    if tag.startswith("<svg"):
        box = re.search(r'viewBox="[^"]*"', tag)
        return f'<svg {box[0] if box else ""} aria-hidden="true" focusable="false">'
    tag = re.sub(r' id="([^"]*)"', lambda m: f' id="{ids[m[1]]}"' if m[1] in ids else "", tag)
    tag = re.sub(r'(?:xlink:)?href="#([^"]+)"', lambda m: f'href="#{ids[m[1]]}"', tag)
    tag = re.sub(r"url\(#([^)]+)\)", lambda m: f"url(#{ids[m[1]]})", tag)
    tag = re.sub(r"font-family: [^;\"]*;? ?", "", tag)
    tag = re.sub(r' transform="rotate\(-?0 [^"]*"', "", tag)
    tag = re.sub(r"\d+\.\d{3,}", lambda m: f"{float(m[0]):.2f}", tag)
    for colour, value in INK.items():
        tag = tag.replace(value, f"var(--{colour})")
    return tag
