"""The margin: asides, references and words of the glossary beside the text, and cards for links.

Notebooks stay plain Markdown; here

- a work that a text names (site_works.py) becomes a link to the bibliography,
- a term of the glossary (site_terms.py) becomes a quiet link to it, once in a chapter,
- the first link to a work, and to a term that another chapter introduced, has a note in the margin,
- a quotation that begins "**Aside.**" becomes a note to the block before it,
- each link has a card, which `_static/margin.js` shows while the link is pointed at or focused.

A block of text has one note at most, so that notes stay beside what they belong to. The style sheet
shows notes on wide windows only; asides stand in the text on narrow ones.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from book_predict import HtmlElement, element
from book_works import BIBLIOGRAPHY, all_works, link_roles, link_to, named_in, show_bibliography
from docutils import nodes
from site_terms import Term, read_term, term_pattern
from site_works import Found, Work, find_citations, find_name
from sphinx.application import Sphinx
from sphinx.builders.html import StandaloneHTMLBuilder
from sphinx.environment import BuildEnvironment

GLOSSARY = "book/glossary"
# Text in these is no prose, or is a link or a control already.
NOT_PROSE = (
    nodes.title,
    nodes.literal,
    nodes.literal_block,
    nodes.math,
    nodes.math_block,
    nodes.reference,
    nodes.raw,
    nodes.comment,
)
CONTROLS = {"a", "button", "label", "legend", "summary"}
INLINE = (nodes.strong, nodes.emphasis, nodes.inline)
RUNNING = (*INLINE, nodes.paragraph, nodes.list_item, nodes.bullet_list, nodes.enumerated_list)
ANNOTATED = "annotated"  # the class of a block of text or code together with its aside
LONGEST_MEANING = 150  # letters of a note in the margin
DESCRIBED = re.compile(r'aria-describedby="card-([\w-]+)"')


def chapter_of(page: str) -> str:
    """The two digits of a chapter's page, "" for other pages."""
    named = re.match(r"notebooks/(\d\d)_", page)
    return named[1] if named else ""


def texts(document: nodes.document) -> list[nodes.Text]:
    """All text of a page that could be linked."""

    def is_open(text: nodes.Text) -> bool:
        above = text.parent
        while above is not None:
            if isinstance(above, NOT_PROSE) or above.get("tag") in CONTROLS:
                return False
            if "aria-hidden" in above.get("html", {}):
                return False
            above = above.parent
        return True

    return [text for text in document.findall(nodes.Text) if is_open(text)]


def block_of(node: nodes.Node) -> nodes.Node | None:
    """The block of running text that a node stands in; None if it is no such text."""
    while isinstance(node.parent, RUNNING):
        node = node.parent
    around = node.parent
    stands = isinstance(around, nodes.section) or ANNOTATED in around.get("classes", [])
    return node if stands and not node.get("classes") else None


# --- asides ---


def has_room(block: nodes.Node) -> bool:
    """Whether an aside may stand beside a block: text, a formula, a cell of code or a result."""
    if isinstance(block, (nodes.container, HtmlElement)):
        return bool({"cell", "prediction"}.intersection(block["classes"]))
    text = (nodes.paragraph, nodes.bullet_list, nodes.enumerated_list, nodes.math_block)
    return isinstance(block, text) and not block["classes"]


def move_asides(document: nodes.document) -> list[nodes.Node]:
    """Make quotations that begin "Aside." notes; return the blocks that have one now."""
    noted = []
    for quotation in list(document.findall(nodes.block_quote)):
        if not re.match(r"Aside\.\s", quotation.astext()):
            continue
        around = quotation.parent
        place = around.index(quotation)
        note = element("div", *quotation.children, classes=("beside", "aside"), role="note")
        if place and has_room(around[place - 1]):
            block = around[place - 1]
            around[place - 1 : place + 1] = [element("div", block, note, classes=(ANNOTATED,))]
            noted.append(block)
        else:
            quotation.replace_self(note)
    return noted


# --- links ---


def replace_part(text: nodes.Text, start: int, end: int, *new: nodes.Node) -> nodes.Text:
    """Put nodes in the place of a part of a text; return the text that is left after them."""
    rest = nodes.Text(text[end:])
    text.parent.replace(text, [nodes.Text(text[:start]), *new, rest])
    return rest


class Linker:
    """Links the works and the terms that one page's text names."""

    def __init__(self, app: Sphinx, page: str, document: nodes.document) -> None:
        """Look at a page that was read."""
        self.app, self.page, self.document = app, page, document
        self.works = all_works(app)
        self.linked: set[str] = set()
        self.noted = move_asides(document)

    def note(self, place: nodes.Node, *words: nodes.Node) -> list[nodes.Node]:
        """A note for the margin, if there is room; it repeats what the link's card says."""
        block = block_of(place)
        if block is None or block in self.noted:
            return []
        self.noted.append(block)
        return [element("span", *words, classes=("beside",), **{"aria-hidden": "true"})]

    def link_work(self, text: nodes.Text, found: Found) -> nodes.Text:
        """Link what a text says of a work; the first link of a page is where its entry leads."""
        work = found.work
        link = link_to(self.app, self.page, work, text[found.start : found.end])
        new: list[nodes.Node] = [link]
        if work.key not in self.linked:
            self.linked.add(work.key)
            link["ids"] = [f"cited-{work.key}"]
            new += self.note(
                text,
                nodes.strong("", work.cited),
                nodes.Text(" "),
                nodes.emphasis("", work.title),
            )
        return replace_part(text, found.start, found.end, *new)

    def link_works(self) -> None:
        """Link all works with their years; others by their names, where they come first."""
        for text in texts(self.document):
            cut, rest = 0, text
            for found in find_citations(text, self.works.values()):
                rest = self.link_work(rest, Found(found.start - cut, found.end - cut, found.work))
                cut = found.end
        for work in self.works.values():
            if work.key not in self.linked:
                self.link_name(work)

    def link_name(self, work: Work) -> None:
        """Link a work by its name, where it comes first."""
        for text in texts(self.document):
            if found := find_name(text, work):
                self.link_work(text, found)
                return

    def link_terms(self, chapter: str) -> None:
        """Link the terms of the glossary where they come first, the longest first."""
        terms = glossary(self.app.env)
        for term in sorted(terms.values(), key=lambda term: -len(term.name)):
            if term.is_linked_in(chapter):
                self.link_term(term, chapter)

    def link_term(self, term: Term, chapter: str) -> None:
        """Link a term where running text first has it."""
        for text in texts(self.document):
            found = term_pattern(term.name).search(text) if block_of(text) else None
            if not found:
                continue
            address = self.app.builder.get_relative_uri(self.page, GLOSSARY)
            link = element(
                "a",
                nodes.Text(found[0]),
                classes=("word",),
                href=f"{address}#{term.anchor}",
                **{"aria-describedby": f"card-{term.anchor}"},
            )
            meaning = term.meaning.astext()
            known = chapter in term.chapters[:1] or len(meaning) > LONGEST_MEANING
            note = (
                []
                if known or any(term.meaning.findall(nodes.math))
                else self.note(
                    text, nodes.strong("", term.name), nodes.Text(": "), term.meaning.deepcopy()
                )
            )
            replace_part(text, *found.span(), link, *note)
            return


@functools.cache
def glossary(env: BuildEnvironment) -> dict[str, Term]:
    """The terms of the glossary by their anchors."""
    if GLOSSARY not in env.found_docs:
        return {}
    items = env.get_doctree(GLOSSARY).findall(nodes.definition_list_item)
    return {
        term.anchor: term
        for item in items
        if "glossary" in item.parent["classes"]
        for term in read_term(item)
    }


def link_page(app: Sphinx, document: nodes.document, page: str) -> None:
    """Make the links and the notes of a page."""
    link_roles(app, document, page)
    if page == BIBLIOGRAPHY:
        show_bibliography(app, document)
    elif chapter := chapter_of(page):
        linker = Linker(app, page, document)
        linker.link_works()
        linker.link_terms(chapter)


# --- cards ---


def card_of_work(work: Work) -> str:
    """What a card says about a work."""
    venue = f"{work.venue}, {work.year}"
    return (
        f"<p><strong>{escape(work.title)}</strong></p>"
        f'<p class="about">{escape(work.some_authors)}</p><p class="about">{escape(venue)}</p>'
    )


def card_of_term(app: Sphinx, term: Term) -> str:
    """What a card says about a term."""
    assert isinstance(app.builder, StandaloneHTMLBuilder)
    meaning = app.builder.render_partial(term.meaning)["fragment"]
    return f"<p><strong>{escape(term.name)}</strong></p><p>{meaning}</p>"


def cards(app: Sphinx, body: str) -> Iterator[str]:
    """One card for each work and term that a page links."""
    works = {f"cite-{key}": work for key, work in all_works(app).items()}
    terms = glossary(app.env)
    for anchor in dict.fromkeys(DESCRIBED.findall(body)):
        work = works.get(anchor)
        words = card_of_work(work) if work else card_of_term(app, terms[anchor])
        yield f'<div class="hover-card" id="card-{anchor}" popover="manual">{words}</div>'


def add_cards(
    app: Sphinx, _page: str, _template: str, context: dict[str, Any], document: object
) -> None:
    """Put the cards that a page's links name below its text."""
    if document is not None:
        shown = "\n".join(cards(app, context["body"]))
        context["body"] += f'<div class="cards">\n{shown}\n</div>\n' if shown else ""


def watch_sources(app: Sphinx, document: nodes.document) -> None:
    """Have a chapter read again when what it links has changed, and note what it cites."""
    page = app.env.docname
    if chapter_of(page):
        for source in (app.config.bibtex_bibfiles[0], f"{GLOSSARY}.md"):
            app.env.note_dependency(str(Path(app.srcdir, source)))
        words = [str(text) for text in texts(document)]
        app.env.metadata[page]["book_cited"] = named_in(app, words)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("doctree-read", watch_sources)
    app.connect("doctree-resolved", link_page)
    app.connect("html-page-context", add_cards)
    app.add_js_file("margin.js")
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
