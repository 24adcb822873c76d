"""Problem sets: what is handed out holds no solution, and what is taken in is found."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from moe_tutorial.course import handout
from moe_tutorial.course.__main__ import main
from moe_tutorial.course.answers import AnswerError, source_of
from moe_tutorial.course.handout import chapter_file, read_notebook, student_copy, text_of
from moe_tutorial.course.plan import Plan, PlanError, as_toml, plan_of_chapters, read_plan
from moe_tutorial.course.wire import MessageError, pack, unpack
from moe_tutorial.exercises import EXERCISES, Exercise

COMPLETE = {"17.4"}  # asks for four dtypes, and there are no others
CHAPTERS = list(dict.fromkeys(number.split(".")[0].zfill(2) for number in EXERCISES))
WRITTEN = [chapter for chapter in CHAPTERS if list(handout.NOTEBOOKS.glob(f"{chapter}_*.ipynb"))]


@pytest.mark.parametrize("chapter", WRITTEN)
def test_a_handout_has_every_exercise_and_no_solution(chapter: str) -> None:
    plan = plan_of_chapters([chapter], 1)
    original = read_notebook(chapter_file(chapter))
    text = json.dumps(student_copy(original, plan)["cells"], ensure_ascii=False)
    for number, points in plan.points.items():
        assert f"## Exercise {number} ({points:g} point" in text
        assert f'check(\\"{number}\\", answer_' in text
    assert "solution_" not in text
    assert "hide-cell" not in text
    assert "moe_tutorial.zip" in text
    assert not [said for said in handout.IN_THE_BOOK if said in text]
    linked = re.findall(r"\]\((\d\d)_\w+\.ipynb", text)
    assert set(linked) <= {chapter}
    with pytest.raises(PlanError, match="still holds a solution"):
        handout.refuse_solutions(original, original)


def test_what_is_true_in_the_book_alone_stands_there() -> None:
    every = [text_of(it) for c in WRITTEN for it in read_notebook(chapter_file(c))["cells"]]
    for said in handout.IN_THE_BOOK:
        assert any(said in text for text in every), said


def test_links_lead_to_chapters_that_are_handed_out() -> None:
    cell = {"cell_type": "markdown", "metadata": {}, "source": []}
    notebook = {"cells": [cell | {"source": ["see [a](03_top_k.ipynb), [b](04_sampling.ipynb)"]}]}
    (copy,) = student_copy(notebook, Plan({"3.1": 1.0}, 1))["cells"]
    assert text_of(copy) == "see [a](03_top_k.ipynb), b"


def test_a_solution_that_lost_its_tag_is_not_handed_out() -> None:
    notebook = read_notebook(chapter_file("03"))
    plan = plan_of_chapters(["3"], 1)
    solution = next(it for it in notebook["cells"] if "solution_3_1" in text_of(it))
    untagged = {**solution, "metadata": {}}
    cells = [untagged if it is solution else it for it in notebook["cells"]]
    with pytest.raises(PlanError, match="give it the tag hide-cell"):
        student_copy(notebook | {"cells": cells}, plan)
    renamed = {**untagged, "source": text_of(solution).split("\n", 1)[1].replace("solution", "my")}
    with pytest.raises(PlanError, match="still holds a solution's lines"):
        student_copy(notebook | {"cells": [*notebook["cells"], renamed]}, plan)


def test_hints_can_be_hidden_and_an_exercise_left_out() -> None:
    plan = Plan({"3.1": 1.5}, 1, hints=False)
    copy = student_copy(read_notebook(chapter_file("03")), plan)
    text = "\n".join(map(text_of, copy["cells"]))
    assert 'check("3.1", answer_3_1, hints=False)' in text
    assert "## Exercise 3.1 (1.5 points)" in text
    assert "## Exercise 3.2 (for practice)" in text


@pytest.mark.parametrize("number", sorted(set(EXERCISES) - COMPLETE))
def test_a_seed_changes_the_hidden_inputs(number: str) -> None:
    exercise = EXERCISES[number]
    assert repr(exercise.cases(1)) == repr(exercise.cases(1))
    assert repr(exercise.cases(1)) != repr(exercise.cases(2))


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_other_seeds_tell_every_mistake_from_the_reference(chapter: str) -> None:
    assert plan_of_chapters([chapter], 4711).blind_spots() == []


def test_a_seed_whose_inputs_cannot_tell_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "mine.py"
    own.write_text(
        "from moe_tutorial.exercises import Exercise, Mistake\nimport torch\n"
        "EXERCISES = (Exercise('A.1', torch.relu, lambda g: [(torch.ones(3),)],"
        " (Mistake(lambda x: x, 'no relu'),)),)\n"
    )
    (tmp_path / "course.toml").write_text('seed = 3\nown = "mine.py"\n[points]\n"A.1" = 1\n')
    assert main(["mark", str(tmp_path / "course.toml"), str(tmp_path)]) == 2
    assert "choose another seed than 3: exercise A.1: these hidden" in capsys.readouterr().err


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    plan = plan_of_chapters(["03", "5"], 12, title='The "first" set', hints=False)
    (tmp_path / "course.toml").write_text(as_toml(plan), encoding="utf-8")
    assert read_plan(tmp_path / "course.toml") == plan
    assert plan.chapters == ["03", "05"]
    assert plan.total == sum(plan.points.values()) == 8 * 2


BAD = {
    'seed = 1\n[points]\n"99.1" = 1': "an exercise that there is not: 99.1",
    'seed = 1\n[points]\n"3.1" = -1': "points of 3.1 must be a number of at least 0",
    'seed = -1\n[points]\n"3.1" = 1': "seed must be an int of at least 0",
    'seed = 1\nseconds = 0.5\n[points]\n"3.1" = 1': "seconds must be a whole number",
    'seed = 1\nlate_per_day = 10\n[points]\n"3.1" = 1': "late_per_day must be a share",
    'seed = 1\nhint = true\n[points]\n"3.1" = 1': "unknown entry: hint",
    '[points]\n"3.1" = 1': "lacks an entry: seed",
    "seed = 1\n[points]": "at least one exercise",
    "seed =": "cannot be read",
    'seed = 1\nown = "no.py"\n[points]\n"3.1" = 1': "no.py raised FileNotFoundError",
}


@pytest.mark.parametrize("text", BAD)
def test_a_bad_plan_is_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "course.toml").write_text(text)
    with pytest.raises(PlanError, match=BAD[text]):
        read_plan(tmp_path / "course.toml")


def test_an_unknown_chapter_is_named() -> None:
    with pytest.raises(PlanError, match="no chapter 99; there are 00, 01"):
        plan_of_chapters(["99"], 1)


CODES = [
    "import torch\nimport os as system\nfrom math import *\nx = expensive()",
    "SCALE = {}\nSCALE['a'] = 2\nprint(SCALE)",
    "class Helper:\n    factor = SCALE['a']",
    "def answer_1_1(y):\n    x = y\n    return Helper.factor * torch.relu(x)",
    "%timeit answer_1_1(1)\n!ls\nimport json",
    "while True:\n    answer_1_1(2)",
    "def answer_1_2(:",
]


def test_an_answer_takes_along_what_it_needs_and_nothing_else() -> None:
    assert source_of("answer_1_1", CODES).splitlines() == [
        "import torch",
        "from math import *",
        "SCALE = {}",
        "SCALE['a'] = 2",
        "class Helper:",
        "    factor = SCALE['a']",
        "def answer_1_1(y):",
        "    x = y",
        "    return Helper.factor * torch.relu(x)",
    ]


def test_the_last_of_two_answers_counts_and_a_missing_one_is_empty() -> None:
    twice = ["def answer_1_1(): return 1", "def answer_1_1(): return 2"]
    names: dict[str, Any] = {}
    exec(source_of("answer_1_1", twice), names)
    assert names["answer_1_1"]() == 2
    assert source_of("answer_1_3", CODES) == ""
    with pytest.raises(AnswerError, match="not Python"):
        source_of("answer_1_2", CODES)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.tensor(True),
        torch.arange(6).view(2, 3),
        torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).T.bfloat16(),
        torch.empty(0, 3),
        torch.tensor([float("nan"), 1.0], dtype=torch.float64),
    ],
)
def test_numbers_come_back_as_they_were(tensor: torch.Tensor) -> None:
    found = unpack(json.loads(json.dumps(pack(tensor))))
    assert found is not None
    assert found.dtype == tensor.dtype
    torch.testing.assert_close(found, tensor, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    "packed",
    [
        {"dtype": "object", "shape": [1], "bytes": ""},
        {"dtype": "float32", "shape": [10**12], "bytes": "AAAA"},
        {"dtype": "float32", "shape": [-1, -1], "bytes": "AAAAAA=="},
        {"dtype": "float32", "shape": "1", "bytes": "AAAAAA=="},
        {"dtype": ["float32"], "shape": [1], "bytes": "AAAAAA=="},
        "text",
        {},
    ],
)
def test_what_is_no_tensor_is_refused(packed: Any) -> None:
    with pytest.raises(MessageError):
        unpack(packed)


def test_an_exercise_of_ones_own_can_be_given_points(tmp_path: Path) -> None:
    own = tmp_path / "mine.py"
    own.write_text(
        "from moe_tutorial.exercises import Exercise\n"
        "EXERCISES = (Exercise('A.1', abs, lambda g: [(-2.0,)], ()),)\n"
    )
    plan = Plan({"A.1": 3.0}, 1, own=own)
    assert isinstance(plan.exercises["A.1"], Exercise)
    assert plan.chapters == []
