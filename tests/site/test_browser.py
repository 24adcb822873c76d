"""Every page as a reader sees it: nothing breaks or comes from elsewhere; all is accessible."""

import re
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Browser, Page

from .conftest import PAGES, ROOT

WIDTHS = (1440, 390)
SAMPLES = ("book/intro.html", "notebooks/08_collapse_and_balance.html", "book/glossary.html")

# What a page says about itself once it is drawn.
OBSERVE = """async () => {
  await document.fonts.ready;
  const loaded = new Set([...document.fonts].filter(f => f.status === "loaded").map(f => f.family));
  const article = document.querySelector("article") ?? new DocumentFragment();
  const formulas = [...document.querySelectorAll(".math")];
  const images = [...article.querySelectorAll("img, svg[role=img]")]
    .filter(image => image.checkVisibility() && !image.src?.includes("/_static/"));
  return {
    theme: document.documentElement.dataset.theme,
    width: document.documentElement.scrollWidth,
    wide: [...article.querySelectorAll("*")]
      .filter(e => e.getBoundingClientRect().right > innerWidth + 1)
      .slice(0, 5).map(e => `${e.tagName}.${e.className}`),
    undrawn: formulas.filter(f => !f.querySelector(".katex-html") || !f.querySelector("math"))
      .map(f => f.textContent),
    unlettered: [...document.querySelectorAll(".katex-html *")]
      .filter(e => [...e.childNodes].some(n => n.nodeType === Node.TEXT_NODE && /\\w/.test(n.data)))
      .map(e => getComputedStyle(e).fontFamily.split(",")[0].replaceAll('"', ""))
      .filter(family => !loaded.has(family)),
    iconless: [...document.querySelectorAll("[class*='fa-']:not(svg)")].map(e => e.outerHTML),
    images: images.map(i => ({
      alt: i.getAttribute("alt") ?? i.getAttribute("aria-label") ?? "",
      drawn: i.tagName !== "IMG" || (i.complete && i.naturalWidth > 0),
    })),
  };
}"""


@dataclass
class Reader:
    """One tab of a browser, and what went wrong since it last opened a page."""

    tab: Page
    home: str
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tab.on(
            "console", lambda m: m.type == "error" and self.problems.append(f"console: {m.text}")
        )
        self.tab.on("pageerror", lambda error: self.problems.append(f"script: {error}"))
        self.tab.on("request", lambda request: self.see(request.url))
        self.tab.on(
            "response", lambda r: r.status >= 400 and self.problems.append(f"{r.status}: {r.url}")
        )

    def see(self, url: str) -> None:
        if not url.startswith((self.home, "data:", "blob:")):
            self.problems.append(f"asks another host: {url}")

    def open(self, path: str) -> None:
        self.problems.clear()
        self.tab.goto(self.home + path, wait_until="load")


# Folded parts are looked at, too.
UNFOLD = """async () => {
  document.querySelectorAll("details").forEach(details => details.open = true);
  document.getAnimations().forEach(animation => animation.finish());
  for (let i = 0; i < 2; i++) await new Promise(requestAnimationFrame);
}"""
AXE = (ROOT / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")
VIOLATIONS = """async rules => {
  const { violations } = await axe.run({
    resultTypes: ["violations"],
    preload: false,
    rules: { "target-size": { enabled: innerWidth < 1000 } }, // where fingers are
    ...(rules && { runOnly: rules }),
  });
  return violations.flatMap(violation => violation.nodes.slice(0, 3)
    .map(node => `${violation.id}: ${node.html} ${node.failureSummary}`));
}"""


def inaccessible(tab: Page, rules: list[str] | None = None) -> list[str]:
    """What axe finds wrong with what the tab shows, by some of its rules or by all."""
    if not tab.evaluate("'axe' in window"):
        tab.evaluate(AXE)
    found: list[str] = tab.evaluate(VIOLATIONS, rules)
    return found


Readers = dict[int, Reader]


@pytest.fixture(scope="module")
def readers(browser: Browser, server: str) -> Readers:
    """A reader for each width, who keeps one tab for all pages."""
    return {
        width: Reader(browser.new_page(viewport={"width": width, "height": 900}), server)
        for width in WIDTHS
    }


def test_axe_would_find_something(readers: Readers) -> None:
    reader = readers[390]
    reader.open("book/glossary.html")
    reader.tab.evaluate("document.querySelector('.bd-article p').style.color = '#ccc'")
    reader.tab.evaluate(
        """document.querySelector(".bd-article").insertAdjacentHTML("beforeend",
        "<div style='display: flex'>" + "<a href='#' style='font-size: 9px'>x</a>".repeat(3))"""
    )
    found = {violation.split(":")[0] for violation in inaccessible(reader.tab)}
    assert found == {"color-contrast", "target-size"}


def test_first_page_leads_to_the_book(readers: Readers) -> None:
    reader = readers[1440]
    reader.open("index.html")
    reader.tab.wait_for_url("**/book/intro.html")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("path", [page for page in PAGES if page != "index.html"])
def test_page(path: str, width: int, readers: Readers) -> None:
    reader = readers[width]
    reader.tab.emulate_media(color_scheme="light")
    reader.open(path)
    seen = reader.tab.evaluate(OBSERVE)
    assert not reader.problems
    assert seen["theme"] == "light"
    assert seen["width"] <= width, f"scrolls sideways: {seen['wide']}"
    assert not seen["undrawn"], "formulas that are not drawn"
    assert not seen["unlettered"], "formulas in others' letters"
    assert not seen["iconless"], "icons that are not drawn"
    for image in seen["images"]:
        assert image["drawn"], f"image not drawn: {image['alt']}"
        assert describes(image["alt"]), f"no real alternative text: {image['alt']!r}"
    reader.tab.evaluate(UNFOLD)
    assert not inaccessible(reader.tab)
    # In the dark the same page has other colours and no other order; on a phone, some pages
    # stand for all.
    if width > 1000 or path in SAMPLES:
        darken(reader.tab)
        assert not inaccessible(reader.tab, rules=["color-contrast"])


def darken(tab: Page) -> None:
    """Let a page that is open go dark, as it does when the system's colours change at night."""
    tab.emulate_media(color_scheme="dark")
    if tab.url.endswith("404.html"):  # it looks at the system once
        tab.evaluate("document.documentElement.dataset.theme = 'dark'")
    tab.wait_for_function("document.documentElement.dataset.theme === 'dark'")
    tab.evaluate(UNFOLD)  # colours change slowly, and are to be looked at when they have


def describes(alt: str) -> bool:
    """Whether a text can stand for a figure: some words, and not the name of a file."""
    return (
        len(alt.strip()) >= 25
        and len(alt.split()) >= 5
        and not re.search(r"\.(svg|png|jpe?g)\b", alt)
    )


@pytest.mark.parametrize(
    ("alt", "real"),
    [
        ("../_images/0f3a.svg", False),
        ("/builds/book/jupyter_execute/0f3a9c4d2b of the chapter.svg", False),
        ("image", False),
        ("", False),
        ("Twelve bars of logits; the three highest are outlined.", True),
    ],
)
def test_what_counts_as_a_description(alt: str, real: bool) -> None:
    assert describes(alt) is real
