"""Progress in the exercises: kept for the reader alone, and in no check's way."""

import json
import threading
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest

from moe_tutorial.exercises import EXERCISES, check, forget_progress, progress
from moe_tutorial.exercises import record as kept
from tests.exercise_answers import RIGHT


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of a reader's own, in a folder that is not there yet."""
    path = tmp_path / "some" / "where" / "progress.json"
    monkeypatch.setenv("MOE_TUTORIAL_PROGRESS", str(path))
    return path


def wrong(*_: object) -> int:
    return -1


def test_a_check_notes_what_was_solved_and_what_was_tried(file: Path) -> None:
    check("2.1", wrong)
    assert json.loads(file.read_text()) == {"2.1": "tried"}
    check("2.1", RIGHT["2.1"])
    check("3.1", wrong)
    assert json.loads(file.read_text()) == {"2.1": "solved", "3.1": "tried"}
    check("2.1", wrong)
    assert progress().states["2.1"] == "solved", "what was solved stays solved"
    assert [path.name for path in file.parent.iterdir()] == ["progress.json"]


@pytest.mark.parametrize("answer", [None, ..., lambda *_: ...])
def test_an_exercise_that_was_not_attempted_is_not_noted(file: Path, answer: object) -> None:
    check("2.1", answer)
    assert not file.exists()


def test_the_books_own_solutions_are_not_noted(file: Path) -> None:
    def solution_2_1(logits_TE: object, ratio: float) -> object:
        return RIGHT["2.1"](logits_TE, ratio)

    assert check("2.1", solution_2_1).status == "correct"
    assert not file.exists()


@pytest.mark.usefixtures("file")
def test_the_table_names_every_exercise_once() -> None:
    check("2.1", RIGHT["2.1"])
    check("10.3", wrong)
    table = progress()
    assert list(table.states) == list(EXERCISES)
    lines = repr(table).splitlines()
    assert lines[3].split() == ["02", "2.1", "solved", "2.2", "not", "yet", "2.3", "not", "yet"]
    assert lines[-1].startswith(f"1 of {len(EXERCISES)} exercises solved, 1 tried.")

    cells: list[str] = []

    class Cells(HTMLParser):
        def handle_data(self, data: str) -> None:
            cells.append(" ".join(data.split()))

    parser = Cells()
    parser.feed(table._repr_html_())
    for number, state in table.states.items():
        mark = {"2.1": "✓ ", "10.3": "· "}.get(number, "")
        assert cells.count(f"{number} {mark}{state}") == 1


def test_forgetting_removes_the_file(file: Path) -> None:
    check("2.1", RIGHT["2.1"])
    forget_progress()
    assert not file.exists()
    assert set(progress().states.values()) == {"not yet"}
    forget_progress()  # nothing is there: nothing happens


def test_off_means_that_nothing_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MOE_TUTORIAL_PROGRESS", "off")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    check("2.1", RIGHT["2.1"])
    forget_progress()
    assert not list(tmp_path.iterdir())
    assert "off" in repr(progress())


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {}, "home/.local/share"),
        ("linux", {"XDG_DATA_HOME": "data"}, "data"),
        ("darwin", {}, "home/Library/Application Support"),
        ("win32", {"LOCALAPPDATA": "local"}, "local"),
        ("win32", {}, "home/AppData/Local"),
    ],
)
def test_where_the_file_lies(
    platform: str,
    variables: dict[str, str],
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(kept.sys, "platform", platform)
    for name in ("MOE_TUTORIAL_PROGRESS", "XDG_DATA_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name, folder in variables.items():
        monkeypatch.setenv(name, str(tmp_path / folder))
    check("2.1", RIGHT["2.1"])
    assert (tmp_path / expected / "moe_tutorial" / "progress.json").exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe", b"[]", b"null", b'{"2.1": 3}', b'{"2.1": "won"}', b"[" * 100_000],
)
def test_a_damaged_file_is_set_aside_and_said_once(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    assert check("2.1", RIGHT["2.1"]).status == "correct"
    aside = file.with_name("progress.json.damaged")
    assert aside.read_bytes() == content
    assert json.loads(file.read_text()) == {"2.1": "solved"}
    assert str(aside) in repr(progress())
    assert str(aside) not in repr(progress())


def test_exercises_of_another_edition_are_kept_and_not_shown(file: Path) -> None:
    file.parent.mkdir(parents=True)
    file.write_text('{"A.1": "solved"}')
    check("2.1", RIGHT["2.1"])
    assert json.loads(file.read_text()) == {"2.1": "solved", "A.1": "solved"}
    assert "A.1" not in repr(progress())


def _home_is_a_file(file: Path) -> None:
    file.parent.parent.mkdir()
    file.parent.write_text("no folder")


def _file_is_a_folder(file: Path) -> None:
    file.mkdir(parents=True)


@pytest.mark.parametrize("spoil", [_home_is_a_file, _file_is_a_folder])
def test_a_check_is_the_same_where_nothing_can_be_kept(
    file: Path, spoil: object, capfd: pytest.CaptureFixture[str]
) -> None:
    spoil(file)  # type: ignore[operator]
    assert repr(check("2.1", RIGHT["2.1"])) == "Exercise 2.1: correct."
    assert capfd.readouterr() == ("", "")
    assert "Nothing" in repr(progress())
    assert set(progress().states.values()) == {"not yet"}


@pytest.mark.usefixtures("file")
def test_a_disk_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    check("2.1", wrong)
    monkeypatch.setattr(kept.tempfile, "mkstemp", refuse)
    monkeypatch.setattr(kept.os, "access", lambda *_: False)
    assert repr(check("2.1", RIGHT["2.1"])) == "Exercise 2.1: correct."
    assert progress().states["2.1"] == "tried"
    assert "cannot be written" in repr(progress())


def test_an_interrupted_write_leaves_the_old_file(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    check("2.1", wrong)
    monkeypatch.setattr(kept.json, "dump", stop)
    with pytest.raises(KeyboardInterrupt):
        check("2.1", RIGHT["2.1"])
    assert json.loads(file.read_text()) == {"2.1": "tried"}
    assert [path.name for path in file.parent.iterdir()] == ["progress.json"]


def test_two_writers_at_once_damage_nothing(file: Path) -> None:
    def write(half: int) -> None:
        for n in range(half, 200, 2):
            kept.remember(f"{n}.1", "correct", None)

    writers = [threading.Thread(target=write, args=(half,)) for half in (0, 1)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        if file.exists():
            assert set(json.loads(file.read_text()).values()) == {"solved"}
    assert json.loads(file.read_text()), "some notes may be lost, but what is there is whole"
    assert [path.name for path in file.parent.iterdir()] == ["progress.json"]


@pytest.mark.usefixtures("file")
def test_noting_takes_no_time_to_speak_of() -> None:
    kept.remember("2.1", "correct", None)
    start = time.perf_counter()
    for _ in range(100):
        kept.remember("2.1", "correct", None)
    assert time.perf_counter() - start < 0.5, "five milliseconds a check would be a lot"
