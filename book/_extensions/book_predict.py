"""What a reader does on a page: predict, pick and meet the result; and code that waits folded.

- A paragraph "**Predict first.** Question?" with the list of its options becomes a group of radio
  buttons, and "**Prediction: B.** Why" the place where a reader meets the own pick again. The nth
  result answers the nth question; what does not pair ends a strict build. Without options, a
  question is one to think about.
- `_static/reader.js` keeps the picks and the chapters that were read, in the reader's browser.
  Without scripts the options are a list.
- The line that unfolds the code of a figure stands below the figure.
"""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from myst_nb.sphinx_ import HideCodeCellNode
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

LOGGER = logging.getLogger(__name__)
QUESTION = "Predict first."
RESULT = "Prediction:"
LETTERS = "ABCD"
SCRIPTED = "pst-js-only"  # the theme's name for what is not shown where no script runs


class HtmlElement(nodes.General, nodes.Element):  # type: ignore[misc]
    """An element for which docutils has no node: its name is `tag`, its attributes `html`."""


def element(
    tag: str, *children: nodes.Node, classes: tuple[str, ...] = (), **html: str
) -> HtmlElement:
    """A node for an element of HTML."""
    made = HtmlElement("", *children, classes=list(classes), tag=tag, html=html)
    if "id" in html:
        made["ids"] = [html.pop("id")]
    return made


def visit_element(self: HTML5Translator, node: HtmlElement) -> None:
    """Open the element; an input has no content and no end."""
    self.body.append(self.starttag(node, node["tag"], "", **node["html"]))


def depart_element(self: HTML5Translator, node: HtmlElement) -> None:
    """Close it."""
    if node["tag"] != "input":
        self.body.append(f"</{node['tag']}>")


# --- questions and results ---


def options_of(question: nodes.paragraph) -> nodes.bullet_list | None:
    """The list that follows a question directly."""
    after = question.next_node(descend=False, siblings=True)
    return after if isinstance(after, nodes.bullet_list) else None


def letters_of(options: nodes.bullet_list) -> str:
    """The letters with which the options begin, a question mark for one that has none."""
    return "".join(
        found[1] if (found := re.match(r"([A-Z])\. ", item.astext())) else "?" for item in options
    )


def complain(node: nodes.Node, problem: str) -> None:
    """Warn, with the place; a strict build ends with it."""
    LOGGER.warning(problem, location=node, type="book", subtype="prediction")


def make_question(number: int, paragraph: nodes.paragraph, options: nodes.bullet_list) -> None:
    """Replace a question and its options by a group of radio buttons."""
    name = f"prediction-{number}"
    for item in options:
        text = item[0]
        first = next(iter(text.findall(nodes.Text)))
        letter = first[0]
        first.parent.replace(first, nodes.Text(first[3:]))
        label = element(
            "label",
            element(
                "input", classes=(SCRIPTED,), type="radio", name=name, value=letter,
                autocomplete="off",
            ),
            element("span", nodes.Text(f"{letter}."), classes=("letter",)),
            nodes.Text(" "),
            element("span", *text.children, classes=("option",)),
        )  # fmt: skip
        item.replace(text, label)
    note = "Pick one, and meet it again at the result. It stays in your browser."
    group = element(
        "fieldset",
        element("legend", *paragraph.children),
        classes=("predict",),
        id=name,
    )
    paragraph.replace_self(group)
    options.parent.remove(options)
    group += [
        options,
        element("p", nodes.Text(note), classes=("pick-note", SCRIPTED), role="status"),
    ]


def make_result(number: int, paragraph: nodes.paragraph, letter: str) -> None:
    """Put a line under a result that says what the reader picked; nothing, before they have."""
    name = f"prediction-{number}"
    line = element("p", classes=("pick", SCRIPTED))
    box = element("div", classes=("prediction",), id=f"{name}-result", **{"data-answer": letter})
    paragraph.replace_self(box)
    box += [paragraph, line]


def pair_predictions(_app: Sphinx, document: nodes.document) -> None:
    """Find a page's questions and results, complain about what does not pair, and mark them."""
    questions: list[tuple[nodes.paragraph, nodes.bullet_list, str]] = []
    results: list[tuple[nodes.paragraph, str]] = []
    for paragraph in list(document.findall(nodes.paragraph)):
        text = paragraph.astext()
        if text.startswith(QUESTION):
            options = options_of(paragraph)
            if options is None:
                paragraph["classes"].append("predict")
                continue
            letters = letters_of(options)
            if letters not in (LETTERS[:2], LETTERS[:3], LETTERS):
                complain(
                    options,
                    "the options of a prediction must be a list of 2 to 4 items that begin with "
                    f'"A. ", "B. " and so on, got "{letters}"',
                )
                return
            questions.append((paragraph, options, letters))
        elif text.startswith(RESULT):
            found = re.match(rf"{RESULT} ([A-Z])\. ", text)
            if not found:
                complain(
                    paragraph,
                    'the result of a prediction must begin with a letter, as in "**Prediction: '
                    f'B.** Because ...", got "{text[:40]}"',
                )
                return
            if len(results) >= len(questions):
                complain(paragraph, "this result of a prediction stands before its question")
                return
            if found[1] not in questions[len(results)][2]:
                complain(
                    paragraph,
                    f"the result of a prediction must be one of its options "
                    f"{', '.join(questions[len(results)][2])}, got {found[1]}",
                )
                return
            results.append((paragraph, found[1]))
    if len(results) < len(questions):
        complain(
            questions[len(results)][0],
            'this prediction has no result: a paragraph that begins with "**Prediction: B.**"',
        )
        return
    for number, (paragraph, options, _) in enumerate(questions, 1):
        make_question(number, paragraph, options)
    for number, (paragraph, letter) in enumerate(results, 1):
        make_result(number, paragraph, letter)


# --- folded code ---


class CodeBelowItsFigure(SphinxPostTransform):
    """Move the line that unfolds a cell's code below what the cell shows."""

    default_priority = 200  # after myst-nb has folded the code
    formats = ("html",)

    def run(self, **_: Any) -> None:
        """Look at every folded cell of a page."""
        for cell in list(self.document.findall(nodes.container)):
            if "tag_hide-input" in cell["classes"] and isinstance(cell[0], HideCodeCellNode):
                cell.append(cell.pop(0))


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_node(HtmlElement, html=(visit_element, depart_element))
    app.connect("doctree-read", pair_predictions)
    app.add_post_transform(CodeBelowItsFigure)
    app.add_js_file("reader.js", loading_method="defer")
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
