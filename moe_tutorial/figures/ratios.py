"""Ratios: how many times as much, a row for each case and a sign for each thing compared."""

from collections.abc import Mapping

from moe_tutorial.figures.labels import log_axis
from moe_tutorial.figures.style import (
    INK,
    QUIET,
    SERIES,
    Picture,
    check_named,
    check_series,
    check_words,
    listing,
    new_figure,
    numbers,
    plain,
    style,
)


def ratios(rows: Mapping[str, Mapping[str, float]], *, x_label: str, y_label: str) -> Picture:
    """Ratios on a logarithmic axis, beside the line at 1 where both would be equal.

    Args:
        rows: for each row, from top to bottom, a ratio for each name; a name may be missing there.
        x_label: what is divided by what.
        y_label: what a row is.

    Returns:
        The figure; its sentence gives every ratio, or for each name the smallest and the largest
        where there are more than twelve.

    Raises:
        TypeError: a ratio that is no number, or a text that is no str.
        ValueError: no ratio at all, one that is not a finite number above 0, or more than four
            names.
    """
    check_words(x_label=x_label, y_label=y_label)
    for row, values in rows.items():
        check_words(**{"the rows' names": row})
        if values:
            check_named(f"rows[{row!r}]", values)
    found = {
        name: {row: values[name] for row, values in rows.items() if name in values}
        for name in dict.fromkeys(name for values in rows.values() for name in values)
    }
    drawn = [ratio for points in found.values() for ratio in points.values()]
    if not drawn or (x_N := numbers("rows", drawn, 1)).min() <= 0:
        raise ValueError(f"rows must hold ratios above 0, got {drawn}")
    check_series("rows", found)
    with style():
        figure, (ax,) = new_figure(1.1 + 0.24 * len(rows) + 0.25 * ((len(found) + 1) // 2))
        ax.axvline(1, color=INK, linewidth=1)
        for y in range(len(rows)):
            ax.axhline(y, color=QUIET, linewidth=0.4, alpha=0.5)
        heights = {row: y for y, row in enumerate(rows)}
        signs = []
        for points, (colour, sign) in zip(found.values(), SERIES, strict=False):
            signs += ax.plot(
                list(points.values()), [heights[row] for row in points],
                sign, color=colour, zorder=3,
            )  # fmt: skip
        ax.set_yticks(range(len(rows)), labels=[plain(row) for row in rows])
        ax.tick_params(axis="y", length=0)
        ax.set_ylim(len(rows) - 0.4, -0.6)
        ax.set_xscale("log")
        ax.set_xlim(min(x_N.min(), 1) / 1.15, max(x_N.max(), 1) * 1.15)
        log_axis(ax.xaxis)
        ax.set_xlabel(plain(x_label))
        ax.set_ylabel(plain(y_label))
        if len(found) > 1:
            labels = [plain(name) for name in found]
            figure.legend(signs, labels, loc="outside upper left", ncols=2, handletextpad=0.3)
    sentences = [
        f"{name}: {_values(points) if len(x_N) <= 12 else _range(points)}."
        for name, points in found.items()
    ]
    return Picture(
        figure,
        f"Ratios, {x_label}, for each {y_label}, on a logarithmic axis with a line at 1. "
        + " ".join(sentences),
    )


def _values(points: Mapping[str, float]) -> str:
    return listing([f"{row} {ratio:.3g}" for row, ratio in points.items()])


def _range(points: Mapping[str, float]) -> str:
    lowest, highest = (pick(points, key=lambda row: points[row]) for pick in (min, max))
    return f"from {points[lowest]:.3g} ({lowest}) to {points[highest]:.3g} ({highest})"
