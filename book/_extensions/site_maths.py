"""Formulas are set by KaTeX while the book is built: pages carry a drawing and MathML, no script.

One node process sets them all. A formula that KaTeX cannot set ends the build and is named.
"""

from __future__ import annotations

import functools
import json
import re
import subprocess

from docutils import nodes
from site_node import node_command
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.locale import _
from sphinx.util.math import get_node_equation_number
from sphinx.writers.html5 import HTML5Translator


@functools.cache
def _process() -> subprocess.Popen[str]:
    return subprocess.Popen(
        node_command("set_formulas.mjs"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )


@functools.cache
def set_formula(tex: str, display: bool) -> str:
    """A formula as HTML with MathML inside.

    Raises:
        ValueError: KaTeX cannot set it; the message says why.
    """
    process = _process()
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps({"tex": tex, "display": display}) + "\n")
    process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        raise ExtensionError("KaTeX did not run: is it in node_modules? `make book` installs it")
    answer: dict[str, str] = json.loads(line)
    if "error" in answer:
        raise ValueError(answer["error"])
    return answer["html"]


def display_tex(text: str, whole: bool) -> str:
    r"""The TeX of a displayed formula, by Sphinx's rules.

    An empty line parts two formulas, which stand below each other; `\\` breaks a line. What is an
    environment already (`whole`) stays as it is.
    """
    parts = [part.strip() for part in text.split("\n\n") if part.strip()]
    if whole or not parts:
        return text
    split = [rf"\begin{{split}}{part}\end{{split}}" if r"\\" in part else part for part in parts]
    if len(split) == 1:
        return split[0]
    return r"\begin{aligned}" + r"\\".join(split) + r"\end{aligned}"


def parts_of(tex: str) -> list[str]:
    r"""A displayed formula in the parts that `\qquad` sets apart, which may stand below each other.

    A gap inside braces or in an environment parts nothing.
    """
    if r"\begin" in tex:
        return [tex]
    parts = [""]
    for piece in re.split(r"(\\qquad\b)", tex):
        open_braces = sum(
            {"{": 1, "}": -1}.get(sign, 0) for sign in re.findall(r"(?<!\\)[{}]", parts[-1])
        )
        if piece == r"\qquad" and not open_braces:
            parts.append("")
        else:
            parts[-1] += piece
    return parts


def _set(node: nodes.math | nodes.math_block, tex: str, display: bool) -> str:
    try:
        return set_formula(tex, display)
    except ValueError as error:
        place = f"{node.source or (node.document and node.document['source'])}:{node.line or '?'}"
        raise ExtensionError(f"{place}: KaTeX cannot set {tex.strip()!r}: {error}") from error


def visit_inline(self: HTML5Translator, node: nodes.math) -> None:
    """Set a formula in a line of text."""
    self.body.append(self.starttag(node, "span", "", CLASS="math notranslate"))
    self.body.append(_set(node, node.astext(), display=False) + "</span>")
    raise nodes.SkipNode


def visit_display(self: HTML5Translator, node: nodes.math_block) -> None:
    """Set a formula on a line of its own, with its number if it has one."""
    self.body.append(self.starttag(node, "div", CLASS="math notranslate"))
    if node["number"]:
        self.body.append(f'<span class="eqno">({get_node_equation_number(self, node)})')
        self.add_permalink_ref(node, _("Link to this equation"))
        self.body.append("</span>")
    tex = display_tex(node.astext(), node["nowrap"])
    self.body.extend(_set(node, part, display=True) for part in parts_of(tex))
    self.body.append("</div>\n")
    raise nodes.SkipNode


def stop_katex(_app: Sphinx, _failure: Exception | None) -> None:
    """End the node process, if one was needed."""
    if _process.cache_info().currsize:
        process = _process()
        _process.cache_clear()
        set_formula.cache_clear()
        process.communicate()


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_html_math_renderer("katex", (visit_inline, None), (visit_display, None))
    app.connect("build-finished", stop_katex)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
