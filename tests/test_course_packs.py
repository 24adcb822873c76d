"""The folders of a problem set: whole, and of the forms that Otter and nbgrader read."""

import ast
import json
import re
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import tomllib

from moe_tutorial.course import handout, packs
from moe_tutorial.course.__main__ import main
from moe_tutorial.course.handout import chapter_file, read_notebook, student_copy, text_of
from moe_tutorial.course.plan import Plan, PlanError, plan_of_chapters, read_plan

CHAPTERS = sorted(file.stem[:2] for file in handout.NOTEBOOKS.glob("*.ipynb"))


def test_an_autograder_installs_what_the_package_asks_for_and_what_chapters_import() -> None:
    root = handout.PACKAGE.parent
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    colab = (root / "tools" / "colab-requirements.txt").read_text("utf-8")
    tried = re.search(r"(?m)^transformers==(\d+\.\d+)", colab)
    assert tried
    assert list(packs.REQUIREMENTS) == [
        *project["dependencies"],
        *project["optional-dependencies"]["text"],
        f"transformers>={tried[1]}",
    ]


def imported_by(notebook: dict[str, Any]) -> set[str]:
    """The names of the libraries that a notebook imports."""
    codes = [text_of(it) for it in notebook["cells"] if it["cell_type"] == "code"]
    nodes = [node for code in codes for node in ast.walk(ast.parse(code))]
    names = {alias.name for it in nodes if isinstance(it, ast.Import) for alias in it.names}
    names |= {it.module for it in nodes if isinstance(it, ast.ImportFrom) and it.module}
    return {name.split(".")[0] for name in names} - sys.stdlib_module_names - {"moe_tutorial"}


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_students_and_autograders_install_what_a_handout_imports(chapter: str) -> None:
    needed = imported_by(read_notebook(chapter_file(chapter)))
    assert needed <= {it.split(">=")[0] for it in packs.REQUIREMENTS}
    guide = (handout.PACKAGE.parent / "book" / "teaching.md").read_text("utf-8")
    told = [line.split("`")[0].split() for line in guide.split("`pip install torch ")[1:]]
    assert told
    assert all(needed <= {"torch", *names} for names in told)


def test_a_pack_is_whole(tmp_path: Path) -> None:
    arguments = ["handout", "03", "--seed", "7", "--nbgrader", "--out", str(tmp_path)]
    assert main(arguments) == 0
    plan = read_plan(tmp_path / "marking" / "course.toml")
    assert (plan.seed, dict(plan.points)) == (7, {"3.1": 1, "3.2": 2, "3.3": 2, "3.4": 3})
    with zipfile.ZipFile(tmp_path / "student" / "moe_tutorial.zip") as archive:
        names = archive.namelist()
        assert "moe_tutorial/__init__.py" in names
        assert not [name for name in names if "__pycache__" in name]
    given = (tmp_path / "student" / "03_top_k.ipynb").read_text(encoding="utf-8")
    assert "seed=7" not in given
    own = tmp_path / "course.toml"
    own.write_text('seed = 7\nhints = false  # not yet\n[points]\n"3.1" = 5\n')
    assert main(["handout", str(own), "--out", str(tmp_path / "again")]) == 0
    again = (tmp_path / "again" / "student" / "03_top_k.ipynb").read_text(encoding="utf-8")
    assert "Exercise 3.1 (5 points)" in again
    assert not (tmp_path / "again" / "marking").exists()
    packs.write_handout(Plan({"5.1": 1.0}, 7), tmp_path / "again")
    left = sorted(it.name for it in (tmp_path / "again" / "student").iterdir())
    assert left == ["05_weighted_combination.ipynb", "moe_tutorial.zip"]
    assert main(["handout", str(own), "05"]) == 2
    assert main(["handout", str(own), "--seed", "8"]) == 2
    nbgrader = tmp_path / "nbgrader" / "source" / "moe_tutorial"
    cells = read_notebook(nbgrader / "03_top_k.ipynb")["cells"]
    tests = [it for it in cells if it["metadata"].get("nbgrader", {}).get("grade")]
    assert [it["metadata"]["nbgrader"]["points"] for it in tests] == [1, 2, 2, 3]
    assert all("seed=7" in text_of(it) for it in tests)


# The types of nbgrader's schema, version 3.
SCHEMA = {"grade": bool, "grade_id": str, "locked": bool, "schema_version": int, "solution": bool,
          "task": bool, "points": float}  # fmt: skip


def test_nbgraders_metadata_is_of_its_third_schema() -> None:
    plan = plan_of_chapters(["3"], 1)
    notebook = packs.for_nbgrader(student_copy(read_notebook(chapter_file("03")), plan), plan)
    marked = [
        it["metadata"]["nbgrader"] for it in notebook["cells"] if "nbgrader" in it["metadata"]
    ]
    assert len({it["grade_id"] for it in marked}) == len(marked) == 8
    for it in marked:
        assert ("points" in it) == it["grade"] == it["locked"] != it["solution"]
        assert {name: type(value) for name, value in it.items()}.items() <= SCHEMA.items()


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_nbgrader_empties_the_stub_and_leaves_its_function(chapter: str) -> None:
    plan = plan_of_chapters([chapter], 1)
    notebook = packs.for_nbgrader(student_copy(read_notebook(chapter_file(chapter)), plan), plan)
    marked = [it for it in notebook["cells"] if it["metadata"].get("nbgrader", {}).get("solution")]
    assert len(marked) == len(plan.points)
    for cell in marked:
        # As nbgrader does: what is between the marks goes, and without them the whole cell.
        before, found, rest = text_of(cell).partition("    ### BEGIN SOLUTION\n")
        inside, ended, after = rest.partition("    ### END SOLUTION\n")
        assert found
        assert ended
        assert inside == packs.STUB
        names: dict[str, Any] = {"check": lambda *_: None}
        exec(before + "    raise NotImplementedError\n" + after, names)
        assert [name for name in names if name.startswith("answer_")]


def test_a_way_to_otter_may_start_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    program = tmp_path / "own-otter"
    program.write_text('#!/bin/sh\necho "$@" > autograder.zip\n')
    program.chmod(0o755)
    (archive,) = packs.write_otter(plan_of_chapters(["3"], 7), Path("out"), ["./own-otter"])
    assert archive.read_text() == "generate -t tests -o autograder.zip moe_tutorial\n"


def test_otters_test_files_are_python_with_our_seed(tmp_path: Path) -> None:
    plan = plan_of_chapters(["3"], 7, hints=False)
    (folder,) = packs.write_otter(plan, tmp_path, None)
    files = sorted((folder / "tests").iterdir())
    assert [it.stem for it in files] == [f"exercise_3_{n}" for n in (1, 2, 3, 4)]
    for file in files:
        names = [
            it.name for it in ast.parse(file.read_text()).body if isinstance(it, ast.FunctionDef)
        ]
        assert names == ["test_it_can_be_judged", "test_hidden"]
        assert "seed=7, hints=False" in file.read_text()
    assert json.loads((folder / "otter_config.json").read_text())["points_possible"] == 8
    fewer = Plan({"5.1": 1.0}, 7)
    (folder,) = packs.write_otter(fewer, tmp_path, None)
    assert [it.name for it in (tmp_path / "gradescope").iterdir()] == [folder.name]
    assert [it.stem for it in (folder / "tests").iterdir()] == ["exercise_5_1"]
    with pytest.raises(PlanError, match="no-such-command cannot be run"):
        packs.write_otter(plan, tmp_path, ["no-such-command"])
