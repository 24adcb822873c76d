"""What a capacity does: how full each expert is, and where in the batch the dropped ones stand."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes

from moe_tutorial.figures import palette
from moe_tutorial.figures.labels import fitted
from moe_tutorial.figures.palette import expert_colour
from moe_tutorial.figures.style import (
    INK,
    PAPER,
    Picture,
    check_named,
    expert_axis,
    expert_ids,
    listing,
    new_figure,
    numbers,
    style,
)
from moe_tutorial.routing.decision import LimitedRouting
from moe_tutorial.validation import check_size


def expert_queues(
    routing: LimitedRouting, capacity: int, *, bins: int = 16, y_limit: float | None = None
) -> Picture:
    """The load of each expert, cut off at the capacity, and below it who was cut off.

    Args:
        routing: a limited decision.
        capacity: C, drawn as a line.
        bins: into how many parts the batch is cut, from its first token to its last.
        y_limit: the end of the upper y axis, for pictures that are to be compared.

    Returns:
        The figure; its sentence gives each expert's load, and the drops along the batch.

    Raises:
        TypeError: what is no ``LimitedRouting``, or numbers that are none.
        ValueError: a capacity below 1, bins beyond the number of tokens, or a y_limit that would
            cut something off.
    """
    _check_limited("routing", routing)
    check_size("capacity", capacity)
    num_experts = routing.logits_TE.shape[-1]
    kept_R = routing.kept_TK.flatten().cpu().numpy()
    wanted_R = np.array(expert_ids("experts_TK", routing.experts_TK.flatten(), num_experts))
    load_E = np.bincount(wanted_R, minlength=num_experts)
    kept_E = np.bincount(wanted_R[kept_R], minlength=num_experts)
    share_B = _dropped_shares(routing, bins)
    tallest = max(load_E.max(), capacity)
    if y_limit is not None and numbers("y_limit", y_limit, 0) < tallest:
        raise ValueError(f"y_limit must be at least {tallest} to show all, got {y_limit}")
    with style():
        figure, (top, bottom) = new_figure(4.6, 2)
        for expert in range(num_experts):
            bar = {"width": 0.8, "edgecolor": INK, "linewidth": 0.8}
            top.bar(expert, kept_E[expert], color=expert_colour(expert), **bar)
            dropped = load_E[expert] - kept_E[expert]
            if dropped:
                top.bar(expert, dropped, bottom=kept_E[expert], color=PAPER, hatch="////", **bar)
        top.axhline(capacity, color=INK, linewidth=1.5, linestyle="--")
        expert_axis(top, num_experts)
        top.set_ylim(0, y_limit or 1.18 * tallest)
        top.set_ylabel("assignments")
        top.set_title(f"capacity {capacity} (line); hatched: dropped")
        _position_bars(bottom, share_B)
        bottom.set_title(f"dropped: {100 * (1 - kept_R.mean()):.0f} % of all")
        bottom.set_xlabel("position in the batch")
    loads = [f"expert {e} {load}" for e, load in enumerate(load_E)]
    return Picture(
        figure,
        f"Loads against a capacity of {capacity}: {listing(loads)}. Dropped are "
        f"{100 * (1 - kept_R.mean()):.0f} % of all assignments; {_along(share_B)}.",
    )


def dropped_by_position(routings: Mapping[str, LimitedRouting], *, bins: int = 16) -> Picture:
    """The share of assignments dropped along the batch, one row for each named decision.

    Args:
        routings: for each row's title a limited decision.
        bins: into how many parts the batch is cut, from its first token to its last.

    Returns:
        The figure; its sentence gives the drops at the start and at the end for each row.

    Raises:
        TypeError: an entry that is no ``LimitedRouting``, or bins that are no int.
        ValueError: no entries, or bins that are not from 1 to the number of tokens.
    """
    check_named("routings", routings)
    for title, routing in routings.items():
        _check_limited(f"routings[{title!r}]", routing)
    shares = {title: _dropped_shares(routing, bins) for title, routing in routings.items()}
    with style():
        figure, axes = new_figure(0.9 + 1.15 * len(shares), len(shares), sharex=True, sharey=True)
        for ax, (title, share_B) in zip(axes, shares.items(), strict=True):
            _position_bars(ax, share_B)
            ax.set_title(fitted(title))
        axes[-1].set_xlabel("position in the batch")
    rows = [f"{title}: {_along(share_B)}" for title, share_B in shares.items()]
    return Picture(figure, f"Bars of the share dropped along the batch. {'; '.join(rows)}.")


def _check_limited(name: str, routing: object) -> None:
    if not isinstance(routing, LimitedRouting):
        raise TypeError(f"{name} must be a LimitedRouting, got {type(routing).__name__}")


def _dropped_shares(routing: LimitedRouting, bins: int) -> np.ndarray:
    check_size("bins", bins)
    dropped_TK = ~routing.kept_TK.flatten(0, -2).cpu().numpy()
    if len(dropped_TK) < bins:
        raise ValueError(
            f"bins must be at most the number of tokens ({len(dropped_TK)}), got {bins}"
        )
    return np.array([part.mean() for part in np.array_split(dropped_TK, bins)])


def _position_bars(ax: Axes, share_B: np.ndarray) -> None:
    middles = (np.arange(len(share_B)) + 0.5) / len(share_B)
    ax.bar(
        middles,
        100 * share_B,
        width=1 / len(share_B),
        color=palette.IDLE.light,
        edgecolor=INK,
        linewidth=0.8,
    )
    ax.set_xlim(0, 1)
    ax.set_xticks([0, 0.25, 0.5, 0.75, 1], ["first", "¼", "½", "¾", "last"])
    ax.set_ylim(0, 100)
    ax.set_ylabel("dropped, %")


def _along(share_B: np.ndarray) -> str:
    quarters = [100 * part.mean() for part in np.array_split(share_B, 4)]
    return (
        f"{quarters[0]:.0f} % in the first quarter of the batch, {quarters[1]:.0f} % in the "
        f"second, {quarters[2]:.0f} % in the third and {quarters[3]:.0f} % in the last"
    )
