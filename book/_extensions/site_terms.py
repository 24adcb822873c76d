"""The words of the glossary, and which of them a chapter's text links.

A plain word, such as "load", may mean something else elsewhere, and one such as "top-k" comes all
the time: it is linked only in the chapters that its entry names. A term of its own, such as "noisy
top-k", is linked in every chapter.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from docutils import nodes

KEPT = (nodes.math, nodes.literal, nodes.emphasis, nodes.strong, nodes.inline)  # in a meaning


@dataclass(frozen=True)
class Term:
    """An entry of the glossary.

    Attributes:
        name: The term as its entry writes it.
        anchor: Its place on the glossary's page.
        chapters: The chapters that its entry names, by two digits; the first one introduces it.
        meaning: The first sentence of its entry.
    """

    name: str
    anchor: str
    chapters: tuple[str, ...]
    meaning: nodes.inline

    @property
    def everyday(self) -> bool:
        """Whether it is one plain word."""
        return self.name.islower() and " " not in self.name

    def is_linked_in(self, chapter: str) -> bool:
        """Whether a chapter's text links it."""
        return chapter in self.chapters if self.everyday else True


@functools.cache
def term_pattern(name: str) -> re.Pattern[str]:
    """Where a text has the term as a whole word, in the singular or the plural."""
    *first, last = (re.escape(word) for word in name.split())
    if last.endswith("y"):
        last = f"{last[:-1]}(?:y|ies)"
    elif not last.endswith("s"):
        last += "(?:e?s)?"
    flags = re.IGNORECASE if name.islower() else re.NOFLAG
    words = r"\s+".join([*first, last])
    return re.compile(rf"(?<![\w-]){words}(?![\w-])", flags)


def chapters_named(text: str) -> tuple[str, ...]:
    """The chapters that an entry names, in its order: "Chapters 06 and 11" are two."""
    named = re.search(r"\b[Cc]hapters? \d\d\b.*", text, re.DOTALL)
    numbers = re.findall(r"(?<![\d.])\d\d(?!\d|\.\d)", named[0]) if named else []
    return tuple(dict.fromkeys(numbers))


def first_sentence(paragraph: nodes.paragraph) -> nodes.inline:
    """The first sentence of an entry, its links as words."""
    sentence = nodes.inline()
    for child in paragraph.children:
        if isinstance(child, nodes.Text):
            end = re.search(r"\.(?=\s|$)", child)
            sentence += nodes.Text(child[: end.end()] if end else child)
            if end:
                break
        elif isinstance(child, KEPT):
            sentence += child.deepcopy()
            if child.astext().endswith("."):
                break
        elif child.get("refdomain") != "cite":
            sentence += nodes.Text(child.astext())
        elif sentence.children and isinstance(sentence[-1], nodes.Text):
            # A citation is left out, with the space before it.
            sentence[-1] = nodes.Text(sentence[-1].astext().rstrip())
    return sentence


def read_term(item: nodes.definition_list_item) -> list[Term]:
    """The terms that share one entry of the glossary."""
    definition = item.next_node(nodes.definition)
    meaning = first_sentence(definition.next_node(nodes.paragraph))
    chapters = chapters_named(definition.astext())
    return [
        Term(term.astext(), term["ids"][0], chapters, meaning) for term in item.findall(nodes.term)
    ]
