"""Whole routes: from a token through the router and its experts to the weighted output."""

from collections.abc import Collection, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch
from torch import Tensor

from moe_tutorial.figures import palette
from moe_tutorial.figures.bars import draw_bars
from moe_tutorial.figures.labels import fitted
from moe_tutorial.figures.palette import expert_colour, readable_on
from moe_tutorial.figures.style import (
    INK,
    Picture,
    check_words,
    expert_ids,
    label_expert,
    listing,
    new_figure,
    numbers,
    style,
)
from moe_tutorial.figures.vector import SMALLEST
from moe_tutorial.routing.decision import Routing
from moe_tutorial.routing.probabilities import softmax
from moe_tutorial.routing.selection import softmax_over_chosen
from moe_tutorial.validation import check_logits, check_size


def dense_and_sparse(
    num_experts: int, chosen: Collection[int], dense_label: str, sparse_label: str
) -> Picture:
    """Two layers of the same size: all of it used for a token, and a few experts of it.

    Args:
        num_experts: E, how many parts the layer is cut into.
        chosen: the experts that one token uses.
        dense_label: the line above the layer of which everything is used.
        sparse_label: the line above the layer of which only ``chosen`` is used.

    Returns:
        The figure; its sentence says how many parts are used in each.

    Raises:
        TypeError: a num_experts or an id that is no int, or a label that is no str.
        ValueError: no experts, or an id that is no expert's.
    """
    check_size("num_experts", num_experts)
    chosen = expert_ids("chosen", list(chosen), num_experts)
    check_words(dense_label=dense_label, sparse_label=sparse_label)
    with style():
        figure, axes = new_figure(2.5, 2)
        for ax, label, used in (
            (axes[0], dense_label, range(num_experts)),
            (axes[1], sparse_label, chosen),
        ):
            _draw_boxes(ax, num_experts, used, y=0, height=0.9)
            ax.set_title(fitted(label, 48), fontsize=SMALLEST, fontweight="normal")
            _blank(ax, num_experts, (-0.6, 0.6))
    names = listing([str(e) for e in chosen])
    return Picture(
        figure,
        f"Two rows of {num_experts} boxes, the parts of two equally large layers. Dense: all "
        f"{num_experts} are coloured, so all are used. Sparse: only {names} are coloured, "
        f"{len(chosen)} of {num_experts}.",
    )


def routing_at_a_glance(routing: Routing, token: int = 0) -> Picture:
    """One token's way: its probabilities, the chosen experts, their gates and the weighted sum.

    Args:
        routing: a decision for tokens ``[T, D]``.
        token: which of the tokens to show.

    Returns:
        The figure; its sentence names the chosen experts and their gates.

    Raises:
        TypeError: what is no ``Routing``, or a token that is no int.
        ValueError: a token that is not there, or a value that is not finite.
    """
    if not isinstance(routing, Routing):
        raise TypeError(f"routing must be a Routing, got {type(routing).__name__}")
    check_size("token", token, least=0)
    if token >= len(routing.experts_TK):
        raise ValueError(
            f"token must be less than the number of tokens ({len(routing.experts_TK)}), got {token}"
        )
    probabilities_E = numbers("probabilities_TE", routing.probabilities_TE[token], 1)
    chosen = routing.experts_TK[token].tolist()
    gates_K = numbers("gates_TK", routing.gates_TK[token], 1)
    num_experts = len(probabilities_E)
    with style():
        figure, (top, bars, bottom) = new_figure(5.0, 3, height_ratios=(0.9, 1.7, 2.0))
        middle = (num_experts - 1) / 2
        _blank(top, num_experts, (-1.1, 1.1))
        _label_box(top, middle, 0.55, "token uₜ")
        _label_box(top, middle, -0.65, "router: softmax of the logits")
        _down(top, middle, 0.2, -0.3)
        draw_bars(bars, probabilities_E, chosen)
        bars.set_xlim(-0.6, num_experts - 0.4)
        bars.set_xticks([])
        bars.set_ylabel("probability")
        _blank(bottom, num_experts, (-3.0, 1.0))
        _draw_boxes(bottom, num_experts, chosen, y=0.1, height=0.9)
        for expert, gate in zip(chosen, gates_K, strict=True):
            _down(bottom, expert, 0.95, 0.6)
            _gate(bottom, expert, -0.95, gate)
            _down(bottom, expert, -0.38, -0.62)
            bottom.plot([expert, middle], [-1.3, -2.2], color=expert_colour(expert), zorder=0)
        _label_box(bottom, middle, -2.5, "output yₜ: the sum, weighted by the gates")
    gated = [f"expert {e} with gate {g:.2f}" for e, g in zip(chosen, gates_K, strict=True)]
    return Picture(
        figure,
        f"A token enters a router, which gives {num_experts} experts a probability each. The "
        f"{len(chosen)} chosen ones run, {listing(gated)}; the output is their weighted sum. The "
        "other experts do not run.",
    )


def sampled_router(logits_E: Tensor, rows: Sequence[tuple[str, float, Tensor]]) -> Picture:
    """A router that takes the best experts, and routers that draw theirs at a temperature.

    From top to bottom: the token, the router and its logits as a shaded strip; one row of bars
    for each selection; the experts' boxes; the gates that each selection's experts get from the
    original logits.

    Args:
        logits_E: one token's logits ``[E]``.
        rows: for each selection its title, the temperature of its probabilities, and the ids of
            its chosen experts ``[K]``.

    Returns:
        The figure; its sentence names each row's chosen experts and gates.

    Raises:
        TypeError: logits that are no floating-point tensor, ids that are no int64, or a title that
            is no str.
        ValueError: logits that are not finite, no rows, ids that do not fit, or a bad temperature.
    """
    logits = numbers("logits_E", logits_E, 1)
    check_logits("logits_E", logits_E[None])
    num_experts = len(logits)
    if not rows:
        raise ValueError("rows must hold at least one selection, got none")
    for title, _, experts_K in rows:
        check_words(title=title)
        expert_ids(f"the ids of {title!r}", experts_K, num_experts)
    middle = (num_experts - 1) / 2
    sentences = []
    with style():
        figure, axes = new_figure(
            3.8 + 1.45 * len(rows),
            len(rows) + 2,
            height_ratios=(2.2, *[1.25] * len(rows), 0.75 + 0.55 * len(rows)),
        )
        head, *bar_axes, foot = axes
        # One scale for all rows: only so does a sharpened row look sharper.
        tallest = max(softmax(logits_E[None], row[1]).max().item() for row in rows)
        _blank(head, num_experts, (-1.9, 2.75))
        _label_box(head, middle, 2.2, "token uₜ")
        _down(head, middle, 1.75, 1.15)
        _label_box(head, middle, 0.7, "router: a logit for each expert")
        _down(head, middle, 0.2, -0.22)
        _draw_strip(head, logits)

        for ax, (_, temperature, experts_K) in zip(bar_axes, rows, strict=True):
            probabilities_TE = softmax(logits_E[None], temperature)
            draw_bars(ax, numbers("probabilities", probabilities_TE[0], 1), experts_K.tolist())
            ax.set_ylabel("probability", fontsize=SMALLEST)
            ax.set_xlim(-0.6, num_experts - 0.4)
            ax.set_xticks(range(num_experts))
            ax.set_ylim(0, 1.08 * tallest)

        _blank(foot, num_experts, (-1.1 * len(rows) - 0.7, 0.9))
        _draw_boxes(foot, num_experts, range(num_experts), y=0.2, height=1.0)
        foot.set_title("The experts, and each row's gates", pad=4)
        for i, (title, _, experts_K) in enumerate(rows):
            gates_TK = softmax_over_chosen(logits_E[None], experts_K[None])
            y = -1.1 * (i + 1)
            foot.axhline(y, color=palette.UNUSED.light, linewidth=1, zorder=0)
            gated = []
            for expert, gate in zip(experts_K.tolist(), gates_TK[0].tolist(), strict=True):
                _gate(foot, expert, y, gate)
                gated.append(f"expert {expert} with gate {gate:.2f}")
            foot.text(-0.7, y, f"{i + 1}", ha="right", va="center", size=SMALLEST)
            sentences.append(f"Row {i + 1}, {title}: {listing(gated)}.")
        for i, ax in enumerate(bar_axes):
            ax.set_title(fitted(f"{i + 1}  {rows[i][0]}"))
    return Picture(
        figure,
        f"A token enters a router that gives {num_experts} experts a logit each, drawn as a shaded "
        f"strip, strongest at expert {int(logits.argmax())}. Rows of bars below show probabilities "
        "with the chosen experts outlined, and their gates. " + " ".join(sentences),
    )


def _draw_strip(ax: Axes, logits_E: np.ndarray) -> None:
    spread = np.ptp(logits_E) or 1.0
    for expert, logit in enumerate(logits_E):
        depth = 0.05 + 0.5 * (logit - logits_E.min()) / spread  # ink stays readable on it
        ax.add_patch(
            FancyBboxPatch(
                (expert - 0.44, -1.25),
                0.88,
                1.0,
                boxstyle="square,pad=0",
                facecolor=palette.SHADE.light,
                alpha=depth,
                edgecolor="none",
            )
        )
        ax.text(
            expert,
            -0.75,
            f"{logit:.1f}",
            ha="center",
            va="center",
            size=SMALLEST,
        )
        ax.text(expert, -1.65, str(expert), ha="center", va="center", size=SMALLEST)


def _draw_boxes(
    ax: Axes, num_experts: int, used: Collection[int], *, y: float, height: float
) -> None:
    for expert in range(num_experts):
        runs = expert in used
        colour = expert_colour(expert) if runs else palette.UNUSED.light
        ax.add_patch(
            FancyBboxPatch(
                (expert - 0.38, y - height / 2),
                0.76,
                height,
                boxstyle="round,pad=0,rounding_size=0.12",
                facecolor=colour,
                edgecolor=INK if runs else palette.UNUSED_EDGE.light,
                linewidth=0.8,
            )
        )
        ax.text(
            expert,
            y,
            str(expert),
            ha="center",
            va="center",
            size=SMALLEST,
            color=readable_on(colour) if runs else INK,
        )


def _gate(ax: Axes, expert: int, y: float, gate: float) -> None:
    label_expert(ax, expert, y, expert, f"{gate:.2f}".removeprefix("0"), size=24)


def _label_box(ax: Axes, x: float, y: float, text: str) -> None:
    ax.text(
        x,
        y,
        text,
        ha="center",
        va="center",
        size=11.5,
        bbox={
            "boxstyle": "round,pad=0.4",
            "facecolor": palette.ACCENT_SOFT.light,
            "edgecolor": palette.ACCENT.light,
        },
    )


def _down(ax: Axes, x: float, start: float, end: float) -> None:
    ax.annotate(
        "",
        (x, end),
        xytext=(x, start),
        arrowprops={"arrowstyle": "-|>", "color": INK, "shrinkA": 0, "shrinkB": 0},
    )


def _blank(ax: Axes, num_experts: int, ylim: tuple[float, float]) -> None:
    ax.set_xlim(-0.6, num_experts - 0.4)
    ax.set_ylim(*ylim)
    ax.axis("off")
