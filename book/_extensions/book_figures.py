"""Figures for the dark: each SVG again with inks of its own, chosen as the page's theme changes.

A page holds one ``picture`` for each figure, whose ``source`` is the dark file. It follows the
system's theme without scripts, and a few lines of script let it follow the button's.

Experts have the colours that the explorers and the pages use in the dark. Words on an expert stay
dark, because there its colour is light; all other words turn light.
"""

from __future__ import annotations

import colorsys
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from sphinx.application import Sphinx

from moe_tutorial.figures import EXPERT_COLOURS, EXPERT_COLOURS_DARK
from moe_tutorial.figures.style import INK, QUIET

PAGE = "#12161c"  # --book-page in the dark
LIGHT_INK = "#e3e7ec"
DARK = dict(zip(EXPERT_COLOURS, EXPERT_COLOURS_DARK, strict=True)) | {
    "#ffffff": PAGE,
    INK: LIGHT_INK,
    QUIET: "#7b8594",
    "#eceff3": "#262c36",  # what is not used
    "#c3c9d1": "#4a5462",
    "#c9cfd8": "#566173",
    "#dfe3e8": "#2f3641",
    "#f4f1fb": "#262238",  # a box of words
    "#c2410c": "#f0935f",  # curves
    "#0f766e": "#4fb8ad",
    "#7c8694": "#98a2b0",
}
SHADES = "filter: invert(0.92) hue-rotate(180deg)"
FILL = re.compile(r"fill: (#[0-9a-f]{6})")
RECTANGLE = ("x", "y", "width", "height")
NUMBERS = re.compile(r"-?\d+(?:\.\d+)?")
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

Box = tuple[float, float, float, float]


def turned(colour: str) -> str:
    """A colour for the dark; of those that have no set one, light becomes dark and hue stays."""
    if colour in DARK:
        return DARK[colour]
    hue, light, strong = colorsys.rgb_to_hls(*(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)))
    rgb = colorsys.hls_to_rgb(hue, 0.09 + 0.85 * (1 - light), strong)
    return "#" + "".join(f"{round(255 * channel):02x}" for channel in rgb)


def shapes(root: ElementTree.Element) -> Iterator[tuple[ElementTree.Element, str, Box]]:
    """Every filled shape and every word in the order in which they are drawn, with its place."""
    symbols = {
        f"#{path.get('id')}": max(abs(float(n)) for n in NUMBERS.findall(path.get("d", "0")))
        for path in root.iter("{http://www.w3.org/2000/svg}path")
        if path.get("id")
    }
    clips = {
        f"url(#{clip.get('id')})": [float(clip[0].get(name, 0)) for name in RECTANGLE]
        for clip in root.iter("{http://www.w3.org/2000/svg}clipPath")
    }
    for element in root.iter():
        fill = FILL.search(element.get("style", ""))
        if not fill:
            continue
        kind = element.tag.rpartition("}")[2]
        if kind == "path":
            numbers = [float(n) for n in NUMBERS.findall(element.get("d", ""))]
            if numbers:
                xs, ys = numbers[::2], numbers[1::2]
                left, top, right, bottom = min(xs), min(ys), max(xs), max(ys)
                if clip := clips.get(element.get("clip-path", "")):
                    # On a logarithmic axis a bar begins far outside of what is seen.
                    x, y, width, height = clip
                    left, top = max(left, x), max(top, y)
                    right, bottom = min(right, x + width), min(bottom, y + height)
                yield element, fill[1], (left, top, right, bottom)
        elif kind == "use":
            x, y = float(element.get("x", 0)), float(element.get("y", 0))
            radius = symbols.get(element.get("{http://www.w3.org/1999/xlink}href", ""), 0)
            yield element, fill[1], (x - radius, y - radius, x + radius, y + radius)
        elif kind == "g" and "translate" in element.get("transform", ""):
            x, y = (float(n) for n in NUMBERS.findall(element.get("transform", ""))[:2])
            yield element, fill[1], (x + 2, y - 3, x + 2, y - 3)  # a point in its first letter


def dark(svg: str) -> str:
    """The figure for a dark page."""
    for prefix, name in (("", "2000/svg"), ("xlink", "1999/xlink")):
        ElementTree.register_namespace(prefix, f"http://www.w3.org/{name}")
    root = ElementTree.fromstring(svg)
    below: list[tuple[str, Box]] = []
    on_experts = set()
    for element, fill, (left, top, right, bottom) in shapes(root):
        if left < right:
            below.append((fill, (left, top, right, bottom)))
            continue
        ground = next(
            (f for f, (x0, y0, x1, y1) in reversed(below) if x0 < left < x1 and y0 < top < y1), ""
        )
        if ground in EXPERT_COLOURS:
            on_experts.add(element)
    for element in root.iter():
        style = element.get("style")
        if element.tag.endswith("}image"):  # the shades of a table are one picture of pixels
            element.set("style", f"{SHADES}; {style or ''}")
        elif style and element in on_experts:
            element.set("style", FILL.sub(f"fill: {PAGE}", style))
        elif style:
            element.set("style", re.sub("#[0-9a-f]{6}", lambda old: turned(old[0]), style))
    return ElementTree.tostring(root, encoding="unicode")


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
