"""What balance costs: one point for each setting of a remedy, with the spread over seeds."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from moe_tutorial.figures.style import (
    INK,
    LINE_STYLES,
    SERIES,
    Picture,
    check_named,
    check_words,
    listing,
    new_figure,
    numbers,
    plain,
    style,
)


def trade_off(
    remedies: Mapping[str, tuple[Sequence[float], Tensor, Tensor]],
    *,
    x_label: str,
    y_label: str,
    start: tuple[Tensor, Tensor] | None = None,
) -> Picture:
    """Two measures against each other, along the settings of each remedy.

    A point is the mean over the seeds and its cross reaches from the smallest to the largest seed.

    Args:
        remedies: for each of up to four names its settings ``[N]``, and x and y ``[N, seeds]``.
        x_label: what x measures.
        y_label: what y measures.
        start: x and y ``[seeds]`` without any remedy.

    Returns:
        The figure; its sentence gives the mean x and y of the first and last setting of each.

    Raises:
        TypeError: values that are no numbers, or a text that is no str.
        ValueError: no remedies or more than four, shapes that do not fit, or a value that is not
            finite.
    """
    check_named("remedies", remedies)
    check_words(x_label=x_label, y_label=y_label)
    if len(remedies) > len(SERIES):
        raise ValueError(
            f"remedies must hold at most {len(SERIES)} names, got {listing(list(remedies))}"
        )
    sentences, handles = [], []
    with style():
        figure, (ax,) = new_figure(3.9)
        for i, (name, (settings, x_NS, y_NS)) in enumerate(remedies.items()):
            x, y = numbers(f"x of {name}", x_NS, 2), numbers(f"y of {name}", y_NS, 2)
            if x.shape != y.shape or len(x) != len(numbers(f"settings of {name}", settings, 1)):
                raise ValueError(
                    f"{name} must have x and y of shape [{len(settings)}, seeds], got "
                    f"{list(x.shape)} and {list(y.shape)}"
                )
            colour, sign = SERIES[i % len(SERIES)]
            line = LINE_STYLES[i % len(LINE_STYLES)]
            _spread(ax, x, y, colour)
            handles += ax.plot(x.mean(1), y.mean(1), line, marker=sign, color=colour, linewidth=1.4)
            for n in (0, len(x) - 1):
                ax.annotate(
                    f"{settings[n]:g}", (x[n].mean(), y[n].mean()),
                    # Ends of two curves are often close: every other one is written below.
                    xytext=(5, 5 if i % 2 == 0 else -13),
                    textcoords="offset points", fontsize=9.5, color=INK,
                )  # fmt: skip
            ends = [
                f"at {settings[n]:g} {x[n].mean():.3g} and {y[n].mean():.3g}"
                for n in (0, len(x) - 1)
            ]
            sentences.append(f"{name}: {listing(ends)}.")
        if start is not None:
            x, y = (numbers("start", values, 1)[None] for values in start)
            _spread(ax, x, y, INK)
            handles += ax.plot(x.mean(), y.mean(), "*", markersize=12, color=INK)
            sentences.append(f"No remedy: {x.mean():.3g} and {y.mean():.3g}.")
        ax.set_xlabel(plain(x_label))
        ax.set_ylabel(plain(y_label))
        labels = [plain(name) for name in remedies] + ["no remedy"] * (start is not None)
        figure.legend(handles, labels, loc="outside upper left", ncols=2, handlelength=2.6)
    return Picture(
        figure,
        f"{y_label} against {x_label}, mean over the seeds with the range from the smallest to the "
        "largest. " + " ".join(sentences),
    )


def _spread(ax: Axes, x: np.ndarray, y: np.ndarray, colour: str) -> None:
    ax.errorbar(
        x.mean(1),
        y.mean(1),
        xerr=(x.mean(1) - x.min(1), x.max(1) - x.mean(1)),
        yerr=(y.mean(1) - y.min(1), y.max(1) - y.mean(1)),
        fmt="none",
        ecolor=colour,
        elinewidth=0.8,
        alpha=0.6,
    )
