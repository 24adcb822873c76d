"""Words in a figure that find their own place, and axes whose ticks can be read."""

import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib.ticker
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from moe_tutorial.figures.palette import readable_as
from moe_tutorial.figures.style import WIDTH, plain
from moe_tutorial.figures.vector import SMALLEST

MINUS = "\N{MINUS SIGN}"
LINE = 1.22 * SMALLEST  # from one line of a label to the next, in points
LEADER = 24.0  # points between the end of a curve and its label, for the line that leads there
BEND = 7.0  # where it has reached the label's height: the rest is a sample of the curve


class End(NamedTuple):
    """Where a curve ends, and what it is called there."""

    text: str
    y: float
    look: dict[str, Any]  # of the line that leads from the curve to its label


def label_ends(figure: Figure, ax: Axes, ends: Sequence[End], letters: int = 18) -> None:
    """Write each curve's name at the right of its end, in its colour; names that meet move apart.

    Afterwards the axes keep their place: call it last.

    Args:
        figure: with one column of axes.
        ax: whose curves end at its right edge.
        ends: the curves' names and last values.
        letters: how long a line of a label may be, if no word is longer.
    """
    words = [_balanced(end.text, letters) for end in ends]
    texts = [
        figure.text(0, 0, plain("\n".join(lines)), size=SMALLEST, linespacing=1.2, va="center")
        for lines in words
    ]
    for text in texts:
        text.set_in_layout(False)
    wide = max((text.get_window_extent().width for text in texts), default=0.0)
    room = (wide + LEADER + 3) / (72 * WIDTH) if texts else 0.0
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.set(rect=(0, 0, 1 - room, 1))  # type: ignore[call-arg]
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    box = ax.get_window_extent()
    wanted = np.array([ax.transData.transform((ax.get_xlim()[1], end.y))[1] for end in ends])
    heights = np.array([LINE * len(lines) for lines in words])
    places = apart(wanted, heights, box.y0 - LINE / 2, box.y1 + LINE / 2)
    for text, end, y, place in zip(texts, ends, wanted, places, strict=True):
        text.set_transform(figure.dpi_scale_trans)
        text.set_position(((box.x1 + LEADER) / 72, place / 72))
        text.set_color(readable_as(end.look["color"]))
        xs = (box.x1 + 3, box.x1 + BEND, box.x1 + LEADER - 2.5)
        look = {"linewidth": 1.2, "transform": figure.dpi_scale_trans, **end.look}
        figure.add_artist(Line2D(np.array(xs) / 72, np.array([y, place, place]) / 72, **look))


def fitted(text: str, letters: int = 37) -> str:
    """A title in as many lines as it needs to fit over its axes."""
    return plain("\n".join(textwrap.wrap(text, letters, break_long_words=False)))


def _balanced(text: str, letters: int) -> list[str]:
    """As few lines as possible, and then as short as possible: no word is left alone."""
    found = textwrap.wrap(text, letters, break_long_words=False)
    while letters > 1:
        letters -= 1
        narrower = textwrap.wrap(text, letters, break_long_words=False)
        if len(narrower) > len(found):
            return found
        found = narrower
    return found


def apart(wanted: np.ndarray, heights: np.ndarray, low: float, high: float) -> np.ndarray:
    """Places for the middles of labels, as near as possible to those wanted, without overlap.

    Args:
        wanted: where each middle would stand alone ``[N]``.
        heights: of the labels ``[N]``.
        low: where the lowest may begin.
        high: where the highest may end; they are pushed below ``low`` if there is no room for all.
    """
    order = np.argsort(wanted, kind="stable")
    # Stacks of labels that touch, each with its labels' heights and wanted lower ends.
    stacks: list[tuple[float, float, list[int]]] = []  # lower end, height, labels
    for label in order:
        stack = (wanted[label] - heights[label] / 2, heights[label], [label])
        while True:
            start, height, labels = stack
            start = max(min(start, high - height), low)
            if not stacks or sum(stacks[-1][:2]) <= start:
                stacks.append((start, height, labels))
                break
            _, below, others = stacks.pop()
            labels, height = others + labels, below + height
            offsets = np.cumsum([0, *heights[labels][:-1]])
            start = float(np.mean(wanted[labels] - heights[labels] / 2 - offsets))
            stack = (start, height, labels)
    places = np.empty(len(wanted))
    for start, _, labels in stacks:
        for label in labels:
            places[label] = start + heights[label] / 2
            start += heights[label]
    return places


def name_y(ax: Axes, text: str) -> None:
    """The name of the y axis, lying above it, where it is read first and needs no turned head."""
    ax.set_title(plain(text), fontsize=SMALLEST, fontweight="normal", loc="left")


def log_axis(axis: Axis, points: Sequence[float] = ()) -> None:
    """A logarithmic axis with three to seven ticks, at the measured points if these double."""
    low, high = axis.get_view_interval()
    ticks = _log_ticks(low, high, np.array(points, dtype=float))
    axis.set_major_locator(matplotlib.ticker.FixedLocator(ticks))
    axis.set_minor_locator(matplotlib.ticker.NullLocator())
    axis.set_major_formatter(matplotlib.ticker.FixedFormatter([written(tick) for tick in ticks]))


def _log_ticks(low: float, high: float, points: np.ndarray) -> list[float]:
    powers = np.log2(points)
    if len(points) > 2 and np.all(powers == np.round(powers)):
        return [float(point) for point in points[:: (len(points) + 5) // 6]]
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    for steps in ((1, 2, 5), (1,), (1, 3), (1, 2, 3, 5, 7)):
        ticks = [float(f"{step}e{d}") for d in decades for step in steps]
        ticks = [tick for tick in ticks if low * 0.999 <= tick <= high * 1.001]
        if 3 <= len(ticks) <= 7:
            return ticks
    if high > 1000 * low:
        return [float(f"1e{d}") for d in decades[:: len(decades) // 6 + 1]]
    found = matplotlib.ticker.MaxNLocator(4, steps=[1, 2, 5, 10]).tick_values(low, high)
    return [float(tick) for tick in found if low * 0.999 <= tick <= high * 1.001]


def even_axis(axis: Axis, ticks: int = 6) -> None:
    """A linear axis with up to so many steps of 1, 2 or 5."""
    axis.set_major_locator(matplotlib.ticker.MaxNLocator(ticks, steps=[1, 2, 5, 10]))


def written(value: float) -> str:
    """A number without needless zeros and powers: 4096, 0.0316."""
    return f"{value:.6f}".rstrip("0").rstrip(".").replace("-", MINUS)
