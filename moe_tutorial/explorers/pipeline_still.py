"""A router's pipeline as a picture, for where no script runs."""

from collections.abc import Sequence

from matplotlib.patches import Rectangle

from moe_tutorial.explorers.pipeline_steps import NUM_EXPERTS, Step
from moe_tutorial.figures import Picture
from moe_tutorial.figures.palette import SHADE
from moe_tutorial.figures.style import INK, label_expert, new_figure, plain, style
from moe_tutorial.figures.vector import SMALLEST

_ROW = 44.0  # points from step to step
_CELL = 20.0


def pipeline_still(title: str, steps: Sequence[Step]) -> Picture:
    """One row of cells for each step, one column for each expert.

    Args:
        title: above it.
        steps: from the first to the last.

    Returns:
        The figure; its sentence says every step.
    """
    height = 30 + _ROW * len(steps)
    with style():
        figure, (ax,) = new_figure((height + 24) / 72)
        ax.set_title(plain(title))
        ax.set_axis_off()
        ax.set_xlim(0, NUM_EXPERTS)
        ax.set_ylim(height, 0)
        for expert in range(NUM_EXPERTS):
            label_expert(ax, expert + 0.5, 14, expert, str(expert), 16)
        for row, step in enumerate(steps):
            y = 30 + _ROW * row
            ax.text(0.04, y + 11, plain(step.name), va="center", size=SMALLEST, weight="bold")
            ax.text(
                NUM_EXPERTS - 0.04, y + 11, plain(step.field), va="center", ha="right",
                size=SMALLEST,
            )  # fmt: skip
            for expert, (value, depth) in enumerate(
                zip(step.values_E.tolist(), depths(step), strict=True)
            ):
                corner = (expert + 0.04, y + 20)
                cell = Rectangle(corner, 0.92, _CELL, facecolor=SHADE.light, linewidth=0)
                cell.set_alpha(depth)
                ax.add_patch(cell)
                ax.text(
                    expert + 0.5, y + 20 + _CELL / 2, label(value), ha="center", va="center",
                    size=SMALLEST, color=INK,
                )  # fmt: skip
    said = " ".join(f"{step.name}: {step.said}" for step in steps)
    return Picture(figure, f"{title}, step by step. {said}")


def depths(step: Step) -> list[float]:
    """How dark each cell is: from the smallest to the largest number, and none for who is out."""
    inside = step.values_E[step.values_E.isfinite()]
    low = min(float(inside.min()), 0.0) if len(inside) < NUM_EXPERTS else float(inside.min())
    span = float(inside.max()) - low or 1.0
    return [
        0.06 + 0.44 * (value - low) / span if value > -float("inf") else 0.0
        for value in step.values_E.tolist()
    ]


def label(value: float) -> str:
    """A number in the width of a cell: 2.5, .93, 0, and a dot where an expert is out."""
    if value == -float("inf"):
        return "\N{MIDDLE DOT}"
    text = f"{abs(value):.2f}" if abs(value) < 0.995 else f"{abs(value):.1f}"
    text = text.removeprefix("0") if text != "0.00" else "0"
    return f"\N{MINUS SIGN}{text}" if value < 0 and text != "0" else text
