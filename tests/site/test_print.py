"""The book on paper: what a reader's Print gives, and what `make pdf` binds together."""

import collections
import io
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser
from pypdf import PdfReader
from pypdf.generic import Destination, DictionaryObject

from tools.site.make_pdf import print_book

from .conftest import BOOK
from .test_pages import contents, soup

PRINTED = ("book/intro", "notebooks/03_top_k", "book/bibliography")


@pytest.fixture(scope="module")
def book(browser: Browser, server: str) -> PdfReader:
    """Three pages, bound as all of them are."""
    data = io.BytesIO()
    print_book(browser, server, PRINTED).write(data)
    return PdfReader(data)


def words(book: PdfReader) -> str:
    return " ".join(" ".join(page.extract_text() for page in book.pages).split())


def chapters(book: PdfReader) -> list[Destination]:
    return [item for item in book.outline if not isinstance(item, list)]


def test_bookmarks_stand_in_the_order_of_the_contents(book: PdfReader) -> None:
    titles = [soup(BOOK / f"{name}.html").find("h1") for name in PRINTED]
    names = [re.sub(r"[#\s]+", " ", title.get_text()).strip() for title in titles if title]
    assert [str(item.title) for item in chapters(book)] == ["Contents", *names]
    starts = [book.get_destination_page_number(item) or 0 for item in chapters(book)]
    assert starts == sorted(set(starts))
    for start, name in zip(starts[1:], names, strict=True):
        assert name in " ".join(book.pages[start].extract_text().split())
        # What the table of contents says is the number at the foot of that page.
        assert re.search(rf"{re.escape(name)} *{start + 1}\b", contents_page(book))
        laid_out = book.pages[start].extract_text(extraction_mode="layout")
        assert laid_out.split()[-1] == str(start + 1)
        assert laid_out.split("\n")[0].strip() == name, "the title above the page"


def contents_page(book: PdfReader) -> str:
    return " ".join(book.pages[1].extract_text().split())


def test_sections_are_bookmarks_below_their_chapter(book: PdfReader) -> None:
    below = next(item for item in book.outline if isinstance(item, list) and len(item) > 5)
    sections = [str(item.title) for item in below if not isinstance(item, list)]
    page = soup(BOOK / "notebooks/03_top_k.html")
    expected = [h.get_text().rstrip("#\uf0c1").strip() for h in page.select("article h2")]
    assert sections == [*expected, "Solutions"]


def test_no_page_is_empty_and_every_font_travels_along(book: PdfReader) -> None:
    for page in book.pages:
        assert len(page.extract_text().split()) > 12
        fonts = page["/Resources"].get("/Font", {}).values()
        for font in (reference.get_object() for reference in fonts):
            if font["/Subtype"] == "/Type0":
                font = font["/DescendantFonts"][0].get_object()
            if font["/Subtype"] == "/Type3":
                assert font["/CharProcs"]  # its letters are drawings inside the file
            else:
                descriptor = font["/FontDescriptor"].get_object()
                assert any(f"/FontFile{kind}" in descriptor for kind in ("", "2", "3"))


def test_solutions_are_shown_and_buttons_are_not(book: PdfReader) -> None:
    text = words(book)
    assert "def solution_3_1" in text
    assert "Exercise 3.1: correct." in text
    for absent in ("Show a solution", "Hide the solution", "set-up cell", "Set-up (run me first)"):
        assert absent not in text
    # They stand at the end, where they give nothing away.
    assert text.index("Exercise 3.4: not attempted") < text.index("def solution_3_1")
    assert text.count("The solution is at the end of the chapter.") == 4
    assert text.index("Summary") < text.index("Solution 3.1") < text.index("Solution 3.4")
    for absent in ("Draw 1000 times", "Skip to main content", "minutes to read"):
        assert absent not in text


def test_links_stay_inside_the_file(book: PdfReader) -> None:
    pages = {page.indirect_reference for page in book.pages}
    inside = outside = 0
    for page in book.pages:
        for link in (reference.get_object() for reference in page.get("/Annots", [])):
            if "/Dest" in link:
                place = book.named_destinations[str(link["/Dest"])]
                assert place.page.indirect_reference in pages
                inside += 1
            elif "/A" in link:
                assert str(link["/A"]["/URI"]).startswith("https://")
                outside += 1
    assert inside > 10
    assert outside > 10


def test_a_link_to_another_chapter_names_its_page(book: PdfReader) -> None:
    start = [book.get_destination_page_number(item) or 0 for item in chapters(book)]
    first, chapter = (
        " ".join(" ".join(book.pages[page].extract_text() for page in range(*span)).split())
        for span in (start[1:3], start[2:4])
    )
    assert f"(page {start[2] + 1})" in first
    assert "(page )" not in first + chapter


def test_pages_are_full(book: PdfReader) -> None:
    """A figure that goes to the next page leaves room, but seldom half a page."""
    start = [book.get_destination_page_number(item) or 0 for item in chapters(book)]
    ends = {page - 1 for page in start} | {len(book.pages) - 1}
    empty = []
    inside = [page for page in range(start[2], start[3]) if page not in ends]
    for page in inside:
        heights: list[float] = []

        def note(text: str, cm: list[float], tm: list[float], *_rest: object) -> None:
            height = cm[1] * tm[4] + cm[3] * tm[5] + cm[5]
            if text.strip() and height > 60:  # points, above the number at the foot
                heights.append(height)  # noqa: B023, called before the next round

        book.pages[page].extract_text(visitor_text=note)
        if min(heights) > book.pages[page].mediabox.height / 2:
            empty.append(page + 1)
    assert len(inside) >= 4
    assert len(empty) <= len(inside) / 5, f"half-empty pages: {empty}"


def test_what_the_file_says_about_itself(book: PdfReader) -> None:
    assert book.metadata is not None
    assert "Mixture-of-Experts" in str(book.metadata.title)
    assert book.metadata.author
    assert book.metadata.creation_date is not None
    assert book.root_object["/Lang"] == "en"


def tags(book: PdfReader) -> Iterator[DictionaryObject]:
    """All elements of the tree that a screen reader reads, in its order."""
    waiting = [book.root_object["/StructTreeRoot"]]
    while waiting:
        element = waiting.pop().get_object()
        if isinstance(element, DictionaryObject):
            yield element
            below = element["/K"].get_object() if "/K" in element else []
            waiting += reversed(below if isinstance(below, list) else [below])


def test_a_screen_reader_finds_headings_figures_and_paragraphs(book: PdfReader) -> None:
    assert book.root_object["/MarkInfo"]["/Marked"]
    found = list(tags(book))
    kinds = collections.Counter(element.get("/S") for element in found)
    articles = [soup(BOOK / f"{name}.html").select("article")[0] for name in PRINTED]
    assert kinds["/H1"] == 1 + len(articles)
    solutions = 1  # the heading above those of the chapter
    assert kinds["/H2"] == sum(len(article.select("h2")) for article in articles) + solutions
    assert kinds["/P"] > 50
    told = {str(element["/Alt"]) for element in found if "/Alt" in element}
    images = [image for article in articles for image in article.select("img, svg[role=img]")]
    # An explorer draws what its picture stands in for.
    shown = [image for image in images if not image.find_parent(class_="moe-explorer")]
    assert shown
    assert told >= {str(image.get("alt") or image.get("aria-label")) for image in shown}


# What paper would show, for all chapters: quicker to ask the page than to read a PDF.
ON_PAPER = """() => {
  for (const details of document.querySelectorAll("details")) details.open = true;
  const article = document.querySelector("article");
  const shown = e => e.checkVisibility({opacityProperty: true, visibilityProperty: true});
  const pictures = [...article.querySelectorAll("img, svg[role=img]")].filter(shown);
  return {
    formulas: [...article.querySelectorAll(".math")]
      .filter(m => !shown(m) && !m.closest(".cards, .note[aria-hidden]")) // said again elsewhere
      .map(m => m.closest("div, aside, figure").outerHTML.slice(0, 200)),
    pictures: pictures.length,
    flat: pictures.filter(p => p.getBoundingClientRect().width < 100).length,
    cut: [...article.querySelectorAll("pre, table, .math, img")]
      .filter(e => shown(e) && e.getBoundingClientRect().right > innerWidth + 1)
      .map(e => e.outerHTML.slice(0, 80)),
    buttons: [...document.querySelectorAll("button, input, nav, .headerlink")].filter(shown)
      .map(e => e.outerHTML.slice(0, 80)),
    ground: getComputedStyle(document.body).backgroundColor,
    ink: getComputedStyle(article.querySelector("p:not(.reading-time)")).color,
  };
}"""


@pytest.mark.parametrize("name", contents())
def test_paper_shows_all_and_is_light_for_readers_in_the_dark(
    name: str, browser: Browser, server: str
) -> None:
    tab = browser.new_page(color_scheme="dark", viewport={"width": 680, "height": 960})
    tab.goto(f"{server}{name}.html", wait_until="load")
    on_screen = len(soup(BOOK / f"{name}.html").select("div.cell_output :is(img, svg[role=img])"))
    tab.emulate_media(media="print")
    seen = tab.evaluate(ON_PAPER)
    tab.close()
    assert not seen["formulas"], "formulas that paper does not show"
    assert seen["pictures"] >= on_screen
    assert seen["flat"] == 0, "figures that are not drawn"
    assert not seen["cut"], "wider than the paper"
    assert not seen["buttons"]
    assert seen["ground"] in ("rgba(0, 0, 0, 0)", "rgb(255, 255, 255)")
    assert seen["ink"] == "rgb(28, 36, 48)"
