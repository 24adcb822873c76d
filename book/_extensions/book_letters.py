"""The letters and the style sheet of the pages.

- Source Serif 4 and Source Sans 3 (SIL Open Font License) come from node_modules. Each is cut
  down to the characters of Western European text, a quarter less to load. The licence reserves the
  name "Source" for whole fonts, so the cut ones are called Book Serif and Book Sans.
- The palette and the files of book/styles, in the order of their names, become one style sheet:
  one request.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from book_figures import colour_sheet
from fontTools import subset
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

SERIF = "@fontsource/source-serif-4"
SANS = "@fontsource-variable/source-sans-3"
FONTS = {
    "serif": (SERIF, "source-serif-4-latin-400-normal.woff2"),
    "serif-italic": (SERIF, "source-serif-4-latin-400-italic.woff2"),
    "serif-bold": (SERIF, "source-serif-4-latin-600-normal.woff2"),
    "sans": (SANS, "source-sans-3-latin-wght-normal.woff2"),
}
# ASCII, the letters of Western Europe, dashes, quotation marks, arrows, signs of arithmetic.
CHARACTERS = [
    *range(0x20, 0x7F), 0xA0, 0xA7, 0xB1, 0xB7, *range(0xC0, 0x100),
    *range(0x2010, 0x2015), *range(0x2018, 0x201F), 0x2022, 0x2026, 0x2190, 0x2192, 0x2212,
]  # fmt: skip
FAMILY, FULL_NAME, POSTSCRIPT_NAME = 1, 4, 6  # entries of a font's table of names
COPYRIGHT_AND_LICENCE = [0, 13, 14]  # what the cut fonts keep of the font's table of names


def font_file(root: Path, name: str) -> Path:
    """Where node_modules holds the whole font."""
    package, file = FONTS[name]
    path = root / "node_modules" / package / "files" / file
    if not path.exists():
        raise ExtensionError(f"{path} is missing: run `make book`, which installs it")
    return path


def cut(source: Path, target: Path) -> None:
    """Write a font with nothing but CHARACTERS, under a name of its own."""
    options = subset.Options()
    options.flavor = "woff2"
    options.layout_features = ["ccmp", "kern", "liga", "locl", "mark", "mkmk"]
    options.name_IDs = COPYRIGHT_AND_LICENCE
    font = subset.load_font(str(source), options)
    cutter = subset.Subsetter(options)
    cutter.populate(unicodes=CHARACTERS)
    cutter.subset(font)
    name = f"Book-{target.stem.title()}"
    for place in (FAMILY, FULL_NAME, POSTSCRIPT_NAME):
        font["name"].setName(name, place, 3, 1, 0x409)
    subset.save_font(font, str(target), options)


def write_fonts(app: Sphinx) -> None:
    """Put the cut fonts and their licences into _static/fonts."""
    folder = Path(app.outdir, "_static", "fonts")
    folder.mkdir(parents=True, exist_ok=True)
    root = Path(app.srcdir)
    for name, (package, _) in FONTS.items():
        target = folder / f"{name}.woff2"
        if not target.exists():
            cut(font_file(root, name), target)
        licence = f"LICENSE-{package.rsplit('/', 1)[1]}.txt"
        shutil.copy2(root / "node_modules" / package / "LICENSE", folder / licence)


def write_style_sheet(app: Sphinx) -> None:
    """Join the palette's colours and the files of book/styles."""
    sheets = sorted(Path(app.srcdir, "book", "styles").glob("*.css"))
    target = Path(app.outdir, "_static", "book.css")
    target.parent.mkdir(parents=True, exist_ok=True)
    joined = [colour_sheet(), *(sheet.read_text(encoding="utf-8") for sheet in sheets)]
    target.write_text("\n".join(joined), encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("builder-inited", write_fonts)
    app.connect("builder-inited", write_style_sheet)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
