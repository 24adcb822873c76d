"""Rows of bars over the experts: the picture of logits, probabilities and gates alike."""

from collections.abc import Collection, Mapping

import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from moe_tutorial.figures.style import (
    INK,
    Picture,
    expert_axis,
    expert_colour,
    largest,
    listing,
    new_figure,
    numbers,
    style,
)


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
        ValueError: an entry with a wrong number of dimensions or a value that is not finite.
    """
    chosen_ids = {title: ids.tolist() for title, ids in (chosen or {}).items()}
    marked = {title: numbers(values, 1) for title, values in (markers or {}).items()}
    sentences = []
    with style():
        figure, axes = new_figure(
            max(2.5, 0.75 + 1.3 * len(rows)), len(rows), sharex=True, sharey=True
        )
        for ax, (title, values) in zip(axes, rows.items(), strict=True):
            values_E = numbers(values, 1)
            draw_bars(ax, values_E, chosen_ids.get(title, ()))
            ax.set_title(title)
            ax.set_ylabel(quantity)
            ax.set_ylim(y_limits)
            expert_axis(ax, len(values_E), label=ax is axes[-1])
            sentence = f"{title}: largest at {largest(values_E)}"
            if title in chosen_ids:
                sentence += f"; outlined: {listing([str(e) for e in chosen_ids[title]])}"
            if title in marked:
                size = 5 if len(values_E) <= 16 else 2.5
                ax.plot(marked[title], "D", color="white", markeredgecolor=INK, markersize=size)
                sentence += f"; diamonds ({marker_label}): {largest(marked[title])}"
            sentences.append(sentence + ".")
        if marked:
            (handle,) = axes[0].plot([], [], "D", color="white", markeredgecolor=INK, markersize=5)
            figure.legend([handle], [marker_label], loc="outside upper right")
    return Picture(figure, f"Bars of {quantity} over the experts. " + " ".join(sentences))


def draw_grid(experts_NK: Tensor, num_experts: int) -> Picture:
    """Many draws below each other: one row a draw, a filled cell for every drawn expert.

    Args:
        experts_NK: int64 expert ids, one row for each draw.
        num_experts: E, the number of columns.

    Returns:
        The figure; its sentence counts the different sets and the most drawn experts.

    Raises:
        ValueError: ``experts_NK`` is not two-dimensional.
    """
    ids_NK = numbers(experts_NK, 2).astype(int)
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
                    color=expert_colour(expert) if drawn else "#eceff3",
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
