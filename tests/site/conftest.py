"""The built site, a server for it, and a browser; shared by the checks of the site."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Error, sync_playwright

from tools.site.site_host import BOOK, launch_chromium, pages, serve

ROOT = Path(__file__).resolve().parents[2]
PAGES = pages()

__all__ = ["BOOK", "PAGES", "ROOT", "browser", "server"]


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The address of the built site on this computer."""
    with serve() as address:
        yield address


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The system's Chromium, else Playwright's own; a check without one has failed."""
    with sync_playwright() as playwright:
        try:
            chromium = launch_chromium(playwright)
        except Error as error:
            pytest.fail(
                "No Chromium to look at the site with. Install your system's (on Debian: apt "
                "install chromium) or Playwright's (.venv/bin/playwright install --with-deps "
                f"chromium), then run make browser again.\n{error}",
                pytrace=False,
            )
        yield chromium
        chromium.close()
