"""Bind printed pages into one PDF.

It gets a title page, a table of contents with page numbers, bookmarks, numbers at the foot of its
pages, and links that stay inside the book.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import unquote, urlsplit

from playwright.sync_api import Browser, Page
from pypdf import PdfReader, PdfWriter
from pypdf.generic import (
    ArrayObject,
    BooleanObject,
    DictionaryObject,
    Fit,
    IndirectObject,
    NameObject,
    TextStringObject,
)

from .site_host import BOOK

MARK = BOOK / "_static" / "favicon.svg"
TOP = 842.0  # the upper edge of an A4 page, in points
SANS = "font: 8pt 'Liberation Sans', Arial, sans-serif; color: #566071"
NUMBER = f"""<div style="width: 100%; text-align: center; {SANS}">
<span class="pageNumber"></span></div>"""


@dataclass
class Part:
    """One page of the site, printed."""

    name: str
    title: str
    sections: list[str]
    pdf: PdfReader
    caption: str = ""
    first: int = 0  # its first page in the book, counted from 0
    places: dict[str, tuple[int, float]] = field(default_factory=dict)  # anchor: page, height


def to_pdf(tab: Page, header: str = "<span></span>", footer: str = "<span></span>") -> PdfReader:
    """What the tab shows, on A4."""
    data = tab.pdf(
        prefer_css_page_size=True,
        width="210mm",
        height="297mm",
        margin={"top": "20mm", "bottom": "22mm", "left": "20mm", "right": "20mm"},
        print_background=True,
        display_header_footer=True,
        header_template=header,
        footer_template=footer,
        outline=True,
        tagged=True,
    )
    tab.close()
    return PdfReader(io.BytesIO(data))


def print_words(browser: Browser, body: str, footer: str = "<span></span>") -> PdfReader:
    """Print some HTML of our own."""
    tab = browser.new_page()
    tab.set_content(f"<!DOCTYPE html><html lang='en'><body>{body}</body></html>")
    tab.evaluate("document.fonts.ready")
    return to_pdf(tab, footer=footer)


def in_line(font: str) -> str:
    """A font of the site as an address that holds all of it."""
    data = (BOOK / "_static" / "fonts" / f"{font}.woff2").read_bytes()
    return f"data:font/woff2;base64,{base64.b64encode(data).decode()}"


def front_matter(title: str, author: str, parts: Sequence[Part]) -> str:
    """The title page and the table of contents."""
    rows = "".join(
        (f"<h2>{html.escape(part.caption)}</h2>" if part.caption else "")
        + f"<p><a href='https://book.invalid/{i}'>{html.escape(part.title)}</a>"
        f"<i></i><b>{part.first + 1}</b></p>"
        for i, part in enumerate(parts)
    )
    fonts = "".join(
        f"@font-face {{ font-family: Book; font-weight: {weight}; src: url({in_line(font)}) }}"
        for font, weight in (("serif", 400), ("serif-bold", 600))
    )
    mark = MARK.read_text(encoding="utf-8")
    return f"""<style>{fonts}
      body {{ margin: 0; font: 11pt/1.5 Book, Georgia, serif; color: #1c2430; }}
      .title {{ break-after: page; padding-top: 60mm; }}
      .title svg {{ width: 26mm; }}
      h1, h2 {{ font-weight: 600; }}
      h1 {{ font-size: 32pt; line-height: 1.15; margin: 12mm 0 8mm; }}
      h2 {{ font-size: 12pt; margin: 6mm 0 1mm; }}
      p {{ display: flex; align-items: baseline; margin: 1mm 0; }}
      a {{ color: inherit; text-decoration: none; }}
      i {{ flex: 1; margin: 0 2mm; border-bottom: 1px dotted #7d8594; }}
      b {{ font-weight: 400; }}
    </style>
    <div class="title">{mark}<h1>{html.escape(title)}</h1><p>{html.escape(author)}</p>
    <p>Text and figures: CC BY 4.0. Code: MIT.</p></div>
    <h1 style="font-size: 20pt; margin: 0 0 4mm">Contents</h1>{rows}"""


def note_places(part: Part) -> None:
    """Where in the part its anchors lie; Chromium names those that the page itself links to."""
    numbers = {page.indirect_reference: i for i, page in enumerate(part.pdf.pages)}
    for anchor, place in part.pdf.named_destinations.items():
        page = place.dest_array[0]
        if isinstance(page, IndirectObject) and page in numbers:
            part.places[anchor.lstrip("/")] = (numbers[page], float(place.top or TOP))


def keep_links_inside(writer: PdfWriter, home: str, parts: dict[str, Part]) -> None:
    """Let links to the site's pages lead to the pages of the file."""
    for part in parts.values():
        for page in writer.pages[part.first : part.first + len(part.pdf.pages)]:
            links = [reference.get_object() for reference in page.get("/Annots", [])]
            for link in links:
                address = str(link.get("/A", {}).get("/URI", ""))
                target: Part | None
                if "/Dest" in link:
                    target, anchor = part, str(link["/Dest"]).lstrip("/")
                elif address.startswith(home):
                    path = urlsplit(address)
                    name = path.path.lstrip("/").removesuffix(".html")
                    target, anchor = parts.get(name), unquote(path.fragment)
                else:
                    continue
                link.pop("/A", None)
                link.pop("/Dest", None)
                if target:
                    number, top = target.places.get(anchor, (0, TOP))
                    link[NameObject("/Dest")] = destination(writer, target.first + number, top)


def destination(writer: PdfWriter, number: int, top: float) -> ArrayObject:
    """A height on a page, in the words of a PDF."""
    page = writer.pages[number].indirect_reference
    fit = Fit.xyz(top=top)
    return ArrayObject([page, fit.fit_type, *fit.fit_args])


def add_bookmarks(writer: PdfWriter, part: Part) -> None:
    """A bookmark for the page, and one below it for each of its sections."""
    chapter = writer.add_outline_item(title=part.title, page_number=part.first)
    for section in part.pdf.outline[1] if len(part.pdf.outline) > 1 else []:
        if not isinstance(section, list):
            number = part.pdf.get_destination_page_number(section) or 0
            place = Fit.xyz(top=float(section.top or TOP))
            # Chromium writes a heading twice if it moved it to the next page.
            written = str(section.title)
            title = next((t for t in part.sections if written.startswith(t)), written)
            writer.add_outline_item(
                title=title,
                page_number=part.first + number,
                parent=chapter,
                fit=place,
            )


def bind(
    browser: Browser, home: str, parts: list[Part], title: str, author: str, made: datetime
) -> PdfWriter:
    """Make one file of the printed pages; ``home`` is the address that they were printed from."""
    # The table of contents moves what it counts: lay it out once to learn its own length.
    front = print_words(browser, front_matter(title, author, parts))
    first = len(front.pages)
    for part in parts:
        part.first = first
        first += len(part.pdf.pages)
        note_places(part)
    front = print_words(browser, front_matter(title, author, parts))
    numbers = print_words(browser, "<p style='break-before: page'>&nbsp;</p>" * first, NUMBER)

    writer = PdfWriter()
    for pdf in (front, *(part.pdf for part in parts)):
        for page in pdf.pages:
            writer.add_page(page)
    for page, foot in list(zip(writer.pages, numbers.pages, strict=True))[1:]:
        page.merge_page(foot)
        page.compress_content_streams()  # merging unpacks them
    keep_links_inside(writer, home, {part.name: part for part in parts})
    for page in writer.pages[: len(front.pages)]:
        for reference in page.get("/Annots", []):
            link = reference.get_object()
            number = int(str(link.pop("/A")["/URI"]).rpartition("/")[2])
            link[NameObject("/Dest")] = destination(writer, parts[number].first, TOP)
    writer.add_outline_item(title="Contents", page_number=1)
    for part in parts:
        add_bookmarks(writer, part)
    writer.compress_identical_objects(remove_duplicates=True, remove_unreferenced=True)
    writer.page_mode = "/UseOutlines"
    writer.root_object[NameObject("/Lang")] = TextStringObject("en")
    writer.root_object[NameObject("/ViewerPreferences")] = DictionaryObject(
        {NameObject("/DisplayDocTitle"): BooleanObject(True)}
    )
    date = made.strftime("D:%Y%m%d%H%M%S+00'00'")
    writer.metadata = {
        "/Title": title,
        "/Author": author,
        "/Subject": "A book of executable notebooks, printed",
        "/Creator": "make pdf",
        "/CreationDate": date,
        "/ModDate": date,
    }
    return writer
