"""The letters and the style sheet of the pages.

- Source Serif 4 and Source Sans 3 (SIL Open Font License) come from node_modules, each in files for
  Latin, for its rarer letters and for Greek. When the pages are written, every file is cut down to
  the letters that they use: those of the text, of figures, and of scripts that write on a page. The
  licence reserves the name "Source" for whole fonts, so the cut ones are called Book Serif and
  Book Sans.
- The palette and the files of book/styles, in the order of their names, become one style sheet:
  one request.
"""

from __future__ import annotations

import base64
import re
import shutil
from collections.abc import Iterable
from html import unescape
from pathlib import Path
from typing import Any

from book_figures import colour_sheet
from fontTools import subset
from fontTools.ttLib import TTFont
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
FACES = {
    "serif": "font-family: Book Serif; font-weight: 400",
    "serif-italic": "font-family: Book Serif; font-weight: 400; font-style: italic",
    "serif-bold": "font-family: Book Serif; font-weight: 600",
    "sans": "font-family: Book Sans; font-weight: 200 900",
}
RARER = ("latin-ext", "greek")  # files that hold what the first does not, asked for where it occurs
ALWAYS = {chr(code) for code in range(0x20, 0x7F)}  # a reader may search for any of these
FAMILY, FULL_NAME, POSTSCRIPT_NAME = 1, 4, 6  # entries of a font's table of names
COPYRIGHT_AND_LICENCE = [0, 13, 14]  # what the cut fonts keep of the font's table of names


def font_file(root: Path, name: str, script: str = "latin") -> Path:
    """Where node_modules holds the whole font."""
    package, file = FONTS[name]
    path = root / "node_modules" / package / "files" / file.replace("latin", script)
    if not path.exists():
        raise ExtensionError(f"{path} is missing: run `make book`, which installs it")
    return path


def letters_in(text: str) -> set[str]:
    """What is written in a page or a script, signs of their languages among it."""
    codes = re.findall(r"\\u\{?([0-9a-fA-F]{4})", text)
    return {*unescape(text), *(chr(int(code, 16)) for code in codes)}


def letters_of_site(site: Path) -> set[str]:
    """Every letter that a page or a script of the site may show."""
    pages = [*site.rglob("*.html"), *site.glob("_static/*.js")]
    return ALWAYS.union(*(letters_in(page.read_text("utf-8")) for page in pages))


def cut(source: Path, target: Path, letters: set[str]) -> set[str]:
    """Write a font with nothing but the letters, under a name of its own; give those it has.

    A font that has none of them is not written.
    """
    found = letters & {chr(code) for code in TTFont(source).getBestCmap()}
    if not found:
        return found
    options = subset.Options()
    options.flavor = "woff2"
    options.layout_features = ["ccmp", "kern", "liga", "locl", "mark", "mkmk"]
    options.name_IDs = COPYRIGHT_AND_LICENCE
    font = subset.load_font(str(source), options)
    cutter = subset.Subsetter(options)
    cutter.populate(unicodes=[ord(letter) for letter in found])
    cutter.subset(font)
    name = f"Book-{target.stem.title()}"
    for place in (FAMILY, FULL_NAME, POSTSCRIPT_NAME):
        font["name"].setName(name, place, 3, 1, 0x409)
    subset.save_font(font, str(target), options)
    return found


def face(name: str, file: str, letters: Iterable[str] = ()) -> str:
    """The rule of a cut font; with letters, one that is loaded only where a page has them."""
    only = ",".join(f"U+{ord(letter):x}" for letter in sorted(letters))
    return (
        f'@font-face {{ {FACES[name]}; font-display: swap; src: url("{file}") format("woff2")'
        + (f"; unicode-range: {only}" if only else "")
        + " }\n"
    )


def write_fonts(app: Sphinx, failure: Exception | None) -> None:
    """Put the cut fonts, their rules and their licences where the pages look for them."""
    if failure or app.builder.format != "html":
        return
    root, site = Path(app.srcdir), Path(app.outdir)
    folder = site / "_static" / "fonts"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    letters, rules = letters_of_site(site), ""
    for name, (package, _) in FONTS.items():
        missing = letters - cut(font_file(root, name), folder / f"{name}.woff2", letters)
        rules += face(name, f"fonts/{name}.woff2")
        for script in RARER:
            found = cut(font_file(root, name, script), folder / f"{name}-{script}.woff2", missing)
            if found:
                rules += face(name, f"fonts/{name}-{script}.woff2", found)
            missing -= found
        licence = f"LICENSE-{package.rsplit('/', 1)[1]}.txt"
        shutil.copy2(root / "node_modules" / package / "LICENSE", folder / licence)
    write_style_sheet(app, rules)
    letter_alone(root, site / "404.html")


def letter_alone(root: Path, page: Path) -> None:
    """Put the fonts of a page that no file stands beside into the page."""
    text = page.read_text("utf-8")
    rules = ""
    for name in ("serif", "serif-bold"):
        font = page.with_name(f"{name}.woff2")
        cut(
            font_file(root, name),
            font,
            letters_in(re.sub("<(style|script).*?</\\1>", "", text, flags=re.DOTALL)),
        )
        packed = base64.b64encode(font.read_bytes()).decode()
        rules += face(name, f"data:font/woff2;base64,{packed}")
        font.unlink()
    page.write_text(text.replace("/* letters */", rules), "utf-8")


def write_style_sheet(app: Sphinx, fonts: str = "") -> None:
    """Join the palette's colours, the fonts and the files of book/styles."""
    sheets = sorted(Path(app.srcdir, "book", "styles").glob("*.css"))
    target = Path(app.outdir, "_static", "book.css")
    target.parent.mkdir(parents=True, exist_ok=True)
    joined = [colour_sheet(), fonts, *(sheet.read_text(encoding="utf-8") for sheet in sheets)]
    target.write_text("\n".join(joined), encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("builder-inited", write_style_sheet)  # Sphinx wants the sheet to be there
    app.connect("build-finished", write_fonts)  # before the sheets are joined
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
