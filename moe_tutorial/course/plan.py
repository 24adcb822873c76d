"""One problem set: its exercises, their points, the seed of the hidden inputs, and the limits.

``course.toml`` holds it, so that what is handed out and what is marked are the same.
"""

import csv
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

from moe_tutorial.exercises import EXERCISES, Exercise
from moe_tutorial.learning.settings import plain_seed

POINTS = (1.0, 2.0, 2.0, 3.0)
"""What exercises x.1 to x.4 are worth unless a plan says otherwise."""


class PlanError(ValueError):
    """A plan that cannot be followed; the text says what to change."""


@dataclass(frozen=True)
class Plan:
    """A problem set.

    Attributes:
        points: of each exercise, by its number, in the order of the book.
        seed: of the hidden inputs; keep it to yourself.
        title: names the set, in Canvas as well.
        hints: whether students are told what looks wrong.
        due: until when to hand in; None if nothing is late. Without a zone it is this computer's.
        late_per_day: what share of the points each day that has begun takes.
        seconds: of computing that one answer may take.
        memory: MiB that one answer may take beyond Python and torch.
        roster: Canvas' own export of the grade book, or None.
        times: a CSV file with the columns student and time, or None, for the times of the files.
        own: a Python file with a tuple EXERCISES of your own, or None.

    Raises:
        PlanError: a value outside what makes sense; the message names it.
    """

    points: Mapping[str, float]
    seed: int
    title: str = "moe_tutorial"
    hints: bool = True
    due: datetime | None = None
    late_per_day: float = 0.0
    seconds: int = 10
    memory: int = 2048
    roster: Path | None = None
    times: Path | None = None
    own: Path | None = None
    exercises: Mapping[str, Exercise] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        known = EXERCISES | ({} if self.own is None else _own_exercises(self.own))
        for number, points in self.points.items():
            if number not in known:
                raise PlanError(f"points names an exercise that there is not: {number}")
            if isinstance(points, bool) or not isinstance(points, int | float) or points < 0:
                raise PlanError(f"points of {number} must be a number of at least 0, got {points}")
        if not self.points:
            raise PlanError("points must name at least one exercise, got none")
        try:
            plain_seed("seed", self.seed)
        except ValueError as error:
            raise PlanError(str(error)) from None
        for name in ("seconds", "memory"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise PlanError(f"{name} must be a whole number of at least 1, got {value!r}")
        if type(self.hints) is not bool:
            raise PlanError(f"hints must be true or false, got {self.hints!r}")
        if not isinstance(self.title, str) or not self.title.strip():
            raise PlanError(f"title must be a text, got {self.title!r}")
        if not isinstance(self.late_per_day, int | float) or not 0 <= self.late_per_day <= 1:
            raise PlanError(f"late_per_day must be a share from 0 to 1, got {self.late_per_day!r}")
        if self.due is not None and not isinstance(self.due, datetime):
            raise PlanError(f"due must be a date with a time, got {self.due}")
        chosen = {number: known[number] for number in self.points}
        object.__setattr__(self, "exercises", MappingProxyType(chosen))

    @property
    def total(self) -> float:
        """The points that can be had."""
        return sum(self.points.values())

    @property
    def chapters(self) -> list[str]:
        """The chapters whose exercises it has, as two digits each."""
        numbers = [number.split(".")[0] for number in self.points if number in EXERCISES]
        return list(dict.fromkeys(number.zfill(2) for number in numbers))

    def blind_spots(self) -> list[str]:
        """What the hidden inputs of this seed cannot tell apart: each a sentence; best none."""
        found = []
        for number, exercise in self.exercises.items():
            # Without its list of mistakes an exercise does not search it for each of them.
            bare = replace(exercise, mistakes=())
            if bare.check(exercise.reference, self.seed).status != "correct":
                found.append(f"exercise {number}: these hidden inputs refuse its own reference")
            found += [
                f"exercise {number}: these hidden inputs accept the mistake “{mistake.message}”"
                for mistake in exercise.mistakes
                if bare.check(mistake.answer, self.seed).status == "correct"
            ]
        return found


def plan_of_chapters(chapters: Sequence[str], seed: int, **options: Any) -> Plan:
    """All exercises of some chapters, with the usual points.

    Raises:
        PlanError: a chapter that has no exercises.
    """
    points: dict[str, float] = {}
    for chapter in chapters:
        numbers = [n for n in EXERCISES if n.split(".")[0] == chapter.lstrip("0").zfill(1)]
        if not numbers:
            known = dict.fromkeys(n.split(".")[0].zfill(2) for n in EXERCISES)
            raise PlanError(f"there is no chapter {chapter}; there are {', '.join(known)}")
        for number in numbers:
            place = int(number.split(".")[1]) - 1
            points[number] = POINTS[min(place, len(POINTS) - 1)]
    return Plan(points, seed, **options)


def read_plan(path: Path, seed: int | None = None) -> Plan:
    """The plan in a ``course.toml``.

    Args:
        path: the file.
        seed: instead of the file's.

    Raises:
        PlanError: it cannot be read, or something in it is wrong or unknown.
    """
    if sys.version_info < (3, 11):
        raise PlanError("reading course.toml needs Python 3.11 or newer")
    import tomllib

    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PlanError(f"{path} cannot be read: {error}") from error
    known = {name for name, it in Plan.__dataclass_fields__.items() if it.init}
    if unknown := sorted(set(content) - known):
        raise PlanError(f"{path} has an unknown entry: {unknown[0]} (known: {sorted(known)})")
    if missing := sorted({"points", "seed"} - set(content)):
        raise PlanError(f"{path} lacks an entry: {missing[0]}")
    if seed is not None:
        content["seed"] = seed
    for name in ("roster", "times", "own"):
        if name in content:
            content[name] = path.parent / str(content[name])
    return Plan(**content)


def as_toml(plan: Plan) -> str:
    """A plan as ``course.toml`` has it, with a word beside each entry."""
    title = plan.title.replace("\\", "\\\\").replace('"', '\\"')
    points = "\n".join(f'"{number}" = {points:g}' for number, points in plan.points.items())
    due = plan.due.isoformat() if plan.due else "2030-01-31T23:59:00"
    return f"""\
title = "{title}"
seed = {plan.seed}  # of the hidden inputs: keep this file to yourself
hints = {str(plan.hints).lower()}  # whether students are told what looks wrong
{"" if plan.due else "# "}due = {due}
late_per_day = {float(plan.late_per_day)}  # what share each day that has begun takes
seconds = {plan.seconds}  # of computing, for each answer
memory = {plan.memory}  # MiB, for each answer, beyond Python and torch
# roster = "canvas.csv"  # Canvas' export of the grade book
# times = "times.csv"  # columns student and time; without it, the files' own times count
# own = "own_exercises.py"  # with a tuple EXERCISES of your own

[points]
{points}
"""


def _own_exercises(path: Path) -> dict[str, Exercise]:
    given = getattr(module_of(path), "EXERCISES", None)
    if not isinstance(given, Sequence):
        raise PlanError(f"own must name a Python file with a tuple EXERCISES, got {path}")
    found = {it.number: it for it in given if isinstance(it, Exercise)}
    if twice := sorted(set(found) & set(EXERCISES)):
        raise PlanError(f"own exercise {twice[0]} has a number of the book's: choose another one")
    return found


def module_of(path: Path) -> ModuleType:
    """A Python file as a module. It runs with your rights.

    Raises:
        PlanError: it is none, or raises an error.
    """
    spec = importlib.util.spec_from_file_location(f"file_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise PlanError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise PlanError(f"{path} raised {type(error).__name__}: {error}") from error
    return module


def rows_of(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a CSV file with a line of headings.

    Raises:
        PlanError: it cannot be read, or lacks one of the columns.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            lacking = [name for name in columns if name not in (reader.fieldnames or ())]
            if lacking:
                raise PlanError(f"{path} lacks the column {lacking[0]}")
            return [{key: it or "" for key, it in row.items() if key} for row in reader]
    except (OSError, UnicodeError, csv.Error) as error:
        raise PlanError(f"{path} cannot be read: {error}") from error
