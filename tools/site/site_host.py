"""The built site on this computer: a server that gzips as a public host does, and a browser.

Shared by the checks of the site, the table of weights and the Lighthouse report.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import http.server
import io
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Playwright

BOOK = Path(__file__).resolve().parents[2] / "_build" / "html"

# What public hosts gzip; fonts (woff2) and photographs are packed in themselves.
PACKED_SUFFIXES = {".css", ".html", ".ipynb", ".js", ".json", ".md", ".svg", ".txt", ".xml"}
GZIP_LEVEL = 6  # what nginx-based hosts and GitHub Pages come closest to


def pages(book: Path = BOOK) -> list[str]:
    """The addresses of all pages below the site's root, in order."""
    return sorted(
        path.relative_to(book).as_posix()
        for path in book.rglob("*.html")
        if not {"_static", "_sources"} & set(path.relative_to(book).parts)
    )


@functools.lru_cache(maxsize=256)
def _pack(path: Path, _changed: float) -> bytes:
    return gzip.compress(path.read_bytes(), GZIP_LEVEL, mtime=0)


def pack(path: Path) -> bytes:
    """A file's bytes as they travel: gzipped unless its format is packed in itself."""
    if path.suffix in PACKED_SUFFIXES:
        return _pack(path, path.stat().st_mtime)
    return path.read_bytes()


CHROMIUM_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves packed files over kept connections, and writes no log."""

    protocol_version = "HTTP/1.1"

    def send_head(self) -> io.BytesIO | BinaryIO | None:
        """Gzip what hosts gzip; leave folders and missing files to the standard library."""
        path = Path(self.translate_path(self.path))
        if (
            not path.is_file()
            or path.suffix not in PACKED_SUFFIXES
            or "gzip" not in self.headers.get("Accept-Encoding", "")
        ):
            return super().send_head()
        body = pack(path)
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(path))
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        return io.BytesIO(body)

    def guess_type(self, path: object) -> str:
        """Say that texts are UTF-8, as hosts do."""
        found = super().guess_type(str(path))
        return f"{found}; charset=utf-8" if found.startswith("text/") else found

    def log_message(self, *_args: object) -> None:
        """Stay quiet."""


class Server(http.server.ThreadingHTTPServer):
    """Takes all of a browser's connections at once; the default of five makes it wait."""

    request_queue_size = 64
    daemon_threads = True


@contextlib.contextmanager
def serve(book: Path = BOOK, port: int = 0) -> Iterator[str]:
    """Serve the site as long as the context lasts, and yield its address."""
    with Server(("127.0.0.1", port), functools.partial(Handler, directory=str(book))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


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
