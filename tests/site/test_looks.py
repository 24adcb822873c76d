"""The colours and letters of the pages: readable, the experts' own, and light."""

import re

import pytest

from moe_tutorial.figures import EXPERT_COLOURS, EXPERT_COLOURS_DARK

from .conftest import BOOK, ROOT

Colours = dict[str, str]


def themes() -> dict[str, Colours]:
    sheet = (BOOK / "_static" / "book.css").read_text(encoding="utf-8")
    light, dark = (
        dict(re.findall(r"--book-([\w-]+): (#[0-9a-f]+)", part))
        for part in sheet.split('[data-theme="dark"]')[:2]
    )
    return {"light": light, "dark": dark}


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * c for c in colour[1:])
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in (int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4))
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def test_both_themes_give_every_colour() -> None:
    assert themes()["light"].keys() == themes()["dark"].keys()


def test_style_sheets_name_no_colour_of_their_own() -> None:
    named = re.compile(
        r"#[0-9a-f]{3,8}\b|\b(rgb|hsl|hwb|lab|lch|oklab|oklch)a?\(|: *(white|black)\b"
    )
    for path in (ROOT / "book" / "styles").glob("*.css"):
        text = re.sub(r"/\*.*?\*/", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        values = re.findall(r"[\w-]+:[^;{}]*;", text)
        assert values
        assert not [value for value in values if named.search(value)], path.name


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("ground", ["page", "card", "surface", "accent-soft"])
def test_words_and_controls_stand_out(theme: str, ground: str) -> None:
    colours = themes()[theme]
    for words in ("ink", "muted", "accent", "good", "bad", "number"):
        assert contrast(colours[words], colours[ground]) >= 4.5, words
    assert contrast(colours["control"], colours[ground]) >= 3
    assert contrast(colours["on-accent"], colours["accent"]) >= 4.5


@pytest.mark.parametrize(
    ("theme", "of_the_figures"), [("light", EXPERT_COLOURS), ("dark", EXPERT_COLOURS_DARK)]
)
def test_experts_have_the_colours_of_the_figures(
    theme: str, of_the_figures: tuple[str, ...]
) -> None:
    assert tuple(themes()[theme][f"expert-{e}"] for e in range(12)) == of_the_figures


def test_experts_stand_out_in_the_dark() -> None:
    colours = themes()["dark"]
    for colour in EXPERT_COLOURS_DARK:
        assert contrast(colour, colours["card"]) >= 4
        assert (
            contrast(colour, colours["page"]) >= 4.5
        )  # words on an expert are of the page's colour


def test_fonts_are_light_and_bring_their_licences() -> None:
    fonts = BOOK / "_static" / "fonts"
    assert sum(path.stat().st_size for path in fonts.glob("*.woff2")) < 76_000
    for family in ("sans", "serif"):
        licence = next(fonts.glob(f"LICENSE*{family}*"))
        assert "SIL Open Font License" in licence.read_text(encoding="utf-8")
