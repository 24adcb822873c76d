"""What the extensions make of parts of a page: contents, word tables, first lines of modules."""

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from bs4 import BeautifulSoup
from docutils import nodes

EXTENSIONS = Path(__file__).resolve().parents[1] / "book" / "_extensions"


@pytest.fixture
def extension(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of book/_extensions, which are in no package."""
    monkeypatch.setattr(sys, "path", [str(EXTENSIONS), *sys.path])
    return importlib.import_module(request.param)


def of(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("extension", [name], indirect=True)


@of("book_api")
def test_a_letter_for_a_size_begins_no_list(extension: ModuleType) -> None:
    lines = ["    model_width: D.", "    scale: D.5 or more.", "    k: K of E."]
    extension.keep_letters(None, "function", "route", None, None, lines)
    assert lines == ["    model_width: D\\.", "    scale: D.5 or more.", "    k: K of E."]


# --- code ---


@of("book_pages")
def test_two_empty_lines_in_code_are_shown_as_one(extension: ModuleType) -> None:
    code = nodes.literal_block("", "a = 1\n\n\ndef b():\n\n    pass\n")
    extension.close_up(code)
    assert code.astext() == code.rawsource == "a = 1\n\ndef b():\n\n    pass\n"


# --- the contents beside a page ---

CHAPTERS = """<ul><li class="toctree-l1"><a href="01.html">01 Scores</a></li></ul>
<p class="caption">Part</p>
<ul class="current"><li class="toctree-l1 current"><a class="current" href="#">02 Softmax</a></li>
<li class="toctree-l1"><a href="03.html">03 Top-k</a></li></ul>"""
SECTIONS = """<ul><li><a href="#">02 Softmax</a><ul>
<li><a href="#one">One</a><ul><li><a href="#deeper">Deeper</a><ul>
<li><a href="#too-deep">Too deep</a></li></ul></li></ul></li>
<li><a href="#two">Two</a></li></ul></li></ul>"""


@of("book_contents")
def test_a_pages_sections_stand_below_its_own_line(extension: ModuleType) -> None:
    contents = BeautifulSoup(extension.with_sections(CHAPTERS, SECTIONS), "html.parser")
    lines = [link.get_text() for link in contents.select("a")]
    assert lines == ["01 Scores", "02 Softmax", "One", "Deeper", "Two", "03 Top-k"]
    here = contents.select_one("[aria-current=page]")
    assert here is not None
    assert here.get_text() == "02 Softmax"
    below = here.find_next_sibling("ul")
    assert below is not None
    assert [link["href"] for link in below.select("a")] == ["#one", "#deeper", "#two"]


@of("book_contents")
@pytest.mark.parametrize(
    ("chapters", "sections"),
    [
        ("", SECTIONS),
        (CHAPTERS.replace('href="#"', 'href="02.html"'), SECTIONS),  # a page that is in no list
        (CHAPTERS, '<ul><li><a href="#">02 Softmax</a></li></ul>'),
        (CHAPTERS, ""),
    ],
)
def test_without_sections_or_a_line_of_its_own_the_list_stays(
    chapters: str, sections: str, extension: ModuleType
) -> None:
    assert extension.with_sections(chapters, sections) == chapters


# --- tables of words ---

TABLE = """<table class="table">
<thead><tr class="row-odd"><th class="head"><p>claim</p></th><th class="head"><p>holds <em>where</em></p></th></tr></thead>
<tbody><tr class="row-even"><td><p>a &lt; b</p></td><td><p>everywhere</p></td></tr>
<tr class="row-odd"><td><p>c</p></td><td></td></tr></tbody></table>"""  # noqa: E501


@of("book_tables")
def test_each_cell_knows_the_head_of_its_column(extension: ModuleType) -> None:
    (table,) = BeautifulSoup(extension.as_cards(TABLE), "html.parser").select("table.word-cards")
    labels = [[cell["data-label"] for cell in row.select("td")] for row in table.select("tbody tr")]
    assert labels == [["claim", "holds where"]] * 2
    words = [cell.get_text(strip=True) for cell in table.select("td")]
    assert words == ["a < b", "everywhere", "c", ""]


@of("book_tables")
def test_only_tables_of_the_text_become_cards(extension: ModuleType) -> None:
    bare = TABLE[: TABLE.index("<thead>")] + TABLE[TABLE.index("<tbody>") :]
    numbers = TABLE.replace('class="table"', 'class="moe-table"')
    context: dict[str, Any] = {"body": f"<p>Before.</p>{bare}{numbers}{TABLE}<p>After.</p>"}
    extension.offer_cards(None, "page", "page.html", context, None)
    assert context["body"].count("word-cards") == 1
    assert context["body"].startswith(f"<p>Before.</p>{bare}{numbers}<table")
    assert context["body"].endswith("</table><p>After.</p>")
    without: dict[str, Any] = {}
    extension.offer_cards(None, "search", "search.html", without, None)
    assert without == {}


# --- the first lines of a module ---


@of("book_api")
@pytest.mark.parametrize(
    ("text", "set_as"),
    [
        ("no sign at all", "no sign at all"),
        (
            "l_t = u_t W_EC, one dot product per expert.",
            ":math:`l_{t} = u_{t} W_{EC}`, one dot product per expert.",
        ),
        ("pi_te <- u_t", r":math:`\pi_{te} \leftarrow u_{t}`"),
        (
            "y = sum over e in chosen of g_e y_e",
            r":math:`y = \sum_{e\in{}chosen} g_{e} y_{e}`",
        ),
        ("softmax(l_te / tau)", r":math:`\operatorname{softmax}(l_{te} / \tau)`"),
    ],
)
def test_signs_become_formulas_and_words_stay_words(
    text: str, set_as: str, extension: ModuleType
) -> None:
    assert extension.with_maths(text) == set_as


class Pages:
    """A book that has one chapter."""

    class env:  # noqa: N801, Sphinx calls it so
        found_docs = ("book/intro", "notebooks/02_softmax")


@of("book_api")
@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (
            "Bigger is better.   Chapter 02.",
            "Bigger is better. See :doc:`chapter 02 </notebooks/02_softmax>`.",
        ),
        ("p = 1   Chapter 02.", ":math:`p = 1` See :doc:`chapter 02 </notebooks/02_softmax>`."),
        (
            "p = 1   End of chapter 02.",
            ":math:`p = 1` See the end of :doc:`chapter 02 </notebooks/02_softmax>`.",
        ),
        ("p = 1   Chapter 77.", ":math:`p = 1` See chapter 77."),
        ("p = 1, and no chapter.", "p = 1, and no chapter."),
    ],
)
def test_a_modules_chapter_is_a_link_if_there_is_one(
    line: str, shown: str, extension: ModuleType
) -> None:
    lines = ["The idea.", "", line]
    extension.set_first_lines(Pages, "module", "name", None, None, lines)
    assert lines == ["The idea.", "", shown]
    other = ["The idea.", "", line]
    extension.set_first_lines(Pages, "function", "name", None, None, other)
    assert other == ["The idea.", "", line]
