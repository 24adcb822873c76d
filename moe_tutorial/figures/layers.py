"""Pictures of the layer: the block around it, and how much of a model a token uses."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from moe_tutorial.figures import palette
from moe_tutorial.figures.labels import log_axis
from moe_tutorial.figures.style import (
    INK,
    PAPER,
    QUIET,
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
        inner = [f"each expert: {width} to {hidden_width} to {width}"]
        if block.layer.shared is not None:
            inner.append("and one shared")
    else:
        second = "feed-forward layer"
        inner = [f"{width} to {block.layer.out.in_features} to {width}"]
    with style():
        figure, (ax,) = new_figure(5.2)
        ax.set_xlim(0, 10)
        ax.set_ylim(0, 12.2)
        ax.axis("off")
        ax.plot([1.2, 1.2], [0.9, 11.2], color=INK, linewidth=2.5, zorder=0)
        ax.text(0.2, 0.4, "tokens: batch, sequence, width", va="center")
        ax.text(0.2, 11.7, "tokens, same shape", va="center")
        _branch(ax, 1.6, ["RMSNorm"], [f"attention, {block.attention.num_heads} heads"])
        _branch(ax, 6.4, ["RMSNorm"], [second, *inner])
    return Picture(
        figure,
        f"A transformer block, from bottom to top, around a straight residual stream of width "
        f"{width}. First branch: RMSNorm, then attention with {block.attention.num_heads} heads, "
        f"added back to the stream. Second branch: RMSNorm, then the {second} "
        f"({', '.join(inner)}), added back to the stream that it left.",
    )


def total_and_active(models: Mapping[str, tuple[float, float]]) -> Picture:
    """Two dots for each model: parameters to store, and parameters that one token uses.

    On a logarithmic axis, which has no 0 for bars to begin at, the line between the dots is as
    long as the one number is a multiple of the other.

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
    smallest, largest = (f(x for sizes in models.values() for x in sizes) for f in (min, max))
    room = max(5, (largest / smallest) ** 0.33)  # for the words left of a dot, at any scale
    with style():
        figure, (ax,) = new_figure(1.1 + 0.38 * len(models))
        for row, (total, active) in enumerate(models.values()):
            ax.plot([active, total], [row, row], color=QUIET, linewidth=2)
            for name, size, colour, side, x in (
                ("active", active, palette.ACCENT.light, "right", -9),
                ("total", total, INK, "left", 9),
            ):
                ax.plot(size, row, "o", color=colour, markersize=8)
                ax.annotate(
                    f"{size:.3g}" if row else f"{size:.3g} {name}",
                    (size, row), (x, 0), textcoords="offset points", ha=side, va="center",
                    size=SMALLEST, color=colour,
                )  # fmt: skip
        ax.set_yticks(range(len(models)), [plain(name) for name in models])
        ax.tick_params(axis="y", length=0)
        ax.set_ylim(len(models) - 0.4, -0.6)
        ax.set_xscale("log")
        ax.set_xlim(smallest / room, 8 * largest)
        log_axis(ax.xaxis)
        ax.set_xlabel("billions of parameters")
    named = [f"{name} {total:.1f} and {active:.1f}" for name, (total, active) in models.items()]
    return Picture(
        figure,
        "Two dots for each model on a logarithmic axis, total and active parameters in billions: "
        f"{listing(named)}.",
    )


def _branch(ax: Axes, y: float, first: Sequence[str], second: Sequence[str]) -> None:
    """Leave the stream at y, pass two boxes, and come back to a plus sign."""
    arrow = {"arrowstyle": "-|>", "color": INK, "shrinkA": 0, "shrinkB": 0}
    middle, back = 6.0, y + 3.9 + 0.3 * (len(second) - 1)
    ax.plot([1.2, middle], [y, y], color=INK, linewidth=1.2)
    ax.annotate("", (middle, y + 0.75), xytext=(middle, y), arrowprops=arrow)
    top = _box(ax, middle, y + 0.75, first)
    ax.annotate("", (middle, top + 0.55), xytext=(middle, top), arrowprops=arrow)
    top = _box(ax, middle, top + 0.55, second)
    ax.plot([middle, middle], [top, back], color=INK, linewidth=1.2)
    ax.annotate("", (1.55, back), xytext=(middle, back), arrowprops=arrow)
    ax.plot(1.2, back, "o", markersize=17, color=PAPER, markeredgecolor=INK)
    ax.text(1.2, back - 0.03, "+", ha="center", va="center", size=13)


def _box(ax: Axes, x: float, low: float, lines: Sequence[str]) -> float:
    """A box that stands at ``low`` with a few lines on it; where it ends."""
    width, height = 0.18 * max(map(len, lines)) + 0.7, 0.42 * len(lines) + 0.45
    ax.add_patch(
        FancyBboxPatch(
            (x - width / 2, low),
            width,
            height,
            boxstyle="round,pad=0,rounding_size=0.15",
            facecolor=palette.ACCENT_SOFT.light,
            edgecolor=palette.ACCENT.light,
        )
    )
    for n, line in enumerate(lines):
        y = low + height / 2 + 0.42 * ((len(lines) - 1) / 2 - n)
        ax.text(x, y, line, ha="center", va="center", size=SMALLEST)
    return low + height
