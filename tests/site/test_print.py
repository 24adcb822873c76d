"""The book on paper: what a reader's Print gives, and what `make pdf` binds together."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser
from pypdf import PdfReader

from tools import make_pdf

from .conftest import BOOK

PRINTED = ("notebooks/03_top_k", "book/bibliography")


@pytest.fixture(scope="module")
def parts(browser: Browser) -> Iterator[list[make_pdf.Part]]:
    with make_pdf.served(BOOK) as home:
        parts = [make_pdf.print_page(browser, home, name, "") for name in PRINTED]
        make_pdf.bind(browser, home, parts)
        yield parts


@pytest.fixture(scope="module")
def book(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> PdfReader:
    path = tmp_path_factory.mktemp("pdf") / "book.pdf"
    with make_pdf.served(BOOK) as home:
        parts = [make_pdf.print_page(browser, home, name, "A part") for name in PRINTED]
        make_pdf.bind(browser, home, parts).write(path)
    return PdfReader(path)
