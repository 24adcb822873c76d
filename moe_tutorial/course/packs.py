"""The folders of a problem set: what to hand out, what to upload, and what to mark with.

Otter-Grader and nbgrader get files of the forms that they read; neither is imported here.
"""

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from moe_tutorial.course.handout import (
    ARCHIVE,
    CHECK,
    NOTEBOOKS,
    PACKAGE,
    Notebook,
    archive_package,
    chapter_file,
    read_notebook,
    student_copy,
    text_of,
    write_notebook,
)
from moe_tutorial.course.plan import Plan, PlanError, as_toml

# What stands in an answer that nobody has written yet.
STUB = "    return ...  # your code instead of the dots\n"
# What an autograder installs: what the package asks for, and what some chapters import.
REQUIREMENTS = (
    *("torch>=2.6", "numpy>=1.26", "matplotlib>=3.8", "ipywidgets>=7.7", "tqdm>=4.66"),
    *("babel>=2.12", "transformers>=5.15"),
)

TEST_FILE = '''\
"""Exercise {number}, for Otter-Grader."""

from otter.test_files import test_case

OK_FORMAT = False

name = "exercise {number}"
points = {points:g}


@test_case(points=0, hidden=False)
def test_it_can_be_judged({answer}):
    from moe_tutorial.exercises import check

    verdict = check("{number}", {answer})
    assert verdict.status in ("correct", "wrong"), verdict


@test_case(points={points:g}, hidden=True)
def test_hidden({answer}):
    from moe_tutorial.exercises import check

    verdict = check("{number}", {answer}, seed={seed}, hints={hints})
    assert verdict.status == "correct", verdict
'''

HIDDEN = """\
from moe_tutorial.exercises import check

verdict = check("{number}", {answer})
assert verdict.status in ("correct", "wrong"), verdict
### BEGIN HIDDEN TESTS
verdict = check("{number}", {answer}, seed={seed}, hints={hints})
assert verdict.status == "correct", verdict
### END HIDDEN TESTS"""


def write_handout(plan: Plan, out: Path) -> list[Path]:
    """Write ``student/``, with a notebook for each chapter and the package beside them.

    A notebook of a chapter that the plan no longer has is taken away.

    Returns:
        The notebooks.

    Raises:
        PlanError: a notebook that is not there, or in which something of a solution would be left.
    """
    copies = {file.name: copy for file, copy in _copies(plan)}
    for name, copy in copies.items():
        write_notebook(copy, out / "student" / name)
    _take_away(out / "student", list(copies))
    archive_package(out / "student" / ARCHIVE)
    return [out / "student" / name for name in copies]


def write_marking(plan: Plan, out: Path) -> Path:
    """Write ``marking/course.toml``, with the seed: not for students."""
    file = out / "marking" / "course.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(as_toml(plan), encoding="utf-8")
    return file


def write_otter(plan: Plan, out: Path, otter: Sequence[str] | None) -> list[Path]:
    """Write ``gradescope/NN_name/``: test files, and the archive to upload.

    Args:
        plan: the problem set.
        out: the folder.
        otter: the command, such as ``["otter"]``; None writes what it would read, no archive.

    Returns:
        The archives, or the folders where there are none.

    Raises:
        PlanError: otter cannot be run, or fails.
    """
    made = []
    for file in NOTEBOOKS.glob("*.ipynb"):  # chapters and exercises that are no longer in the plan
        shutil.rmtree(out / "gradescope" / file.stem, ignore_errors=True)
    for chapter in plan.chapters:
        folder = out / "gradescope" / chapter_file(chapter).stem
        (folder / "tests").mkdir(parents=True)
        for number in _numbers(plan, chapter):
            name = f"exercise_{number.replace('.', '_')}.py"
            (folder / "tests" / name).write_text(test_file(number, plan), encoding="utf-8")
        (folder / "requirements.txt").write_text("\n".join(REQUIREMENTS) + "\n", "utf-8")
        # With hidden results shown, a student sees the verdict; inputs and seed are never shown.
        config = {"show_hidden": plan.hints, "points_possible": _points(plan, chapter)}
        (folder / "otter_config.json").write_text(json.dumps(config, indent=1) + "\n", "utf-8")
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(PACKAGE, folder / PACKAGE.name, ignore=ignored)
        made.append(folder)
        if otter is not None:
            made[-1] = _generate(folder, otter)
    return made


def test_file(number: str, plan: Plan) -> str:
    """One exercise as a test file of Otter-Grader, whose errors are its verdicts."""
    return TEST_FILE.format(**_fields(number, plan))


def write_nbgrader(plan: Plan, out: Path) -> list[Path]:
    """Write ``nbgrader/source/SET/``, from which ``nbgrader generate_assignment`` makes releases.

    Returns:
        The notebooks.
    """
    folder = out / "nbgrader" / "source" / chapter_folder(plan)
    files = []
    for file, copy in _copies(plan):
        files.append(folder / file.name)
        write_notebook(for_nbgrader(copy, plan), files[-1])
    _take_away(folder, [file.name for file in files])
    archive_package(folder / ARCHIVE)
    return files


def chapter_folder(plan: Plan) -> str:
    """The name of a problem set as a folder has it."""
    return "".join(it if it.isalnum() else "_" for it in plan.title)


def for_nbgrader(copy: Notebook, plan: Plan) -> Notebook:
    """A student's notebook with the cells and the metadata that nbgrader knows."""
    cells: list[dict[str, Any]] = []
    for cell in copy["cells"]:
        found = CHECK.search(text_of(cell)) if cell["cell_type"] == "code" else None
        number = found[1] if found else ""
        if number not in plan.points:
            cells.append(cell)
            continue
        name = number.replace(".", "_")
        # nbgrader empties what is marked, and a cell without a mark whole: its function with it.
        marked = f"    ### BEGIN SOLUTION\n{STUB}    ### END SOLUTION\n"
        answer = {
            **cell,
            "metadata": cell["metadata"] | _metadata(f"answer_{name}", solution=True),
            "source": text_of(cell).replace(STUB, marked).splitlines(keepends=True),
        }
        test = {
            "cell_type": "code",
            "execution_count": None,
            "id": f"test-{name}",
            "metadata": _metadata(f"test_{name}", points=plan.points[number]),
            "outputs": [],
            "source": HIDDEN.format(**_fields(number, plan)).splitlines(keepends=True),
        }
        cells += [answer, test]
    return copy | {"cells": cells}


def _metadata(name: str, *, solution: bool = False, points: float | None = None) -> dict[str, Any]:
    """What nbgrader writes into a cell: version 3 of its schema."""
    graded = {} if points is None else {"points": points}
    return {
        "nbgrader": {
            "grade": points is not None,
            "grade_id": name,
            "locked": points is not None,
            "schema_version": 3,
            "solution": solution,
            "task": False,
            **graded,
        }
    }


def _copies(plan: Plan) -> list[tuple[Path, Notebook]]:
    files = [chapter_file(chapter) for chapter in plan.chapters]
    return [(file, student_copy(read_notebook(file), plan)) for file in files]


def _take_away(folder: Path, kept: Sequence[str]) -> None:
    """Take away the notebooks of chapters that a plan no longer has, and nothing else."""
    for file in NOTEBOOKS.glob("*.ipynb"):
        if file.name not in kept:
            (folder / file.name).unlink(missing_ok=True)


def _numbers(plan: Plan, chapter: str) -> list[str]:
    return [number for number in plan.points if number.split(".")[0].zfill(2) == chapter]


def _points(plan: Plan, chapter: str) -> float:
    return sum(plan.points[number] for number in _numbers(plan, chapter))


def _fields(number: str, plan: Plan) -> dict[str, Any]:
    return {
        "number": number,
        "answer": f"answer_{number.replace('.', '_')}",
        "points": plan.points[number],
        "seed": plan.seed,
        "hints": plan.hints,
    }


def _generate(folder: Path, otter: Sequence[str]) -> Path:
    program = shutil.which(otter[0])
    if program is None:
        raise PlanError(f"{otter[0]} cannot be run: there is no such program")
    command = ["generate", "-t", "tests", "-o", "autograder.zip", PACKAGE.name]
    # Otter works in another folder, so the way to it must not start from here.
    whole = [str(Path(program).absolute()), *otter[1:], *command]
    done = subprocess.run(whole, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise PlanError(f"{' '.join(otter)} failed: {done.stderr.strip()[-500:]}")
    return folder / "autograder.zip"
