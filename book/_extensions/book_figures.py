"""Figures for the dark, and the style sheet of the book's colours.

A page holds one ``picture`` for each figure, whose ``source`` is the same SVG in the palette's dark
colours. It follows the system's theme without scripts, and a few lines of script let it follow the
button's.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

from moe_tutorial.figures.palette import PAGES, dark

IMAGE = re.compile(r'<img [^>]*src="(?P<address>[^"]*_images/[^"]*)\.svg"[^>]*>')
# The theme's button wins over the system, and paper is light whatever the theme.
FOLLOW_THEME = """
const darken = dark => document.querySelectorAll("picture > source")
  .forEach(source => { source.media = dark ? "screen" : "not all"; });
const isDark = () => document.documentElement.dataset.theme === "dark";
addEventListener("DOMContentLoaded", () => darken(isDark()));
addEventListener("beforeprint", () => darken(false));
addEventListener("afterprint", () => darken(isDark()));
new MutationObserver(() => darken(isDark()))
  .observe(document.documentElement, {attributeFilter: ["data-theme"]});
"""


def colour_sheet() -> str:
    """Every colour of the pages as ``--book-`` and its name, for either theme."""
    light, dark_ = (
        "".join(f"--book-{name}: {colour[theme]};\n" for name, colour in PAGES.items())
        for theme in (0, 1)
    )
    return (
        f":root {{\ncolor-scheme: light;\n{light}}}\n@media screen {{\n"
        f'html[data-theme="dark"] {{\ncolor-scheme: dark;\n{dark_}}}\n}}\n'
    )


def offer_dark(
    _app: Sphinx, _page: str, _template: str, context: dict[str, Any], _document: object
) -> None:
    """Name the dark file beside each figure of a page."""
    if "body" in context:
        context["body"] = IMAGE.sub(
            lambda image: (
                f'<picture><source srcset="{image["address"]}-dark.svg" '
                'media="screen and (prefers-color-scheme: dark)">'
                f"{image[0]}</picture>"
            ),
            context["body"],
        )


def write_dark(app: Sphinx, failure: Exception | None) -> None:
    """Write the dark file of each figure."""
    if failure or app.builder.name != "html":
        return
    for path in Path(app.outdir, "_images").glob("*.svg"):
        target = path.with_name(f"{path.stem}-dark.svg")
        if not path.stem.endswith("-dark") and not target.exists():
            target.write_text(dark(path.read_text(encoding="utf-8")), encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_js_file(None, body=FOLLOW_THEME)
    app.connect("html-page-context", offer_dark)
    app.connect("build-finished", write_dark)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
