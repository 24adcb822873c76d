"""The book as one archive: the same bytes each time, and alive without a server."""

import json
import zipfile
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tools.site.archive import PATH, pack

from .conftest import BOOK, PAGES


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("archive") / PATH.name
    pack(BOOK, path)
    return path


@pytest.fixture(scope="module")
def folder(archive: Path) -> Path:
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(archive.parent)
    return archive.parent / archive.stem


def test_the_same_site_gives_the_same_bytes(archive: Path, tmp_path: Path) -> None:
    pack(BOOK, tmp_path / archive.name)
    assert (tmp_path / archive.name).read_bytes() == archive.read_bytes()


def test_it_holds_every_page_and_is_light(archive: Path, folder: Path) -> None:
    assert [page for page in PAGES if not (folder / page).exists()] == []
    assert archive.stat().st_size < 15e6


def test_a_folder_without_a_site_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="run make book first"):
        pack(tmp_path, tmp_path / "book.zip")


def test_pages_search_and_explorers_work_without_a_server(browser: Browser, folder: Path) -> None:
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda m: m.type == "error" and problems.append(m.text))
    page.on("request", lambda r: r.url.startswith(("file:", "data:")) or problems.append(r.url))
    page.goto((folder / "index.html").as_uri())
    page.wait_for_url("**/book/intro.html")
    page.locator(".bd-article a[href*='02_softmax']").first.click()
    page.wait_for_url("**/notebooks/02_softmax.html")
    assert page.evaluate("document.fonts.ready.then(() => document.fonts.check('16px Book Serif'))")
    explorer = page.locator("[data-explorer=temperature]").first
    explorer.scroll_into_view_if_needed()
    before = json.loads(explorer.get_attribute("data-state") or "")
    slider = explorer.locator("input[type=range]").first
    slider.focus()
    slider.press("ArrowRight")
    after = json.loads(explorer.get_attribute("data-state") or "")
    assert before["probabilities"] != after["probabilities"]
    assert not problems
    # The search finds pages by its own index. Their excerpts it would have to fetch, which needs a
    # server: without one it shows titles alone.
    page.goto(f"{(folder / 'search.html').as_uri()}?q=inclusion+probabilities")
    found = page.locator("#search-results").get_by_role("link", name="04 Sampling experts").first
    expect(found).to_be_visible()
    found.click()
    page.wait_for_url("**/notebooks/04_temperature_sampling.html*")
    context.close()
