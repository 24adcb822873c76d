"""What a text names: works of the bibliography and terms of the glossary."""

import importlib
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import nbformat
import pytest
from docutils import nodes
from sphinx import addnodes

ROOT = Path(__file__).resolve().parents[1]
# An author and a year, as any text has them; months have years, too.
AUTHOR_AND_YEAR = re.compile(
    r"(?!(?:January|February|March|April|May|June|July|August|September|October|November|December)\b)"
    r"\b[A-Z][\w-]*(?:\s+et\s+al\.|\s+and\s+[A-Z][\w-]*)?\s+\(?(?:18|19|20)\d\d\b"
)


def module(name: str, patch: pytest.MonkeyPatch) -> ModuleType:
    """A module of book/_extensions, which are in no package."""
    patch.setattr(sys, "path", [str(ROOT / "book" / "_extensions"), *sys.path])
    return importlib.import_module(name)


@pytest.fixture
def works_module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return module("site_works", monkeypatch)


@pytest.fixture
def terms_module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return module("site_terms", monkeypatch)


@pytest.fixture
def works(works_module: ModuleType) -> dict[str, Any]:
    found: dict[str, Any] = works_module.read_works(ROOT / "book" / "references.bib")
    return found


def cited(text: str, works: dict[str, Any], works_module: ModuleType) -> list[tuple[str, str]]:
    """What is linked, and to which work."""
    found = works_module.find_citations(text, works.values())
    return [(text[one.start : one.end], one.work.key) for one in found]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("see Guo et al. (2017);", [("Guo et al. (2017)", "guo2017")]),
        ("(Guo et al. 2017, section 2)", [("Guo et al. 2017", "guo2017")]),
        ("Guo et\nal. (2017)", [("Guo et\nal. (2017)", "guo2017")]),
        ("work of Li (2025) and (Li 2025; *x*)", [("Li (2025)", "li2025"), ("Li 2025", "li2025")]),
        ("SwiGLU (Shazeer 2020)", [("Shazeer 2020", "shazeer2020")]),
        ("Shazeer et al. (2017)", [("Shazeer et al. (2017)", "shazeer2017")]),
        ("as DeepSeek-V3 (2024) does", [("DeepSeek-V3 (2024)", "deepseekai2024")]),
        ("NLLB-MoE (2022) can", [("NLLB-MoE (2022)", "nllb2022")]),
        (
            "Jordan and Jacobs (1994) after Jacobs et al. (1991)",
            [("Jordan and Jacobs (1994)", "jordan1994"), ("Jacobs et al. (1991)", "jacobs1991")],
        ),
        ("Guo et al. (2018), Li 20250, Ali (2025), in 2017", []),
    ],
)
def test_works_with_their_years(
    text: str,
    expected: list[tuple[str, str]],
    works: dict[str, Any],
    works_module: ModuleType,
) -> None:
    assert cited(text, works, works_module) == expected


def test_a_name_alone_is_a_whole_word(works: dict[str, Any], works_module: ModuleType) -> None:
    mixtral, guo = works["jiang2024"], works["guo2017"]
    found = works_module.find_name("what Mixtral does, Mixtral does", mixtral)
    assert (found.start, found.end) == (5, 12)
    assert works_module.find_name("in Mixtral-like layers", mixtral) is None
    assert works_module.find_name("anything", guo) is None


def test_a_work_in_words(works: dict[str, Any]) -> None:
    guo = works["guo2017"]
    assert guo.cited == "Guo et al. (2017)"
    assert guo.all_authors == "Chuan Guo, Geoff Pleiss, Yu Sun and Kilian Q. Weinberger"
    assert guo.addresses == (("arXiv:1706.04599", "https://arxiv.org/abs/1706.04599"),)
    assert works["jiang2024"].some_authors.endswith("Antoine Roux and 23 others")
    assert works["nllb2022"].some_authors.endswith("James Cross and others")
    assert works["jacobs1991"].venue == "Neural Computation 3(1), pages 79\u201387"
    words = [" ".join((w.cited, w.title, w.venue, w.note, w.all_authors)) for w in works.values()]
    assert not re.search(r"[{}\\]", " ".join(words)), "marks of LaTeX are left"
    cited_as = [(work.cited, work.name) for work in works.values()]
    assert len(set(cited_as)) == len(cited_as), "two works are cited in the same words"


def test_no_two_works_have_one_name(works: dict[str, Any]) -> None:
    names = [work.name for work in works.values() if work.name]
    assert len(set(names)) == len(names)
    assert not {work.label for work in works.values()} & set(names)


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda p: p.stem)
def test_chapters_cite_nothing_that_the_bibliography_lacks(
    path: Path, works: dict[str, Any], works_module: ModuleType
) -> None:
    unknown = []
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type != "markdown":
            continue
        text = re.sub(r"`[^`]*`", "", cell.source)
        linked = works_module.find_citations(text, works.values())
        unknown += [
            one[0]
            for one in AUTHOR_AND_YEAR.finditer(text)
            if not any(work.start <= one.start() < work.end for work in linked)
        ]
    assert not unknown, "add them to book/references.bib, or cite them as it has them"


@pytest.mark.parametrize(
    ("term", "text", "found"),
    [
        ("token", "two Tokens", "Tokens"),
        ("probability", "the probabilities", "probabilities"),
        ("nats", "2 nats a byte", "nats"),
        ("logit space", "in logit\nspace", "logit\nspace"),
        ("load", "loaded, overload, load-aware, loads", "loads"),
        ("top-k", "Top-k of", "Top-k"),
        ("SwiGLU", "swiglu", None),
        ("ties", "tie", None),
    ],
)
def test_a_term_in_a_text(
    term: str, text: str, found: str | None, terms_module: ModuleType
) -> None:
    match = terms_module.term_pattern(term).search(text)
    assert (match and match[0]) == found


@pytest.mark.parametrize(
    ("text", "chapters"),
    [
        ("One of 12. Chapter 02, and again in chapter 08.", ("02", "08")),
        ("Loss 0.01. Chapters 06 and 11.", ("06", "11")),
        ("Counted in chapter 00.", ("00",)),
        ("Times 0.25 of 16.", ()),
    ],
)
def test_the_chapters_that_an_entry_names(
    text: str, chapters: tuple[str, ...], terms_module: ModuleType
) -> None:
    assert terms_module.chapters_named(text) == chapters


def test_a_meaning_has_no_gap_where_a_citation_was(terms_module: ModuleType) -> None:
    entry = nodes.paragraph()
    entry += [
        nodes.Text("A layer "),
        addnodes.pending_xref("", nodes.Text("[1]"), refdomain="cite"),
    ]
    entry += [nodes.Text("; MoE "), addnodes.pending_xref("", nodes.Text("[2]"), refdomain="cite")]
    entry += nodes.Text(" for short. More.")
    assert terms_module.first_sentence(entry).astext() == "A layer; MoE for short."


def test_plain_words_are_linked_where_their_entry_says(terms_module: ModuleType) -> None:
    def term(name: str) -> Any:
        return terms_module.Term(name, name, ("08", "09"), None)

    assert [term("load").is_linked_in(chapter) for chapter in ("02", "08", "09")] == [False, 1, 1]
    assert term("noisy top-k").is_linked_in("02")
    assert term("SwiGLU").is_linked_in("02")
