"""Every chapter keeps the shape that readers rely on."""

import re
import statistics
from pathlib import Path
from typing import Any

import nbformat
import pytest

from moe_tutorial.exercises import EXERCISES

NOTEBOOKS = sorted((Path(__file__).resolve().parent.parent / "notebooks").glob("*.ipynb"))
CHAPTERS = [path.stem for path in NOTEBOOKS]


def read(chapter: str) -> Any:
    path = next(path for path in NOTEBOOKS if path.stem == chapter)
    return nbformat.read(path, as_version=4)


def prose(chapter: str) -> str:
    return "\n\n".join(c.source for c in read(chapter).cells if c.cell_type == "markdown")


def code_cells(chapter: str) -> list[Any]:
    return [c for c in read(chapter).cells if c.cell_type == "code"]


def text_outputs(cell: Any) -> str:
    return " ".join(o.get("text") or o.get("data", {}).get("text/plain", "") for o in cell.outputs)


def test_the_table_of_contents_names_every_chapter_in_order() -> None:
    contents = (NOTEBOOKS[0].parent.parent / "_toc.yml").read_text("utf-8")
    assert re.findall(r"notebooks/(\w+)", contents) == CHAPTERS
    assert len({chapter[:2] for chapter in CHAPTERS}) == len(CHAPTERS) >= 11


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_sections_stand_in_order(chapter: str) -> None:
    text = prose(chapter)
    marks = [
        f"# {chapter[:2]} ",
        "After this chapter you can",
        "**Predict first.**",
        "## What goes wrong",
        f"## Exercise {int(chapter[:2])}.1",
        "## Summary",
        "**Read next:**",
    ]
    positions = [text.find(mark) for mark in marks]
    assert -1 not in positions, marks[positions.index(-1)]
    assert positions == sorted(positions)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_exercises_have_a_heading_a_check_and_a_hidden_solution(chapter: str) -> None:
    numbers = re.findall(r"(?m)^## Exercise (\d+\.\d+)$", prose(chapter))
    assert numbers == [n for n in EXERCISES if n.split(".")[0] == str(int(chapter[:2]))]
    assert len(numbers) >= 3
    for number in numbers:
        cells = [c for c in code_cells(chapter) if f'check("{number}", ' in c.source]
        attempt, solution = cells
        assert text_outputs(attempt).strip() == f"Exercise {number}: not attempted yet."
        assert text_outputs(solution).strip() == f"Exercise {number}: correct."
        assert "hide-cell" in solution.metadata["tags"]
        assert solution.metadata["jupyter"]["source_hidden"]


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_cells_are_short_and_have_words_around_them(chapter: str) -> None:
    cells = code_cells(chapter)
    lines = [sum(bool(x.strip()) for x in c.source.splitlines()) for c in cells]
    # What is folded does not stand between a reader and the text.
    seen = [
        count
        for count, cell in zip(lines, cells, strict=True)
        if "hide-input" not in cell.metadata.get("tags", [])
    ]
    words = len(re.findall(r"[A-Za-z]{2,}", prose(chapter)))
    assert max(lines) <= 20
    assert statistics.median(seen) <= 5
    assert words / sum(seen) >= 10


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_prose_is_plain_markdown(chapter: str) -> None:
    for sign in (":::", "```{", "{ref}", "{term}", "{cite", "{numref}", "{doc}", "\\begin{"):
        assert sign not in prose(chapter)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_picture_has_a_sentence_and_is_followed_by_one(chapter: str) -> None:
    cells = read(chapter).cells
    pictures = 0
    for cell, after in zip(cells, [*cells[1:], None], strict=True):
        for output in cell.get("outputs", []):
            if "image/svg+xml" in output.get("data", {}):
                pictures += 1
                assert len(output.metadata["mystnb"]["image"]["alt"]) >= 40
                assert after is not None
                assert after.cell_type == "markdown"
            assert "image/png" not in output.get("data", {})
    assert pictures > 0


@pytest.mark.parametrize("chapter", [c for c in CHAPTERS if "01" <= c[:2] <= "05"])
def test_an_explorer_answers_a_question(chapter: str) -> None:
    cells = read(chapter).cells
    places = [
        i
        for i, cell in enumerate(cells)
        for output in cell.get("outputs", [])
        if re.search(
            'data-explorer="(?!scrubber)[a-z]', output.get("data", {}).get("text/html", "")
        )
    ]
    assert len(places) == 1
    before, after = cells[places[0] - 1], cells[places[0] + 1]
    assert "**Before you" in before.source.split("\n\n")[-1]
    assert before.source.endswith("?")
    assert after.cell_type == "markdown"


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_cell_has_run_without_a_warning(chapter: str) -> None:
    for cell in code_cells(chapter):
        assert cell.execution_count is not None
        assert all(o.get("name") != "stderr" and o.output_type != "error" for o in cell.outputs)


@pytest.mark.parametrize("chapter", CHAPTERS[1:])
def test_hand_built_functions_are_compared_with_the_package(chapter: str) -> None:
    assert sum("assert " in c.source for c in code_cells(chapter)) >= 3
