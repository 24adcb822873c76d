"""The one palette: every colour of the book once, by its role, on a light page and on a dark one.

Figures, explorers, style sheets and cards take their colours from here. Figures are drawn for the
light page; ``themed`` lets one follow the theme of the page that it stands in.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple


class Colour(NamedTuple):
    """What one role looks like on a light page and on a dark one."""

    light: str
    dark: str


EXPERT_COLOURS = (
    "#4b2ca0", "#f0c050", "#4f9a78", "#8a1020", "#62c4ea", "#6b6a00",
    "#f08cb4", "#8464dc", "#a8cc90", "#5a2c48", "#a89400", "#ac4c8c",
)  # fmt: skip
"""Twelve colours, at least 12 CAM02-UCS units apart under each kind of colour blindness."""

EXPERT_COLOURS_DARK = (
    "#8769ef", "#f1c353", "#66ab8b", "#ef555f", "#6bc8ee", "#6c8b03",
    "#f18ebb", "#a88ae8", "#a7cc90", "#a07388", "#b7a50f", "#c556ac",
)  # fmt: skip
"""The same hues for a dark page, as far apart: 4:1 on it, and dark words on them read 4.5:1."""

PAGE = Colour("#ffffff", "#12161c")
SURFACE = Colour("#f6f5fa", "#1a1f26")  # code, tables' heads, quiet boxes
INK = Colour("#1c2430", "#e3e7ec")  # text, axes and the outline of a chosen expert
MUTED = Colour("#566071", "#a5aebb")
RULE = Colour("#e1e0e9", "#2f3641")
ACCENT = Colour(EXPERT_COLOURS[0], "#b7a9f6")
ACCENT_SOFT = Colour("#f4f1fb", "#262238")

QUIET = Colour("#8b95a3", "#7b8594")  # helper lines
GRID = Colour("#dfe3e8", "#2f3641")  # the two axes through a plane
UNUSED = Colour("#eceff3", "#262c36")  # an expert that does not run
UNUSED_EDGE = Colour("#c3c9d1", "#4a5462")
IDLE = Colour("#c9cfd8", "#566173")  # bars of what is stored or dropped
ORANGE = Colour("#c2410c", "#f0935f")
TEAL = Colour("#0f766e", "#4fb8ad")
GREY = Colour("#7c8694", "#98a2b0")
SHADE = Colour("#2f7d4f", "#4fc07f")  # logits, more or less opaque

PAGES: Mapping[str, Colour] = {
    "page": PAGE,
    "card": PAGE,  # what figures stand on
    "surface": SURFACE,
    "ink": INK,
    "muted": MUTED,
    "rule": RULE,
    "control": Colour("#7d8594", "#7b8594"),  # what can be operated: 3:1 on page, card and surface
    "accent": ACCENT,
    "on-accent": PAGE,
    "accent-soft": ACCENT_SOFT,
    "good": Colour("#1d6b45", "#7fc8a2"),
    "bad": Colour("#a3162a", "#f29aa4"),
    "number": Colour("#8a4b08", "#e9b872"),
    "quiet": QUIET,
    "grid": GRID,
    "unused": UNUSED,
    "unused-edge": UNUSED_EDGE,
    "idle": IDLE,
    "orange": ORANGE,
    "teal": TEAL,
    "grey": GREY,
    "shade": SHADE,
    # Words on an expert light enough for them, who is so in the dark as well.
    "on-expert": Colour(PAGE.dark, PAGE.dark),
    **{
        f"expert-{expert}": Colour(*pair)
        for expert, pair in enumerate(zip(EXPERT_COLOURS, EXPERT_COLOURS_DARK, strict=True))
    },
}
"""The style sheets' colours: each is ``--book-`` and its name."""

# Each role of a figure has a colour of its own. Where two share one, a figure means the last; white
# is the card's.
_NAMES = {colour.light: name for name, colour in PAGES.items()} | {PAGE.light: "card"}


def expert_colour(expert: int) -> str:
    """The colour that belongs to an expert; beyond the twelfth, colours come round again."""
    return EXPERT_COLOURS[expert % len(EXPERT_COLOURS)]


def readable_on(colour: str) -> str:
    """White or the dark page's colour, whichever is easier to read on the colour."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return PAGE.light if 0.299 * red + 0.587 * green + 0.114 * blue < 127.5 else PAGE.dark


def readable_as(colour: str) -> str:
    """The colour for words about what has this colour: itself, where it reads 4.5:1 on both pages.

    Grey ones get a darker grey, and others the colour of all words.
    """
    if colour == GREY.light:
        return MUTED.light
    pair = PAGES[_NAMES[colour]]
    reads = min(contrast(pair.light, PAGE.light), contrast(pair.dark, PAGE.dark)) >= 4.5
    return colour if reads else INK.light


def contrast(one: str, other: str) -> float:
    """How far two colours differ in lightness, from 1 to 21, as WCAG counts it."""
    low, high = sorted(_luminance(colour) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    shares = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def themed(svg: str) -> str:
    """A figure's SVG in the pages' variables, so that it follows their theme.

    Other colours than the palette's stay as they are.
    """
    return re.sub(
        r"#[0-9a-f]{6}\b",
        lambda colour: f"var(--book-{_NAMES[colour[0]]})" if colour[0] in _NAMES else colour[0],
        svg,
    )
