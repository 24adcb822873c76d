"""Dispatch as a picture: the choices sorted into one block for each expert, and brought back."""

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor

from moe_tutorial.figures import palette
from moe_tutorial.figures.palette import expert_colour, readable_on
from moe_tutorial.figures.style import (
    INK,
    WIDTH,
    Picture,
    expert_ids,
    listing,
    new_figure,
    style,
)
from moe_tutorial.figures.vector import SMALLEST
from moe_tutorial.validation import check_size

MOST_ROWS = 24  # more would need letters smaller than a phone can show
_PITCH, _BOX = 20.0, 16.0  # from row to row and the height of a box, in points
_LEFT, _MIDDLE, _RIGHT = (52.0, 110.0), (160.0, 214.0), (288.0, 342.0)  # where boxes begin and end


def sorted_blocks(experts_TK: Tensor, num_experts: int) -> Picture:
    """Three columns: the T K choices by token, sorted into blocks by expert, and back by token.

    A line follows each row from one column to the next, in its expert's colour.

    Args:
        experts_TK: int64 ids ``[T, K]``, up to 24 of them.
        num_experts: E; one without tokens is shown as an empty block.

    Returns:
        The figure; its sentence names each expert's tokens in the order of its block.

    Raises:
        TypeError: what is no tensor of integers.
        ValueError: a tensor that is not two-dimensional, more than 24 choices or none, or an id
            that is no expert's.
    """
    check_size("num_experts", num_experts)
    if not isinstance(experts_TK, Tensor):
        raise TypeError(f"experts_TK must be a tensor, got {type(experts_TK).__name__}")
    if experts_TK.ndim != 2 or not 1 <= experts_TK.numel() <= MOST_ROWS:
        raise ValueError(
            f"experts_TK must have shape [T, K] and hold 1 to {MOST_ROWS} choices to be drawn, "
            f"got shape {list(experts_TK.shape)}"
        )
    chosen = [expert_ids("experts_TK", row, num_experts) for row in experts_TK]
    k = experts_TK.shape[1]
    blocks = [
        [(t, i) for t, row in enumerate(chosen) for i in range(k) if row[i] == e]
        for e in range(num_experts)
    ]
    tokens_gap = 7.0
    left_height = len(chosen) * (k * _PITCH + tokens_gap) - tokens_gap
    middle_height = sum(_PITCH * (1 + len(block)) for block in blocks)
    height = max(left_height, middle_height) + 26
    with style():
        figure, (ax,) = new_figure((height + 10) / 72)
        ax.set_xlim(0, 72 * WIDTH - 2)
        ax.set_ylim(height, 0)
        ax.axis("off")
        for x, side, words in (
            (0, "left", "as chosen"),
            (sum(_MIDDLE) / 2, "center", "sorted into blocks"),
            (_RIGHT[1], "right", "back, added"),
        ):
            ax.text(x, 8, words, ha=side, va="center", weight="bold")
        place = _draw_blocks(ax, blocks, 26 + (height - 26 - middle_height) / 2)
        y = 26 + (height - 26 - left_height) / 2 + _BOX / 2
        for t, row in enumerate(chosen):
            middle = y + (k - 1) * _PITCH / 2
            ax.text(0, middle, f"token {t}", va="center", size=SMALLEST)
            for i, e in enumerate(row):
                colour = expert_colour(e)
                ax.plot([_LEFT[1], _MIDDLE[0]], [y, place[t, i]], color=colour, linewidth=1.6)
                ax.plot([_MIDDLE[1], _RIGHT[0]], [place[t, i], middle], color=colour, linewidth=1.6)
                _box(ax, _LEFT, y, f"expert {e}", colour, readable_on(colour))
                y += _PITCH
            _box(ax, _RIGHT, middle, f"token {t}", palette.ACCENT_SOFT.light, INK)
            y += tokens_gap
    named = [f"expert {e} {_tokens(block)}" for e, block in enumerate(blocks)]
    return Picture(
        figure,
        f"The {len(chosen) * k} choices of {len(chosen)} tokens, {k} each, in three columns joined "
        f"by lines: token by token, then sorted into one block for each expert ({'; '.join(named)})"
        f", then back at their tokens, where the {k} rows of each are added.",
    )


def _tokens(block: list[tuple[int, int]]) -> str:
    plural = "s" if len(block) > 1 else ""
    return f"token{plural} {listing([str(t) for t, _ in block])}" if block else "none"


def _draw_blocks(
    ax: Axes, blocks: list[list[tuple[int, int]]], top: float
) -> dict[tuple[int, int], float]:
    """The middle column, and how high each choice stands in it."""
    place = {}
    for e, block in enumerate(blocks):
        words = f"expert {e}" if block else f"expert {e}: none"
        letters = INK if block else palette.MUTED.light
        ax.text(
            sum(_MIDDLE) / 2, top + _PITCH / 2, words,
            ha="center", va="center", size=SMALLEST, color=letters, zorder=4,
            bbox={"facecolor": palette.PAGE.light, "edgecolor": "none", "pad": 1},
        )  # fmt: skip
        top += _PITCH
        for t, i in block:
            place[t, i] = top + _BOX / 2
            colour = expert_colour(e)
            _box(ax, _MIDDLE, top + _BOX / 2, f"token {t}", colour, readable_on(colour))
            top += _PITCH
    return place


def _box(
    ax: Axes, sides: tuple[float, float], y: float, text: str, colour: str, letters: str
) -> None:
    left, right = sides
    ax.add_patch(
        Rectangle(
            (left, y - _BOX / 2), right - left, _BOX,
            facecolor=colour, edgecolor=INK, linewidth=0.8, zorder=3,
        )
    )  # fmt: skip
    ax.text(
        (left + right) / 2, y, text,
        ha="center", va="center", size=SMALLEST, color=letters, zorder=5,
    )  # fmt: skip
