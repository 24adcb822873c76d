"""What is done to the written pages: icons drawn, scripts told to wait, one sheet linked."""

from __future__ import annotations

import re
import shutil
from functools import cache
from pathlib import Path

from site_node import MODULES
from site_styles import JOINT_SHEET, collect_sheets, join_sheets
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

ICONS = MODULES / "@fortawesome" / "fontawesome-free" / "svgs"
STYLES = {"fa-solid": "solid", "fas": "solid", "fa-brands": "brands", "fab": "brands"}
ICON_TAG = re.compile(
    r'<(?P<tag>i|span) class="(?P<classes>[^"]*\bfa-[^"]*)"(?P<rest>[^>]*)>\s*</(?P=tag)>'
)

SAVES = '\n   class="btn btn-sm btn-download-source-button'
# What is amiss in others' templates, and what stands there instead.
MENDED = {
    # Its text is its name.
    '<summary aria-label="Toggle hidden content">': "<summary>",
    # A page's source is saved, not shown in another tab.
    f'target="_blank"{SAVES}': f"download{SAVES}",
}
# A signature with a line for each argument is for Sphinx a list of definitions that has no terms.
ARGUMENTS = re.compile(
    r'<dl>\s*((?:<dd><em class="sig-param">(?:(?!</dd>).)*</dd>\s*)+)</dl>', re.DOTALL
)


@cache
def icon_drawing(style: str, name: str) -> tuple[str, str] | None:
    """The view box and the path of an icon; None if there is no such icon."""
    file = ICONS / style / f"{name}.svg"
    if not file.exists():
        return None
    svg = file.read_text("utf-8")
    box, path = re.search(r'viewBox="([^"]+)"', svg), re.search(r'<path [^>]*\bd="([^"]+)"', svg)
    if not box or not path:
        raise ExtensionError(f"{file} is not one path in a view box")
    return box[1], path[1]


def draw_icon(tag: re.Match[str]) -> str:
    """The drawing that takes the place of `<i class="fa-solid fa-bars"></i>`."""
    classes = tag["classes"].split()
    style = next((STYLES[c] for c in classes if c in STYLES), "solid")
    drawings = {c: d for c in classes if (d := icon_drawing(style, c.removeprefix("fa-")))}
    if len(drawings) != 1:
        raise ExtensionError(f"{tag[0]} names no icon of Font Awesome Free's {style} ones")
    (name, (box, path)), *_ = drawings.items()
    kept = ["svg-inline--fa", *(c for c in classes if c not in STYLES and c != name)]
    rest = re.sub(r'\s*title="[^"]*"', "", tag["rest"])  # what it is on is named
    return (
        f'<svg class="{" ".join(kept)}" aria-hidden="true"{rest} viewBox="{box}">'
        f'<path fill="currentColor" d="{path}"/></svg>'
    )


def as_lines(arguments: re.Match[str]) -> str:
    """The lines of a signature's arguments, as nothing but lines."""
    lines = arguments[1].replace("<dd>", '<span class="sig-line">').replace("</dd>", "</span>")
    return f'<span class="sig-lines">{lines}</span>'


def finish_page(page: str) -> str:
    """A page as it is served; finished pages stay as they are."""
    page = ICON_TAG.sub(draw_icon, page)
    for theirs, ours in MENDED.items():
        page = page.replace(theirs, ours)
    page = ARGUMENTS.sub(as_lines, page)
    # Scripts run in their order once the page is there, and hold up no line of it.
    page = re.sub(r"<script (?![^>]*\b(?:defer|async)\b)(?=[^>]*\bsrc=)", "<script defer ", page)
    # Only a choice between versions reads this, and it does not wait for the scripts.
    page = re.sub(r"\s*<script>DOCUMENTATION_OPTIONS\.pagename = [^<]*</script>", "", page)
    # For a reader without scripts; with them, the colour scheme is set before the first line.
    return re.sub(r'(<html[^>]*)\bdata-theme="auto"', r'\1data-theme="light"', page)


def _write_changed(old: dict[Path, str], new: dict[Path, str]) -> None:
    """Write the pages that differ, so that an unchanged one keeps its time."""
    for path, page in new.items():
        if page != old[path]:
            path.write_text(page, "utf-8")


def finish_pages(app: Sphinx, failure: Exception | None) -> None:
    """Finish all written pages, and write the sheet that they share."""
    if failure or app.builder.format != "html":
        return
    static = Path(app.outdir, "_static")
    shutil.rmtree(static / "vendor", ignore_errors=True)
    for unused in static.glob("scripts/fontawesome.js*"):
        unused.unlink()
    paths = sorted(p for p in Path(app.outdir).rglob("*.html") if static not in p.parents)
    pages = {path: path.read_text("utf-8") for path in paths}
    finished = {path: finish_page(page) for path, page in pages.items()}
    _write_changed(pages, finished)
    mark = join_sheets(app, paths)
    link = re.compile(rf'({re.escape(JOINT_SHEET)})(\?v=\w+)?"')
    _write_changed(finished, {p: link.sub(rf'\1?v={mark}"', page) for p, page in finished.items()})


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("html-page-context", collect_sheets, priority=900)  # when all are linked
    app.connect(
        "build-finished", finish_pages, priority=900
    )  # when the theme's colours of code are there
    return {"parallel_read_safe": True, "parallel_write_safe": False}
