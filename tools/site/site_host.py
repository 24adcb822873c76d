"""The built site on this computer: a server that gzips as a public host does, and a browser.

Shared by the checks of the site, the table of weights and the Lighthouse report.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, StaticFileHandler

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Playwright

BOOK = Path(__file__).resolve().parents[2] / "_build" / "html"


def pages(book: Path = BOOK) -> list[str]:
    """The addresses of all pages below the site's root, in order."""
    return sorted(
        path.relative_to(book).as_posix()
        for path in book.rglob("*.html")
        if not {"_static", "_sources"} & set(path.relative_to(book).parts)
    )


CHROMIUM_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextlib.contextmanager
def serve(
    book: Path = BOOK, root: str = "/", handler: type[StaticFileHandler] = StaticFileHandler
) -> Iterator[str]:
    """Serve the site below a path as long as the context lasts, and yield its address."""
    files = {"path": str(book), "default_filename": "index.html"}
    application = Application(
        [(f"{root}(.*)", handler, files)],
        compress_response=True,
        log_function=lambda _request: None,
    )
    sockets = bind_sockets(0, "127.0.0.1")
    loop, stop = asyncio.new_event_loop(), asyncio.Event()

    async def run() -> None:
        server = HTTPServer(application)
        server.add_sockets(sockets)
        await stop.wait()
        server.stop()
        await server.close_all_connections()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{sockets[0].getsockname()[1]}{root}"
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


def chromium_path() -> str | None:
    """The system's Chromium; None where only Playwright's own can be there.

    The headless shell comes first: the same engine without windows takes two thirds of the time.
    """
    names = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


def launch_chromium(playwright: Playwright) -> Browser:
    """Start the system's Chromium, else Playwright's own."""
    return playwright.chromium.launch(
        executable_path=chromium_path(),
        args=CHROMIUM_OPTIONS,
    )
