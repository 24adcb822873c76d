"""One style for every figure: vector output, an expert's own colour, a sentence that says it all.

Figures are drawn 4.8 inches wide with letters of 11 points or more, so that on a phone, where they
are 350 px wide, the smallest letters still have 11 px.
"""

import copy
import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from moe_tutorial.figures import palette
from moe_tutorial.figures.captions import caption_html, caption_text
from moe_tutorial.figures.palette import expert_colour, readable_on
from moe_tutorial.figures.vector import SMALLEST, book_svg

INK = palette.INK.light
QUIET = palette.QUIET.light
PAPER = palette.PAGE.light

LINE_STYLES = ("-", "--", "-.", ":")
"""Curves differ in their dashes too, so that colour never carries a meaning alone."""

SERIES = (
    (palette.ORANGE.light, "o"),
    (palette.TEAL.light, "s"),
    (palette.ACCENT.light, "^"),
    (palette.GREY.light, "D"),
)
"""A colour and a sign for each of up to four things that are no experts."""

WIDTH = 4.8

_SETTINGS: Mapping[str, Any] = {
    "font.family": "DejaVu Sans",  # measured with these, shown in narrower ones
    "font.size": 11.5,
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 11,
    "xtick.labelsize": SMALLEST,
    "ytick.labelsize": SMALLEST,
    "legend.fontsize": SMALLEST,
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
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "svg.fonttype": "none",
    # Element ids come from this salt and not from a random one: the same figure, the same bytes.
    "svg.hashsalt": "moe_tutorial",
}


def style() -> Any:
    """The context in which every figure is made and drawn, whatever style is in use around it."""
    return matplotlib.style.context(dict(_SETTINGS), after_reset=True)


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
        self.alt = alt.replace("\n", " ")

    @property
    def svg(self) -> str:
        """The figure as one SVG element, the same bytes for the same numbers."""
        buffer = io.StringIO()
        with style():
            # Drawing moves axes and texts a little, and the next drawing would begin from there.
            copy.deepcopy(self.figure).savefig(buffer, format="svg", metadata={"Date": None})
        return book_svg(buffer.getvalue(), self.alt)

    def captioned(self, number: str, takeaway: str) -> "Picture":
        """The picture with its number in the chapter and the sentence to take away from it.

        Args:
            number: chapter and place in it, such as ``"2.1"``.
            takeaway: what the reader should see, from the same numbers as the picture.

        Returns:
            A picture that Jupyter shows with its caption below.

        Raises:
            TypeError: a text that is no str.
            ValueError: a number of another form, or a takeaway that is no sentence.
        """
        return CaptionedPicture(self, number, takeaway)

    def __repr__(self) -> str:
        return self.alt

    def _repr_mimebundle_(self, **_: object) -> tuple[dict[str, str], dict[str, Any]]:
        return (
            {"image/svg+xml": self.svg, "text/plain": self.alt},
            {"mystnb": {"image": {"alt": self.alt}}},
        )


class CaptionedPicture(Picture):
    """A picture with a numbered caption; :meth:`Picture.captioned` makes it.

    Attributes:
        number: chapter and place in it.
        takeaway: the caption's sentence.
    """

    def __init__(self, picture: Picture, number: str, takeaway: str) -> None:
        super().__init__(picture.figure, picture.alt)
        self._start, self.takeaway = caption_text(number, takeaway)
        self.number = number

    def _ipython_display_(self) -> None:
        # Two outputs: of one with several forms, a reader would see either picture or caption.
        from IPython.display import display

        picture, metadata = self._repr_mimebundle_()
        caption = {
            "text/html": caption_html(self.number, self.takeaway),
            "text/plain": f"{self._start} {self.takeaway}",
        }
        display(picture, metadata=metadata, raw=True)  # type: ignore[no-untyped-call]
        display(caption, raw=True)  # type: ignore[no-untyped-call]


# --- what a figure can be given ---


def numbers(name: str, values: Tensor | Sequence[float] | float, ndim: int) -> np.ndarray:
    """The values as a float64 array of the expected number of dimensions.

    Raises:
        TypeError: what is no tensor and no sequence of numbers.
        ValueError: another number of dimensions, no values, or a value that is not finite.
    """
    if isinstance(values, Tensor):
        array = values.detach().cpu().double().numpy()
    else:
        try:
            if np.asarray(values).dtype.kind == "U":  # numpy would read "1" as 1
                raise TypeError
            array = np.asarray(values, dtype=float)
        except (TypeError, ValueError):
            raise TypeError(f"{name} must be a tensor or numbers, got {values!r}") from None
    if array.ndim != ndim:
        raise ValueError(
            f"{name} must have {ndim} dimension{'s' if ndim > 1 else ''}, got shape {array.shape}"
        )
    if array.size == 0:
        raise ValueError(f"{name} must not be empty, got shape {array.shape}")
    if not np.isfinite(array).all():
        wrong = array[~np.isfinite(array)][0]
        raise ValueError(f"{name} must be finite to be drawn, got {wrong}")
    return array


def expert_ids(name: str, ids: Tensor | Sequence[int], num_experts: int) -> list[int]:
    """The ids of some experts as ints.

    Raises:
        TypeError: what is no tensor and no sequence of integers.
        ValueError: an id that is not one of the E experts.
    """
    found = ids.tolist() if isinstance(ids, Tensor) else list(ids)
    for expert in found:
        if isinstance(expert, bool) or not isinstance(expert, int | np.integer):
            raise TypeError(f"{name} must hold ids of experts as integers, got {expert!r}")
        if not 0 <= expert < num_experts:
            raise ValueError(
                f"{name} must hold ids from 0 to {num_experts - 1}, as there are {num_experts} "
                f"experts, got {expert}"
            )
    return [int(expert) for expert in found]


def check_words(**texts: object) -> None:
    """Refuse texts that are not strings, by the names of their arguments."""
    for name, text in texts.items():
        if not isinstance(text, str):
            raise TypeError(f"{name} must be a str, got {text!r} of type {type(text).__name__}")


def check_named(name: str, entries: object) -> None:
    """Refuse what is not a dictionary from names to entries, or has none."""
    if not isinstance(entries, Mapping):
        raise TypeError(f"{name} must be a mapping from names, got {type(entries).__name__}")
    if not entries:
        raise ValueError(f"{name} must name at least one entry, got none")
    for key in entries:
        check_words(**{f"the names in {name}": key})


def check_series(name: str, entries: Mapping[str, object]) -> None:
    """Refuse what is not a dictionary of one to four names: each has its own colour and sign."""
    check_named(name, entries)
    if len(entries) > len(SERIES):
        raise ValueError(
            f"{name} must hold at most {len(SERIES)} names, got {listing(list(entries))}"
        )


def plain(text: str) -> str:
    """Words of a caller as they stand: for matplotlib a pair of dollars would hold a formula."""
    return text.replace("$", r"\$")


# --- what figures are made of ---


def new_figure(height: float, rows: int = 1, **subplots: Any) -> tuple[Figure, np.ndarray]:
    """A figure of the book's width with ``rows`` axes below each other; a pixel is a point."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained", dpi=72)
    axes = figure.subplots(rows, 1, squeeze=False, **subplots)[:, 0]
    return figure, axes


def expert_axis(ax: Axes, num_experts: int, label: bool = True) -> None:
    """Name the experts 0 .. E-1 along the x axis, thinned out when there are many."""
    step = 1 if num_experts <= 16 else int(np.ceil(num_experts / 8))
    ax.set_xticks(range(0, num_experts, step))
    ax.set_xlim(-0.6, num_experts - 0.4)
    if label:
        ax.set_xlabel("expert")


def label_expert(ax: Axes, x: float, y: float, expert: int, text: str, size: float) -> None:
    """A disc in the expert's colour with a few characters on it."""
    colour = expert_colour(expert)
    ax.plot(x, y, "o", markersize=size, color=colour, markeredgecolor=INK, zorder=5)
    ax.text(
        x, y, text, ha="center", va="center", size=SMALLEST, color=readable_on(colour), zorder=6
    )


def listing(words: Sequence[str]) -> str:
    """'a', 'a and b', 'a, b and c'."""
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]])) if words else "none"


def largest(values: np.ndarray, count: int = 3) -> str:
    """The largest entries in words, for an alternative text."""
    order = np.argsort(-values, kind="stable")[:count]
    return listing([f"expert {e} ({values[e]:.2f})" for e in order])
