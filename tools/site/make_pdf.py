"""Print the built book as one PDF: python -m tools.site.make_pdf [--output FILE] [PAGE ...].

Chromium prints each page by itself, in the order of _toc.yml, as a reader would print it; then
bind_pdf.py makes one file of them. PAGE, such as notebooks/02_softmax, limits the file to some
pages.
"""

from __future__ import annotations

import argparse
import html
import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

import yaml
from playwright.sync_api import Browser, Error, sync_playwright
from pypdf import PdfWriter

from .bind_pdf import SANS, Part, bind, to_pdf
from .site_host import BOOK, launch_chromium, serve

ROOT = Path(__file__).resolve().parents[2]

# Wait for what is drawn late, and open what is folded; solutions are part of the book on paper.
PREPARE = """async () => {
  await document.fonts.ready;
  for (const image of document.images) image.loading = "eager";
  await Promise.all([...document.images].map(image => image.decode().catch(() => {})));
  for (const details of document.querySelectorAll("details")) details.open = true;
}"""
HEADINGS = """() => [...document.querySelectorAll("article :is(h1, h2, h3)")].map(heading => {
  const words = heading.cloneNode(true);
  words.querySelector(".headerlink")?.remove();
  return words.textContent.replace(/\\s+/g, " ").trim();
})"""


def contents() -> dict[str, str]:
    """The pages in the order of the table of contents, each with the part that begins there."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    pages = {toc["root"]: ""}
    for part in toc["parts"]:
        for i, chapter in enumerate(part["chapters"]):
            pages[chapter["file"]] = part["caption"] if i == 0 else ""
    return pages


def print_page(browser: Browser, home: str, name: str, caption: str) -> Part:
    """Print one page of the site, with its title above each of its pages."""
    tab = browser.new_page(color_scheme="light")
    tab.goto(f"{home}{name}.html", wait_until="load")
    tab.evaluate(PREPARE)
    title, *sections = tab.evaluate(HEADINGS)
    header = f'<div style="width: 100%; margin: 0 20mm; {SANS}">{html.escape(title)}</div>'
    return Part(name, title, sections, to_pdf(tab, header), caption)


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
    pages = contents()
    parts = [print_page(browser, home, name, pages[name]) for name in pages if name in names]
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    return bind(browser, home, parts, config["title"], config["author"], made_at())


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
