r"""The first lines of a module, as its page shows them: formulas set, chapters linked.

In the source they are plain text, ``l_t = u_t W_EC, one dot product per expert.   Chapter 01.``
Signs become formulas, words stay words.
"""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx

GREEK = {"alpha", "gamma", "pi", "tau"}
SIGNS = {
    "*": r"\cdot",
    "->": r"\to",
    "<-": r"\leftarrow",
    "~": r"\sim",
    "ceil": r"\operatorname{ceil}",
}
SUM = re.compile(r"\bsum over (\w)(?: in (\w+))? of\b")
CHAPTER = re.compile(r"\s+(End of c|C)hapter (\d\d)\.$")
# What a sentence has no word for: a subscript, a call, a letter alone, a number, an operator.
SIGN = re.compile(
    r"""[(\[]*(
        \\sum\S* | \w+_\S+ | \w+[(\[]\S+ | [b-zA-HJ-Z] | \d+ | [-+*/=~<>]+
        | alpha | gamma | pi | tau
    )[)\]]*""",
    re.VERBOSE,
)


def _name(found: re.Match[str]) -> str:
    name, call = found["name"], found["call"]
    base, _, below = name.partition("_")
    if base in GREEK:
        base = rf"\{base}"
    elif len(base) > 1:
        base = rf"\operatorname{{{base}}}" if call else rf"\mathrm{{{base}}}"
    words = (
        rf"\mathrm{{{word}}}" if len(word) > 2 or word == "in" else word
        for word in below.split(",")
    )
    return base + (f"_{{{','.join(words)}}}" if below else "") + call


def to_tex(signs: str) -> str:
    """Signs as they are typed, ``pi_te <- u_t W_in,e``, in TeX."""
    parts = [
        part
        if part.startswith("\\")
        else SIGNS.get(part)
        or re.sub(r"(?P<name>[A-Za-z]+(?:_[A-Za-z]+(?:,[a-z])?)?)(?P<call>\(?)", _name, part)
        for part in signs.split()
    ]
    return " ".join(parts)


def with_maths(text: str) -> str:
    """A line of a docstring in reStructuredText, with a formula wherever it has signs."""
    text = SUM.sub(lambda s: rf"\sum_{{{s[1]}" + (rf"\in{{}}{s[2]}" if s[2] else "") + "}", text)
    text = re.sub(r"\bsum_(\w)\b", r"\\sum_{\1}", text)
    written: list[str] = []
    run: list[str] = []
    for word in [*text.split(), ""]:
        bare = word.rstrip(",;:.")
        if bare and SIGN.fullmatch(bare):
            run.append(bare)
        if run and (not bare or not SIGN.fullmatch(bare) or bare != word):
            written.append(
                f":math:`{to_tex(' '.join(run))}`"
                + (word[len(bare) :] if SIGN.fullmatch(bare) else "")
            )
            run = []
        if bare and not SIGN.fullmatch(bare):
            written.append(word)
    return " ".join(written)


def set_first_lines(
    app: Sphinx, what: str, _name: str, _object: object, _options: object, lines: list[str]
) -> None:
    """Set the formula of a module and link its chapter."""
    if what != "module":
        return
    for place, line in enumerate(lines):
        found = CHAPTER.search(line)
        if not found:
            continue
        formula = line[: found.start()]
        if lines[place - 1].strip() == "" and re.search(r"[=_]|->", formula):
            formula = with_maths(formula)
        pages = (page for page in app.env.found_docs if page.startswith(f"notebooks/{found[2]}_"))
        link = next(
            (f":doc:`chapter {found[2]} </{page}>`" for page in pages), f"chapter {found[2]}"
        )
        lines[place] = f"{formula} See {'the end of ' if found[1] != 'C' else ''}{link}."


def keep_letters(
    _app: Sphinx, _what: str, _name: str, _object: object, _options: object, lines: list[str]
) -> None:
    """Let ``model_width: D.`` say D, which would else begin a numbered list at its fourth point."""
    lines[:] = [re.sub(r": ([A-Z])\.$", r": \1\\.", line) for line in lines]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("autodoc-process-docstring", set_first_lines)
    app.connect("autodoc-process-docstring", keep_letters, priority=400)  # before napoleon, 500
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
