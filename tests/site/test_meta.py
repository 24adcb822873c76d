"""What pages say about themselves, to readers, to search engines and where they are shared."""

import json
import re
from pathlib import Path

import pytest
import yaml
from PIL import Image

from .conftest import BOOK, PAGES, ROOT
from .test_pages import contents, soup

WRITTEN = contents()
CHAPTERS = [name for name in WRITTEN if name.startswith("notebooks/")]
BASE = soup(BOOK / f"{WRITTEN[0]}.html").find("link", rel="canonical")


def said(name: str, key: str) -> str | None:
    """What a page's head says under a name or a property."""
    page = soup(BOOK / f"{name}.html")
    found = page.find("meta", attrs={"name": key}) or page.find("meta", attrs={"property": key})
    return str(found["content"]) if found else None


@pytest.mark.parametrize("page", PAGES)
def test_every_page_names_its_language_and_what_it_is(page: str) -> None:
    name = page.removesuffix(".html")
    document = soup(BOOK / page)
    assert document.html is not None
    assert document.html["lang"] == "en"
    assert document.title is not None
    assert document.title.get_text(strip=True)
    assert len(document.find_all("meta", attrs={"name": "description"})) == 1
    assert 50 <= len(said(name, "description") or "") <= 160
    assert said(name, "og:title")


def test_no_two_pages_have_one_description() -> None:
    descriptions = [said(name, "description") for name in WRITTEN]
    assert len(set(descriptions)) == len(descriptions)
    assert not [text for text in descriptions if re.search(r"[$\\{}<>]|[a-z]_[a-z]\b", text or "")]


@pytest.mark.parametrize("name", WRITTEN)
def test_a_shared_page_has_a_card(name: str) -> None:
    assert said(name, "og:description") == said(name, "description")
    card = BOOK / "_static" / "cards" / f"{name.replace('/', '-')}.png"
    with Image.open(card) as image:
        assert image.size == (1200, 630)
        assert len(image.convert("RGB").getcolors(1 << 16) or []) > 8
    assert card.stat().st_size < 100_000


def test_cards_differ() -> None:
    cards = list((BOOK / "_static" / "cards").glob("*.png"))
    assert len(cards) == len(WRITTEN)
    assert len({card.read_bytes() for card in cards}) == len(cards)


@pytest.mark.parametrize("name", WRITTEN)
def test_addresses_are_whole_or_left_out(name: str) -> None:
    address, image = said(name, "og:url"), said(name, "og:image")
    if BASE is None:
        assert address is None
        assert image is None
        assert said(name, "twitter:card") == "summary"
        assert not (BOOK / "sitemap.xml").exists()
    else:
        root = str(BASE["href"]).removesuffix(f"{WRITTEN[0]}.html")
        assert address == f"{root}{name}.html"
        assert (BOOK / str(image).removeprefix(root)).is_file()
        assert f"<loc>{address}</loc>" in (BOOK / "sitemap.xml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_says_how_long_it_takes(name: str) -> None:
    line = soup(BOOK / f"{name}.html").select_one("h1 + p.reading-time")
    assert line is not None
    minutes = int(re.fullmatch(r"About (\d+) minutes to read", line.get_text())[1])  # type: ignore[index]
    notebook = json.loads((ROOT / f"{name}.ipynb").read_text(encoding="utf-8"))
    words = sum(
        len("".join(cell["source"]).split())
        for cell in notebook["cells"]
        if cell["cell_type"] == "markdown"
    )
    assert words / 260 < minutes < words / 95


@pytest.mark.parametrize("name", WRITTEN)
def test_the_page_before_and_the_page_after_are_named(name: str) -> None:
    place = WRITTEN.index(name)
    page = soup(BOOK / f"{name}.html")
    for css, other in ((".left-prev", place - 1), (".right-next", place + 1)):
        link = page.select_one(f".prev-next-area {css}")
        if not 0 <= other < len(WRITTEN):
            assert link is None
            continue
        assert link is not None
        assert (BOOK / name).parent.joinpath(str(link["href"])).resolve() == (
            BOOK / f"{WRITTEN[other]}.html"
        )
        heading = soup(BOOK / f"{WRITTEN[other]}.html").select_one("article h1")
        assert heading is not None
        title = link.select_one(".prev-next-title")
        assert title is not None
        assert title.get_text(strip=True) in heading.get_text()


def test_the_page_for_wrong_addresses_needs_no_file_beside_it() -> None:
    page = soup(BOOK / "404.html")
    assert not page.select("link:not([href^='data:']), script[src], img")
    assert page.find("form", attrs={"role": "search"}) is not None
    linked = {str(link["href"]) for link in page.find_all("a")}
    assert linked >= {f"{name}.html" for name in (WRITTEN[0], *CHAPTERS)}
    assert said("404", "robots") == "noindex"


def test_first_page_offers_three_ways_that_lead_somewhere() -> None:
    paths = soup(BOOK / f"{WRITTEN[0]}.html").select(".paths .path")
    assert [path.find("strong").get_text() for path in paths] == ["Read", "Run", "Teach"]  # type: ignore[union-attr]
    targets = [(BOOK / WRITTEN[0]).parent / Path(str(path.a["href"])) for path in paths]  # type: ignore[index]
    assert all(target.resolve().is_file() for target in targets)
    assert len(set(targets)) == 3


def test_the_configuration_names_no_address_that_somebody_else_could_own() -> None:
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    assert re.fullmatch(r"|https://(?!.*\b(example|placeholder)\b)\S+/", config["html"]["baseurl"])
