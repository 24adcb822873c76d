"""Tables of results: for people, for Gradescope and for Canvas."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from moe_tutorial.course.marking import Marks, Result
from moe_tutorial.course.plan import Plan, rows_of

CANVAS = ("Student", "ID", "SIS User ID", "SIS Login ID", "Section")
"""The columns by which Canvas knows a student."""


def write_all(every: Sequence[Marks], plan: Plan, out: Path) -> list[str]:
    """Write ``grades.csv``, ``canvas.csv`` and a ``results/NAME.json`` for each submission.

    Returns:
        Sentences for the one who marks: names on one of two lists only.
    """
    (out / "results").mkdir(parents=True, exist_ok=True)
    _table(out / "grades.csv", [grades_row(marks, plan) for marks in every])
    rows, notes = canvas_rows(every, plan)
    _table(out / "canvas.csv", rows)
    for marks in every:
        text = json.dumps(gradescope(marks), indent=1, ensure_ascii=False)
        (out / "results" / f"{marks.student}.json").write_text(text + "\n", "utf-8")
    return notes


def grades_row(marks: Marks, plan: Plan) -> dict[str, Any]:
    """One line of ``grades.csv``."""
    return {
        "student": marks.student,
        "score": f"{marks.score:g}",
        "of": f"{plan.total:g}",
        "days late": marks.days_late,
        "kept": f"{marks.kept:g}",
        **{result.exercise: f"{result.score:g}" for result in marks.results},
        **{f"{result.exercise} says": _said(result) for result in marks.results},
        "look at": marks.for_you,
    }


def gradescope(marks: Marks) -> dict[str, Any]:
    """What Gradescope reads from ``results.json``."""
    late = f"{marks.days_late} days late: {marks.kept:g} of the points are kept."
    return {
        "score": marks.score,
        "output": late if marks.days_late else "",
        "tests": [
            {
                "name": f"Exercise {result.exercise}",
                "score": result.score,
                "max_score": result.points,
                "output": _said(result),
            }
            for result in marks.results
        ],
    }


def canvas_rows(every: Sequence[Marks], plan: Plan) -> tuple[list[dict[str, Any]], list[str]]:
    """The lines that Canvas imports, and which names stand on one list only.

    With a roster its students are the lines, found by ``SIS Login ID`` or ``SIS User ID``, and who
    handed in nothing has 0. Without one the submissions are, with their names as login.
    """
    by_name = {marks.student: marks for marks in every}
    if plan.roster is None:
        blank = dict.fromkeys(CANVAS, "")
        return [
            blank | {"SIS Login ID": name, plan.title: marks.score}
            for name, marks in by_name.items()
        ], []
    rows: list[dict[str, Any]] = []
    notes, met = [], set()
    for line in rows_of(plan.roster, CANVAS):
        logins = (line["SIS Login ID"].strip(), line["SIS User ID"].strip())
        if not any(logins):
            continue  # Canvas' line of points possible, and its test student
        name = next((it for it in logins if it in by_name), None)
        met.add(name)
        if name is None:
            notes.append(f"{line['Student']} handed in nothing that bears the name {logins[0]}")
        score = 0.0 if name is None else by_name[name].score
        rows.append({key: line[key] for key in CANVAS} | {plan.title: score})
    notes += [f"{name} is not on the roster" for name in by_name if name not in met]
    return rows, notes


def _said(result: Result) -> str:
    return f"{result.status}: {result.message}" if result.message else result.status


def _table(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else CANVAS)
        writer.writeheader()
        writer.writerows(rows)
