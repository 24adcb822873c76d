"""Curves and small tables of numbers: how something changes, and what depends on what."""

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from moe_tutorial.figures import palette
from moe_tutorial.figures.palette import expert_colour
from moe_tutorial.figures.style import (
    INK,
    LINE_STYLES,
    QUIET,
    Picture,
    check_named,
    check_words,
    listing,
    new_figure,
    numbers,
    plain,
    style,
)
from moe_tutorial.validation import check_size

# None of these is an expert's: a curve that belongs to an expert names it.
_CURVE_COLOURS = (INK, palette.ORANGE.light, palette.TEAL.light, palette.GREY.light)


def curves(
    x: Tensor | Sequence[float],
    series: Mapping[str, Tensor | Sequence[float]],
    *,
    x_label: str,
    y_label: str,
    log_x: bool = False,
    log_y: bool = False,
    levels: Mapping[str, float] | None = None,
    experts: Mapping[str, int] | None = None,
) -> Picture:
    """Curves over one common x axis, told apart by colour and by dashes.

    Args:
        x: the points, ``[N]``.
        series: for each curve's name, its values ``[N]``; up to four, and more if they belong to
            experts of different colours.
        x_label: what x is.
        y_label: what the curves measure.
        log_x: a logarithmic x axis.
        log_y: a logarithmic y axis.
        levels: named horizontal lines, such as a limit.
        experts: for curves that belong to an expert, its id; they take its colour.

    Returns:
        The figure; its sentence gives each curve's first, smallest, largest and last value.

    Raises:
        TypeError: values that are no numbers, a text that is no str, or an id that is no int.
        ValueError: no curves or more than can be told apart, an entry that is not one-dimensional,
            a value that is not finite, one that is not positive on a logarithmic axis, or an
            expert's name that no curve has.
    """
    check_named("series", series)
    check_words(x_label=x_label, y_label=y_label)
    x_N = numbers("x", x, 1)
    y_of = {name: numbers(f"series[{name!r}]", values, 1) for name, values in series.items()}
    for name, y_N in y_of.items():
        if len(y_N) != len(x_N):
            raise ValueError(f"{name} must have {len(x_N)} values as x has, got {len(y_N)}")
    levels, experts = levels or {}, experts or {}
    heights = [float(numbers(f"levels[{name!r}]", level, 0)) for name, level in levels.items()]
    for name, expert in experts.items():
        check_size(f"experts[{name!r}]", expert, least=0)
        if name not in series:
            raise ValueError(f"experts must name curves ({', '.join(series)}), got {name!r}")
    looks = {
        (i % 4, expert_colour(experts[name]) if name in experts else None)
        for i, name in enumerate(series)
    }
    if len(looks) < len(series):
        raise ValueError(
            f"series must hold at most 4 curves beside those of different experts, got "
            f"{len(series)}: others could not be told apart"
        )
    for name, values in {"x": x_N if log_x else [1], **(y_of if log_y else {})}.items():
        if min(values) <= 0:
            raise ValueError(f"{name} must be positive on a logarithmic axis, got {min(values)}")
    if log_y and min(heights, default=1) <= 0:
        raise ValueError(f"levels must be positive on a logarithmic axis, got {min(heights)}")
    sentences = []
    with style():
        figure, (ax,) = new_figure(3.3 + 0.25 * ((len(series) + 1) // 2))
        for i, (name, y_N) in enumerate(y_of.items()):
            colour = _CURVE_COLOURS[i % len(_CURVE_COLOURS)]
            if name in experts:
                colour = expert_colour(experts[name])
            ax.plot(x_N, y_N, LINE_STYLES[i % len(LINE_STYLES)], color=colour)
            sentences.append(f"{name} {_course(y_N)}.")
        drawn = ax.get_lines()
        for name, level in zip(levels, heights, strict=True):
            ax.axhline(level, color=QUIET, linewidth=1, linestyle=(0, (1, 2)))
            ax.annotate(
                plain(name),
                (0.01, level),
                xycoords=("axes fraction", "data"),
                xytext=(0, 2),
                textcoords="offset points",
                fontsize=9.5,
                color=INK,
            )
            sentences.append(f"Level {name} at {level:.3g}.")
        ax.set_xscale("log" if log_x else "linear")
        ax.set_yscale("log" if log_y else "linear")
        ax.set_xlabel(plain(x_label))
        ax.set_ylabel(plain(y_label))
        if len(series) > 1:
            labels = [plain(name) for name in series]
            figure.legend(drawn, labels, loc="outside upper left", ncols=2, handlelength=2.6)
    logarithmic = {
        (True, False): ", x axis",
        (False, True): ", y axis",
        (True, True): ", both axes",
    }
    scale = logarithmic.get((log_x, log_y), "")
    return Picture(
        figure,
        f"Curves of {y_label} against {x_label} from {_number(x_N[0])} to {_number(x_N[-1])}"
        f"{scale and scale + ' logarithmic'}. " + " ".join(sentences),
    )


def _course(y_N: np.ndarray) -> str:
    first, last, low, high = (_number(y) for y in (y_N[0], y_N[-1], y_N.min(), y_N.max()))
    if low == high:
        return f"stays at {first}"
    if {first, last} == {low, high}:
        return f"{'rises' if y_N[-1] > y_N[0] else 'falls'} from {first} to {last}"
    return f"goes from {first} to {last}, between {low} and {high}"


def _number(value: float) -> str:
    # Five decimals, then no needless zeros: 4096 and 0.0316, not 4.1e+03.
    return (
        f"{value:.0f}"
        if abs(value) >= 100
        else f"{float(f'{value:.3g}'):.5f}".rstrip("0").rstrip(".")
    )


def number_table(
    values_RC: Tensor, row_labels: Sequence[str], column_labels: Sequence[str], quantity: str
) -> Picture:
    """A table of signed numbers, shaded from orange (negative) over white (0) to purple.

    Args:
        values_RC: the numbers, one row a label.
        row_labels: R names.
        column_labels: C names; up to eight stay readable.
        quantity: what the numbers are.

    Returns:
        The figure; its sentence reads out each row.

    Raises:
        TypeError: values that are no numbers, or a text that is no str.
        ValueError: labels that do not match the shape, or a value that is not finite.
    """
    check_words(quantity=quantity)
    for label in (*row_labels, *column_labels):
        check_words(**{"row_labels and column_labels": label})
    table_RC = numbers("values_RC", values_RC, 2)
    if table_RC.shape != (len(row_labels), len(column_labels)):
        raise ValueError(
            f"values_RC must have shape [{len(row_labels)}, {len(column_labels)}] as the labels "
            f"have, got {list(table_RC.shape)}"
        )
    bound = max(np.abs(table_RC).max(), 1e-12)
    with style():
        figure, (ax,) = new_figure(0.9 + 0.36 * len(row_labels))
        ax.imshow(table_RC, cmap="PuOr", vmin=-1.6 * bound, vmax=1.6 * bound, aspect="auto")
        for (row, column), value in np.ndenumerate(table_RC):
            # Adding 0 turns a rounded -0.00 into 0.00.
            ax.text(column, row, f"{round(value, 2) + 0:.2f}", ha="center", va="center", size=9.5)
        ax.set_xticks(range(len(column_labels)), [plain(label) for label in column_labels])
        ax.set_yticks(range(len(row_labels)), [plain(label) for label in row_labels])
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        ax.set_title(plain(quantity))
    rows = [
        f"{label}: {listing([f'{round(v, 2) + 0:.2f}' for v in row])}"
        for label, row in zip(row_labels, table_RC, strict=True)
    ]
    return Picture(
        figure,
        f"Table of {quantity} for {listing(list(column_labels))}. " + "; ".join(rows) + ".",
    )
