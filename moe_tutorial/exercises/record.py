"""Which exercises are solved, kept in one small file on the reader's own computer.

A check notes an answer of the reader's own, solved or tried, and never one of the book's solutions.
Where a note cannot be kept, the check is as it was: only ``progress`` says so.
"""

import json
import os
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from types import FunctionType
from typing import Any

VARIABLE = "MOE_TUTORIAL_PROGRESS"
MARKS = {"solved": "✓", "tried": "·", "not yet": ""}
_said: list[str] = []  # what the next table says once


@dataclass(frozen=True)
class Progress:
    """How far a reader is with the exercises; shows itself as a table.

    Attributes:
        states: each exercise's number and its state: ``"solved"``, ``"tried"`` or ``"not yet"``.
        note: where this is kept, or why it is not.
    """

    states: dict[str, str]
    note: str

    def __repr__(self) -> str:
        rows = [
            f"{chapter}  " + "  ".join(f"{n:>4} {self.states[n]:7}" for n in numbers).rstrip()
            for chapter, numbers in self._chapters().items()
        ]
        return "\n".join(["chapter", *rows, self._sentence()])

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><th scope="row">{chapter}</th>'
            + "".join(f"<td>{n} {MARKS[s]} {s}</td>" for n in numbers for s in [self.states[n]])
            + "</tr>"
            for chapter, numbers in self._chapters().items()
        )
        width = max(map(len, self._chapters().values()))
        head = f'<tr><th scope="col">chapter</th><th scope="col" colspan="{width}">exercises</th>'
        return (
            f'<table class="moe-table"><thead>{head}</tr></thead><tbody>{rows}</tbody></table>'
            f"<p>{escape(self._sentence())}</p>"
        )

    def _chapters(self) -> dict[str, list[str]]:
        rows: dict[str, list[str]] = {}
        for number in self.states:
            rows.setdefault(number.split(".")[0].zfill(2), []).append(number)
        return rows

    def _sentence(self) -> str:
        count = list(self.states.values()).count
        return (
            f"{count('solved')} of {len(self.states)} exercises solved, {count('tried')} tried. "
            f"{self.note}"
        )


def remember(number: str, status: str, answer: Any) -> None:
    """Note what a check found of an answer; whatever happens, nothing is raised or printed.

    An exercise that was solved stays solved.

    Args:
        number: the exercise, such as ``"1.1"``.
        status: the verdict's; only ``"correct"`` and ``"wrong"`` are noted.
        answer: what was checked; a function named ``solution_...`` is the book's own.
    """
    state = {"correct": "solved", "wrong": "tried"}.get(status)
    if state is None or _is_the_books(answer):
        return
    try:
        path = _path()
        if path is None:
            return
        kept = _read(path)
        if kept.get(number) not in (state, "solved"):
            _write(path, kept | {number: state})
    except Exception:
        return  # a disk that cannot be written, a home that does not exist: progress() tells


def look_up(numbers: Iterable[str]) -> Progress:
    """The state of each of these exercises."""
    states = dict.fromkeys(numbers, "not yet")
    try:
        path = _path()
        if path is None:
            return Progress(states, f"Nothing is kept: {VARIABLE} is off.")
        kept = _read(path)
        note = "This is kept on this computer and nowhere else."
        if not os.access(_existing(path.parent), os.W_OK):
            note = f"Nothing new is kept: {path.parent} cannot be written."
    except Exception as error:
        return Progress(states, f"Nothing is kept: {error}.")
    while _said:
        note += f" {_said.pop()}"
    return Progress({number: kept.get(number, state) for number, state in states.items()}, note)


def forget_progress() -> None:
    """Forget which exercises were solved or tried.

    Raises:
        OSError: the file is there and cannot be removed.
    """
    path = _path()
    if path is not None:
        path.unlink(missing_ok=True)


def _is_the_books(answer: Any) -> bool:
    return type(answer) is FunctionType and str.startswith(answer.__name__, "solution_")


def _path() -> Path | None:
    """The file; None if nothing is to be kept."""
    named = os.environ.get(VARIABLE)
    if named:
        return None if named == "off" else Path(named).expanduser()
    if sys.platform == "win32":
        data = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        data = Path.home() / "Library" / "Application Support"
    else:
        data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return data / "moe_tutorial" / "progress.json"


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return folder if folder.exists() or folder == folder.parent else _existing(folder.parent)


def _read(path: Path) -> dict[str, str]:
    """What is kept; a file that cannot be understood is set aside."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError):
        kept = None
    if isinstance(kept, dict) and all(state in ("solved", "tried") for state in kept.values()):
        return kept
    aside = path.with_name(f"{path.name}.damaged")
    path.replace(aside)
    _said.append(f"What was kept before could not be read: it lies in {aside}.")
    return {}


def _write(path: Path, kept: dict[str, str]) -> None:
    """Replace the file in one stroke: whoever reads it meanwhile finds it whole.

    Of two notebooks that write in the same moment one may lose a note.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(kept, file, indent=0, sort_keys=True)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
