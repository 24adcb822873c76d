"""Differences with their intervals, and how forecasts' confidence compares with their accuracy."""

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from moe_tutorial.figures.labels import even_axis, fitted
from moe_tutorial.figures.style import (
    INK,
    QUIET,
    SERIES,
    Picture,
    check_named,
    check_series,
    check_words,
    new_figure,
    numbers,
    plain,
    style,
)


def differences(rows: Mapping[str, Mapping[str, tuple[float, float]]], *, x_label: str) -> Picture:
    """Differences and their intervals, a row for each thing, beside the line at 0.

    Args:
        rows: for each row, from top to bottom, by name a difference and half the width of its
            interval.
        x_label: what minus what.

    Returns:
        The figure; its sentence gives every difference and says whose intervals leave 0 out.

    Raises:
        TypeError: a difference that is no number, or a text that is no str.
        ValueError: no rows, a number that is not finite, an interval of negative width, or more
            than four names.
    """
    check_words(x_label=x_label)
    check_named("rows", rows)
    for row, values in rows.items():
        check_named(f"rows[{row!r}]", values)
    names = list(dict.fromkeys(name for values in rows.values() for name in values))
    check_series("rows", dict.fromkeys(names))
    found = {
        row: {name: _pair(f"rows[{row!r}][{name!r}]", pair) for name, pair in values.items()}
        for row, values in rows.items()
    }
    with style():
        figure, (ax,) = new_figure(1.2 + 0.24 * len(rows) * max(len(names), 1.6))
        ax.axvline(0, color=INK, linewidth=1)
        step = 0.26 if len(names) > 1 else 0.0
        signs = {}
        for y, pairs in enumerate(found.values()):
            ax.axhline(y, color=QUIET, linewidth=0.4, alpha=0.5)
            for name, (value, half) in pairs.items():
                at = names.index(name)
                colour, sign = SERIES[at]
                height = y + step * (at - (len(names) - 1) / 2)
                ax.plot([value - half, value + half], [height] * 2, color=colour, linewidth=1.6)
                (signs[name],) = ax.plot(value, height, sign, color=colour, zorder=3)
        ax.set_yticks(range(len(rows)), labels=[fitted(row, 22) for row in rows])
        ax.tick_params(axis="y", length=0)
        ax.set_ylim(len(rows) - 0.4, -0.6)
        even_axis(ax.xaxis)
        ax.set_xlabel(plain(x_label))
        if len(names) > 1:
            lines = [signs[name] for name in names]
            labels = [plain(name) for name in names]
            figure.legend(lines, labels, loc="outside upper left", ncols=2, handletextpad=0.3)
    told = [
        f"{row}: " + ", ".join(f"{name} {_told(*pair)}" for name, pair in pairs.items()) + "."
        for row, pairs in found.items()
    ]
    return Picture(
        figure, f"Differences with intervals, {x_label}, beside a line at 0. " + " ".join(told)
    )


def _pair(name: str, given: tuple[float, float]) -> tuple[float, float]:
    pair = numbers(name, given, 1)
    if len(pair) != 2 or pair[1] < 0:
        raise ValueError(
            f"{name} must be a difference and half an interval's width, got {pair.tolist()}"
        )
    return float(pair[0]), float(pair[1])


def _told(value: float, half: float) -> str:
    side = "below 0" if value + half < 0 else "above 0" if value - half > 0 else "around 0"
    return f"{value:+.3f} ± {half:.3f} ({side})"


def reliability(forecasts: Mapping[str, tuple[Tensor, Tensor, Tensor]]) -> Picture:
    """How often forecasts were right, against how sure they were; the larger, the more of them.

    Args:
        forecasts: for each of up to four names, of B bins the mean confidence, the share that was
            right and how many forecasts there are; empty bins are left out.

    Returns:
        The figure; its sentence gives for each name its fullest bin and the one that is furthest
        from the diagonal.

    Raises:
        TypeError: values that are no numbers.
        ValueError: shapes that do not fit, shares outside 0 to 1, counts below 0, or more than four
            names.
    """
    check_series("forecasts", forecasts)
    told = []
    with style():
        figure, (ax,) = new_figure(4.4)
        ax.plot([0, 1], [0, 1], color=QUIET, linewidth=1, zorder=0)
        for (name, given), (colour, sign) in zip(forecasts.items(), SERIES, strict=False):
            said_B, right_B, count_B = (numbers(f"forecasts[{name!r}]", it, 1) for it in given)
            if not said_B.shape == right_B.shape == count_B.shape:
                raise ValueError(f"forecasts[{name!r}] must hold three of one length")
            some_B = count_B > 0
            shares = np.concatenate([said_B[some_B], right_B[some_B]])
            if count_B.min() < 0 or not some_B.any() or shares.min() < 0 or shares.max() > 1:
                raise ValueError(
                    f"forecasts[{name!r}] must hold shares from 0 to 1 and counts, some above 0"
                )
            x, y, n = said_B[some_B], right_B[some_B], count_B[some_B]
            ax.plot(x, y, color=colour, linewidth=1.2, alpha=0.6)
            size = 14 + 130 * n / n.max()
            ax.scatter(x, y, size, color=colour, marker=sign, label=plain(name), zorder=3)
            full, off = int(n.argmax()), int(np.abs(x - y).argmax())
            told.append(
                f"{name}: most forecasts say {x[full]:.2f}, of which {y[full]:.2f} are right; "
                f"furthest off are those that say {x[off]:.2f}, with {y[off]:.2f} right."
            )
        ax.set_xlim(0, 1.03)
        ax.set_ylim(0, 1.03)
        ax.set_xlabel("confidence: what was said")
        ax.set_ylabel("accuracy: what came")
        figure.legend(loc="outside upper left", ncols=2, handletextpad=0.3, markerscale=0.6)
    return Picture(
        figure,
        "Accuracy against confidence, beside the diagonal of forecasts that keep their word. "
        + " ".join(told),
    )
