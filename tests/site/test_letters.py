"""The cut fonts hold every letter that pages, figures and scripts write, and little else."""

import base64
import functools
import io
import json
import re
from pathlib import Path

import pytest
from fontTools.ttLib import TTFont

from .conftest import BOOK, PAGES, ROOT
from .test_pages import soup

# Each cut font, and where node_modules has the whole one: "{}" is latin, latin-ext or greek.
WHOLE = {
    "serif": "@fontsource/source-serif-4/files/source-serif-4-{}-400-normal.woff2",
    "serif-italic": "@fontsource/source-serif-4/files/source-serif-4-{}-400-italic.woff2",
    "serif-bold": "@fontsource/source-serif-4/files/source-serif-4-{}-600-normal.woff2",
    "sans": "@fontsource-variable/source-sans-3/files/source-sans-3-{}-wght-normal.woff2",
}
FONTS = BOOK / "_static" / "fonts"
ATTRIBUTES = ("alt", "aria-label", "placeholder", "data-label", "title", "value")
STRING = re.compile(r"\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'|`(?:[^`\\]|\\.)*`")


@functools.cache
def held(path: Path) -> frozenset[str]:
    """The letters of a font."""
    return frozenset(map(chr, TTFont(path).getBestCmap()))


def in_script(text: str) -> str:
    """What a script may write: its strings, with what their escapes mean."""
    written = " ".join(STRING.findall(text))
    return re.sub(r"\\u\{?([0-9a-fA-F]{4})\}?", lambda code: chr(int(code[1], 16)), written)


def shown(page: str) -> set[str]:
    """Every letter that a page shows or that a script in it may show."""
    document = soup(BOOK / page)
    words = [text for text in document.find_all(string=True) if text.parent.name != "style"]
    scripts = [in_script(text) for text in words if text.parent.name == "script"]
    attributes = [str(tag.get(name, "")) for tag in document.find_all() for name in ATTRIBUTES]
    configs = [json.loads(str(tag["data-config"])) for tag in document.select("[data-config]")]
    read = [text for text in words if text.parent.name != "script"]
    return set("".join([*read, *scripts, *attributes, json.dumps(configs, ensure_ascii=False)]))


@pytest.mark.parametrize("font", WHOLE)
def test_no_letter_of_a_page_is_missing(font: str) -> None:
    whole = [held(ROOT / "node_modules" / WHOLE[font].format(s)) for s in ("latin", "greek")]
    cut = frozenset[str]().union(*(held(path) for path in FONTS.glob(f"{font}*.woff2")
        if re.fullmatch(rf"{font}(-greek|-latin-ext)?", path.stem)))  # fmt: skip
    for page in PAGES:
        letters = shown(page)
        assert len(letters) > 20
        assert not (letters & whole[0].union(*whole)) - cut, page
    for script in (BOOK / "_static").glob("*.js"):
        letters = set(in_script(script.read_text(encoding="utf-8")))
        assert not (letters & whole[0].union(*whole)) - cut, script.name


def test_fonts_are_really_cut() -> None:
    used = set().union(*(shown(page) for page in PAGES))
    for font, whole in WHOLE.items():
        unused = held(ROOT / "node_modules" / whole.format("latin-ext")) - used
        assert len(unused) > 100
        for path in FONTS.glob("*.woff2"):
            assert not unused & held(path), f"{path.name} has letters of {font} that nobody needs"


def test_each_rarer_font_is_asked_for_where_its_letters_are() -> None:
    sheet = (BOOK / "_static" / "style.css").read_text(encoding="utf-8")
    faces = re.findall(r"@font-face\s*\{([^}]*)\}", sheet)
    ranges = {}
    for face in faces:
        file = re.search(r"fonts/([\w-]+)\.woff2", face)
        if file and "Book" in face:
            codes = re.findall(r"U\+([0-9a-f]+)", face, flags=re.IGNORECASE)
            ranges[file[1]] = {chr(int(code, 16)) for code in codes}
    assert set(ranges) == {path.stem for path in FONTS.glob("*.woff2")}
    for name, letters in ranges.items():
        assert not letters or letters == held(FONTS / f"{name}.woff2")
        assert bool(letters) == (name not in WHOLE)


def test_the_page_for_wrong_addresses_brings_its_letters() -> None:
    text = (BOOK / "404.html").read_text(encoding="utf-8")
    fonts = re.findall(r"Book Serif; font-weight: (\d+);[^}]*base64,([^\"]+)\"", text)
    assert [weight for weight, _ in fonts] == ["400", "600"]
    words = set(soup(BOOK / "404.html").body.get_text())  # type: ignore[union-attr]
    for _, packed in fonts:
        letters = TTFont(io.BytesIO(base64.b64decode(packed))).getBestCmap()
        assert not {letter for letter in words if letter.isprintable()} - set(map(chr, letters))
