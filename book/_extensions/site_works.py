"""The works of references.bib, and where a text names one: "Guo et al. (2017)", "(Li 2025)".

A work is named by its authors and its year, or by its name (the field `shorttitle`, as in
"DeepSeek-V3 (2024)"), which may also stand alone: "as Mixtral does".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pybtex.database import Entry, Person, parse_file
from pybtex.richtext import Text

MOST_AUTHORS = 3  # named on a card


def plain(latex: str) -> str:
    """A field of a bibliography without the marks of LaTeX."""
    return str(Text.from_latex(latex))


def listed(things: Sequence[str]) -> str:
    """Words as a sentence lists them: "a", "a and b", "a, b and c"."""
    return " and ".join(filter(None, [", ".join(things[:-1]), *things[-1:]]))


@dataclass(frozen=True)
class Work:
    """A work of the bibliography, in words.

    Attributes:
        key: Its name in references.bib.
        authors: All of them, first name first.
        label: The authors as a text cites them: "Guo et al.".
        name: What the work is called without its authors, "" if it has no such name.
        note: What else is to say of where it appeared.
        venue: Where it appeared first.
        addresses: Where it can be read: texts and addresses.
    """

    key: str
    authors: tuple[str, ...]
    label: str
    name: str
    title: str
    note: str
    venue: str
    year: str
    addresses: tuple[tuple[str, str], ...]

    @property
    def cited(self) -> str:
        """How the bibliography names it: "Guo et al. (2017)"."""
        return f"{self.label} ({self.year})"

    @property
    def all_authors(self) -> str:
        """All authors as a sentence lists them."""
        return listed(self.authors)

    @property
    def some_authors(self) -> str:
        """The authors, or the first of many."""
        first, rest = self.authors[:MOST_AUTHORS], self.authors[MOST_AUTHORS:]
        if len(rest) < 2:
            return self.all_authors
        return listed([*first, "others" if "others" in rest else f"{len(rest)} others"])


def _name(person: Person) -> tuple[str, str]:
    """A person's whole name and the last name."""
    last = " ".join([*person.prelast_names, *person.last_names])
    return plain(" ".join([*person.first_names, *person.middle_names, last])), plain(last)


def _venue(entry: Entry) -> str:
    """Where a work appeared: journal and pages, conference, publisher or archive."""
    fields = {name: plain(value) for name, value in entry.fields.items()}
    place = fields.get("journal") or fields.get("booktitle")
    if place:
        number = f"({fields['number']})" if "number" in fields else ""
        volume = f" {fields['volume']}{number}" if "volume" in fields else ""
        pages = f", pages {fields['pages']}" if "pages" in fields else ""
        return f"{place}{volume}{pages}"
    if "series" in fields:
        return f"{fields['series']} {fields['volume']}, {fields['publisher']}"
    return fields.get("publisher") or fields.get("howpublished") or "Preprint"


def make_work(entry: Entry) -> Work:
    """The work that an entry of the bibliography describes."""
    people = entry.persons["author"]
    others = bool(people) and str(people[-1]) == "others"
    names = [_name(person) for person in people[: -1 if others else None]]
    last = [name for _, name in names]
    label = f"{last[0]} et al." if others or len(last) > 2 else " and ".join(last)
    addresses = []
    if "eprint" in entry.fields:
        number = entry.fields["eprint"]
        addresses.append((f"arXiv:{number}", f"https://arxiv.org/abs/{number}"))
    if "doi" in entry.fields:
        number = entry.fields["doi"]
        addresses.append((f"doi:{number}", f"https://doi.org/{number}"))
    return Work(
        key=entry.key,
        authors=tuple(name for name, _ in names) + ("others",) * others,
        label=label,
        name=plain(entry.fields.get("shorttitle", "")),
        title=plain(entry.fields["title"]),
        note=plain(entry.fields.get("note", "")),
        venue=_venue(entry),
        year=entry.fields["year"],
        addresses=tuple(addresses),
    )


def read_works(file: Path) -> dict[str, Work]:
    """All works of a bibliography by their keys, in the order of their authors and years."""
    works = map(make_work, parse_file(str(file)).entries.values())
    ordered = sorted(works, key=lambda work: (work.label.casefold(), work.year))
    return {work.key: work for work in ordered}


@dataclass(frozen=True)
class Found:
    """A work that a text names between two places."""

    start: int
    end: int
    work: Work


def _words(text: str) -> str:
    """A pattern for words, wherever a line ends between them."""
    return r"\s+".join(map(re.escape, text.split()))


def find_citations(text: str, works: Iterable[Work]) -> list[Found]:
    """Where a text names works with their years."""
    found = []
    for work in works:
        heads = "|".join(_words(head) for head in (work.label, work.name) if head)
        pattern = rf"(?<![\w-])(?:{heads})\s+(?:\({work.year}\)|{work.year}(?!\w))"
        found += [Found(*m.span(), work) for m in re.finditer(pattern, text)]
    return sorted(found, key=lambda one: one.start)


def find_name(text: str, work: Work) -> Found | None:
    """Where a text first calls a work by its name alone."""
    named = re.search(rf"(?<![\w-]){_words(work.name)}(?![\w-])", text) if work.name else None
    return Found(*named.span(), work) if named else None
