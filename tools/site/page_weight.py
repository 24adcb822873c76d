"""What a first visit to each page of the built site downloads, in gzipped kilobytes.

Each page is really opened, in Chromium with an empty cache; whatever it asks for counts, with the
number of bytes that a public host would send. Bytes hang on no machine, so a test can hold them.
"""

from __future__ import annotations

import argparse
import collections
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from playwright.sync_api import Browser, Request, sync_playwright

from .site_host import launch_chromium, pages, serve

KINDS = {
    "document": "html",
    "stylesheet": "css",
    "script": "js",
    "font": "fonts",
    "image": "images",
}
LIMIT = 300_000  # bytes that a page may need, with everything on it
COLUMNS = (*KINDS.values(), "other")


@dataclass(frozen=True)
class Weight:
    """One page's first load, in bytes by kind."""

    page: str
    bytes: dict[str, int]

    @property
    def total(self) -> int:
        """All bytes together."""
        return sum(self.bytes.values())


def weigh(browser: Browser, address: str, page: str) -> Weight:
    """Open a page with an empty cache and add up what it loads, down to its last line."""
    asked: dict[str, Request] = {}
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    tab = context.new_page()

    def note(request: Request) -> None:
        asked.setdefault(request.url, request)

    tab.on("requestfinished", note)
    tab.goto(address + page, wait_until="networkidle")
    found: collections.Counter[str] = collections.Counter()
    for url, request in list(asked.items()):  # asking for sizes lets late ones in
        if url.startswith(address):
            kind = KINDS.get(request.resource_type, "other")
            found[kind] += request.sizes()["responseBodySize"]
    context.close()
    return Weight(page, dict(found))


def weigh_all(names: Sequence[str] | None = None) -> Iterator[Weight]:
    """The weights of the pages named, else of all."""
    with serve() as address, sync_playwright() as playwright:
        browser = launch_chromium(playwright)
        for page in pages() if names is None else names:
            yield weigh(browser, address, page)
        browser.close()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="*", help="addresses below the site's root; all by default")
    names = parser.parse_args().pages or None
    print(f"{'gzipped kB on a first visit':38}" + "".join(f"{c:>9}" for c in (*COLUMNS, "total")))
    for weight in weigh_all(names):
        cells = [weight.bytes.get(column, 0) for column in COLUMNS] + [weight.total]
        print(f"{weight.page:38}" + "".join(f"{cell / 1000:9.1f}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
