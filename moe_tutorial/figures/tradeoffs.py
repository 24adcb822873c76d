"""What balance costs: one point for each setting of a remedy, with the spread over seeds."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from moe_tutorial.figures.labels import even_axis, log_axis, name_y
from moe_tutorial.figures.placing import Label, Obstacle, place_labels
from moe_tutorial.figures.style import (
    INK,
    LINE_STYLES,
    SERIES,
    Picture,
    check_series,
    check_words,
    listing,
    new_figure,
    numbers,
    plain,
    style,
)

_MANY = 5  # settings: a number at each point of more would be a thicket


def trade_off(
    remedies: Mapping[str, tuple[Sequence[float], Tensor, Tensor]],
    *,
    x_label: str,
    y_label: str,
    start: tuple[Tensor, Tensor] | None = None,
    setting: str = "{:g}",
) -> Picture:
    """Two measures against each other, along the settings of each remedy.

    A point is the mean over the seeds and its cross reaches from the smallest to the largest seed;
    means alone have none.
    Each remedy is named at its last point. Of up to five settings, each is written at its point,
    of more only the first and the last one. Where y reaches over more than a factor of four, or x
    over more than ten, its axis is logarithmic, so that points near 0 stand apart.

    Args:
        remedies: for each of up to four names its settings ``[N]``, and x and y ``[N, seeds]``.
        x_label: what x measures.
        y_label: what y measures: an error or a loss, of which less is better.
        start: x and y ``[seeds]`` without any remedy.
        setting: how a setting is written, such as ``"{:g} steps"``.

    Returns:
        The figure; its sentence gives the mean x and y of the first, the best and the last setting
        of each.

    Raises:
        TypeError: values that are no numbers, or a text that is no str.
        ValueError: no remedies or more than four, shapes that do not fit, a value that is not
            finite, or a setting that is no form for a number.
    """
    check_series("remedies", remedies)
    check_words(x_label=x_label, y_label=y_label, setting=setting)
    try:
        setting.format(1.0)
    except (IndexError, KeyError, ValueError):
        raise ValueError(f"setting must be a form for a number, got {setting!r}") from None
    points_of = {name: _points(name, *entry) for name, entry in remedies.items()}
    sentences, labels, others, obstacles = [], [], [], []
    xs, ys = ([entry[i].flatten() for entry in points_of.values()] for i in (1, 2))
    with style():
        figure, (ax,) = new_figure(4.3)
        for i, (name, (settings, x_NS, y_NS)) in enumerate(points_of.items()):
            colour, sign = SERIES[i]
            obstacles += _spread(ax, x_NS, y_NS, colour)
            x_N, y_N = x_NS.mean(1), y_NS.mean(1)
            ax.plot(x_N, y_N, LINE_STYLES[i], marker=sign, color=colour, linewidth=1.4)
            line = np.stack([x_N, y_N], axis=1)
            obstacles += [Obstacle(line, 2), Obstacle(line, 4, joined=False)]
            best, last = int(y_N.argmin()), len(x_N) - 1
            words = f"{name},\n{setting.format(settings[last])}"
            labels.append(Label(words, line[last, 0], line[last, 1], colour))
            others += [
                Label(setting.format(settings[n]), line[n, 0], line[n, 1], colour)
                for n in range(0, last, 1 if last < _MANY else last)
            ]
            told = [
                f"at {settings[n]:g} {x_N[n]:.3g} and {y_N[n]:.3g}"
                for n in dict.fromkeys((0, best, last))
            ]
            sentences.append(f"{name}: {listing(told)}.")
        if start is not None:
            x_S, y_S = (numbers("start", values, 1)[None] for values in start)
            obstacles += _spread(ax, x_S, y_S, INK)
            x, y = x_S.mean(), y_S.mean()
            ax.plot(x, y, "*", markersize=12, color=INK)
            obstacles.append(Obstacle(np.array([[x, y]]), 6, joined=False))
            labels.append(Label("no remedy", x, y))
            sentences.append(f"No remedy: {x:.3g} and {y:.3g}.")
            xs, ys = [*xs, x_S[0]], [*ys, y_S[0]]
        for axis, scale, values, factor in (
            (ax.xaxis, ax.set_xscale, xs, 10),
            (ax.yaxis, ax.set_yscale, ys, 4),
        ):
            drawn = np.concatenate(values)
            if drawn.min() > 0 and drawn.max() > factor * drawn.min():
                scale("log")
                log_axis(axis)
            else:
                even_axis(axis)
        ax.set_xlabel(plain(x_label))
        name_y(ax, y_label)
        place_labels(figure, ax, labels + others, obstacles)
    several = any(x_NS.shape[1] > 1 for _, x_NS, _ in points_of.values())
    spread = ", mean over the seeds with the range from the smallest to the largest"
    return Picture(
        figure,
        f"{y_label} against {x_label}{spread if several else ''}. " + " ".join(sentences),
    )


def _points(
    name: str, settings: Sequence[float], x_NS: Tensor, y_NS: Tensor
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x, y = numbers(f"x of {name}", x_NS, 2), numbers(f"y of {name}", y_NS, 2)
    found = numbers(f"settings of {name}", settings, 1)
    if x.shape != y.shape or len(x) != len(found):
        raise ValueError(
            f"{name} must have x and y of shape [{len(settings)}, seeds], got "
            f"{list(x.shape)} and {list(y.shape)}"
        )
    return found, x, y


def _spread(ax: Axes, x_NS: np.ndarray, y_NS: np.ndarray, colour: str) -> list[Obstacle]:
    """Draw a cross for each setting; its arms, which a label should rather not cover."""
    x, y = x_NS.mean(1), y_NS.mean(1)
    ax.errorbar(
        x,
        y,
        xerr=(x - x_NS.min(1), x_NS.max(1) - x),
        yerr=(y - y_NS.min(1), y_NS.max(1) - y),
        fmt="none",
        ecolor=colour,
        elinewidth=0.8,
        alpha=0.45,
    )
    arms = [
        arm
        for n in range(len(x))
        for arm in (
            [[x_NS[n].min(), y[n]], [x_NS[n].max(), y[n]]],
            [[x[n], y_NS[n].min()], [x[n], y_NS[n].max()]],
        )
    ]
    return [Obstacle(np.array(arm), 1, weight=15) for arm in arms]
