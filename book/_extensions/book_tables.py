"""Tables of words: on a phone each row is a card, in which every cell says what it is.

The style sheet makes the cards; here a cell is told the head of its column.
"""

from __future__ import annotations

import re
from typing import Any

from bs4 import BeautifulSoup
from sphinx.application import Sphinx

WRITTEN = re.compile(r'<table class="table[ "].*?</table>', re.DOTALL)


def as_cards(table: str) -> str:
    """A table of Markdown as one that can be shown as cards; one without a head stays as it is."""
    soup = BeautifulSoup(table, "html.parser")
    heads = [head.get_text(" ", strip=True) for head in soup.select("thead th")]
    if not heads:
        return table
    for row in soup.select("tbody tr"):
        for head, cell in zip(heads, row.find_all("td"), strict=True):
            cell["data-label"] = head
    return str(soup).replace('class="table', 'class="table word-cards', 1)


def offer_cards(
    _app: Sphinx, _page: str, _template: str, context: dict[str, Any], _document: object
) -> None:
    """Prepare the tables of a page."""
    if "body" in context:
        context["body"] = WRITTEN.sub(lambda table: as_cards(table[0]), context["body"])


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("html-page-context", offer_cards)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
