"""Everything fits: what scrolls says so, tables break no word, and all has one of three widths."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from .conftest import PAGES

WIDTHS = (1440, 390)
OPEN = """async () => {
  document.querySelectorAll("details").forEach(details => details.open = true);
  document.getAnimations().forEach(animation => animation.finish());
  await document.fonts.ready;
  for (let i = 0; i < 4; i++) await new Promise(requestAnimationFrame);
}"""
# Boxes whose content is wider than they are, without the mark that the style sheet fades.
CUT = """() => [...document.querySelectorAll("article *, .bd-search-container *")]
  .filter(e => e.clientWidth > 1 && e.scrollWidth > e.clientWidth + 1)
  .filter(e => !e.closest("svg, .katex-mathml"))
  .filter(e => getComputedStyle(e).overflowX !== "visible" && !(e.dataset.more && e.tabIndex === 0))
  .map(e => `${e.tagName}.${e.className}: ${e.textContent.trim().slice(0, 60)}`)"""
# What stands out of its box, however the box is clipped; a marked box may scroll.
OUT = """() => [...document.querySelectorAll("article *")]
  .filter(e => e.getBoundingClientRect().right > innerWidth + 1)
  .filter(e => !e.closest("[data-more], .katex-mathml") && !e.ownerSVGElement)
  .map(e => `${e.tagName}.${e.className}: ${e.textContent.trim().slice(0, 60)}`)"""
WIDE_FORMULAS = """() => [...document.querySelectorAll("article .katex-display:not([data-more])")]
  .filter(e => e.querySelector(".katex-html").getBoundingClientRect().width > e.clientWidth + 1)
  .map(e => e.querySelector("annotation").textContent)"""
# Words in tables that go on in another line; a hyphen, a stroke or a dot may end a line.
BROKEN = """() => {
  const broken = [];
  for (const cell of document.querySelectorAll("article :is(th, td)")) {
    if (cell.closest("thead")?.getBoundingClientRect().width <= 1) continue; // not to be seen
    const walker = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
    for (let text; (text = walker.nextNode()); ) {
      if (text.parentElement.closest(".katex")) continue;
      for (const word of text.data.matchAll(/[\\p{L}\\p{N}_=]+/gu)) {
        const range = document.createRange();
        range.setStart(text, word.index);
        range.setEnd(text, word.index + word[0].length);
        const lines = new Set([...range.getClientRects()].map(box => Math.round(box.top)));
        if (lines.size > 1) broken.push(word[0]);
      }
    }
  }
  return broken;
}"""


@pytest.fixture(scope="module")
def tab(browser: Browser) -> Iterator[Page]:
    page = browser.new_page()
    yield page
    page.close()


def resize(tab: Page, width: int) -> None:
    tab.set_viewport_size({"width": width, "height": 900})
    tab.evaluate(OPEN)


@pytest.mark.parametrize("path", [page for page in PAGES if page != "index.html"])
def test_what_is_wider_than_its_box_says_so(path: str, tab: Page, server: str) -> None:
    tab.set_viewport_size({"width": WIDTHS[0], "height": 900})
    tab.goto(server + path, wait_until="load")
    for width in WIDTHS:
        resize(tab, width)
        assert not tab.evaluate(CUT), f"cut off at {width}, and nothing shows that there is more"
        assert not tab.evaluate(OUT), f"outside of a window of {width}"
        assert not tab.evaluate(WIDE_FORMULAS), f"at {width}"
        assert not tab.evaluate(BROKEN), f"words of tables that are broken at {width}"


def test_the_checks_would_find_something(tab: Page, server: str) -> None:
    tab.goto(f"{server}notebooks/03_top_k.html", wait_until="load")
    resize(tab, 390)
    tab.evaluate("document.querySelectorAll('[data-more]').forEach(e => delete e.dataset.more)")
    assert tab.evaluate(CUT)
    tab.evaluate(
        """document.querySelector("article").insertAdjacentHTML("beforeend",
        '<table><tr><td style="display: block; width: 3em; overflow-wrap: anywhere">renormalise'
        + '</td></tr></table><p style="width: 999px">Wide</p>')"""
    )
    assert tab.evaluate(BROKEN) == ["renormalise"]
    assert any("Wide" in found for found in tab.evaluate(OUT))


def test_code_fades_where_there_is_more_and_scrolls_by_keyboard(tab: Page, server: str) -> None:
    tab.set_viewport_size({"width": 390, "height": 900})
    tab.goto(f"{server}notebooks/03_top_k.html", wait_until="load")
    code = tab.wait_for_selector("article section > .cell > .cell_input pre[data-more]")
    assert code.get_attribute("data-more") == "right"
    assert "linear-gradient" in code.evaluate("e => getComputedStyle(e).maskImage")
    code.focus()
    tab.keyboard.press("ArrowRight")
    tab.wait_for_function("e => e.dataset.more.includes('left')", arg=code)
    assert code.evaluate("e => getComputedStyle(e).maskImage") == "none", "the ring would fade"
    code.evaluate("e => e.scrollTo(9999, 0)")
    tab.wait_for_function("e => e.dataset.more === 'left'", arg=code)
    tab.set_viewport_size({"width": 2400, "height": 900})
    tab.wait_for_function("e => !e.dataset.more && e.tabIndex < 0", arg=code)


def test_a_formula_breaks_or_shrinks_before_it_scrolls(tab: Page, server: str) -> None:
    tab.goto(f"{server}notebooks/06_the_moe_layer.html", wait_until="load")
    resize(tab, 390)
    formulas = tab.locator("article .katex-display")
    assert formulas.count() >= 3
    assert tab.locator("article .katex-display[data-more]").count() == 0
    assert all(size >= 15 for size in formulas.evaluate_all(
        "all => all.map(e => parseFloat(getComputedStyle(e.firstChild).fontSize))"
    ))  # fmt: skip


def test_a_chapter_has_two_right_edges_and_room_for_notes(tab: Page, server: str) -> None:
    edges = """css => [...new Set([...document.querySelectorAll(css)]
      .map(e => Math.round(e.getBoundingClientRect().right)))]"""
    lefts = edges.replace("right", "left")
    for path in (
        "notebooks/05_weighted_combination.html",
        "notebooks/08_collapse_and_balance.html",
    ):
        tab.goto(server + path, wait_until="load")
        for width in (1200, 1440):
            resize(tab, width)
            (text,) = tab.evaluate(
                edges,
                "article section > :is(p, h2), article .aims, .moe-scrubber, table.moe-table",
            )
            (wide,) = tab.evaluate(edges, "article section > .cell > .cell_input, "
                "footer .bd-footer-content__inner, .moe-explorer:not(.moe-scrubber)")  # fmt: skip
            (left,) = tab.evaluate(lefts, "article section > :is(p, h2, .cell), .moe-explorer")
            assert text - left == pytest.approx(37 * 16, abs=1)
            assert text <= wide <= left + 50 * 16 + 1
            assert wide + 200 < width, "no room for notes"
            middles = tab.evaluate(
                """() => [...document.querySelectorAll("article section > .math")]
                .map(e => [...e.querySelectorAll(".katex-html")])
                .map(parts => (parts[0].getBoundingClientRect().left
                  + parts.at(-1).getBoundingClientRect().right) / 2)"""
            )
            assert middles == pytest.approx([(left + text) / 2] * len(middles), abs=3)


def test_the_first_page_has_two_right_edges(tab: Page, server: str) -> None:
    tab.goto(f"{server}book/intro.html", wait_until="load")
    resize(tab, 1440)
    edges = tab.evaluate("""() => ["section > :is(h1, h2, p), .chapters ol",
      ".hero > *, .paths, section > .highlight-bibtex"].map(css => [...new Set(
        [...document.querySelectorAll(css.replaceAll(/(^|, )/g, "$1article "))]
        .map(e => Math.round(e.getBoundingClientRect().right)))])""")
    assert [len(found) for found in edges] == [1, 1], edges


def test_a_search_marks_the_page_that_a_result_leads_to_and_no_other(
    browser: Browser, server: str
) -> None:
    context = browser.new_context()
    tab = context.new_page()
    tab.goto(f"{server}search.html?q=renormalise", wait_until="load")
    result = tab.locator("#search-results a[href*='03_top_k']").first
    result.wait_for()
    other = context.new_page()
    other.goto(f"{server}notebooks/03_top_k.html", wait_until="load")
    other.wait_for_timeout(100)  # marks would come a moment later
    assert other.locator(".highlighted").count() == 0
    other.close()
    result.click()
    tab.locator("article .highlighted").first.wait_for()
    assert "highlight" not in tab.url
    tab.reload(wait_until="load")
    tab.wait_for_timeout(100)
    assert tab.locator(".highlighted").count() == 0
    context.close()
