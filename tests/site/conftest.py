"""The built site, a server for it, and a browser; shared by the checks of the site."""

import functools
import http.server
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Error, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
BOOK = ROOT / "_build" / "html"
PAGES = sorted(
    str(page.relative_to(BOOK)) for page in BOOK.rglob("*.html") if "_static" not in page.parts
)


class Server(http.server.ThreadingHTTPServer):
    """Takes all of a browser's connections at once; the default of five makes it wait."""

    request_queue_size = 64
    daemon_threads = True


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves files over kept connections and writes no log."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_args: object) -> None:
        pass


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The address of the built site on this computer."""
    handler = functools.partial(QuietHandler, directory=str(BOOK))
    with Server(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}/"
        httpd.shutdown()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The system's Chromium, else Playwright's own; a check without one has failed."""
    found = [shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")]
    executable = next((path for path in found if path), None)
    with sync_playwright() as playwright:
        try:
            chromium = playwright.chromium.launch(
                executable_path=executable,
                args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
            )
        except Error as error:
            pytest.fail(
                "No Chromium to look at the site with. Install your system's (on Debian: apt "
                "install chromium) or Playwright's (.venv/bin/playwright install --with-deps "
                f"chromium), then run make browser again.\n{error}",
                pytrace=False,
            )
        yield chromium
        chromium.close()
