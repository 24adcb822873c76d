"""A roofline: how fast a machine can compute at best, and how fast it did."""

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from moe_tutorial.figures.labels import log_axis, name_y
from moe_tutorial.figures.placing import Label, Obstacle, place_labels
from moe_tutorial.figures.style import (
    INK,
    SERIES,
    Picture,
    check_series,
    check_words,
    new_figure,
    numbers,
    plain,
    style,
)


def roofline(
    points: Mapping[str, tuple[Tensor | Sequence[float], Tensor | Sequence[float]]],
    *,
    peak: float,
    slope: float,
    x_label: str,
    y_label: str,
    roofs: tuple[str, str] = ("as fast as data comes in", "as fast as it multiplies"),
) -> Picture:
    """Measured rates under the two roofs of a machine, both axes logarithmic.

    Args:
        points: for each of up to four names, what is done with each piece of data, such as rows
            for each matrix, and the rate that was reached there, both ``[N]``.
        peak: the highest rate, however much is done.
        slope: the rate for each unit of x that reading the data allows.
        x_label: what x is.
        y_label: what the rates are.
        roofs: what the rising and the flat roof are called.

    Returns:
        The figure; its sentence gives both roofs, where they meet, and each name's rates at its
        smallest and its largest x.

    Raises:
        TypeError: values that are no numbers, or a text that is no str.
        ValueError: values that are not positive and finite, of different lengths, or more than
            four names.
    """
    check_series("points", points)
    for text in (x_label, y_label, *roofs):
        check_words(**{"labels and roofs": text})
    found = {name: _pair(f"points[{name!r}]", *pair) for name, pair in points.items()}
    for name, limit in (("peak", peak), ("slope", slope)):
        if numbers(name, limit, 0) <= 0:
            raise ValueError(f"{name} must be positive, got {limit}")
    x_N, y_N = np.concatenate(list(found.values()), axis=1)
    ridge = peak / slope
    left, right = float(x_N.min()) / 1.4, max(float(x_N.max()), ridge) * 1.4
    bottom, top = min(float(y_N.min()), slope * left) / 1.4, 2.2 * max(peak, float(y_N.max()))
    roof_2N = np.array([[left, ridge, right], [slope * left, peak, peak]])
    with style():
        figure, (ax,) = new_figure(4.0)
        ax.plot(*roof_2N, color=INK, linewidth=1.5)
        signs = []
        for pair_2N, (colour, sign) in zip(found.values(), SERIES, strict=False):
            signs += ax.plot(*pair_2N, sign, color=colour, markersize=5.5, zorder=3)
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xlim(left, right)
        ax.set_ylim(bottom, top)
        log_axis(ax.xaxis)
        log_axis(ax.yaxis)
        ax.set_xlabel(plain(x_label))
        name_y(ax, y_label)
        legend = [plain(name) for name in points]
        figure.legend(signs, legend, loc="outside upper left", ncols=2, handletextpad=0.3)
        obstacles = [Obstacle(roof_2N.T, 3)]
        obstacles += [Obstacle(pair_2N.T, 6, joined=False) for pair_2N in found.values()]
        middle = float(np.sqrt(left * ridge))
        labels = [
            Label("\n".join(_halves(roofs[0])), middle, slope * middle),
            Label(roofs[1], float(np.sqrt(ridge * right)), peak),
        ]
        place_labels(figure, ax, labels, obstacles)
    reached = [f"{name}: {_ends(*pair_2N)}" for name, pair_2N in found.items()]
    return Picture(
        figure,
        f"Roofline of {y_label} against {x_label}, both axes logarithmic. The roof rises by "
        f"{slope:.3g} for each unit up to {peak:.3g} at {ridge:.3g}, and is flat from there. "
        f"{'. '.join(reached)}.",
    )


def _pair(name: str, x: Tensor | Sequence[float], rates: Tensor | Sequence[float]) -> np.ndarray:
    """Both as ``[2, N]``, positive and of one length."""
    x_N, y_N = numbers(f"{name}[0]", x, 1), numbers(f"{name}[1]", rates, 1)
    if len(x_N) != len(y_N):
        raise ValueError(
            f"{name} must hold as many rates as values of x, {len(x_N)}, got {len(y_N)}"
        )
    if (low := min(x_N.min(), y_N.min())) <= 0:
        raise ValueError(f"{name} must be positive on logarithmic axes, got {low}")
    return np.stack([x_N, y_N])


def _ends(x_N: np.ndarray, y_N: np.ndarray) -> str:
    first, last = int(x_N.argmin()), int(x_N.argmax())
    return f"{y_N[first]:.3g} at {x_N[first]:.0f} and {y_N[last]:.3g} at {x_N[last]:.0f}"


def _halves(text: str) -> list[str]:
    """A text cut into two lines of about the same length."""
    words = text.split()
    cut = min(range(1, len(words) + 1), key=lambda n: abs(len(" ".join(words[:n])) - len(text) / 2))
    return [part for part in (" ".join(words[:cut]), " ".join(words[cut:])) if part]
