"""What students hand in, honest or not, earns what it did earn: each answer in its own process."""

import csv
import json
import sys
from datetime import datetime, timedelta
from pathlib import Path
from textwrap import dedent

import pytest

from moe_tutorial.course import isolation
from moe_tutorial.course.__main__ import main
from moe_tutorial.course.grades import canvas_rows, gradescope
from moe_tutorial.course.marking import Marks, Result, mark_all
from moe_tutorial.course.plan import Plan
from moe_tutorial.exercises import EXERCISES

SEED = 4711
PLAN = Plan({"3.2": 2.0}, SEED, seconds=2, memory=500)


def lookup_table() -> str:
    """Right on the public inputs, which a student can print, and on nothing else."""
    exercise = EXERCISES["3.2"]
    table = {
        round(float(case[0].sum()), 6): exercise.expected(case).tolist()
        for case in exercise.cases()
    }
    return dedent(f"""
        import torch
        TABLE = {table}
        def answer_3_2(logits_TE, experts_TK):
            found = TABLE.get(round(float(logits_TE.sum()), 6))
            return torch.zeros(experts_TK.shape).double() if found is None else torch.tensor(found)
        """)


# What is handed in, its verdict, and a word of it.
SUBMISSIONS = {
    "right": ("""
        import torch
        from moe_tutorial import softmax
        scale = 1
        def helper(values):
            return softmax(scale * values)
        def answer_3_2(logits_TE, experts_TK):
            return helper(torch.gather(logits_TE, -1, experts_TK))
        while True:  # an experiment, which marking leaves out
            print(answer_3_2(torch.zeros(1, 2), torch.tensor([[0]])))
        """, "correct", ""),
    "empty": ("", "not attempted yet", "there is no answer_3_2"),
    "syntax": ("def answer_3_2(logits_TE, experts_TK)\n    return 1", "wrong", "not Python"),
    "leaves": ("""
        import os
        def answer_3_2(logits_TE, experts_TK):
            print("Exercise 3.2: correct.")
            os._exit(0)
        """, "wrong", "ended its process"),
    "endless": ("""
        def answer_3_2(logits_TE, experts_TK):
            while True:
                try:
                    while True: pass
                except BaseException: pass
        """, "wrong", "was stopped"),
    "greedy": ("""
        def answer_3_2(logits_TE, experts_TK):
            hoard = bytearray(2 ** 32)
            return logits_TE.gather(-1, experts_TK).softmax(-1)
        """, "wrong", "MemoryError"),
    "references": ("""
        from moe_tutorial.exercises import EXERCISES
        answer_3_2 = EXERCISES["3.2"].reference
        """, "wrong", "ImportError"),
    "patches": ("""
        import moe_tutorial.course.child as child, moe_tutorial.exercises.attempt as attempts, torch
        from types import SimpleNamespace
        class Agrees(torch.Tensor):
            def __torch_function__(self, *_, **__): return True
            __eq__ = allclose = isclose = all = __torch_function__
        torch.isclose = torch.allclose = torch.equal = lambda *_, **__: torch.tensor(True)
        def answer_3_2(logits_TE, experts_TK):
            child._plain = lambda it: {"status": "correct", "score": 100}
            child.attempt = attempts.attempt = lambda *_: SimpleNamespace(status="correct")
            return logits_TE.gather(-1, experts_TK).softmax(0).as_subclass(Agrees)
        """, "wrong", "no list of numbers"),
    "agrees": ("""
        import torch
        class Agrees(torch.Tensor):
            @classmethod
            def __torch_function__(cls, function, types, args=(), kwargs=None):
                if function.__name__ in ("isclose", "allclose", "all", "eq"):
                    return torch.tensor(True)
                return super().__torch_function__(function, types, args, kwargs or {})
        def answer_3_2(logits_TE, experts_TK):
            return logits_TE.gather(-1, experts_TK).softmax(0).as_subclass(Agrees)
        """, "wrong", "this softmax runs over the tokens"),
}  # fmt: skip


@pytest.fixture(scope="module")
def marks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Marks]:
    folder = tmp_path_factory.mktemp("submissions")
    for name, (source, *_) in SUBMISSIONS.items():
        (folder / f"{name}.py").write_text(dedent(source))
    (folder / "table.py").write_text(lookup_table())
    (folder / "damaged.ipynb").write_text("{")
    done: list[Marks] = []
    stdout = sys.stdout
    found = mark_all(folder, PLAN, jobs=2, after_each=done.append)
    assert sys.stdout is stdout  # checks redirect it, and must not do so at the same time
    assert sorted(it.student for it in done) == [it.student for it in found]
    return {it.student: it for it in found}


@pytest.mark.parametrize("name", SUBMISSIONS)
def test_a_submission_earns_what_it_earned(marks: dict[str, Marks], name: str) -> None:
    _, status, words = SUBMISSIONS[name]
    (result,) = marks[name].results
    assert (result.status, words in result.message) == (status, True), result
    assert marks[name].score == (2 if status == "correct" else 0)


def test_an_endless_answer_is_stopped_by_its_own_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "PATIENCE", 60)  # however busy the machine is
    source = dedent(SUBMISSIONS["endless"][0])
    case = EXERCISES["3.2"].cases()[:1]
    with isolation.package_without_answers() as package:
        (found,) = isolation.try_elsewhere(
            source, "answer_3_2", case, isolation.Limits(1, 500), package
        )
    assert found.failure == "was stopped: it computed for more than 1 seconds"


def test_a_table_of_public_inputs_earns_nothing(marks: dict[str, Marks]) -> None:
    names: dict[str, object] = {}
    exec(lookup_table(), names)
    assert EXERCISES["3.2"].check(names["answer_3_2"]).status == "correct"
    assert marks["table"].score == 0


def test_a_damaged_file_is_wrong_and_stops_nothing(marks: dict[str, Marks]) -> None:
    assert "cannot be read" in marks["damaged"].results[0].message
    assert len(marks) == len(SUBMISSIONS) + 2


def test_unusual_words_are_for_a_person_to_look_at(marks: dict[str, Marks]) -> None:
    assert marks["right"].for_you == ""
    assert marks["references"].for_you == "EXERCISES"


def test_functions_among_the_inputs_and_gradients_work_from_afar(tmp_path: Path) -> None:
    (tmp_path / "notebooks").mkdir()
    cells = [
        {"cell_type": "markdown", "source": ["def answer_3_3(x): ..."]},
        {"cell_type": "code", "source": ["%matplotlib inline\n", "import torch"]},
        {"cell_type": "code", "source": [
            "def answer_3_3(logits_TE):\n", "    return torch.softmax(logits_TE, -1).amax(-1, True)"
        ]},
        {"cell_type": "code", "source": "def broken(:"},
    ]  # fmt: skip
    student = tmp_path / "notebooks" / "ada"
    student.mkdir()
    (student / "03.ipynb").write_text(json.dumps({"cells": cells}))
    (student / "17.py").write_text(
        dedent("""
        def answer_17_3(layer, x_TD, order_T):
            return (layer(x_TD[order_T]) - layer(x_TD=x_TD)[order_T]).abs().max()
        """)
    )
    plan = Plan({"3.3": 1.0, "17.3": 1.0}, SEED)
    (found,) = mark_all(tmp_path / "notebooks", plan, after_each=lambda it: None)
    assert [it.status for it in found.results] == ["correct", "correct"]


def marks_of(name: str, score: float, days: int = 0, kept: float = 1.0) -> Marks:
    results = (Result("3.1", score, "correct"), Result("3.2", 5.0, "wrong", "a softmax"))
    return Marks(name, results, days, kept)


def test_gradescope_reads_scores_and_words() -> None:
    found = gradescope(marks_of("ada", 2.0, 2, 0.8))
    assert found["score"] == 1.6
    assert found["tests"][1] == {
        "name": "Exercise 3.2", "score": 0.0, "max_score": 5.0, "output": "wrong: a softmax",
    }  # fmt: skip
    assert found["output"] == "2 days late: 0.8 of the points are kept."


def test_canvas_gets_its_own_lines_back(tmp_path: Path) -> None:
    roster = tmp_path / "canvas.csv"
    roster.write_text(
        "Student,ID,SIS User ID,SIS Login ID,Section\n    Points Possible,,,,\n"
        '"Lovelace, Ada",1,u1,ada,A\n"Hopper, Grace",2,u2,grace,A\n'
    )
    plan = Plan({"3.1": 2.0}, SEED, title="Set 1", roster=roster)
    rows, notes = canvas_rows([marks_of("ada", 2.0), marks_of("alan", 1.0)], plan)
    assert [(row["Student"], row["Set 1"]) for row in rows] == [
        ("Lovelace, Ada", 2.0), ("Hopper, Grace", 0.0),
    ]  # fmt: skip
    assert notes == [
        "Hopper, Grace handed in nothing that bears the name grace",
        "alan is not on the roster",
    ]


def test_the_command_marks_late_work_and_writes_everything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    due = datetime(2026, 5, 4, 12)
    (tmp_path / "course.toml").write_text(
        f'seed = 1\ndue = {due.isoformat()}\nlate_per_day = 0.25\nhints = false\n'
        'times = "times.csv"\n[points]\n"3.1" = 4\n'
    )  # fmt: skip
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "ada.py").write_text("def answer_3_1(scores_TE, k)")
    (tmp_path / "in" / "bob").mkdir()
    late = (due + timedelta(hours=25)).isoformat()
    (tmp_path / "times.csv").write_text(f"student,time\nada,{late}\n")
    folders = [str(tmp_path / name) for name in ("course.toml", "in", "out")]
    assert main(["mark", *folders[:2], "--out", folders[2]]) == 0
    assert "ada: 0 of 4, 2 days late" in capsys.readouterr().out
    with (tmp_path / "out" / "grades.csv").open(newline="") as file:
        ada, bob = csv.DictReader(file)
    assert (ada["days late"], ada["kept"], ada["3.1 says"]) == ("2", "0.5", "wrong")
    assert bob["3.1 says"].startswith("not attempted yet: there is no answer_3_1")
    assert json.loads((tmp_path / "out" / "results" / "ada.json").read_text())["score"] == 0
    assert main(["mark", str(tmp_path / "nowhere.toml"), folders[1]]) == 2
    assert "cannot be read" in capsys.readouterr().err
