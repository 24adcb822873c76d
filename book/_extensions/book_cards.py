"""Pictures for where a page is shared: a card of its title and description, and the book's icon.

They are drawn with the letters, the colours and the example of the book: the experts' colours, and
the three that chapter 03 chooses for the token of chapter 01, joined to it as wide as their gates.
"""

from __future__ import annotations

import io
import re
import textwrap
from functools import cache
from pathlib import Path
from typing import Any

import torch
from book_letters import font_file
from book_pages import card_path
from fontTools.ttLib import TTFont
from PIL import Image, ImageDraw, ImageFont
from sphinx.application import Sphinx

from moe_tutorial import Router, Routing
from moe_tutorial.example import one_token, twelve_centroids
from moe_tutorial.figures import EXPERT_COLOURS, palette

SIZE = (1200, 630)
INK, MUTED, PAGE, ACCENT, PALE = (
    getattr(palette, role).light for role in ("INK", "MUTED", "PAGE", "ACCENT", "RULE")
)
FINE = 3  # curves are drawn this much larger and then reduced, which smooths them


@cache
def letters(root: Path, name: str, size: int, weight: int | None = None) -> ImageFont.FreeTypeFont:
    """A font to draw with; the variable one also needs a weight."""
    font = TTFont(font_file(root, name))
    font.flavor = None
    data = io.BytesIO()
    font.save(data)
    data.seek(0)
    drawn = ImageFont.truetype(data, size)
    if weight:
        drawn.set_variation_by_axes([weight])
    return drawn


def example_routing() -> Routing:
    """The book's token among its twelve experts."""
    router = Router(model_width=2, num_experts=12, k=3).double()
    router.load_state_dict({"centroids_ED": twelve_centroids()})
    with torch.no_grad():
        routing: Routing = router(one_token())
        return routing


def curve(start: tuple[float, float], end: tuple[float, float]) -> list[tuple[float, float]]:
    """Points of an S from left to right."""
    (x0, y0), (x1, y1) = start, end
    return [
        (x0 + (x1 - x0) * t, y0 + (y1 - y0) * (3 * t**2 - 2 * t**3))
        for t in (i / 60 for i in range(61))
    ]


@cache
def motif() -> Image.Image:
    """The card without words: a token, twelve experts, and three paths."""
    image = Image.new("RGB", (FINE * SIZE[0], FINE * SIZE[1]), PAGE)
    draw = ImageDraw.Draw(image)
    routing = example_routing()
    chosen = dict(zip(routing.experts_TK[0].tolist(), routing.gates_TK[0].tolist(), strict=True))

    def disc(x: float, y: float, radius: float, colour: str) -> None:
        box = [FINE * (x - radius), FINE * (y - radius), FINE * (x + radius), FINE * (y + radius)]
        draw.ellipse(box, fill=colour)

    token = (850.0, 315.0)
    places = [(1110.0, 62 + 46 * expert) for expert in range(12)]
    for expert, gate in chosen.items():
        for x, y in curve(token, places[expert]):
            disc(x, y, 22 * gate, EXPERT_COLOURS[expert])
    for expert, (x, y) in enumerate(places):
        disc(
            x,
            y,
            19 if expert in chosen else 11,
            EXPERT_COLOURS[expert] if expert in chosen else PALE,
        )
    disc(*token, 34, INK)
    return image.resize(SIZE, Image.Resampling.LANCZOS)


def lines(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """The text broken into lines that fit."""
    per_line = len(text)
    while True:
        broken = textwrap.wrap(text, per_line, break_long_words=False)
        if per_line < 8 or max(map(font.getlength, broken)) <= width:
            return broken
        per_line -= 1


def draw_card(root: Path, book: str, title: str, description: str) -> Image.Image:
    """The card of one page."""
    image = motif().copy()
    draw = ImageDraw.Draw(image)
    heading, text = letters(root, "serif-bold", 66), letters(root, "sans", 31, 400)
    number, _, name = title.partition(" ") if re.match(r"\d\d ", title) else ("", "", title)
    y = 72
    if number:
        draw.text((72, y), number, fill=ACCENT, font=letters(root, "serif", 66))
        y += 84
    for line in lines(name, heading, 700):
        draw.text((72, y), line, fill=INK, font=heading)
        y += 76
    y += 26
    for line in lines(description, text, 660)[:5]:
        draw.text((72, y), line, fill=MUTED, font=text)
        y += 42
    draw.text((72, 540), book, fill=ACCENT, font=letters(root, "sans", 27, 600))
    return image


def draw_icon(size: int) -> Image.Image:
    """The book's icon, for a phone's first screen: favicon.svg, whole to the edges."""
    unit = 8 * size / 32
    image = Image.new("RGB", (8 * size, 8 * size), ACCENT)
    draw = ImageDraw.Draw(image)

    def disc(x: float, y: float, radius: float, colour: str) -> None:
        draw.ellipse([unit * (v + s * radius) for s in (-1, 1) for v in (x, y)], fill=colour)

    for y, colour in ((5.8, EXPERT_COLOURS[1]), (19.4, EXPERT_COLOURS[4])):
        for point in curve((9, 16), (24, y)):
            disc(*point, 1.3, colour)
        disc(24, y, 3.5, colour)
    for y in (12.6, 26.2):
        disc(24, y, 2.3, "#9685c8")  # the page's white over the accent, as in favicon.svg
    disc(9, 16, 4.6, PAGE)
    return image.resize((size, size), Image.Resampling.LANCZOS)


def write_cards(app: Sphinx, failure: Exception | None) -> None:
    """Draw a card for every page, and the icon."""
    if failure or app.builder.name != "html":
        return
    root, out = Path(app.srcdir), Path(app.outdir)
    book = app.config.html_title or app.config.project
    for page in sorted(app.env.found_docs):
        about = app.env.metadata[page]["book_description"]
        card = draw_card(root, book, app.env.titles[page].astext(), about)
        path = out / card_path(page)
        path.parent.mkdir(parents=True, exist_ok=True)
        card.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)
    draw_icon(180).save(out / "_static" / "icon-180.png", optimize=True)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("build-finished", write_cards)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
