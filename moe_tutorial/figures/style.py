"""One style for every figure: vector output, an expert's own colour, a sentence that says it all.

Figures are drawn 4.8 inches wide, so that on a phone, where they shrink to about 340 px, the
smallest letters still have 9 px.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import matplotlib.colors
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

EXPERT_COLOURS = (
    "#4b2ca0", "#f0c050", "#4f9a78", "#8a1020", "#62c4ea", "#6b6a00",
    "#f08cb4", "#8464dc", "#a8cc90", "#5a2c48", "#a89400", "#ac4c8c",
)  # fmt: skip
"""Twelve colours, at least 12 CAM02-UCS units apart under each kind of colour blindness."""

EXPERT_COLOURS_DARK = (
    "#8769ef", "#f1c353", "#66ab8b", "#ef555f", "#6bc8ee", "#6c8b03",
    "#f18ebb", "#a88ae8", "#a7cc90", "#a07388", "#b7a50f", "#c556ac",
)  # fmt: skip
"""The same hues for a dark page, as far apart: 4:1 on it, and dark words on them read 4.5:1."""

INK = "#1c2430"
"""Text, axes and the outline of a chosen expert."""

QUIET = "#8b95a3"
"""Helper lines and whatever was not chosen."""

LINE_STYLES = ("-", "--", "-.", ":")
"""Curves differ in their dashes too, so that colour never carries a meaning alone."""

SERIES = (("#c2410c", "o"), ("#0f766e", "s"), ("#4b2ca0", "^"), ("#7c8694", "D"))
"""A colour and a sign for each of up to four things that are no experts."""

WIDTH = 4.8

_SETTINGS: Mapping[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 10,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "legend.fontsize": 9.5,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.formatter.min_exponent": 5,  # 0.1 and 10000 before 10⁻¹ and 10⁴
    "axes.linewidth": 0.8,
    "lines.linewidth": 2,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.fonttype": "path",
    # Element ids come from this salt and not from a random one: the same figure, the same bytes.
    "svg.hashsalt": "moe_tutorial",
}


def style() -> Any:
    """The context in which every figure is made and drawn."""
    return matplotlib.rc_context(dict(_SETTINGS))


def expert_colour(expert: int) -> str:
    """The colour that belongs to an expert; beyond the twelfth, colours come round again."""
    return EXPERT_COLOURS[expert % len(EXPERT_COLOURS)]


class Picture:
    """A figure together with the sentence that says what it shows.

    Jupyter displays it as SVG. The sentence is its alternative text on the book's pages, the
    label that a screen reader speaks elsewhere, and what a terminal prints.

    Attributes:
        figure: the matplotlib figure, to be changed or saved further.
        alt: the sentence, made from the same numbers as the figure.
    """

    def __init__(self, figure: Figure, alt: str) -> None:
        self.figure = figure
        self.alt = alt

    @property
    def svg(self) -> str:
        """The figure as one SVG document, the same bytes for the same numbers."""
        buffer = io.StringIO()
        with style():
            self.figure.savefig(
                buffer, format="svg", metadata={"Date": None, "Creator": None, "Title": self.alt}
            )
        label = self.alt.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
        return buffer.getvalue().replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)

    def __repr__(self) -> str:
        return self.alt

    def _repr_mimebundle_(self, **_: object) -> tuple[dict[str, str], dict[str, Any]]:
        return (
            {"image/svg+xml": self.svg, "text/plain": self.alt},
            {"mystnb": {"image": {"alt": self.alt}}},
        )


def numbers(values: Tensor | Sequence[float], ndim: int) -> np.ndarray:
    """The values as a float64 array of the expected number of dimensions."""
    array = (
        values.detach().cpu().double().numpy()
        if isinstance(values, Tensor)
        else np.asarray(values, dtype=float)
    )
    if array.ndim != ndim:
        raise ValueError(f"a figure expected {ndim} dimensions here, got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError("a figure can only show finite numbers, got NaN or infinity")
    return array


def new_figure(height: float, rows: int = 1, **subplots: Any) -> tuple[Figure, np.ndarray]:
    """A figure of the book's width with ``rows`` axes below each other."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots(rows, 1, squeeze=False, **subplots)[:, 0]
    return figure, axes


def expert_axis(ax: Axes, num_experts: int, label: bool = True) -> None:
    """Name the experts 0 .. E-1 along the x axis, thinned out when there are many."""
    step = 1 if num_experts <= 16 else int(np.ceil(num_experts / 8))
    ax.set_xticks(range(0, num_experts, step))
    ax.set_xlim(-0.6, num_experts - 0.4)
    if label:
        ax.set_xlabel("expert")


def readable_on(colour: str) -> str:
    """Ink or white, whichever is easier to read on the colour."""
    red, green, blue = matplotlib.colors.to_rgb(colour)
    return "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 0.5 else INK


def label_expert(ax: Axes, x: float, y: float, expert: int, text: str, size: float) -> None:
    """A disc in the expert's colour with a few characters on it."""
    colour = expert_colour(expert)
    ax.plot(x, y, "o", markersize=size, color=colour, markeredgecolor=INK, zorder=5)
    ax.text(x, y, text, ha="center", va="center", size=9.5, color=readable_on(colour), zorder=6)


def listing(words: Sequence[str]) -> str:
    """'a', 'a and b', 'a, b and c'."""
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]])) if words else "none"


def largest(values: np.ndarray, count: int = 3) -> str:
    """The largest entries in words, for an alternative text."""
    order = np.argsort(-values, kind="stable")[:count]
    return listing([f"expert {e} ({values[e]:.2f})" for e in order])
