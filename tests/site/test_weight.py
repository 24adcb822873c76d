"""No page is heavy: bytes of a first visit, which hang on no machine."""

import pytest
from playwright.sync_api import Browser

from tools.site.page_weight import LIMIT, weigh

from .conftest import PAGES


@pytest.mark.parametrize("page", PAGES)
def test_first_visit(page: str, browser: Browser, server: str) -> None:
    weight = weigh(browser, server, page)
    assert weight.bytes["html"] > 1000, "a page of nothing"
    assert weight.total <= LIMIT, weight.bytes
