"""What a capacity does: how full each expert is, and where in the batch the dropped ones stand."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor

from moe_tutorial.figures import palette
from moe_tutorial.figures.labels import fitted
from moe_tutorial.figures.palette import expert_colour, readable_on
from moe_tutorial.figures.style import (
    INK,
    PAPER,
    WIDTH,
    Picture,
    check_named,
    expert_axis,
    expert_ids,
    listing,
    new_figure,
    numbers,
    style,
)
from moe_tutorial.figures.vector import SMALLEST
from moe_tutorial.routing.decision import LimitedRouting
from moe_tutorial.validation import check_same_shape, check_size

LONGEST_QUEUE = 6  # more would need letters smaller than a phone can show


def waiting_lines(
    experts_TK: Tensor, places_TK: Tensor, num_experts: int, capacity: int
) -> Picture:
    """Each expert's queue as a row of boxes, and a line behind the last one that is served.

    Args:
        experts_TK: int64 ids of the chosen experts, ``[T, K]``.
        places_TK: how many assignments stand ahead of each one in its queue, int64, ``[T, K]``.
        num_experts: E.
        capacity: C, how many of a queue are served.

    Returns:
        The figure; its sentence names each queue's tokens in order.

    Raises:
        TypeError: what is no tensor of integers, or sizes that are no int.
        ValueError: shapes that differ, ids or places out of range, or more than six in a queue.
    """
    check_size("num_experts", num_experts)
    check_size("capacity", capacity)
    for name, tensor in (("experts_TK", experts_TK), ("places_TK", places_TK)):
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name} must be a tensor, got {type(tensor).__name__}")
    check_same_shape("places_TK", places_TK, "experts_TK", experts_TK)
    wanted_R = expert_ids("experts_TK", experts_TK.flatten(), num_experts)
    place_R = places_TK.flatten().tolist()
    if not all(0 <= place < LONGEST_QUEUE for place in place_R):
        raise ValueError(
            f"places_TK must hold places from 0 to {LONGEST_QUEUE - 1}, got {max(place_R)}"
        )
    left, pitch, height = 56.0, 48.0, 20.0
    told = []
    with style():
        figure, (ax,) = new_figure((34 * num_experts + 24) / 72)
        ax.set_xlim(0, 72 * WIDTH - 2)
        ax.set_ylim(34 * num_experts + 20, 0)
        ax.axis("off")
        for e in range(num_experts):
            y = 34.0 * e + 20
            ax.text(0, y + height / 2, f"expert {e}", va="center")
            queue = {
                place_R[r]: (r // experts_TK.shape[1], r % experts_TK.shape[1])
                for r in range(len(wanted_R))
                if wanted_R[r] == e
            }
            for place, (token, choice) in queue.items():
                served = place < capacity
                colour = expert_colour(e) if served else PAPER
                ax.add_patch(
                    Rectangle(
                        (left + place * pitch, y), pitch - 6, height,
                        facecolor=colour, edgecolor=INK, linewidth=0.8,
                        linestyle="-" if served else "--",
                    )
                )  # fmt: skip
                ax.text(
                    left + place * pitch + (pitch - 6) / 2, y + height / 2,
                    f"{token}, {_ORDINALS[choice]}",
                    ha="center", va="center", size=SMALLEST,
                    color=readable_on(colour) if served else INK,
                )  # fmt: skip
            names = [f"{queue[p][0]} ({_ORDINALS[queue[p][1]]} choice)" for p in sorted(queue)]
            told.append(f"at expert {e} {listing(names) if names else 'nobody'}")
        x = left + capacity * pitch - 3
        ax.plot([x, x], [16, 34 * num_experts + 12], color=INK, linewidth=1.5)
        ax.text(x + 4, 7, "dropped", va="center", weight="bold")
        ax.text(x - 4, 7, "served", va="center", ha="right", weight="bold")
    return Picture(
        figure,
        f"The queues of {num_experts} experts, of which the first {capacity} are served. Tokens "
        f"wait in this order: {'; '.join(told)}.",
    )


_ORDINALS = ("1st", "2nd", "3rd", *(f"{n}th" for n in range(4, LONGEST_QUEUE + 1)))


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
