"""No page is heavy: bytes of a first visit, which hang on no machine."""

import gzip

import pytest
from playwright.sync_api import Browser

from tools.site.page_weight import LIMIT, weigh

from .conftest import BOOK, PAGES


@pytest.mark.parametrize("page", PAGES)
def test_first_visit(page: str, browser: Browser, server: str) -> None:
    weight = weigh(browser, server, page)
    assert weight.bytes["html"] > 1000, "a page of nothing"
    assert weight.total <= LIMIT, weight.bytes


def test_weight_is_that_of_gzipped_files(browser: Browser, server: str) -> None:
    page = "notebooks/03_top_k.html"
    packed = gzip.compress((BOOK / page).read_bytes(), 6)
    assert weigh(browser, server, page).bytes["html"] == pytest.approx(len(packed), rel=0.02)
