"""How we know: the strongest claims of each chapter, with the cell or the paper behind each.

A notebook's cell of text names its claims in its metadata, `"claims": [{"claim": "...", "by":
"<id of a code cell>"}]`, or `"source": "Fedus et al. (2021), section 2.4"` in place of `by`. The
directive `{claims}` makes the tables from them, and the cells get anchors to be found by.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from book_predict import HtmlElement, element
from book_works import all_works, link_to
from docutils import nodes
from docutils.parsers.rst import Directive
from site_works import find_citations
from sphinx.application import Sphinx

HEADS = ("Claim", "How we know")


class Claim(NamedTuple):
    """One sentence, and the cell or the source that it rests on."""

    text: str
    by: str | None
    source: str | None


class Chapter(NamedTuple):
    """What a notebook says of itself."""

    title: str
    claims: tuple[Claim, ...]
    code: dict[str, str]  # of each code cell by its id
    places: dict[int, str]  # the ids of its cells by their place


def read_chapter(file: Path) -> Chapter:
    """A notebook's claims, and its cells.

    Raises:
        ValueError: a claim that rests on no cell of code of this notebook and on no source.
    """
    cells = json.loads(file.read_text("utf-8"))["cells"]
    code = {it["id"]: "".join(it["source"]) for it in cells if it["cell_type"] == "code"}
    claims = []
    for cell in cells:
        for entry in cell["metadata"].get("claims", ()):
            claim = Claim(entry["claim"], entry.get("by"), entry.get("source"))
            if (claim.by is None) == (claim.source is None):
                raise ValueError(f"{file.name}: a claim must have either by or source, got {entry}")
            if claim.by is not None and claim.by not in code:
                raise ValueError(f"{file.name}: no code cell has the id {claim.by!r}, got {entry}")
            claims.append(claim)
    title = "".join(cells[0]["source"]).splitlines()[0].lstrip("# ")
    places = {place: cell["id"] for place, cell in enumerate(cells)}
    return Chapter(title, tuple(claims), code, places)


def anchor(cell: str) -> str:
    """The id on the page of a cell that a claim rests on."""
    return f"cell-{cell}"


def behind(app: Sphinx, page: str, chapter: Chapter, claim: Claim, here: str) -> HtmlElement:
    """What a claim rests on, as a cell of the table."""
    if claim.by is not None:
        address = f"{app.builder.get_relative_uri(here, page)}#{anchor(claim.by)}"
        asserted = "assert " in chapter.code[claim.by]
        words = "a cell asserts it" if asserted else "a cell computes it"
        return element("td", element("a", nodes.Text(words), href=address))
    cell: HtmlElement = element("td")
    last = 0
    assert claim.source is not None
    for found in find_citations(claim.source, all_works(app).values()):
        start = found.start
        cell += nodes.Text(claim.source[last:start])
        last = found.end
        cell += link_to(app, here, found.work, claim.source[start:last])
    cell += nodes.Text(claim.source[last:])
    return cell


class Claims(Directive):  # type: ignore[misc]
    """A section with a table for each chapter that makes claims."""

    def run(self) -> list[nodes.Node]:
        """Read the notebooks and make the sections."""
        env = self.state.document.settings.env
        sections: list[nodes.Node] = []
        for file in sorted(Path(env.srcdir, "notebooks").glob("*.ipynb")):
            env.note_dependency(str(file))
            page, chapter = f"notebooks/{file.stem}", read_chapter(file)
            if not chapter.claims:
                continue
            rows = [
                element(
                    "tr",
                    element("td", nodes.Text(claim.text)),
                    behind(env.app, page, chapter, claim, env.docname),
                )
                for claim in chapter.claims
            ]
            heads = [element("th", nodes.Text(head), scope="col") for head in HEADS]
            made = element(
                "table",
                element("thead", element("tr", *heads)),
                element("tbody", *rows),
                classes=("table",),
            )
            title = nodes.title("", f"Chapter {chapter.title}")
            sections.append(nodes.section("", title, made, ids=[f"chapter-{file.stem[:2]}"]))
        return sections


def set_anchors(app: Sphinx, document: nodes.document) -> None:
    """Let the cells of a chapter that claims rest on be found."""
    file = Path(app.srcdir, f"{app.env.docname}.ipynb")
    if not file.exists():
        return
    chapter = read_chapter(file)
    wanted = {claim.by for claim in chapter.claims}
    for cell in document.findall(nodes.container):
        name = chapter.places.get(cell.get("cell_index", -1))
        if name and cell.get("nb_element") == "cell_code" and name in wanted:
            cell["ids"].append(anchor(name))


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_directive("claims", Claims)
    app.connect("doctree-read", set_anchors)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
