"""Figures inside the page, and the style sheet of the book's colours.

A picture that a notebook has stored goes into the page's own HTML, in a ``figure`` with the caption
that follows it. There its letters are the page's, and its colours are the palette's variables, so
that it follows the theme by itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

from moe_tutorial.figures.palette import PAGES, themed

CAPTION = re.compile(r'\s*<p class="moe-caption">(.*)</p>\s*', re.DOTALL)
NUMBER = re.compile(r"<strong>Figure (\d+)\.(\d+)\.</strong>")
NAME = re.compile(r'(\bid="|\bhref="#|url\(#)')


def colour_sheet() -> str:
    """Every colour of the pages as ``--book-`` and its name, for either theme."""
    light, dark = (
        "".join(f"--book-{name}: {colour[theme]};\n" for name, colour in PAGES.items())
        for theme in (0, 1)
    )
    return (
        f":root {{\ncolor-scheme: light;\n{light}}}\n@media screen {{\n"
        f'html[data-theme="dark"] {{\ncolor-scheme: dark;\n{dark}}}\n}}\n'
    )


def figure_html(svg: str, caption: str, place: int) -> str:
    """One figure of a page.

    Args:
        svg: the picture as a notebook stores it.
        caption: the inside of the caption's paragraph, or nothing.
        place: of the figure on its page, which keeps its ids apart from others'.
    """
    own = NAME.sub(lambda start: f"{start[0]}f{place}-", themed(svg[svg.index("<svg") :].strip()))
    number = NUMBER.match(caption)
    name = f' id="figure-{number[1]}-{number[2]}"' if number else ""
    words = f'<figcaption class="moe-caption">{caption}</figcaption>' if caption else ""
    return f'<figure class="book-figure"{name}>{own}{words}</figure>'


def take_caption(image: nodes.image) -> str:
    """The caption that follows a picture in its cell's output; it is taken out of there."""
    following = image.next_node(descend=False, siblings=True)
    while isinstance(following, nodes.Element) and not isinstance(following, nodes.raw):
        if len(following.children) != 1:
            return ""
        following = following.children[0]
    if not isinstance(following, nodes.raw):
        return ""
    found = CAPTION.fullmatch(following.astext())
    if not found:
        return ""
    box: nodes.Node = following
    while isinstance(box.parent, nodes.Element) and box.parent is not image.parent:
        box = box.parent
    image.parent.remove(box)
    return found[1]


class FiguresIntoPages(SphinxPostTransform):
    """Put the notebooks' pictures into the page, after MyST-NB has chosen each output's form."""

    default_priority = 10
    formats = ("html",)

    def run(self, **_: Any) -> None:
        """Replace each picture of the page."""
        for place, image in enumerate(list(self._pictures()), start=1):
            svg = Path(self.app.srcdir, image["uri"]).read_text(encoding="utf-8")
            html = figure_html(svg, take_caption(image), place)
            image.replace_self(nodes.raw("", html, format="html"))

    def _pictures(self) -> Iterator[nodes.image]:
        for image in self.document.findall(nodes.image):
            if "jupyter_execute" in image["uri"] and image["uri"].endswith(".svg"):
                yield image


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_post_transform(FiguresIntoPages)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
