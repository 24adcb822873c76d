"""The first state of the X-ray as a picture, for where no script runs."""

import unicodedata
from collections import Counter
from collections.abc import Sequence

from matplotlib.patches import Rectangle

from moe_tutorial.figures import Picture
from moe_tutorial.figures.palette import expert_colour, readable_on
from moe_tutorial.figures.style import INK, WIDTH, listing, new_figure, plain, style
from moe_tutorial.figures.vector import SMALLEST

_CELLS = 34  # narrow letters in a line
_LINES = 8
_PITCH = 22.0  # points from line to line
_VISIBLE = str.maketrans({"\n": "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}", "\t": " ", "\0": "∅"})


def xray_still(
    words: Sequence[str], strongest_T: Sequence[int], hues: Sequence[int], title: str
) -> Picture:
    """The beginning of a passage, each token on the colour of its strongest expert.

    Args:
        words: each token's part of the text.
        strongest_T: its strongest expert.
        hues: the expert of each colour.
        title: of the layer.

    Returns:
        The figure; its sentence says how many tokens each expert has in the whole passage.
    """
    places = _places(words)
    lines = 1 + max(line for line, _, _ in places)
    with style():
        figure, (ax,) = new_figure((24 + _PITCH * lines) / 72)
        ax.set_title(plain(title))
        ax.set_axis_off()
        ax.set_xlim(0, _CELLS)
        ax.set_ylim(_PITCH * lines, 0)
        gap = _CELLS / (72 * WIDTH)  # one point between neighbours
        for (line, cell, cells), word, expert in zip(places, words, strongest_T, strict=False):
            colour = expert_colour(hues.index(expert)) if expert in hues else None
            if colour is not None:
                corner = (cell + gap / 2, line * _PITCH)
                size = (cells - gap, _PITCH - 4)
                ax.add_patch(Rectangle(corner, *size, facecolor=colour, linewidth=0))
            if shown := word.translate(_VISIBLE).strip():
                ax.text(
                    cell + cells / 2, line * _PITCH + (_PITCH - 4) / 2, plain(shown[:_CELLS]),
                    ha="center", va="center", size=SMALLEST,
                    color=INK if colour is None else readable_on(colour),
                )  # fmt: skip
    counts = Counter(strongest_T)
    order = sorted(hues, key=lambda expert: (-counts[expert], expert))
    shares = [f"expert {expert} of {counts[expert]}" for expert in order if counts[expert]]
    return Picture(
        figure,
        f"{title}: a passage of {len(words)} tokens, each on the colour of its strongest expert; "
        f"{listing(shares) if shares else 'none has an expert'}. It begins "
        f"{''.join(words[: len(places)]).translate(_VISIBLE)!r}.",
    )


def _places(words: Sequence[str]) -> list[tuple[int, int, int]]:
    """Line, first cell and number of cells of each token, as far as the picture goes."""
    places, line, cell = [], 0, 0
    for word in words:
        wide = sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in word)
        cells = min(_CELLS, max(1, wide))
        if cell + cells > _CELLS:
            line, cell = line + 1, 0
        if line == _LINES:
            break
        places.append((line, cell, cells))
        line, cell = (line + 1, 0) if word.endswith("\n") else (line, cell + cells)
        if line == _LINES:
            break
    return places
