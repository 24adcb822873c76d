"""A chapter's notebook as students get it: the same, without a solution, with points.

Notebooks are JSON, and are treated as that: nothing else has to be installed.
"""

import ast
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import moe_tutorial
from moe_tutorial.course.plan import Plan, PlanError

Notebook = dict[str, Any]
PACKAGE = Path(moe_tutorial.__file__).parent
NOTEBOOKS = PACKAGE.parent / "notebooks"
ARCHIVE = "moe_tutorial.zip"
SOLUTION = re.compile(r"# @title Solution to exercise|\bdef solution_|\bsolution_\d+_\d+\b")
CHECK = re.compile(r'check\("(\d+\.\d+)", (answer_\w+)\)')
SHORTEST = 25  # letters of a solution's body: shorter ones may stand in the text for good reasons

SET_UP = f"""\
# @title Set-up (run me first)
import importlib.util
import pathlib
import sys
import zipfile

if importlib.util.find_spec("moe_tutorial") is None:
    if not pathlib.Path("moe_tutorial").is_dir():
        if not pathlib.Path("{ARCHIVE}").exists():
            raise ModuleNotFoundError(
                "put the file {ARCHIVE} beside this notebook; in Colab, upload it "
                "in the panel with the folder, on the left"
            )
        zipfile.ZipFile("{ARCHIVE}").extractall()
    sys.path.insert(0, str(pathlib.Path.cwd()))
    importlib.invalidate_caches()"""

LINK = re.compile(r"\[([^\]]+)\]\((\d\d)_\w+\.ipynb\)")
# True in the book, false in a handout, from which folded solutions are taken.
IN_THE_BOOK = {
    " A solution is hidden below each; try first.": "",
    "`reveal` shows our repair and a test; it is folded, so that nothing is given away.": (
        "`reveal`, with the name of an exhibit, shows our repair and a test: find the bug first."
    ),
    "the tests that are folded above": "the tests that `reveal` shows",
}


def chapter_file(chapter: str, folder: Path = NOTEBOOKS) -> Path:
    """The notebook of a chapter.

    Raises:
        PlanError: it is not there, as where the package was installed without the book.
    """
    found = sorted(folder.glob(f"{chapter}_*.ipynb"))
    if len(found) != 1:
        raise PlanError(
            f"there is no notebook of chapter {chapter} in {folder}: run this in a clone of the "
            "whole project"
        )
    return found[0]


def read_notebook(path: Path) -> Notebook:
    """A notebook as JSON."""
    content: Notebook = json.loads(path.read_text(encoding="utf-8"))
    return content


def write_notebook(notebook: Notebook, path: Path) -> None:
    """Write it as Jupyter does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def student_copy(notebook: Notebook, plan: Plan) -> Notebook:
    """A notebook without solutions, whose exercises say what they are worth.

    Raises:
        PlanError: something of a solution would be left.
    """
    cells = [_cell(cell, plan) for cell in notebook["cells"] if not is_solution(cell)]
    copy = notebook | {"cells": cells}
    refuse_solutions(copy, notebook)
    return copy


def is_solution(cell: Mapping[str, Any]) -> bool:
    """Whether a cell holds a solution: its tag says so."""
    return "hide-cell" in cell["metadata"].get("tags", [])


def refuse_solutions(copy: Notebook, original: Notebook) -> None:
    """Refuse a copy in which a solution can still be read.

    Raises:
        PlanError: naming the place.
    """
    for number, cell in enumerate(copy["cells"]):
        text = text_of(cell)
        found = SOLUTION.search(text)
        if found:
            raise PlanError(
                f"cell {number} still holds a solution ({found[0]!r}): give it the tag hide-cell"
            )
    whole = _squeezed("\n".join(text_of(cell) for cell in copy["cells"]))
    for cell in original["cells"]:
        for body in _bodies(text_of(cell)) if is_solution(cell) else ():
            if len(body) >= SHORTEST and body in whole:
                raise PlanError(f"the text still holds a solution's lines: {body[:60]}")


def text_of(cell: Mapping[str, Any]) -> str:
    """The text of a cell."""
    return "".join(cell["source"])


def archive_package(path: Path) -> None:
    """Write the package as an archive, the same bytes every time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in package_files():
            name = str(Path(PACKAGE.name) / file.relative_to(PACKAGE))
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, file.read_bytes())


def package_files() -> list[Path]:
    """The files of the package, without what Python made of them."""
    every = (it for it in PACKAGE.rglob("*") if it.is_file())
    return sorted(it for it in every if "__pycache__" not in it.parts)


def _cell(cell: Mapping[str, Any], plan: Plan) -> dict[str, Any]:
    text = text_of(cell)
    if cell["cell_type"] == "code":
        if text.startswith("# @title Set-up"):
            text = SET_UP
        elif not plan.hints:
            text = CHECK.sub(r'check("\1", \2, hints=False)', text)
    else:
        for said, instead in IN_THE_BOOK.items():
            text = text.replace(said, instead)
        # A link to a chapter that is not handed out leads nowhere.
        text = LINK.sub(lambda it: it[0] if it[2] in plan.chapters else it[1], text)
        text = re.sub(
            r"(?m)^## Exercise (\d+\.\d+)$", lambda it: _heading(it[0], it[1], plan), text
        )
    return {**cell, "source": text.splitlines(keepends=True)}


def _heading(heading: str, number: str, plan: Plan) -> str:
    points = plan.points.get(number)
    if points is None:
        return f"{heading} (for practice)"
    return f"{heading} ({points:g} point{'' if points == 1 else 's'})"


def _bodies(code: str) -> Iterator[str]:
    """The bodies of a solution's functions, without white space and comments."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.FunctionDef):
            yield _squeezed("\n".join(ast.unparse(it) for it in node.body))


def _squeezed(text: str) -> str:
    code = re.sub(r"(?m)#.*$", "", text)
    return re.sub(r"\s+", "", code).replace("'", '"')
