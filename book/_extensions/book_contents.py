"""The contents of the book beside a page, and in them the page's own.

The theme has them in two columns, left and right of the text; the right one is for notes here.
"""

from __future__ import annotations

from typing import Any

from bs4 import BeautifulSoup
from sphinx.application import Sphinx

DEPTH = 2  # levels of headings that are listed below the page's title


def with_sections(chapters: str, sections: str) -> str:
    """The list of chapters with a page's sections below the chapter that is open.

    Args:
        chapters: Sphinx's list of all chapters; the page's own link has the address "#".
        sections: Sphinx's list for the page: its title, and below it its headings.
    """
    contents = BeautifulSoup(chapters, "html.parser")
    here = contents.select_one("li.current > a[href='#']")
    own = BeautifulSoup(sections, "html.parser").select_one("li > ul")
    if here is None or own is None:
        return chapters
    for too_deep in own.select("ul " * (2 + DEPTH)):  # below the title's own and the first
        too_deep.decompose()
    here["aria-current"] = "page"
    here.insert_after(own)
    return str(contents)


def add_contents(
    _app: Sphinx, _page: str, _template: str, context: dict[str, Any], _document: object
) -> None:
    """Give the templates the contents as ``contents``."""
    chapters = context["toctree"](maxdepth=1, collapse=True, includehidden=True, titles_only=True)
    context["contents"] = with_sections(chapters or "", context.get("toc", ""))


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("html-page-context", add_contents)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
