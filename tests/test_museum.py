"""The bug museum: each test catches its bug, and each check tells repairs from bugs."""

import inspect
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from moe_tutorial.exercises.museum import EXHIBITS, by_symptom, placard, repair, reveal
from moe_tutorial.exercises.museum_records import SYMPTOMS, Exhibit, Source
from tests.museum_answers import BUGS, REPAIRS

ROOT = Path(__file__).resolve().parents[1]
ALL = pytest.mark.parametrize("exhibit", EXHIBITS.values(), ids=list(EXHIBITS))


@ALL
def test_the_test_refuses_the_bug_and_accepts_the_fix(exhibit: Exhibit) -> None:
    assert exhibit.caught_by(exhibit.test)
    for answer in REPAIRS[exhibit.name]:
        exhibit.test(answer)


@ALL
def test_the_check_refuses_the_bug_and_accepts_the_fix(exhibit: Exhibit) -> None:
    assert repr(repair(exhibit.name, exhibit.fixed)) == f"{exhibit.name}: correct."
    assert (
        repr(repair(exhibit.name, exhibit.wrong))
        == f"{exhibit.name}: wrong: the bug is still in it"
    )


@pytest.mark.parametrize("blank", [..., None, lambda *_: None])
def test_nothing_is_said_of_what_is_still_to_be_written(blank: Any) -> None:
    name = "The last expert wins"
    assert repr(repair(name, blank)) == f"{name}: not attempted yet."


@ALL
def test_repairs_in_other_styles_are_accepted_and_other_bugs_refused(exhibit: Exhibit) -> None:
    for answers, status in ((REPAIRS, "correct"), (BUGS, "wrong")):
        for number, answer in enumerate(answers[exhibit.name]):
            verdict = repair(exhibit.name, answer)
            assert verdict.status == status, f"{number}: {verdict}"


def test_every_exhibit_has_answers() -> None:
    assert set(REPAIRS) == set(BUGS) == set(EXHIBITS)
    assert all(len(many) >= 2 for many in (*REPAIRS.values(), *BUGS.values()))


@ALL
def test_a_record_is_complete(exhibit: Exhibit) -> None:
    assert exhibit.kind in SYMPTOMS
    assert 0 <= exhibit.chapter <= 16
    for sentence in (exhibit.symptom, exhibit.fix, exhibit.meant):
        assert re.fullmatch(r"[A-Za-z\d].*\.", sentence)
    # What the code is meant to do does not give the bug away.
    assert inspect.getdoc(exhibit.wrong) == inspect.getdoc(exhibit.fixed)
    names = [function.__name__ for function in (exhibit.wrong, exhibit.fixed, exhibit.test)]
    assert names == [f"{names[1]}_as_found", names[1], f"test_{names[1]}"]
    assert exhibit.sources
    assert all(re.fullmatch(r"[\w.-]+/[\w.-]+", it.repository) for it in exhibit.sources)


@ALL
def test_the_wrong_code_runs_without_a_word(exhibit: Exhibit) -> None:
    """A bug that raises is no exhibit."""
    for case in exhibit.inputs(torch.Generator().manual_seed(0)):
        assert isinstance(exhibit.wrong(*case), torch.Tensor)


def test_the_museum_is_large_enough_and_sorted_by_symptom() -> None:
    sorted_names = [it.name for many in by_symptom().values() for it in many]
    assert sorted(sorted_names) == sorted(EXHIBITS)
    assert len(EXHIBITS) >= 20
    assert all(len(many) >= 3 for many in by_symptom().values())


def test_what_stands_beside_an_exhibit() -> None:
    before, after = (repr(show("The last expert wins")) for show in (placard, reveal))
    assert "What is seen: The loss falls" in before
    assert "def combine_as_found(" in before
    assert "+=" not in before
    for part in ("Add to the row", "def combine(", "+=", "def test_combine("):
        assert part in after
    shown = placard("The last expert wins")._repr_markdown_()
    assert shown.count("```") == 2
    assert before.splitlines()[0] in shown
    source = Source("a/b", 3, "pull request")
    assert str(source) == "b, pull request 3"
    assert source.address == "https://github.com/a/b/pull/3"
    assert Source("a/b", 3).address == "https://github.com/a/b/issues/3"


@pytest.mark.parametrize("call", [placard, reveal, lambda name: repair(name, ...)])
@pytest.mark.parametrize("name", ["The last expert", 3, None])
def test_an_unknown_name_is_refused(call: Callable[[Any], Any], name: Any) -> None:
    with pytest.raises(ValueError, match="name must be one of 'The last expert wins', "):
        call(name)


def test_a_test_that_refuses_the_fix_is_no_test() -> None:
    def refuses_everything(_: Any) -> None:
        raise AssertionError

    exhibit = EXHIBITS["The last expert wins"]
    with pytest.raises(AssertionError):
        exhibit.caught_by(refuses_everything)
    assert not exhibit.caught_by(lambda code: None)


def test_the_chapter_and_the_readme_have_every_exhibit() -> None:
    chapter = (ROOT / "notebooks" / "17_the_bug_museum.ipynb").read_text(encoding="utf-8")
    cells = ["".join(cell["source"]) for cell in json.loads(chapter)["cells"]]
    for function in ("placard", "repair", "reveal"):
        found = re.findall(rf'(?m)^{function}\("([^"]+)"', "\n".join(cells))
        assert sorted(found) == sorted(EXHIBITS)
    for exhibit in EXHIBITS.values():
        (story,) = [cell for cell in cells if cell.startswith(f"### {exhibit.name}\n")]
        for source in exhibit.sources:
            assert f"[{source}]({source.address})" in story
        assert f"[chapter {exhibit.chapter:02d}](" in story
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"{len(EXHIBITS)} bugs" in readme
    assert f"{len(EXHIBITS)} bugs" in cells[0]
