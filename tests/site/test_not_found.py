"""The page for wrong addresses, shown as hosts show it: in place of whatever was asked for."""

import contextlib
import functools
import threading
from collections.abc import Iterator
from http import HTTPStatus

import pytest
from playwright.sync_api import Browser

from tools.site.site_host import BOOK, Handler, Server

from .test_pages import contents


class Host(Handler):
    """The book in a folder of a host, and 404.html for all that is missing."""

    def translate_path(self, path: str) -> str:
        return super().translate_path(path.removeprefix("/a-project"))

    def send_error(self, code: int, *_rest: str | None) -> None:
        body = (BOOK / "404.html").read_bytes() if code == HTTPStatus.NOT_FOUND else b""
        self.send_response(code)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@contextlib.contextmanager
def host() -> Iterator[str]:
    with Server(("127.0.0.1", 0), functools.partial(Host, directory=str(BOOK))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/a-project/"
        server.shutdown()


@pytest.mark.parametrize("wrong", ["nothing.html", "notebooks/99_nothing.html", "a/b/c/d.html"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_links_lead_into_the_book_from_any_depth(wrong: str, scheme: str, browser: Browser) -> None:
    with host() as home:
        tab = browser.new_page(color_scheme=scheme)  # type: ignore[arg-type]
        answer = tab.goto(home + wrong)
        assert answer is not None
        assert answer.status == HTTPStatus.NOT_FOUND
        assert tab.evaluate("document.documentElement.dataset.theme") == scheme
        chapter = tab.get_by_role("link", name="01 Similarity scores")
        tab.wait_for_function("document.links[0].href.includes('/a-project/book/')")
        assert chapter.evaluate("link => link.href") == f"{home}notebooks/01_similarity_scores.html"
        tab.get_by_role("searchbox").fill("softmax")
        tab.get_by_role("button", name="Search").click()
        tab.wait_for_url(f"{home}search.html?q=softmax")
        tab.goto(home + wrong)
        tab.get_by_role("link", name="first page").click()
        tab.wait_for_url(f"{home}{contents()[0]}.html")
        tab.close()
