"""The bibliography: one entry for each work, under the words by which chapters cite it.

sphinxcontrib-bibtex reads references.bib, and warns of a key that is not there; its numbered list
and its numbers in the text give way to authors and years, as the chapters have them.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from book_predict import HtmlElement, element
from docutils import nodes
from site_works import Work, find_citations, find_name, read_works
from sphinx.application import Sphinx

BIBLIOGRAPHY = "book/bibliography"


@functools.cache
def works_of(file: Path) -> dict[str, Work]:
    """The works of a file, read once."""
    return read_works(file)


def all_works(app: Sphinx) -> dict[str, Work]:
    """The works of the book by their keys."""
    return works_of(Path(app.srcdir, app.config.bibtex_bibfiles[0]))


def named_in(app: Sphinx, words: list[str]) -> list[str]:
    """The keys of the works that a chapter's text names."""
    works = all_works(app)
    dated = {one.work.key for text in words for one in find_citations(text, works.values())}
    return [
        key
        for key, work in works.items()
        if key in dated or any(find_name(text, work) for text in words)
    ]


def link_to(app: Sphinx, page: str, work: Work, words: str) -> HtmlElement:
    """A link from a page to a work's entry, with the name of its card."""
    address = app.builder.get_relative_uri(page, BIBLIOGRAPHY)
    card = {} if page == BIBLIOGRAPHY else {"aria-describedby": f"card-cite-{work.key}"}
    return element(
        "a", nodes.Text(words), classes=("cited",), href=f"{address}#cite-{work.key}", **card
    )


def link_roles(app: Sphinx, document: nodes.document, page: str) -> None:
    """Have the roles {cite:t} and {cite:p} print what the chapters have."""
    for role in list(document.findall(nodes.inline)):
        if "bibtex-citation" in role["classes"]:
            work = all_works(app)[role.rawsource]
            in_parentheses = role.astext().startswith("[")
            role.clear()
            if in_parentheses:
                link = link_to(app, page, work, f"{work.label} {work.year}")
                role += [nodes.Text("("), link, nodes.Text(")")]
            else:
                role += link_to(app, page, work, work.cited)


def citing(app: Sphinx, work: Work) -> HtmlElement | None:
    """The chapters that cite a work, each a link to the place where it does so first."""
    pages = [page for page in sorted(app.env.metadata) if work.key in cited(app, page)]
    line = element("p", classes=("citing",))
    for page in pages:
        between = " and " if page == pages[-1] else ", "
        line += nodes.Text(between if len(line) else f"Cited in chapter{'s' * (len(pages) > 1)} ")
        address = f"{app.builder.get_relative_uri(BIBLIOGRAPHY, page)}#cited-{work.key}"
        line += element("a", nodes.Text(page.split("/")[1][:2]), href=address)
    return line if pages else None


def cited(app: Sphinx, page: str) -> Any:
    """The keys of the works that a page cites."""
    return app.env.metadata[page].get("book_cited", ())


def entry(app: Sphinx, work: Work) -> list[nodes.Node]:
    """A work as an entry of the list."""
    published = f"{work.venue}, {work.year}." + (f" {work.note}." if work.note else "")
    place = element("p", nodes.Text(published), classes=("venue",))
    for words, address in work.addresses:
        place += [nodes.Text(" "), element("a", nodes.Text(words), href=address)]
    about = element("dd", element("p", nodes.Text(work.title), classes=("title",)))
    if work.all_authors != work.label:
        about += element("p", nodes.Text(work.all_authors))
    about += place
    if (line := citing(app, work)) is not None:
        about += line
    return [element("dt", nodes.Text(work.cited), id=f"cite-{work.key}"), about]


def show_bibliography(app: Sphinx, document: nodes.document) -> None:
    """Set the list of works."""
    first = next(iter(document.findall(nodes.citation)))
    entries = [node for work in all_works(app).values() for node in entry(app, work)]
    first.parent.replace_self(element("dl", *entries, classes=("works",)))
