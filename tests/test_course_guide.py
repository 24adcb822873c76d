"""The code on the pages for instructors and in the README runs, and says what stands below it."""

import ast
import contextlib
import io
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from moe_tutorial.course.__main__ import parser
from moe_tutorial.exercises import EXERCISES

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "book/teaching.md", "book/course_plans.md")
COMMAND = "-m moe_tutorial.course "


def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def said_by(node: ast.stmt, names: dict[str, Any]) -> str:
    """What a statement prints, or what a notebook would show of its value."""
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        if isinstance(node, ast.Expr):
            value = eval(compile(ast.Expression(node.value), "page", "eval"), names)
            return shown.getvalue().strip() or ("" if value is None else repr(value))
        exec(compile(ast.Module([node], []), "page", "exec"), names)
    return shown.getvalue().strip()


@pytest.mark.parametrize("page", PAGES[:2])
def test_the_code_of_a_page_says_what_stands_below_it(page: str) -> None:
    names: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", text(page), flags=re.DOTALL)
    assert blocks
    for block in blocks:
        lines = block.splitlines()
        for node in ast.parse(block).body:
            said = said_by(node, names)
            below = lines[node.end_lineno] if node.end_lineno < len(lines) else ""
            if below.startswith("# "):
                assert said == below.removeprefix("# ")


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_are_understood(page: str) -> None:
    lines = [line for line in text(page).splitlines() if COMMAND in line]
    for line in lines:
        parser().parse_args(shlex.split(line.split(COMMAND)[1]))
    assert lines or page == "README.md"


def test_every_chapter_with_exercises_has_its_goal_and_its_mistakes() -> None:
    rows = re.findall(r"(?m)^\| (\d\d) [^|]+\|[^|]+\|[^|]+\|[^|]+\|$", text("book/course_plans.md"))
    assert set(rows) >= {number.split(".")[0].zfill(2) for number in EXERCISES}
    assert rows == sorted(rows)
