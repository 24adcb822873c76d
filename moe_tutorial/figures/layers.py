"""Pictures of the layer: the block around it, and how much of a model a token uses."""

from collections.abc import Mapping

from matplotlib.axes import Axes

from moe_tutorial.figures import palette
from moe_tutorial.figures.style import (
    INK,
    PAPER,
    Picture,
    check_named,
    listing,
    new_figure,
    numbers,
    plain,
    style,
)
from moe_tutorial.figures.vector import SMALLEST
from moe_tutorial.layer.block import Block
from moe_tutorial.layer.moe import MoELayer


def block_diagram(block: Block) -> Picture:
    """A pre-norm block from bottom to top, its residual stream as the straight line at the left.

    Args:
        block: dense or sparse; its sizes are written into the boxes.

    Returns:
        The figure; its sentence follows a token through the block.

    Raises:
        TypeError: what is not a ``Block``.
    """
    if not isinstance(block, Block):
        raise TypeError(f"block must be a Block, got {type(block).__name__}")
    width = block.attention.out.out_features
    if isinstance(block.layer, MoELayer):
        num_experts, _, hidden_width = block.layer.experts.out_EDF.shape
        second = f"MoE layer: router, {block.layer.router.config.k} of {num_experts} experts"
        inner = f"each expert: {width} to {hidden_width} to {width}"
        if block.layer.shared is not None:
            inner += ", and one shared"
    else:
        second = "feed-forward layer"
        inner = f"{width} to {block.layer.out.in_features} to {width}"
    with style():
        figure, (ax,) = new_figure(5.2)
        ax.set_xlim(0, 10)
        ax.set_ylim(0, 12.2)
        ax.axis("off")
        ax.plot([1.2, 1.2], [0.9, 11.2], color=INK, linewidth=2.5, zorder=0)
        ax.text(1.2, 0.4, "tokens: batch, sequence, width", ha="center", va="center")
        ax.text(1.2, 11.7, "tokens, same shape", ha="center", va="center")
        _branch(ax, 1.6, "RMSNorm", f"attention, {block.attention.num_heads} heads", "")
        _branch(ax, 6.6, "RMSNorm", second, inner)
    return Picture(
        figure,
        f"A transformer block, from bottom to top, around a straight residual stream of width "
        f"{width}. First branch: RMSNorm, then attention with {block.attention.num_heads} heads, "
        f"added back to the stream. Second branch: RMSNorm, then the {second} ({inner}), added "
        "back to the stream that it left.",
    )


def total_and_active(models: Mapping[str, tuple[float, float]]) -> Picture:
    """Two bars for each model: parameters to store, and parameters that one token uses.

    Args:
        models: for each name the total and the active parameters, in billions.

    Returns:
        The figure on a logarithmic axis; its sentence gives both numbers of each model.

    Raises:
        TypeError: sizes that are no numbers, or a name that is no str.
        ValueError: no models, or sizes that are not two positive finite numbers.
    """
    check_named("models", models)
    for name, sizes in models.items():
        if len(pair := numbers(f"models[{name!r}]", sizes, 1)) != 2 or pair.min() <= 0:
            raise ValueError(f"models[{name!r}] must be two positive sizes, got {sizes}")
    smallest = min(min(sizes) for sizes in models.values())
    colours = palette.IDLE.light, palette.ACCENT.light
    with style():
        figure, (ax,) = new_figure(1.2 + 0.5 * len(models))
        for row, (total, active) in enumerate(models.values()):
            ax.barh(row - 0.2, total, height=0.4, color=colours[0], edgecolor=INK, linewidth=0.8)
            ax.barh(row + 0.2, active, height=0.4, color=colours[1], edgecolor=INK, linewidth=0.8)
            ax.text(total * 1.12, row - 0.2, f"{total:.0f}", va="center", size=SMALLEST)
            ax.text(active * 1.12, row + 0.2, f"{active:.1f}", va="center", size=SMALLEST)
        ax.set_yticks(range(len(models)), [plain(name) for name in models])
        ax.invert_yaxis()
        ax.set_xscale("log")
        ax.set_xlim(min(0.5, smallest / 2), 4 * max(total for total, _ in models.values()))
        ax.set_xlabel("billions of parameters")
        handles = [ax.barh([0], [0], color=c, edgecolor=INK) for c in colours]
        figure.legend(handles, ["total", "active"], loc="outside upper right", ncols=2)
    named = [f"{name} {total:.1f} and {active:.1f}" for name, (total, active) in models.items()]
    return Picture(
        figure,
        "Two bars for each model on a logarithmic axis, total and active parameters in billions: "
        f"{listing(named)}.",
    )


def _branch(ax: Axes, y: float, first: str, second: str, note: str) -> None:
    """Leave the stream at y, pass two boxes, and come back to a plus sign."""
    arrow = {"arrowstyle": "-|>", "color": INK, "shrinkA": 0, "shrinkB": 0}
    box = {
        "boxstyle": "round,pad=0.45",
        "facecolor": palette.ACCENT_SOFT.light,
        "edgecolor": palette.ACCENT.light,
    }
    middle = 6.0
    ax.plot([1.2, middle], [y, y], color=INK, linewidth=1.2)
    ax.annotate("", (middle, y + 0.75), xytext=(middle, y), arrowprops=arrow)
    ax.text(middle, y + 1.2, first, ha="center", va="center", bbox=box)
    ax.annotate("", (middle, y + 2.15), xytext=(middle, y + 1.65), arrowprops=arrow)
    text = second if not note else f"{second}\n{note}"
    ax.text(middle, y + 2.75, text, ha="center", va="center", bbox=box, linespacing=1.4)
    ax.plot([middle, middle], [y + 3.3, y + 3.9], color=INK, linewidth=1.2)
    ax.annotate("", (1.55, y + 3.9), xytext=(middle, y + 3.9), arrowprops=arrow)
    ax.plot(1.2, y + 3.9, "o", markersize=17, color=PAPER, markeredgecolor=INK)
    ax.text(1.2, y + 3.87, "+", ha="center", va="center", size=13)
