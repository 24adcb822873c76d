"""An all-to-all as a picture: rows sorted by expert at home, and as they arrive."""

import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor

from moe_tutorial.figures.palette import expert_colour, readable_on
from moe_tutorial.figures.style import INK, WIDTH, Picture, listing, new_figure, style
from moe_tutorial.figures.vector import SMALLEST

MOST_ROWS = 36  # more would make the figure longer than a screen
_ROW, _GAP, _TOP = 13.0, 14.0, 26.0  # the height of a row, between ranks, above all; in points
_LEFT, _RIGHT = (52.0, 82.0), (260.0, 290.0)  # where boxes begin and end


def exchanged_rows(load_WE: Tensor) -> Picture:
    """Two columns: each rank's rows, sorted by expert, and the rows that arrive at each rank.

    A line follows each row to the rank that holds its expert, in its expert's colour. There, rows
    lie in the order of the ranks that sent them, not in that of experts.

    Args:
        load_WE: int64 ``[W, E]``, how many rows each rank has for each expert, 1 to 36 together;
            each rank holds E / W neighbouring experts.

    Returns:
        The figure; its sentence says how many rows go from each rank to each.

    Raises:
        TypeError: what is no tensor of int64.
        ValueError: another shape, a negative number, too many rows or none, or experts that the
            ranks cannot share equally.
    """
    if not isinstance(load_WE, Tensor) or load_WE.dtype != torch.int64:
        raise TypeError(f"load_WE must be a tensor of int64, got {type(load_WE).__name__}")
    if load_WE.ndim != 2 or load_WE.shape[1] % max(len(load_WE), 1):
        raise ValueError(
            f"load_WE must have shape [W, E] with E a multiple of W, got {list(load_WE.shape)}"
        )
    total = int(load_WE.sum())
    if not 1 <= total <= MOST_ROWS or int(load_WE.min()) < 0:
        raise ValueError(f"load_WE must hold 1 to {MOST_ROWS} rows, got {load_WE.tolist()}")
    ranks, here = len(load_WE), load_WE.shape[1] // len(load_WE)
    loads = load_WE.tolist()
    sent = [[(r, e) for e in range(ranks * here)] for r in range(ranks)]
    arrived = [
        [(r, e) for r in range(ranks) for e in range(s * here, (s + 1) * here)]
        for s in range(ranks)
    ]
    empty = max(sum(not any(loads[r][e] for r, e in it) for it in col) for col in (sent, arrived))
    height = _TOP + (total + empty) * _ROW + (ranks - 1) * _GAP
    with style():
        figure, (ax,) = new_figure((height + 10) / 72)
        ax.set_xlim(0, 72 * WIDTH - 2)
        ax.set_ylim(height, 0)
        ax.axis("off")
        ax.text(0, 8, "sorted by expert", va="center", weight="bold")
        ax.text(72 * WIDTH - 2, 8, "as rows arrive", ha="right", va="center", weight="bold")
        start = _draw_column(ax, sent, loads, _LEFT)
        end = _draw_column(ax, arrived, loads, _RIGHT)
        for (r, e), y in start.items():
            for i in range(loads[r][e]):
                ys = [y + (i + 0.5) * _ROW, end[r, e] + (i + 0.5) * _ROW]
                ax.plot([_LEFT[1], _RIGHT[0]], ys, color=expert_colour(e), linewidth=1.4)
    rows_WW = load_WE.view(ranks, ranks, here).sum(-1).tolist()
    words = [f"rank {r} sends {listing([str(n) for n in row])}" for r, row in enumerate(rows_WW)]
    return Picture(
        figure,
        f"{total} rows on {ranks} ranks in two columns joined by lines: sorted by expert at home, "
        f"and at the rank that holds their expert, in the order of the ranks they came from. To "
        f"ranks 0 to {ranks - 1}, {'; '.join(words)}.",
    )


def _draw_column(
    ax: Axes,
    ranks: list[list[tuple[int, int]]],
    loads: list[list[int]],
    sides: tuple[float, float],
) -> dict[tuple[int, int], float]:
    """One box for each rank and expert that have rows, and where it begins."""
    left, right = sides
    places = {}
    y = _TOP
    for rank, parts in enumerate(ranks):
        height = max(1, sum(loads[r][e] for r, e in parts)) * _ROW
        at_left = sides == _LEFT
        empty = not any(loads[r][e] for r, e in parts)
        ax.text(
            0 if at_left else 72 * WIDTH - 2, y + height / 2,
            f"rank {rank}: none" if empty else f"rank {rank}",
            ha="left" if at_left else "right", va="center", size=SMALLEST,
        )  # fmt: skip
        for r, e in parts:
            if not loads[r][e]:
                continue
            tall, colour = loads[r][e] * _ROW, expert_colour(e)
            ax.add_patch(
                Rectangle(
                    (left, y), right - left, tall,
                    facecolor=colour, edgecolor=INK, linewidth=0.8, zorder=3,
                )
            )  # fmt: skip
            ax.text(
                (left + right) / 2, y + tall / 2, str(e), ha="center", va="center",
                size=SMALLEST, color=readable_on(colour), zorder=5,
            )  # fmt: skip
            places[r, e] = y
            y += tall
        y += (_ROW if empty else 0) + _GAP
    return places
