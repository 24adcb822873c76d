"""Formulas are set while the book is built; one that cannot be set ends the build."""

import io
import sys
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

from .conftest import ROOT

FORMULAS = r"""# Of $x_t$

Inline $a < b$.

$$ e^{i\pi} = -1 $$ (euler)

$$
a = b \\
c = d
$$

\begin{align}
y &= 1 \\
z &= 2
\end{align}

See {eq}`euler`.
"""


def build(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> BeautifulSoup:
    """The page that Sphinx makes of a text, with our formulas."""
    monkeypatch.setattr(sys, "path", [str(ROOT / "book" / "_extensions"), *sys.path])
    (folder / "index.md").write_text(text, encoding="utf-8")
    options = {
        "extensions": ["myst_parser", "site_maths"],
        "html_math_renderer": "katex",
        "myst_enable_extensions": ["dollarmath", "amsmath"],
    }
    html, doctrees = folder / "html", folder / "doctrees"
    app = Sphinx(folder, None, html, doctrees, "html", options, status=None, warning=io.StringIO())
    app.build()
    return BeautifulSoup((html / "index.html").read_text("utf-8"), "html.parser")


def test_formulas_are_drawn_and_carry_mathml(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = build(FORMULAS, tmp_path, monkeypatch)
    formulas = page.select(".body .math")
    sources = [annotation.text for annotation in page.select(".body .math annotation")]
    assert len(formulas) == len(sources) == 5
    assert sources[:3] == ["x_t", "a < b", r"e^{i\pi} = -1"]
    assert all(f.select("math") and f.select(".katex-html[aria-hidden=true]") for f in formulas)
    assert [bool(f.select(".katex-display")) for f in formulas] == [False] * 2 + [True] * 3
    assert [len(f.select("mtr")) for f in formulas[3:]] == [2, 2]
    (number,) = page.select("#equation-euler .eqno")
    assert number.text.startswith("(1)")
    (reference,) = page.select("p a[href='#equation-euler']")
    assert reference.text == "(1)"


@pytest.mark.parametrize("formula", [r"\frac{1}{", r"\nosuchcommand x", "x^2^3", "% only a remark"])
def test_what_katex_cannot_set_ends_the_build(
    formula: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ExtensionError) as error:
        build(f"# Title\n\nText.\n\n$$\n{formula}\n$$\n", tmp_path, monkeypatch)
    assert repr(formula) in str(error.value)
    assert "index.md:5" in str(error.value)
