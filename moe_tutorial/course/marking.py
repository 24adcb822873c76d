"""A result for each exercise of each submission; what one of them does never reaches another.

A submission is a notebook, a module or a folder of these; its name is the student's.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from threading import Lock
from typing import Literal

from moe_tutorial.course.answers import AnswerError, pieces, source_of, unusual_words
from moe_tutorial.course.isolation import Limits, package_without_answers, try_elsewhere
from moe_tutorial.course.plan import Plan, PlanError, rows_of
from moe_tutorial.exercises.grader import Verdict

DAY = 24 * 60 * 60
# A check changes settings of the whole process for a moment, standard output among them.
ALONE = Lock()
FILES = (".ipynb", ".py")


@dataclass(frozen=True)
class Result:
    """What one exercise of one submission earned.

    Attributes:
        exercise: its number.
        points: that it could earn.
        status: a verdict's, or "not judged" where this program failed.
        message: what looks wrong, for the student; empty otherwise.
    """

    exercise: str
    points: float
    status: Literal["not attempted yet", "correct", "wrong", "not judged"]
    message: str = ""

    @property
    def score(self) -> float:
        """All points or none."""
        return self.points if self.status == "correct" else 0.0


@dataclass(frozen=True)
class Marks:
    """What one submission earned.

    Attributes:
        student: the name of the file or folder.
        results: one for each exercise of the plan, in its order.
        days_late: that have begun since it was due.
        kept: the share of the points that is left after lateness.
        for_you: what a person should look at; for the one who marks, not for the student.
    """

    student: str
    results: tuple[Result, ...]
    days_late: int = 0
    kept: float = 1.0
    for_you: str = ""

    @property
    def score(self) -> float:
        """The points, less what lateness takes."""
        return round(self.kept * sum(result.score for result in self.results), 4)


def mark_all(
    folder: Path,
    plan: Plan,
    *,
    jobs: int = 1,
    after_each: Callable[[Marks], None],
) -> list[Marks]:
    """Mark every submission in a folder.

    Args:
        folder: holds a notebook, a module or a folder for each student.
        plan: what to mark.
        jobs: how many submissions at a time.
        after_each: is called when one is done.

    Returns:
        The marks, sorted by the students' names.

    Raises:
        PlanError: there is no such folder, nothing in it, two submissions of one name, or a list
            of times that cannot be read.
    """
    if not folder.is_dir():
        raise PlanError(f"there is no folder {folder}")
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        files = sorted(it for it in _inside(path) if it.suffix in FILES)
        if files or (path.is_dir() and not path.name.startswith((".", "_"))):
            if path.stem in found:
                raise PlanError(f"{folder} holds two submissions of {path.stem}")
            found[path.stem] = files
    if not found:
        raise PlanError(f"{folder} holds no submission: no .py, no .ipynb, no folder of these")
    times = handed_in(plan, found)

    def one(student: str) -> Marks:
        marks = mark_one(student, found[student], plan, times.get(student))
        with ALONE:
            after_each(marks)
        return marks

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(one, sorted(found)))


def _inside(path: Path) -> Iterable[Path]:
    if path.name.startswith((".", "_")):
        return []
    hidden = (".ipynb_checkpoints", "__pycache__", "moe_tutorial")
    if path.is_dir():
        every = (it for it in path.rglob("*") if it.is_file() and not it.is_symlink())
        return [it for it in every if not set(hidden) & set(it.relative_to(path).parts)]
    return [path] if path.is_file() and not path.is_symlink() else []


def mark_one(student: str, files: list[Path], plan: Plan, time: datetime | None) -> Marks:
    """Mark one submission; whatever is in it, there are marks."""
    try:
        codes = pieces(files)
        with package_without_answers() as package:
            results = tuple(_result(number, codes, plan, package) for number in plan.points)
        words = unusual_words(codes)
    except AnswerError as error:
        words = [str(error)]
        results = tuple(Result(n, p, "wrong", str(error)) for n, p in plan.points.items())
    days = _days_late(plan, time)
    kept = max(0.0, 1 - plan.late_per_day * days)
    return Marks(student, results, days, kept, ", ".join(words))


def _result(number: str, codes: list[str], plan: Plan, package: Path) -> Result:
    points = plan.points[number]
    try:
        verdict = _verdict(number, codes, plan, package)
    except Exception as error:
        verdict = Verdict(number, "not judged", f"marking failed: {type(error).__name__}: {error}")
    hide = verdict.status == "wrong" and not plan.hints
    return Result(number, points, verdict.status, "" if hide else verdict.message)


def _verdict(number: str, codes: list[str], plan: Plan, package: Path) -> Verdict:
    name = f"answer_{number.replace('.', '_')}"
    try:
        source = source_of(name, codes)
    except AnswerError as error:
        return Verdict(number, "wrong", str(error))
    if not source:
        return Verdict(number, "not attempted yet", f"there is no {name} in what was handed in")
    exercise = plan.exercises[number]
    with ALONE:
        cases = exercise.cases(plan.seed)
    attempts = try_elsewhere(
        source,
        name,
        cases,
        Limits(plan.seconds, plan.memory),
        package,
        gradient=exercise.gradient,
    )
    with ALONE:
        return exercise.judge(attempts, plan.seed)


def handed_in(plan: Plan, found: Mapping[str, list[Path]]) -> dict[str, datetime]:
    """When each submission came: as a list of times says, or else the files' own times.

    Raises:
        PlanError: the list cannot be read, or a time in it.
    """
    times = {
        student: datetime.fromtimestamp(max(it.stat().st_mtime for it in files), timezone.utc)
        for student, files in found.items()
        if files
    }
    for row in rows_of(plan.times, ("student", "time")) if plan.times else ():
        try:
            times[row["student"]] = datetime.fromisoformat(row["time"]).astimezone()
        except ValueError as error:
            raise PlanError(f"{plan.times} has a time that is none: {row['time']!r}") from error
    return times


def _days_late(plan: Plan, time: datetime | None) -> int:
    if plan.due is None or time is None:
        return 0
    return max(0, math.ceil((time - plan.due.astimezone()).total_seconds() / DAY))
