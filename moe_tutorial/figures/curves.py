"""Curves: how something changes, and what depends on what."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from moe_tutorial.figures import palette
from moe_tutorial.figures.labels import End, even_axis, fitted, label_ends, log_axis, name_y
from moe_tutorial.figures.palette import expert_colour
from moe_tutorial.figures.placing import Label, label_lines
from moe_tutorial.figures.style import (
    INK,
    LINE_STYLES,
    QUIET,
    Picture,
    check_named,
    check_words,
    new_figure,
    numbers,
    plain,
    style,
)
from moe_tutorial.figures.vector import SMALLEST
from moe_tutorial.validation import check_size

# None of these is an expert's: a curve that belongs to an expert names it.
_CURVE_COLOURS = (INK, palette.ORANGE.light, palette.TEAL.light, palette.GREY.light)
_SIGNS = ("o", "s", "^", "D")
_FEW = 12  # up to so many points are shown on their curve
_MERGED = 0.03  # of the height: ends no further apart are one end, and names there tell nothing


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
    """Curves over one common x axis, each with its name at its end, in its colour.

    Where ends meet, names stand where their curves lie furthest from the others. Up to twelve
    points are marked on their curve, so that a reader sees where it was measured.

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
    sentences, ends, names = [], [], []
    marked = len(x_N) <= _FEW
    with style():
        figure, (ax,) = new_figure(3.5)
        for i, (name, y_N) in enumerate(y_of.items()):
            colour = _CURVE_COLOURS[i % len(_CURVE_COLOURS)]
            if name in experts:
                colour = expert_colour(experts[name])
            line = LINE_STYLES[i % len(LINE_STYLES)]
            sign = _SIGNS[i % len(_SIGNS)] if marked else None
            ax.plot(x_N, y_N, line, color=colour, marker=sign, markersize=4, clip_on=False)
            names.append(End(name, y_N[-1], {"color": colour, "linestyle": line}))
            sentences.append(f"{name} {_course(y_N)}.")
        ax.set_xscale("log" if log_x else "linear")
        ax.set_yscale("log" if log_y else "linear")
        ax.margins(x=0)
        for name, level in zip(levels, heights, strict=True):
            dots = {"color": QUIET, "linestyle": (0, (1, 2)), "linewidth": 1}
            ax.axhline(level, **dots)
            ends.append(End(name, level, dots))
            sentences.append(f"Level {name} at {level:.3g}.")
        log_axis(ax.xaxis, x_N.tolist()) if log_x else even_axis(ax.xaxis)
        log_axis(ax.yaxis) if log_y else even_axis(ax.yaxis)
        ax.set_xlabel(plain(x_label))
        name_y(ax, y_label)
        alone = [len(names) > 1 and not met for met in _meet(ax, x_N[-1], names)]
        ends = [end for end, fits in zip(names, alone, strict=True) if fits] + ends
        label_ends(figure, ax, ends)
        if len(names) > 1 and not all(alone):
            lines = [Label(end.text, 0, 0, end.look["color"]) for end in names]
            order = sorted(range(len(names)), key=alone.__getitem__)
            label_lines(
                figure, ax, [lines[i] for i in order if not alone[i]],
                [np.stack([x_N, y_of[names[i].text]], axis=1) for i in order],
            )  # fmt: skip
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


def stems(rows: Mapping[str, Tensor | Sequence[float]], *, x_label: str, y_label: str) -> Picture:
    """What each of some tokens has, one row of stems for each named set of numbers.

    Unlike a curve it draws nothing between two tokens, where nothing is.

    Args:
        rows: for each row's title its values ``[N]``, for the tokens 0 .. N-1.
        x_label: what is counted along the x axis.
        y_label: what the stems measure, in few letters.

    Returns:
        The figure; its sentence says of each row how many stems are above 0, and which is largest.

    Raises:
        TypeError: values that are no numbers, or a text that is no str.
        ValueError: no rows, rows of different lengths, or a value that is not finite.
    """
    check_named("rows", rows)
    check_words(x_label=x_label, y_label=y_label)
    values_of = {title: numbers(f"rows[{title!r}]", row, 1) for title, row in rows.items()}
    count = len(next(iter(values_of.values())))
    told = []
    with style():
        figure, axes = new_figure(0.9 + 1.15 * len(rows), len(rows), sharex=True, sharey=True)
        for ax, (title, values_N) in zip(axes, values_of.items(), strict=True):
            if len(values_N) != count:
                raise ValueError(
                    f"rows must all have {count} values as the first has, got {len(values_N)} "
                    f"for {title!r}"
                )
            ax.vlines(range(count), 0, values_N, color=palette.TEAL.light, linewidth=1.6)
            ax.axhline(0, color=INK, linewidth=0.8)
            ax.plot(values_N, "o", color=palette.TEAL.light, markersize=4, clip_on=False)
            ax.set_title(fitted(title))
            above, top = int((values_N > 0).sum()), int(values_N.argmax())
            largest = f", the largest is {_number(values_N[top])} at {top}" if above else ""
            told.append(f"{title}: {above} of {count} are above 0{largest}")
        even_axis(axes[-1].xaxis)
        even_axis(axes[-1].yaxis, 3)
        axes[-1].set_ylim(min(0, *(values_N.min() for values_N in values_of.values())))
        axes[-1].set_xlabel(plain(x_label))
        figure.supylabel(plain(y_label), size=SMALLEST)
    return Picture(figure, f"Stems of {y_label} for each {x_label}. {'; '.join(told)}.")


def _meet(ax: Axes, x: float, ends: Sequence[End]) -> list[bool]:
    """For each end, whether another curve ends at its place."""
    ax.get_xlim(), ax.get_ylim()  # matplotlib sets the limits when it is asked for them
    points = np.array([(x, end.y) for end in ends])
    heights = (ax.transScale + ax.transLimits).transform(points)[:, 1]
    return [bool((np.abs(heights - h) < _MERGED).sum() > 1) for h in heights]


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
