"""Print the built book as one PDF: python -m tools.site.make_pdf [--output FILE] [PAGE ...].

All pages are put into one (one_page.js), in the order of _toc.yml and as a reader would print them,
behind a title page and a table of contents. Chromium prints it with bookmarks and tags, which
screen readers need. PAGE, such as notebooks/02_softmax, limits the file to some pages.
"""

from __future__ import annotations

import argparse
import html
import io
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import cast

import yaml
from playwright.sync_api import Browser, Error, Page, sync_playwright
from pypdf import PdfReader, PdfWriter
from pypdf.generic import DictionaryObject, NameObject, TextStringObject

from .site_host import BOOK, launch_chromium, serve

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path(__file__).with_name("one_page.js")
MARK = BOOK / "_static" / "favicon.svg"
STYLE = """
  @page {
    @top-left { font: 8pt var(--book-sans); color: var(--book-muted); }
    @bottom-center { content: counter(page); font: 8pt var(--book-sans); color: var(--book-muted); }
  }
  @page :first { @bottom-center { content: none; } }
  .bd-article + .bd-article { break-before: page; }
  .bd-article.cover { padding-top: 60mm !important; }
  .cover svg { width: 26mm; }
  .cover .name { font-size: 32pt; line-height: 1.15; font-weight: 600; margin: 12mm 0 8mm; }
  .contents p { display: flex; align-items: baseline; margin: 1mm 0; }
  .contents p.part { font-weight: 600; margin: 6mm 0 1mm; }
  .contents a { text-decoration: none; }
  .page-number:not(:empty)::before { content: "(page "; }
  .page-number:not(:empty)::after { content: ")"; }
  .contents i { flex: 1; margin: 0 2mm; border-bottom: 1px dotted var(--book-control); }
"""


@dataclass(frozen=True)
class Part:
    """One page of the site, ready to stand beside the others."""

    name: str
    title: str
    body: str
    caption: str  # the part of the book that begins with it, if one does


def contents() -> dict[str, str]:
    """The pages in the order of the table of contents, each with the part that begins there."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    pages = {toc["root"]: ""}
    for part in toc["parts"]:
        for i, chapter in enumerate(part["chapters"]):
            pages[chapter["file"]] = part["caption"] if i == 0 else ""
    return pages


def read_part(tab: Page, home: str, name: str, caption: str) -> Part:
    """Open a page of the site and take what paper shows of it."""
    tab.goto(f"{home}{name}.html", wait_until="load")
    title, body = tab.evaluate("home => takeArticle(home)", home)
    return Part(name, title, body, caption)


def front_matter(title: str, author: str, parts: Sequence[Part]) -> str:
    """The title page and the table of contents, whose page numbers are not known yet."""
    rows = "".join(
        (f'<p class="part">{html.escape(part.caption)}</p>' if part.caption else "")
        + f'<p><a href="#{part.name}">{html.escape(part.title)}</a><i></i>'
        f'<span data-page="{part.name}"></span></p>'
        for part in parts
    )
    return f"""<article class="bd-article cover">{MARK.read_text(encoding="utf-8")}
      <p class="name">{html.escape(title)}</p><p>{html.escape(author)}</p>
      <p>Text and figures: CC BY 4.0. Code: MIT.</p></article>
      <article class="bd-article contents"><h1>Contents</h1>{rows}</article>"""


def to_pdf(tab: Page) -> PdfReader:
    """What the tab shows, on the paper that the style sheet asks for."""
    return PdfReader(
        io.BytesIO(
            tab.pdf(prefer_css_page_size=True, print_background=True, outline=True, tagged=True)
        )
    )


def number_pages(tab: Page, parts: Sequence[Part]) -> None:
    """Fill in the numbers of pages, which only a first printing tells."""
    draft = to_pdf(tab)
    places = {name.lstrip("/"): place for name, place in draft.named_destinations.items()}
    numbers = {
        part.name: (draft.get_destination_page_number(places[part.name]) or 0) + 1 for part in parts
    }
    tab.evaluate("numbers => numberPages(numbers)", numbers)


def bookmarks(book: PdfWriter) -> Iterator[DictionaryObject]:
    """All bookmarks of a file, each before those below it."""
    waiting = [cast(DictionaryObject, book.root_object["/Outlines"])["/First"]]
    while waiting:
        bookmark = cast(DictionaryObject, waiting.pop().get_object())
        yield bookmark
        waiting += [bookmark[key] for key in ("/Next", "/First") if key in bookmark]


def made_at() -> datetime:
    """The date of the sources, not of the printing: the same sources, the same date."""
    seconds = (
        os.environ.get("SOURCE_DATE_EPOCH")
        or subprocess.run(
            ["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True
        ).stdout
    )
    return datetime.fromtimestamp(int(seconds or 0), timezone.utc)


def print_book(browser: Browser, home: str, names: Sequence[str]) -> PdfWriter:
    """Print the named pages of the site at ``home`` into one file."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    pages = contents()
    tab = browser.new_page(color_scheme="light")
    tab.add_init_script(path=SCRIPT)
    parts = [read_part(tab, home, name, pages[name]) for name in pages if name in names]
    front = front_matter(config["title"], config["author"], parts)
    headings = tab.evaluate(
        "([title, style, body]) => showAll(title, style, body)",
        [config["title"], STYLE, front + "".join(part.body for part in parts)],
    )
    number_pages(tab, parts)
    # Chromium counts one object too few in a large file; pypdf sees it, and counts them itself.
    logging.getLogger("pypdf").setLevel(logging.ERROR)
    book = PdfWriter(clone_from=to_pdf(tab))
    tab.close()
    # Chromium writes the words of a heading twice if it moved it to the next page.
    for bookmark, heading in zip(bookmarks(book), headings, strict=True):
        bookmark[NameObject("/Title")] = TextStringObject(heading)
    book.page_mode = "/UseOutlines"
    date = made_at().strftime("D:%Y%m%d%H%M%S+00'00'")
    book.metadata = {
        "/Title": config["title"],
        "/Author": config["author"],
        "/Subject": "A book of executable notebooks, printed",
        "/Creator": "make pdf",
        "/CreationDate": date,
        "/ModDate": date,
    }
    return book


def make_pdf(output: Path, names: Sequence[str] = ()) -> None:
    """Write the named pages, or all of them, into one file."""
    unknown = set(names) - set(contents())
    if unknown:
        raise SystemExit(f"not in _toc.yml: {', '.join(sorted(unknown))}")
    if not (BOOK / "index.html").exists():
        raise SystemExit("There is no book to print yet: run make book first.")
    with serve() as home, sync_playwright() as playwright:
        try:
            browser = launch_chromium(playwright)
        except Error as error:
            raise SystemExit(
                "No Chromium to print with. Install your system's (on Debian: apt install "
                "chromium) or Playwright's (.venv/bin/playwright install --with-deps chromium).\n"
                f"{error}"
            ) from None
        book = print_book(browser, home, names or list(contents()))
        browser.close()
    output.parent.mkdir(parents=True, exist_ok=True)
    book.write(output)
    print(f"{output}: {len(book.pages)} pages")


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Print the built book as one PDF.")
    parser.add_argument("pages", nargs="*", help="default: every page of _toc.yml")
    parser.add_argument("--output", type=Path, default=ROOT / "_build" / "book.pdf")
    options = parser.parse_args()
    make_pdf(options.output, options.pages)
    return 0


if __name__ == "__main__":
    sys.exit(main())
