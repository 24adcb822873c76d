"""What a page offers works, also by keyboard: search, colours, downloads, menus."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from .conftest import ROOT
from .test_browser import inaccessible

CHAPTER = "notebooks/02_softmax.html"


@pytest.fixture(params=["light", "dark"])
def tab(browser: Browser, server: str, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A first visit, in either scheme; nothing may go wrong in it."""
    context = browser.new_context(
        base_url=server,
        viewport={"width": 1440, "height": 900},
        color_scheme=request.param,
        accept_downloads=True,
    )
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda m: m.type in ("error", "warning") and problems.append(m.text))
    yield page
    context.close()
    assert not problems


def test_search_by_keyboard_finds_the_chapter(tab: Page) -> None:
    tab.goto("book/intro.html")
    tab.keyboard.press("Control+k")
    field = tab.locator("#pst-search-dialog").get_by_role("searchbox", name="Search this book")
    expect(field).to_be_focused()
    assert not inaccessible(tab)
    tab.keyboard.type("inclusion probabilities")
    tab.keyboard.press("Enter")
    tab.wait_for_url("**/search.html?q=inclusion+probabilities")
    results = tab.locator("#search-results li")
    chapter = results.get_by_role("link", name="04 Sampling experts at a temperature").first
    expect(chapter).to_be_visible()
    expect(tab.locator(".search-summary")).to_contain_text("found")
    # The words around a hit are the article's.
    expect(results.locator("p.context").first).not_to_be_empty()
    for context in results.locator("p.context").all_inner_texts():
        assert "Contents" not in context
    assert not inaccessible(tab)
    for _ in range(60):
        tab.keyboard.press("Tab")
        if chapter.evaluate("link => link === document.activeElement"):
            break
    tab.keyboard.press("Enter")
    tab.wait_for_url("**/notebooks/04_temperature_sampling.html*")
    # The words are marked there, until a button with a sign on it is pressed.
    hide = tab.get_by_role("link", name="Hide Search Matches")
    assert "svg" in hide.evaluate("link => getComputedStyle(link, '::before').maskImage")
    expect(tab.locator(".bd-article .highlighted").first).to_be_visible()
    assert not inaccessible(tab)
    hide.press("Enter")
    expect(tab.locator(".bd-article .highlighted:visible")).to_have_count(0)


def test_search_says_when_there_is_nothing(tab: Page) -> None:
    tab.goto("search.html?q=xylophone")
    expect(tab.locator("#search-results")).to_contain_text("did not match any documents")
    assert not inaccessible(tab)


def test_search_loads_its_index_only_when_asked(tab: Page) -> None:
    asked: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(CHAPTER, wait_until="networkidle")
    assert not [url for url in asked if "searchindex" in url]


def test_colours_follow_the_system_and_then_the_reader(tab: Page) -> None:
    page = tab.locator("html")
    tab.goto(CHAPTER)
    scheme = page.get_attribute("data-theme")
    other = {"light": "dark", "dark": "light"}[scheme or ""]
    switch = tab.get_by_role("button", name="Color mode")
    expect(page).to_have_attribute("data-mode", "auto")
    seen = []
    for _ in range(3):
        switch.focus()
        tab.keyboard.press("Enter")
        seen.append((page.get_attribute("data-mode"), page.get_attribute("data-theme")))
        assert switch.locator("svg:visible").count() == 1
    assert seen == [(other, other), (scheme, scheme), ("auto", scheme)]
    switch.click()
    tab.goto("book/glossary.html")
    expect(page).to_have_attribute("data-theme", other)


def test_colours_are_right_before_the_first_line(tab: Page) -> None:
    """Nothing waits for the scripts at the end of the page: with them gone, the scheme is set."""
    tab.route("**/*.js*", lambda route: route.fulfill(body=""))
    tab.goto(CHAPTER)
    dark = tab.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    expect(tab.locator("html")).to_have_attribute("data-theme", "dark" if dark else "light")


NOTHING_KEPT = """Object.defineProperty(window, "localStorage", {
  configurable: true, get() { throw new DOMException("Access is denied", "SecurityError"); } })"""


def test_where_a_browser_keeps_nothing_colours_follow_the_system_and_then_the_reader(
    tab: Page,
) -> None:
    tab.add_init_script(NOTHING_KEPT)
    tab.goto(CHAPTER)
    page = tab.locator("html")
    scheme = (
        "dark" if tab.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") else "light"
    )
    other = {"light": "dark", "dark": "light"}[scheme]
    expect(page).to_have_attribute("data-theme", scheme)
    tab.get_by_role("button", name="Color mode").click()
    expect(page).to_have_attribute("data-theme", other)
    tab.goto("404.html")
    expect(page).to_have_attribute("data-theme", scheme)


def test_downloads_are_the_sources(tab: Page) -> None:
    for page, source in [(CHAPTER, "02_softmax.ipynb"), ("book/glossary.html", "glossary.md")]:
        tab.goto(page)
        tab.get_by_role("button", name="Download this page").press("Enter")
        link = tab.locator(".btn-download-source-button")
        expect(link).to_be_visible()
        assert not inaccessible(tab)
        with tab.expect_download() as download:
            link.click()
        saved = download.value.path().read_text(encoding="utf-8")
        path = ROOT / Path(page).parent / source
        assert download.value.suggested_filename == source
        if source.endswith(".ipynb"):
            ours, theirs = (json.loads(t)["cells"] for t in (path.read_text("utf-8"), saved))
            assert [c["source"] for c in ours] == [c["source"] for c in theirs]
        else:
            assert saved == path.read_text("utf-8")


def test_print_button_prints(tab: Page) -> None:
    tab.add_init_script("window.print = () => { window.printed = true; }")
    tab.goto(CHAPTER)
    tab.get_by_role("button", name="Download this page").click()
    tab.locator(".btn-download-pdf-button").click()
    assert tab.evaluate("window.printed")


def test_side_bars(tab: Page) -> None:
    tab.goto(CHAPTER)
    toggle = tab.locator(".primary-toggle")
    chapters = tab.locator(".bd-toc-nav").get_by_role("link", name="03 Top-k selection")
    expect(chapters).to_be_visible()
    toggle.click()
    expect(chapters).to_be_hidden()
    toggle.click()
    expect(chapters).to_be_visible()
    tab.set_viewport_size({"width": 390, "height": 844})
    expect(chapters).to_be_hidden()
    toggle.press("Enter")
    expect(chapters).to_be_visible()
    # The page's own sections stand below its chapter.
    expect(tab.locator("dialog[open] .bd-toc-nav li.current li a").first).to_be_visible()
    assert not inaccessible(tab)
    tab.keyboard.press("Escape")
    expect(chapters).to_be_hidden()


def test_contents_follow_the_reader(tab: Page) -> None:
    tab.goto(CHAPTER)
    for heading in ("The three spaces", "Overflow, and how to avoid it"):
        tab.get_by_role("heading", name=heading).evaluate("h => h.scrollIntoView()")
        expect(tab.locator(".bd-toc-nav li.current ul a.active")).to_have_text(heading)


def test_code_is_copied(tab: Page) -> None:
    tab.context.grant_permissions(["clipboard-read", "clipboard-write"])
    tab.goto(CHAPTER)
    block = tab.locator("div.highlight:visible").first
    block.hover()
    block.locator("button.copybtn").click()
    copied = tab.evaluate("navigator.clipboard.readText()")
    assert copied.strip() == block.locator("pre").inner_text().strip()


def test_page_without_scripts(browser: Browser, server: str) -> None:
    context = browser.new_context(java_script_enabled=False, color_scheme="dark")
    tab = context.new_page()
    tab.goto(server + CHAPTER)
    expect(tab.locator("html")).to_have_attribute("data-theme", "light")
    expect(tab.locator(".katex-display").first).to_be_visible()
    expect(tab.locator(".theme-switch-button, .search-button__button").first).to_be_hidden()
    context.close()


def test_wide_formula_scrolls_in_its_own_box_by_keyboard(browser: Browser, server: str) -> None:
    tab = browser.new_page(viewport={"width": 390, "height": 844})
    tab.goto(f"{server}book/api.html", wait_until="networkidle")
    wide = tab.locator(".katex-display[tabindex='0']").first
    wide.focus()
    tab.keyboard.press("ArrowRight")
    tab.wait_for_function("document.activeElement.scrollLeft > 0")
    narrow = "b => b.scrollWidth <= b.clientWidth && b.hasAttribute('tabindex')"
    assert not tab.evaluate(
        f"[...document.querySelectorAll('.katex-display')].filter({narrow}).length"
    )
    tab.close()
