"""The page for wrong addresses, shown as hosts show it: in place of whatever was asked for."""

from http import HTTPStatus

import pytest
from playwright.sync_api import Browser
from tornado.web import StaticFileHandler

from tools.site.site_host import BOOK, serve

from .test_pages import contents

LETTERS = "document.fonts.ready.then(all => [...all].map(f => `${f.weight} ${f.status}`).sort())"
LINKS_LEAD_HOME = "document.links[0].href.includes('/a-project/book/')"


class Host(StaticFileHandler):
    """Shows 404.html for all that is missing, as hosts do."""

    def write_error(self, status_code: int, **_rest: object) -> None:
        if status_code == HTTPStatus.NOT_FOUND:
            self.finish((BOOK / "404.html").read_bytes())


@pytest.mark.parametrize("wrong", ["nothing.html", "a/b/c/d.html"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_links_lead_into_the_book_from_any_depth(wrong: str, scheme: str, browser: Browser) -> None:
    with serve(root="/a-project/", handler=Host) as home:
        tab = browser.new_page(color_scheme=scheme)  # type: ignore[arg-type]
        asked: list[str] = []
        tab.on("request", lambda request: asked.append(request.method + " " + request.url))
        answer = tab.goto(home + wrong)
        assert answer is not None
        assert answer.status == HTTPStatus.NOT_FOUND
        assert tab.evaluate("document.documentElement.dataset.theme") == scheme
        # Its letters and its mark are in it; all that it looks for is the book's root.
        tab.wait_for_function(LINKS_LEAD_HOME)
        fetched = [line for line in asked if not line.startswith(("HEAD ", "GET data:"))]
        assert fetched == [f"GET {home}{wrong}"]
        assert tab.evaluate(LETTERS) == ["400 loaded", "600 loaded"]
        mark = tab.locator(".brand svg").bounding_box()
        assert mark
        assert min(mark["width"], mark["height"]) > 20
        chapter = tab.get_by_role("link", name="01 Similarity scores")
        assert chapter.evaluate("link => link.href") == f"{home}notebooks/01_similarity_scores.html"
        tab.get_by_role("searchbox").fill("softmax")
        tab.get_by_role("button", name="Search").click()
        tab.wait_for_url(f"{home}search.html?q=softmax")
        tab.goto(home + wrong)
        tab.wait_for_function(LINKS_LEAD_HOME)
        tab.get_by_role("link", name="first page").click()
        tab.wait_for_url(f"{home}{contents()[0]}.html")
        tab.close()
