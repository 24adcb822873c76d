"""Rows of bars over the experts: the picture of logits, probabilities and gates alike."""

import math
from collections.abc import Collection, Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from moe_tutorial.figures import palette
from moe_tutorial.figures.labels import fitted
from moe_tutorial.figures.palette import expert_colour
from moe_tutorial.figures.placing import Label, Obstacle, fix_layout, place_labels
from moe_tutorial.figures.style import (
    INK,
    PAPER,
    Picture,
    check_named,
    check_words,
    expert_axis,
    expert_ids,
    largest,
    listing,
    new_figure,
    numbers,
    plain,
    style,
)
from moe_tutorial.validation import check_size


def draw_bars(ax: Axes, values_E: np.ndarray, chosen: Collection[int] = ()) -> None:
    """Draw one bar per expert; the chosen ones get a dark outline and the others turn pale."""
    outline = 2 if len(values_E) <= 16 else 0.6
    for expert, value in enumerate(values_E):
        outlined = expert in chosen
        ax.bar(
            expert,
            value,
            width=0.8,
            color=expert_colour(expert),
            alpha=0.4 if chosen and not outlined else 1,
            edgecolor=INK if outlined else "none",
            linewidth=outline if outlined else 0,
        )
    ax.axhline(0, color=INK, linewidth=0.8)


def expert_bars(
    rows: Mapping[str, Tensor],
    quantity: str,
    *,
    chosen: Mapping[str, Tensor] | None = None,
    markers: Mapping[str, Tensor] | None = None,
    marker_label: str = "",
    y_limits: tuple[float, float] | None = None,
) -> Picture:
    """Bars over the experts, one row for each named set of numbers, on one common scale.

    Args:
        rows: for each row's title, its values ``[E]``.
        quantity: what the bars measure; the label of the y axes.
        chosen: for some rows, the ids of the experts to outline ``[K]``.
        markers: for some rows, a second set of values ``[E]``, drawn as diamonds.
        marker_label: what the diamonds are.
        y_limits: the ends of the y axes, for pictures that are to be compared.

    Returns:
        The figure; its sentence names the largest bars and the outlined experts of each row.

    Raises:
        TypeError: values that are no numbers, ids that are no integers, or a text that is no str.
        ValueError: no rows, rows of different lengths, a value that is not finite, an id that is
            no expert's, a title that no row has, or y_limits that would cut something off.
    """
    check_named("rows", rows)
    check_words(quantity=quantity, marker_label=marker_label)
    values_of = {title: numbers(f"rows[{title!r}]", row, 1) for title, row in rows.items()}
    num_experts = len(next(iter(values_of.values())))
    for argument, entries in (("chosen", chosen), ("markers", markers)):
        for title in entries or {}:
            if title not in rows:
                raise ValueError(f"{argument} must name rows ({', '.join(rows)}), got {title!r}")
    marked = {t: numbers(f"markers[{t!r}]", row, 1) for t, row in (markers or {}).items()}
    for title, values_E in (*values_of.items(), *marked.items()):
        if len(values_E) != num_experts:
            raise ValueError(
                f"rows and markers must all have {num_experts} values as the first row has, got "
                f"{len(values_E)} for {title!r}"
            )
    chosen_ids = {
        title: expert_ids(f"chosen[{title!r}]", ids, num_experts)
        for title, ids in (chosen or {}).items()
    }
    if y_limits is not None:
        _check_limits(y_limits, np.concatenate([[0], *values_of.values(), *marked.values()]))
    sentences = []
    with style():
        figure, axes = new_figure(
            max(2.5, 0.75 + 1.3 * len(rows)), len(rows), sharex=True, sharey=True
        )
        for ax, (title, values_E) in zip(axes, values_of.items(), strict=True):
            draw_bars(ax, values_E, chosen_ids.get(title, ()))
            ax.set_title(fitted(title))
            ax.set_ylabel(plain(quantity))
            if y_limits is not None:
                ax.set_ylim(y_limits)
            expert_axis(ax, len(values_E), label=ax is axes[-1])
            sentence = f"{title}: largest at {largest(values_E)}"
            if title in chosen_ids:
                sentence += f"; outlined: {listing([str(e) for e in chosen_ids[title]])}"
            if title in marked:
                size = 5 if len(values_E) <= 16 else 2.5
                # One that stands on the axis is shown whole.
                ax.plot(
                    marked[title], "D", color=PAPER, markeredgecolor=INK, markersize=size,
                    clip_on=False,
                )  # fmt: skip
                sentence += f"; diamonds ({marker_label}): {largest(marked[title])}"
            sentences.append(sentence + ".")
        if marked:
            _name_diamonds(figure, axes, values_of, marked, marker_label)
    return Picture(figure, f"Bars of {quantity} over the experts. " + " ".join(sentences))


def _name_diamonds(
    figure: Figure,
    axes: np.ndarray,
    values_of: Mapping[str, np.ndarray],
    marked: Mapping[str, np.ndarray],
    name: str,
) -> None:
    """Write what the diamonds are beside the highest one of the first row that has any."""
    title = next(title for title in values_of if title in marked)
    ax, bars_E, diamonds_E = axes[list(values_of).index(title)], values_of[title], marked[title]
    fix_layout(figure)
    half = 0.4 * ax.get_window_extent().width / len(bars_E)
    obstacles = [
        Obstacle(np.array([[expert, 0], [expert, height]]), half)
        for expert, height in enumerate(bars_E)
    ]
    points_E2 = np.stack([np.arange(len(diamonds_E)), diamonds_E], axis=1)
    obstacles.append(Obstacle(points_E2, 4, joined=False))
    place_labels(figure, ax, [Label(name, *points_E2[diamonds_E.argmax()])], obstacles)


def _check_limits(y_limits: tuple[float, float], values: np.ndarray) -> None:
    low, high = numbers("y_limits", y_limits, 1) if len(y_limits) == 2 else (math.nan, math.nan)
    if not low <= values.min() <= values.max() <= high:
        raise ValueError(
            f"y_limits must be two numbers around all values and 0, which reach from "
            f"{values.min():.3g} to {values.max():.3g}, got {y_limits}"
        )


def draw_grid(experts_NK: Tensor, num_experts: int) -> Picture:
    """Many draws below each other: one row a draw, a filled cell for every drawn expert.

    Args:
        experts_NK: int64 expert ids, one row for each draw.
        num_experts: E, the number of columns.

    Returns:
        The figure; its sentence counts the different sets and the most drawn experts.

    Raises:
        TypeError: ids that are no integers, or a num_experts that is no int.
        ValueError: ``experts_NK`` is not two-dimensional, or an id is no expert's.
    """
    check_size("num_experts", num_experts)
    numbers("experts_NK", experts_NK, 2)
    ids = expert_ids("experts_NK", experts_NK.flatten(), num_experts)
    ids_NK = np.array(ids).reshape(experts_NK.shape)
    counts_E = np.bincount(ids_NK.flatten(), minlength=num_experts)
    with style():
        figure, (ax,) = new_figure(0.8 + 0.19 * len(ids_NK))
        for row, ids_K in enumerate(ids_NK):
            for expert in range(num_experts):
                drawn = expert in ids_K
                ax.bar(
                    expert,
                    0.8,
                    bottom=row - 0.4,
                    width=0.8,
                    color=expert_colour(expert) if drawn else palette.UNUSED.light,
                    edgecolor=INK if drawn else "none",
                    linewidth=1 if drawn else 0,
                )
        expert_axis(ax, num_experts)
        ax.set_ylim(len(ids_NK) - 0.4, -0.6)
        ax.set_yticks(range(0, len(ids_NK), 5))
        ax.set_ylabel("draw")
    different = len({frozenset(ids) for ids in ids_NK.tolist()})
    most = np.argsort(-counts_E, kind="stable")[:3]
    return Picture(
        figure,
        f"{len(ids_NK)} draws of {ids_NK.shape[1]} out of {num_experts} experts, one row each: "
        f"{different} different sets. Drawn most often: "
        + listing([f"expert {e} ({counts_E[e]} times)" for e in most])
        + ".",
    )
