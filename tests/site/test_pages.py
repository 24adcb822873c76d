"""The built files: every page of the contents has a body, every link inside arrives."""

import functools
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from bs4 import BeautifulSoup

from .conftest import BOOK, PAGES, ROOT


@functools.cache
def soup(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def contents() -> list[str]:
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    return [toc["root"], *(page["file"] for part in toc["parts"] for page in part["chapters"])]


@pytest.mark.parametrize("name", contents())
def test_page_of_the_contents_has_a_body(name: str) -> None:
    path = BOOK / f"{name}.html"
    assert path.exists(), f"{name} is in _toc.yml and was not built"
    article = soup(path).find("article")
    assert article is not None
    assert article.find("h1") is not None
    assert len(article.get_text().split()) > 100


def test_every_notebook_is_in_the_contents() -> None:
    notebooks = {f"notebooks/{path.stem}" for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert notebooks <= set(contents())


@pytest.mark.parametrize("name", PAGES)
def test_links_inside_the_site_arrive(name: str) -> None:
    page = BOOK / name
    broken = []
    for tag in soup(page).find_all(["a", "link", "script", "img", "source"]):
        address = tag.get("href") or tag.get("src") or ""
        parts = urlsplit(address)
        if parts.scheme or parts.netloc or not address:
            continue
        target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
        if not target.is_file():
            broken.append(address)
        elif parts.fragment and target.suffix == ".html":
            anchor = unquote(parts.fragment)
            document = soup(target)
            if document.find(id=anchor) is None and document.find(attrs={"name": anchor}) is None:
                broken.append(address)
    assert not broken


@pytest.mark.parametrize("name", PAGES)
def test_links_to_a_repository_follow_the_configuration(name: str) -> None:
    url = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]["url"]
    buttons = soup(BOOK / name).select(".dropdown-launch-buttons a, .dropdown-source-buttons a")
    leading = [link["href"] for link in buttons]
    if not url:
        assert not leading
    elif name.startswith("notebooks/"):
        assert any("colab" in link for link in leading)
        assert url in leading
