"""Links to works and words, their cards, and the notes beside the text."""

import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Browser, Page, expect

from ..test_margin_words import AUTHOR_AND_YEAR
from .conftest import BOOK, PAGES, ROOT
from .test_browser import inaccessible
from .test_pages import soup

CHAPTERS = [page for page in PAGES if page.startswith("notebooks/")]
CITING = "notebooks/04_temperature_sampling.html"
# Asides of two kinds, as the build makes them: to the last block of a page's first section, and to
# none.
ADD_ASIDES = """() => {
  const section = document.querySelector(".bd-article section section");
  const note = document.createElement("div");
  note.setAttribute("role", "note");
  note.className = "beside aside";
  note.innerHTML = "<p><strong>Aside.</strong> " + "Words that nobody needs. ".repeat(40) + "</p>";
  const around = document.createElement("div");
  around.className = "annotated";
  const block = [...section.querySelectorAll(":scope > :is(p, .cell)")].pop();
  block.replaceWith(around);
  around.append(block, note);
  section.before(note.cloneNode(true));
}"""
# Where notes, headings and everything else of the article stand. A note is to begin near the line
# it is for, and an aside at the top of its block, if no note above it is in the way.
PLACES = """() => {
  const box = e => { const { left, right, top, bottom } = e.getBoundingClientRect();
                     return { left, right, top, bottom }; };
  const shown = [...document.querySelectorAll(".bd-article .beside")]
    .filter(e => e.checkVisibility());
  const others = [...document.querySelectorAll(
    ".bd-article :is(p, li, pre, table, figure, svg, img, h1, h2, h3, .math, .cell, dl, footer)")]
    .filter(e => !e.closest(".beside, .cards") && e.checkVisibility());
  return {
    notes: shown.map((e, i) => {
      const place = (e.previousElementSibling ?? e.parentElement).getBoundingClientRect();
      const { top } = e.getBoundingClientRect();
      const free = Math.max(place.top, i ? shown[i - 1].getBoundingClientRect().bottom : 0);
      return { ...box(e), said: e.textContent.slice(0, 40),
        drift: e.matches(".annotated > *") ? top - free
          : Math.min(top - place.top, Math.abs(top - place.bottom)) };
    }),
    others: others.map(e => ({ ...box(e), said: e.tagName + " " + e.textContent.slice(0, 40) })),
    headings: others.filter(e => e.matches("h1, h2, h3")).map(e => e.getBoundingClientRect().top),
    end: document.querySelector(".bd-article").getBoundingClientRect().bottom,
    width: document.documentElement.scrollWidth,
  };
}"""
Box = dict[str, float]


def overlap(one: Box, other: Box) -> bool:
    """Whether two boxes have more than an edge in common."""
    across = min(one["right"], other["right"]) - max(one["left"], other["left"])
    return across > 1 and min(one["bottom"], other["bottom"]) - max(one["top"], other["top"]) > 1


@pytest.fixture(scope="module")
def tab(browser: Browser, server: str) -> Iterator[Page]:
    context = browser.new_context(base_url=server, reduced_motion="reduce")
    yield context.new_page()
    context.close()


@pytest.mark.parametrize("path", CHAPTERS)
def test_notes_stand_beside_their_lines_and_on_nothing(path: str, tab: Page) -> None:
    widths = (1200, 1440, 1920)
    tab.set_viewport_size({"width": widths[0], "height": 900})
    tab.goto(path)
    for width in widths:
        tab.set_viewport_size({"width": width, "height": 900})
        far = [it for it in tab.evaluate(PLACES)["notes"] if not -12 < it["drift"] < 100]
        assert far == [], "notes away from the first and the last line of what they are for"
    tab.evaluate(ADD_ASIDES)
    for width in widths:
        tab.set_viewport_size({"width": width, "height": 900})
        places = tab.evaluate(PLACES)
        notes, others = places["notes"], places["others"]
        assert len(notes) >= 2
        crossed = [
            (note["said"], other["said"])
            for place, note in enumerate(notes)
            for other in [*notes[place + 1 :], *others]
            if overlap(note, other)
        ]
        assert not crossed, width
        for note in notes:
            cut = [top for top in places["headings"] if note["top"] < top < note["bottom"]]
            assert not cut, f"{note['said']} goes on beside the next section"
        assert all(note["right"] <= width and note["bottom"] <= places["end"] for note in notes)
        assert places["width"] == width


def test_on_a_phone_asides_stand_in_the_text_and_references_do_not(tab: Page) -> None:
    tab.set_viewport_size({"width": 390, "height": 800})
    tab.goto(CITING)
    tab.evaluate(ADD_ASIDES)
    places = tab.evaluate(PLACES)
    assert [note["said"][:6] for note in places["notes"]] == ["Aside.", "Aside."]
    assert places["width"] == 390


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda p: p.stem)
def test_every_citation_of_a_chapter_is_a_link(path: Path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    text = "\n".join(re.sub(r"`[^`]*`", "", c.source) for c in cells if c.cell_type == "markdown")
    written = sorted(
        " ".join(one[0].replace("(", "").split()) for one in AUTHOR_AND_YEAR.finditer(text)
    )
    links = soup(BOOK / "notebooks" / f"{path.stem}.html").select("article a.cited")
    linked = [re.sub(r"[()]", "", " ".join(link.get_text().split())) for link in links]
    assert sorted(words for words in linked if re.search(r"\d{4}$", words)) == written


@pytest.mark.parametrize("path", CHAPTERS)
def test_links_name_their_cards_and_a_term_is_linked_once(path: str) -> None:
    page = soup(BOOK / path)
    links = page.select("article a[aria-describedby^='card-']")
    cards = [card["id"] for card in page.select("article .cards > .hover-card")]
    assert len(set(cards)) == len(cards)
    assert {link["aria-describedby"] for link in links} == set(cards)
    terms = [str(link["href"]) for link in page.select("article a.word")]
    assert len(set(terms)) == len(terms)
    assert not page.select("h1 a.word, h2 a.word, h3 a.word, pre a, code a, a a, .math a.word")
    assert not page.select("[aria-hidden] a")


def shown_card(tab: Page) -> str:
    """What the card says that is shown."""
    expect(tab.locator(".hover-card:popover-open")).to_have_count(1)
    return tab.locator(".hover-card:popover-open").inner_text()


def test_a_card_comes_with_the_pointer_and_stays_under_it(tab: Page) -> None:
    tab.set_viewport_size({"width": 1440, "height": 900})
    tab.goto(CITING)
    link = tab.locator("a.cited", has_text="Kool et al.").first
    link.hover()
    assert "Stochastic Beams" in shown_card(tab)
    assert "Wouter Kool, Herke van Hoof and Max Welling" in shown_card(tab)
    assert not inaccessible(tab)
    tab.locator(".hover-card:popover-open").hover()
    tab.wait_for_timeout(500)
    assert "2019" in shown_card(tab)
    tab.keyboard.press("Escape")
    expect(tab.locator(".hover-card:popover-open")).to_have_count(0)
    link.hover()
    shown_card(tab)
    tab.mouse.move(5, 5)
    expect(tab.locator(".hover-card:popover-open")).to_have_count(0)


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (768, "dark"), (1440, "light")])
def test_every_card_comes_with_the_focus_and_fits(width: int, scheme: str, tab: Page) -> None:
    tab.emulate_media(color_scheme=scheme)
    tab.set_viewport_size({"width": width, "height": 700})
    tab.goto(CITING)
    links = tab.locator("article a[aria-describedby^='card-']")
    tab.keyboard.press("Tab")  # from here on, what has the focus shows it
    for link in links.all():
        link.focus()
        shown_card(tab)
        box = tab.locator(".hover-card:popover-open").bounding_box()
        at = link.bounding_box()
        assert box
        assert at
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        assert box["y"] >= 0
        assert box["y"] + box["height"] <= 700
        if width > 600:
            assert box["y"] >= at["y"] + 15 or box["y"] + box["height"] <= at["y"]
    assert not inaccessible(tab)
    tab.keyboard.press("Escape")
    expect(tab.locator(".hover-card:popover-open")).to_have_count(0)


def test_the_first_tap_shows_the_card_and_the_second_follows_the_link(
    browser: Browser, server: str
) -> None:
    context = browser.new_context(
        base_url=server, viewport={"width": 390, "height": 800}, has_touch=True, is_mobile=True
    )
    page = context.new_page()
    page.goto(CITING)
    link = page.locator("a.cited", has_text="Kool et al.").first
    link.tap()
    assert "Stochastic Beams" in shown_card(page)
    assert page.url.endswith(CITING)
    link.tap()
    page.wait_for_url("**/book/bibliography.html#cite-kool2019")
    context.close()


def test_without_scripts_a_citation_leads_to_its_entry(browser: Browser, server: str) -> None:
    context = browser.new_context(base_url=server, java_script_enabled=False)
    page = context.new_page()
    page.goto(CITING)
    assert page.locator(".hover-card").first.is_hidden()
    page.locator("a.cited", has_text="Kool et al.").first.click()
    page.wait_for_url("**/book/bibliography.html#cite-kool2019")
    context.close()


def test_the_bibliography_is_set_in_lines(tab: Page) -> None:
    for width, narrowest in ((1440, 450), (390, 330)):
        tab.set_viewport_size({"width": width, "height": 900})
        tab.goto("book/bibliography.html")
        entries = tab.locator("dl.works > dd")
        assert entries.count() > 30
        widths = entries.evaluate_all("all => all.map(e => e.getBoundingClientRect().width)")
        assert min(widths) >= narrowest


def test_an_entry_leads_to_the_chapters_that_cite_it() -> None:
    page = soup(BOOK / "book/bibliography.html")
    for entry in page.select("dl.works > dt"):
        anchor = str(entry["id"])
        citing = {
            path for path in CHAPTERS if soup(BOOK / path).select(f"a.cited[href$='#{anchor}']")
        }
        about = entry.find_next_sibling("dd")
        assert about is not None
        back = {str(link["href"]).split("#")[0][3:] for link in about.select(".citing a")}
        assert back == citing, entry.text


def test_on_paper_references_are_text_and_asides_are_there(tab: Page) -> None:
    tab.set_viewport_size({"width": 1440, "height": 900})
    tab.goto(CITING)
    tab.evaluate(ADD_ASIDES)
    tab.emulate_media(media="print")
    notes = tab.evaluate(PLACES)["notes"]
    assert [note["said"][:6] for note in notes] == ["Aside.", "Aside."]
    lines = tab.locator("a.cited").evaluate_all(
        "all => all.map(a => getComputedStyle(a).textDecorationLine)"
    )
    assert set(lines) == {"none"}
    tab.emulate_media(media="screen")
