"""What one answer needs of a notebook or a module: its function, and what that stands on.

A notebook holds figures, experiments and half a cell that fails; an answer needs few of its lines.
"""

import ast
import dis
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType

# Words that an honest answer hardly needs; a person should read what has them.
UNUSUAL = re.compile(
    r"\b(EXERCISES|chapter_\d\d|grader|Exercise|Verdict|_getframe|settrace|gc|inspect|ctypes"
    r"|__torch_function__|__subclasses__|subprocess|socket|exec|eval|open|_exit|fork)\b"
)


class AnswerError(Exception):
    """An answer that cannot be taken out of what was handed in; the text says why."""


@dataclass(frozen=True)
class _Statement:
    """One statement at the top of a file, with the names that it makes and those it needs."""

    source: str
    makes: frozenset[str]
    needs: frozenset[str]
    always: bool


def pieces(files: Sequence[Path]) -> list[str]:
    """The code of some notebooks and modules: one text for each cell, one for each module.

    Raises:
        AnswerError: a file that cannot be read.
    """
    return [text for file in files for text in _pieces(file)]


def _pieces(file: Path) -> Iterator[str]:
    try:
        text = file.read_text(encoding="utf-8")
        if file.suffix != ".ipynb":
            yield text
            return
        for cell in json.loads(text)["cells"]:
            if cell["cell_type"] == "code":
                yield "".join(cell["source"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise AnswerError(f"{file.name} cannot be read: {type(error).__name__}: {error}") from error


def unusual_words(codes: Sequence[str]) -> list[str]:
    """Words for a person to look at; they prove nothing."""
    return sorted({match[0] for code in codes for match in UNUSUAL.finditer(code)})


def source_of(name: str, codes: Sequence[str]) -> str:
    """The statements that make a name, those that they need, and so on, in their order.

    What only draws, prints, checks or trains is left out, so that an answer does not wait for it,
    and does not fall with it.

    Args:
        name: of the function.
        codes: the texts, as :func:`pieces` gives them.

    Returns:
        Source text; empty if nothing makes the name.

    Raises:
        AnswerError: the name stands in a text that is not Python.
    """
    statements: list[_Statement] = []
    for code in codes:
        try:
            statements += _statements(code)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            if re.search(rf"\b{re.escape(name)}\b", code):
                where = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
                said = error.msg if isinstance(error, SyntaxError) else str(error)
                raise AnswerError(f"this is not Python: {said}{where}") from error
    if not any(name in it.makes for it in statements):
        return ""
    needed, kept = {name}, {i for i, it in enumerate(statements) if it.always}
    while True:
        more = {i for i, it in enumerate(statements) if i not in kept and it.makes & needed}
        if not more:
            break
        kept |= more
        needed = needed.union(*(statements[i].needs for i in more))
    chosen = [statements[i].source for i in sorted(kept)]
    chosen.sort(key=lambda source: not source.startswith("from __future__"))
    return "\n".join(chosen) + "\n"


def _statements(code: str) -> Iterator[_Statement]:
    tree = ast.parse(_without_magics(code))
    for node in tree.body:
        compiled = compile(ast.Module([node], []), "<answer>", "exec", dont_inherit=True)
        makes = {it.argval for it in dis.get_instructions(compiled) if it.opname == "STORE_NAME"}
        star = isinstance(node, ast.ImportFrom) and (
            node.module == "__future__" or any(alias.name == "*" for alias in node.names)
        )
        yield _Statement(
            ast.unparse(node),
            frozenset(makes | _changed(node)),
            frozenset(_needed(compiled)),
            star,
        )


def _without_magics(code: str) -> str:
    """Lines such as ``%matplotlib inline`` are for notebooks, not for Python."""
    return "\n".join("" if re.match(r"\s*[%!?]", line) else line for line in code.splitlines())


def _needed(code: CodeType) -> Iterator[str]:
    for it in dis.get_instructions(code):
        if it.opname in ("LOAD_NAME", "LOAD_GLOBAL"):
            yield it.argval
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _needed(constant)


def _changed(node: ast.stmt) -> set[str]:
    """Names whose values a statement changes from within: ``TABLE[0] = 1``, ``model.eval()``."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        places = [node.value.func]
    elif isinstance(node, ast.Assign):
        places = list(node.targets)
    elif isinstance(node, ast.AugAssign):
        places = [node.target]
    else:
        places = []
    found = set()
    for place in places:
        if isinstance(place, ast.Attribute | ast.Subscript):
            root: ast.expr = place
            while isinstance(root, ast.Attribute | ast.Subscript):
                root = root.value
            if isinstance(root, ast.Name):
                found.add(root.id)
    return found
