"""What explorers and scrubbers share: one card with the book's letters, colours and controls.

A live picture is one piece of HTML with its own script and styles, so that it moves on any page,
with a kernel or without one, and nothing is loaded from anywhere.
"""

import copy
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from importlib import resources
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from moe_tutorial.figures import palette
from moe_tutorial.figures.captions import caption_html, caption_text
from moe_tutorial.figures.style import Picture

if TYPE_CHECKING:  # Python 3.10 does not have it
    from typing import Self


class LivePicture:
    """Controls and pictures that move in the reader's browser, with no kernel.

    Where scripts do not run, on GitHub for instance, pictures of the first state stand there. Any
    page can hold it: write ``html`` into the page, as often as you like.

    Args:
        kind: the script that brings it to life, and what its styles are called after.
        title: what a screen reader calls it.
        config: what the script is given.
        stills: pictures of the first state.
        script: the script itself.

    Attributes:
        alt: the sentence that says the first state.
    """

    def __init__(
        self,
        kind: str,
        title: str,
        config: Mapping[str, Any],
        stills: Sequence[Picture],
        script: str,
    ) -> None:
        self.alt = " ".join(picture.alt for picture in stills)
        data = escape(json.dumps(config, separators=(",", ":"), allow_nan=False))
        # Images also stand where everything but text and images is taken away. They have a dark
        # side of their own, which their class tells the theme of the book.
        images = "".join(
            f'<img class="dark-light" alt="{escape(picture.alt)}" '
            f'src="data:image/svg+xml,{quote(_alone(picture.svg), safe=" /:;=,()-._")}">\n'
            for picture in stills
        )
        self._card = (
            f'<div class="moe-explorer moe-{kind}" role="group" aria-label="{escape(title)}" '
            f'data-explorer="{kind}" data-config="{data}">\n<style>\n{styles()}</style>\n'
            f'<div class="moe-stills">\n{images}</div>\n'
            f"<script>\n(() => {{\n{script}}})();\n</script>\n</div>\n"
        )
        self._caption: tuple[str, str] | None = None

    @property
    def html(self) -> str:
        """The card as one piece of HTML, the same bytes for the same numbers."""
        return self._card + (f"{caption_html(*self._caption)}\n" if self._caption else "")

    def captioned(self, number: str, takeaway: str) -> "Self":
        """The same with its number in the chapter and a sentence to take away below it.

        Args:
            number: chapter and place in it, such as ``"2.1"``.
            takeaway: what the reader should see.

        Raises:
            TypeError: a text that is no str.
            ValueError: a number of another form, or a takeaway that is no sentence.
        """
        caption_text(number, takeaway)  # refuses what is none
        captioned = copy.copy(self)
        captioned._caption = (number, takeaway)
        return captioned

    def __repr__(self) -> str:
        return self.alt

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        caption = caption_text(*self._caption) if self._caption else ()
        return {"text/html": self.html, "text/plain": " ".join([*caption, repr(self)])}


@cache
def script_of(*parts: str) -> str:
    """The shared script and others, each named as ``folder/name.js``, for a card."""
    lines = "".join(_file(part) for part in ("figures/live.js", *parts)).splitlines()
    # Comments and indentation are for readers of the files, who are not those of the page.
    bare = (line.strip() for line in lines if not line.strip().startswith("//"))
    return "".join(f"{line}\n" for line in bare if line)


@cache
def styles() -> str:
    """The family's style sheet, with the palette's colours where a page has none of its own."""
    names = ("ink", "muted", "rule", "card", "accent", "shade")
    rules = [f".moe-explorer{{{''.join(f'--{name}:{_colour(name)};' for name in names)}"]
    for expert, light in enumerate(palette.EXPERT_COLOURS):
        words = "page" if palette.readable_on(light) == palette.PAGE.light else "on-expert"
        rules.append(f".c{expert}{{--hue:{_colour(f'expert-{expert}')};fill:var(--hue)}}")
        rules.append(f".on{expert}{{--word:{_colour(words)};fill:var(--word)}}")
    sheet = re.sub(r"/\*.*?\*/", "", _file("figures/live.css"), flags=re.DOTALL)
    lines = [*rules, "}", *sheet.splitlines()]
    return "".join(f"{line.strip()}\n" for line in lines if line.strip())


def themed(svg: str) -> str:
    """A picture's SVG in the palette's colours of the page, or else of the card's own theme."""
    return re.sub(r"var\(--book-([\w-]+)\)", lambda name: _colour(name[1]), palette.themed(svg))


def _colour(name: str) -> str:
    # Where the page is not the book's, a card stands out from a dark page.
    pair = palette.PAGES["surface" if name == "card" else name]
    light = palette.PAGES[name].light
    return f"var(--book-{name},light-dark({light},{pair.dark}))"


def _alone(svg: str) -> str:
    """A picture's SVG as a file that follows the reader's theme by itself."""
    return themed(svg).replace("<svg ", '<svg style="color-scheme:light dark" ', 1)


def _file(part: str) -> str:
    return (resources.files("moe_tutorial") / part).read_text(encoding="utf-8")
