"""Every figure of the book as a reader sees it, on a desk and on a phone.

Its letters are large enough, no words overlap, nothing leaves the picture, and a caption with its
number and a sentence stands below it.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from matplotlib.patches import Rectangle
from playwright.sync_api import Browser, Page

from moe_tutorial.figures import palette
from tests.test_pictures import PICTURES
from tests.test_pictures_whole import EXTREMES

from .conftest import BOOK, PAGES

# What is wrong with the figures of a page, in words. The boxes of letters are as high as the
# font's lines, more than what is drawn: a fifth above and below does not count.
FAULTS = """() => [...document.querySelectorAll("figure.book-figure > svg")].flatMap(svg => {
  const frame = svg.getBoundingClientRect(), found = [];
  if (!frame.width) return [];  // in a solution that is closed
  const scale = frame.width / svg.viewBox.baseVal.width;
  const texts = [...svg.querySelectorAll("text")].map(text => {
    const {left, right, top, bottom, width, height} = text.getBoundingClientRect();
    const [x, y] = height > width && text.textContent.length > 2 ? [width / 5, 0] : [0, height / 5];
    const sizes = [text, ...text.querySelectorAll("tspan")].map(
      part => parseFloat(getComputedStyle(part).fontSize) * scale);
    return {words: text.textContent, size: Math.min(...sizes),
      left: left + x, right: right - x, top: top + y, bottom: bottom - y};
  });
  texts.forEach((one, i) => {
    if (one.size < 11) found.push(`${one.words}: ${one.size.toFixed(1)} px`);
    if (one.left < frame.left - 1 || one.right > frame.right + 1
        || one.top < frame.top - 1 || one.bottom > frame.bottom + 1)
      found.push(`${one.words} leaves the figure`);
    for (const other of texts.slice(i + 1))
      if (Math.min(one.right, other.right) - Math.max(one.left, other.left) > 1
          && Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top) > 1)
        found.push(`${one.words} overlaps ${other.words}`);
  });
  for (const shape of svg.querySelectorAll("path, use, rect")) {
    if (shape.closest("defs, clipPath, pattern") || shape.hasAttribute("clip-path")) continue;
    const {left, right, top, bottom} = shape.getBoundingClientRect();
    if (left < frame.left - 2 || right > frame.right + 2
        || top < frame.top - 2 || bottom > frame.bottom + 2)
      found.push(`${shape.outerHTML.slice(0, 80)} leaves the figure`);
  }
  return found.map(fault => `${svg.getAttribute("aria-label").slice(0, 40)}: ${fault}`);
})"""

# Words that are hard to read on what they stand on, a shape of their figure or the card. Experts
# whose colour lies in the middle leave white and black words 4.3:1 alike.
PALE = """theme => {
  document.documentElement.dataset.theme = theme;
  const split = colour => colour.match(/[\\d.]+/g).map(Number);
  const light = colour => colour.slice(0, 3).map(part => part / 255)
    .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const card = split(getComputedStyle(document.body).backgroundColor);
  return [...document.querySelectorAll("figure.book-figure > svg text")].flatMap(text => {
    const box = text.getBoundingClientRect();
    if (!box.width) return [];
    const middle = new DOMPoint(box.x + box.width / 2, box.y + box.height / 2);
    let ground = card;
    for (const shape of text.ownerSVGElement.querySelectorAll("path, rect, use")) {
      const style = getComputedStyle(shape);
      if (shape.closest("defs, clipPath") || style.fill[0] !== "r") continue;
      if (shape.compareDocumentPosition(text) & Node.DOCUMENT_POSITION_PRECEDING) continue;
      const {left, right, top, bottom} = shape.getBoundingClientRect();
      if (middle.x < left || middle.x > right || middle.y < top || middle.y > bottom) continue;
      if (shape.isPointInFill
          && !shape.isPointInFill(middle.matrixTransform(shape.getScreenCTM().inverse()))) continue;
      const [opacity, fill] = [style.opacity * style.fillOpacity, split(style.fill)];
      ground = ground.map((part, i) => part + opacity * (fill[i] - part));
    }
    const [low, high] = [light(split(getComputedStyle(text).fill)), light(ground)].sort();
    const contrast = (high + 0.05) / (low + 0.05);
    return contrast < 4.2 ? [`${text.textContent}: ${contrast.toFixed(1)}`] : [];
  });
}"""

WIDTHS = {1440: 544, 390: 358}  # of a window, and of the figures on its page


def with_figures() -> list[str]:
    return [p for p in PAGES if 'class="book-figure"' in (BOOK / p).read_text(encoding="utf-8")]


@pytest.fixture(scope="module")
def tab(browser: Browser) -> Iterator[Page]:
    page = browser.new_page()
    yield page
    page.close()


def faults(tab: Page) -> list[str]:
    """What is wrong with the figures that are shown, on a desk and on a phone."""
    found = []
    for width in WIDTHS:
        tab.set_viewport_size({"width": width, "height": 900})
        found += [f"at {width}: {fault}" for fault in tab.evaluate(FAULTS)]
    return found


@pytest.mark.parametrize("page", with_figures())
def test_figures_can_be_read(page: str, tab: Page, server: str) -> None:
    tab.goto(f"{server}{page}", wait_until="load")
    tab.evaluate("document.fonts.ready")
    assert faults(tab) == []
    for theme in ("light", "dark"):
        assert tab.evaluate(PALE, theme) == [], f"words that are pale in the {theme} theme"


def shown_alone(tab: Page, svgs: list[str]) -> None:
    """Pictures as wide as on a page, in a system's letters: a notebook shows them so."""
    desk, phone = WIDTHS.values()
    style = f"""body {{ margin: 0 }} figure {{ width: {desk}px; margin: 0 }}
      @media (max-width: 400px) {{ figure {{ width: {phone}px }} }}
      svg {{ width: 100%; height: auto }}"""
    figures = "".join(f'<figure class="book-figure">{svg}</figure>' for svg in svgs)
    tab.set_content(f"<style>{style}</style>{figures}")


def test_the_functions_own_examples_can_be_read(tab: Page) -> None:
    shown_alone(tab, [make().svg for make in (PICTURES | EXTREMES).values()])
    assert faults(tab) == []


def test_broken_figures_are_found(tab: Page) -> None:
    picture = PICTURES["bars"]()
    picture.figure.text(0.5, 0.5, "one word", size=12)
    picture.figure.text(0.52, 0.5, "another", size=12)
    picture.figure.text(0.9, 0.75, "beyond the edge", size=12)
    picture.figure.text(0.3, 0.5, "tiny", size=6)
    picture.figure.add_artist(Rectangle((0.9, 0.1), 0.3, 0.1))
    shown_alone(tab, [picture.svg])
    found = "\n".join(faults(tab))
    assert found.count("one word overlaps another") == 2
    assert found.count("beyond the edge leaves the figure") == 2
    assert len(re.findall(r"tiny: \d+\.\d px", found)) == 2
    assert len(re.findall(r"<path.* leaves the figure", found)) == 2
    assert len(found.split("\n")) == 8
    tab.evaluate(
        """document.querySelector("figure").insertAdjacentHTML("beforeend", `<svg width="90">
        <rect width="90" height="40" fill="#ddd"/><text y="20" fill="#777">pale</text></svg>`);
        document.body.style.backgroundColor = "white";"""
    )
    assert [fault.split(":")[0] for fault in tab.evaluate(PALE, "light")] == ["pale"]


@pytest.mark.parametrize("page", with_figures())
def test_every_figure_has_a_number_and_a_sentence(page: str) -> None:
    soup = BeautifulSoup((BOOK / page).read_text(encoding="utf-8"), "html.parser")
    chapter = int(Path(page).name[:2])
    numbers = []
    for figure in soup.select("figure.book-figure"):
        caption = figure.select_one("figcaption.moe-caption")
        assert caption, f"no caption: {figure.svg['aria-label']}"  # type: ignore[index]
        found = re.fullmatch(r"Figure (\d+)\.(\d+)\. (.{10,}[.?!])", caption.get_text())
        assert found, caption.get_text()
        assert figure["id"] == f"figure-{found[1]}-{found[2]}"
        assert int(found[1]) == chapter
        numbers.append(int(found[2]))
    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize("page", with_figures())
def test_figures_stand_in_the_page_and_follow_its_theme(page: str) -> None:
    html = (BOOK / page).read_text(encoding="utf-8")
    soup = BeautifulSoup(html, "html.parser")
    ids = [element["id"] for element in soup.select("[id]")]
    assert len(ids) == len(set(ids))
    for svg in soup.select("figure.book-figure > svg"):
        assert svg["role"] == "img"
        assert len(svg["aria-label"]) > 40
        text = str(svg)
        assert not re.search(r"#[0-9a-f]{6}\b", text), "a colour that does not follow the theme"
        used = set(re.findall(r"var\(--book-([\w-]+)\)", text))
        assert used <= set(palette.PAGES)
        assert set(re.findall(r'(?:url\(|href=")#([^)"]+)', text)) <= set(ids)


CAPTIONS = """() => [...document.querySelectorAll("article .moe-caption")].map(caption => {
  const {fontFamily, fontSize, fontStyle, lineHeight, color, textAlign, maxWidth, paddingLeft} =
    getComputedStyle(caption);
  const start = Math.round(caption.getBoundingClientRect().left);
  return JSON.stringify(
    [fontFamily, fontSize, fontStyle, lineHeight, color, textAlign, maxWidth, paddingLeft, start]);
})"""


def test_captions_of_figures_tables_and_live_pictures_look_the_same(
    browser: Browser, server: str
) -> None:
    tab = browser.new_page(viewport={"width": 1440, "height": 900})
    seen = []
    for path in ("notebooks/02_softmax.html", "notebooks/03_top_k.html"):
        tab.goto(server + path, wait_until="load")
        tab.evaluate(
            """document.querySelector(".moe-explorer").insertAdjacentHTML("afterend",
            '<p class="moe-caption"><strong>Figure 0.0.</strong> A sentence.</p>')"""
        )
        seen += tab.evaluate(CAPTIONS)
    tab.close()
    assert len(seen) > 3
    assert len(set(seen)) == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_figures_follow_the_theme_and_its_button(
    scheme: str, browser: Browser, server: str
) -> None:
    page = browser.new_page(color_scheme=scheme)  # type: ignore[arg-type]
    page.goto(f"{server}notebooks/02_softmax.html", wait_until="load")
    words = "getComputedStyle(document.querySelector('figure.book-figure text')).fill"

    def rgb(theme: int) -> str:
        colour = palette.INK[theme]
        return f"rgb({', '.join(str(int(colour[i : i + 2], 16)) for i in (1, 3, 5))})"

    dark = scheme == "dark"
    page.wait_for_function(f"{words} === '{rgb(dark)}'")
    page.evaluate(f"document.documentElement.dataset.theme = '{'light' if dark else 'dark'}'")
    page.wait_for_function(f"{words} === '{rgb(not dark)}'")
    page.close()
