"""A passage of text, each token on the colour of its expert, layer by layer."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor

from moe_tutorial.figures.palette import EXPERT_COLOURS, expert_colour, readable_on
from moe_tutorial.figures.style import (
    INK,
    WIDTH,
    Picture,
    check_named,
    check_words,
    expert_ids,
    listing,
    new_figure,
    plain,
    style,
)
from moe_tutorial.figures.vector import SMALLEST

PER_LINE = 32
_LINE = 33  # points from one line of text to the next
_TITLE = 24
_VISIBLE = {"\n": "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}", "\0": "\N{EMPTY SET}", " ": ""}


def coloured_passage(
    tokens: Sequence[str], rows: Mapping[str, Tensor | Sequence[int]], num_experts: int
) -> Picture:
    """The same passage once for each row, each token on its expert's colour.

    The expert's number stands under the first of neighbouring tokens that go to it, so that
    nothing hangs on colour alone.

    Args:
        tokens: the passage, S tokens of one letter each, such as the bytes of English text.
        rows: for each title, such as a layer's, each token's expert ``[S]``.
        num_experts: E, at most 12, as there are so many colours.

    Returns:
        The figure; its sentence says of each row how many tokens each expert has.

    Raises:
        TypeError: a token that is no str, or ids that are no integers.
        ValueError: no tokens, a token of more than one letter, a row of another length, an id that
            is no expert's, or more experts than colours.
    """
    check_named("rows", rows)
    if not tokens:
        raise ValueError("tokens must hold at least one token, got none")
    for token in tokens:
        check_words(tokens=token)
        if len(token) != 1:
            raise ValueError(f"tokens must have one letter each, got {token!r}")
    if num_experts > len(EXPERT_COLOURS):
        raise ValueError(
            f"num_experts must be at most {len(EXPERT_COLOURS)}, as there are so many colours, "
            f"got {num_experts}"
        )
    lines = -(-len(tokens) // PER_LINE)
    told = []
    with style():
        height = len(rows) * (lines * _LINE + _TITLE) / 72
        figure, axes = new_figure(height, len(rows))
        for ax, (title, ids) in zip(axes, rows.items(), strict=True):
            experts_S = expert_ids(f"rows[{title!r}]", ids, num_experts)
            if len(experts_S) != len(tokens):
                raise ValueError(
                    f"rows[{title!r}] must have {len(tokens)} ids, one for each token, got "
                    f"{len(experts_S)}"
                )
            ax.set_title(plain(title))
            _draw(ax, tokens, experts_S, lines)
            counts_E = torch.tensor(experts_S).bincount(minlength=num_experts).tolist()
            order = np.argsort([-count for count in counts_E], kind="stable")
            shares = [f"{counts_E[e]} to expert {e}" for e in order if counts_E[e]]
            told.append(f"{title}: {listing(shares)}")
    return Picture(
        figure,
        f"The passage {''.join(tokens)!r}, {len(tokens)} tokens on the colours of their experts. "
        f"{'; '.join(told)}.",
    )


def _draw(ax: Axes, tokens: Sequence[str], experts_S: Sequence[int], lines: int) -> None:
    ax.set_axis_off()
    ax.set_xlim(0, PER_LINE)
    ax.set_ylim(lines * _LINE, 0)
    wide = WIDTH * 72 / PER_LINE
    look = {"ha": "center", "va": "center", "size": SMALLEST}
    start = 0
    for s, (token, expert) in enumerate(zip(tokens, experts_S, strict=True)):
        line, column = divmod(s, PER_LINE)
        top, colour = line * _LINE, expert_colour(expert)
        if column == 0 or experts_S[s - 1] != expert:
            start = column
            ax.text(column + 0.5, top + 23, str(expert), color=INK, **look)  # type: ignore[arg-type]
        if s + 1 == len(tokens) or column + 1 == PER_LINE or experts_S[s + 1] != expert:
            # a gap of one point between neighbours of two experts
            size = (column + 1 - start - 1 / wide, 16)
            ax.add_patch(Rectangle((start + 1 / wide, top), *size, color=colour, linewidth=0))
        if letter := _VISIBLE.get(token, token):
            words = readable_on(colour)
            ax.text(column + 0.5, top + 8, plain(letter), color=words, **look)  # type: ignore[arg-type]
