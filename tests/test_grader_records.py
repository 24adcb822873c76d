"""An exercise that its writer got wrong says so, and accuses no reader."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from moe_tutorial.exercises import Exercise, Mistake

GRADIENT = "with gradient=True, the first argument must be a floating tensor"


def double(x: torch.Tensor) -> torch.Tensor:
    return 2 * x


def one_case(_: torch.Generator) -> list[tuple[torch.Tensor]]:
    return [(torch.ones(3, dtype=torch.float64),)]


def fails(*_: Any) -> Any:
    raise ValueError("by mistake")


def exits(*_: Any) -> Any:
    raise SystemExit(3)


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "a reference that raises": (
        {"reference": fails},
        "its reference raised ValueError: by mistake, for the arguments a tensor of shape (3,)",
    ),
    "a reference that exits": ({"reference": exits}, "its reference raised SystemExit: 3"),
    "a reference without a return": ({"reference": lambda x: None}, "reference returned nothing"),
    "a reference still to write": ({"reference": lambda x: ...}, "its reference returned nothing"),
    "a reference that returns words": (
        {"reference": lambda x: "2 x"},
        "its reference returned a result that cannot be compared: expected a tensor or a number, "
        "got str",
    ),
    "a reference with other parameters": (
        {"reference": lambda x, y: x},
        "its reference raised TypeError: <lambda>() missing 1 required positional argument: 'y'",
    ),
    "inputs that raise": ({"inputs": fails}, "its inputs raised ValueError: by mistake"),
    "inputs without a generator": ({"inputs": lambda: None}, "its inputs raised TypeError"),
    "no inputs": ({"inputs": lambda g: []}, "its inputs must be a list of tuples"),
    "inputs that are no tuples": (
        {"inputs": lambda g: [torch.ones(3)]},
        "its inputs must be a list of tuples with the arguments of one call each",
    ),
    "inputs that are one tensor": ({"inputs": lambda g: torch.ones(3)}, "must be a list of tuples"),
    "a generator of inputs": ({"inputs": lambda g: (x for x in ())}, "must be a list of tuples"),
    "a gradient of whole numbers": (
        {"inputs": lambda g: [(torch.ones(3, dtype=torch.int64),)], "gradient": True},
        GRADIENT,
    ),
    "a gradient of a number": ({"inputs": lambda g: [(3,)], "gradient": True}, GRADIENT),
    "a gradient of nothing": (
        {"inputs": lambda g: [()], "reference": lambda: 1, "gradient": True},
        GRADIENT,
    ),
    "an observe that raises": ({"observe": fails}, "its observe raised ValueError: by mistake"),
    "an observe without a return": ({"observe": lambda r, c: None}, "its observe returned None"),
}  # fmt: skip


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("answer", [double, fails, exits, lambda x: None, lambda x: "x"])
def test_a_fault_of_the_exercise_is_not_laid_on_the_reader(
    kind: str, answer: Callable[..., Any]
) -> None:
    parts, words = FAULTS[kind]
    exercise = Exercise(
        **{"number": "A.1", "reference": double, "inputs": one_case, "mistakes": (), **parts}
    )
    verdict = exercise.check(answer)
    assert verdict.status == "not judged"
    assert verdict.message.startswith("the exercise failed, not you: ")
    assert words in verdict.message
    assert repr(exercise.check(...)) == "Exercise A.1: not attempted yet."


@pytest.mark.parametrize("mistake", [fails, exits, lambda: 1, lambda x: "x", lambda x: None])
def test_a_mistake_that_cannot_run_changes_no_verdict(mistake: Callable[..., Any]) -> None:
    broken = Mistake(mistake, "never said")
    tripled = Mistake(lambda x: 3 * x, "two times, not three")
    exercise = Exercise("A.1", double, one_case, (broken, tripled))
    assert exercise.check(double).status == "correct"
    assert exercise.check(lambda x: 3 * x).message == "two times, not three"
    assert "expected 2 at index (0,), got 4" in exercise.check(lambda x: 4 * x).message
    assert exercise.check(mistake).message != "never said"  # so its writer sees it


def test_an_observe_that_a_wrong_result_breaks_makes_it_wrong() -> None:
    def only_twos(result: torch.Tensor, _: Any) -> torch.Tensor:
        if (result != 2).any():
            raise ValueError("not two")
        return result

    exercise = Exercise("A.1", double, one_case, (), observe=only_twos)
    assert exercise.check(double).status == "correct"
    verdict = exercise.check(lambda x: x)
    assert verdict.status == "wrong"
    assert "your result cannot be compared: the exercise's observe raised" in verdict.message


def test_neither_reference_nor_observe_nor_mistake_can_spoil_the_inputs() -> None:
    given = [(torch.ones(2), [1.0], {"a": torch.ones(2)})]

    def spoils(x: torch.Tensor, numbers: list[float], named: dict[str, torch.Tensor]) -> Any:
        result = x + numbers[0] + named["a"]
        x.zero_()
        numbers[0] = 0.0
        named["a"].zero_()
        return result

    def spoils_too(result: torch.Tensor, case: Any) -> Any:
        spoils(*case)
        return result

    exercise = Exercise("A.1", spoils, lambda g: given, (Mistake(spoils, ""),), observe=spoils_too)
    assert exercise.check(spoils).status == "correct"
    assert exercise.check(lambda x, n, d: 3 * x).status == "correct"
    assert "got 1" in exercise.check(lambda x, n, d: x).message
    assert given[0][1] == [1.0]
    assert given[0][0].sum() == given[0][2]["a"].sum() == 2


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"number": 1.1}, "number must be a string, got 1.1"),
        ({"reference": None}, "reference must be a function, got None"),
        ({"inputs": [(1,)]}, r"inputs must be a function, got \[\(1,\)\]"),
        ({"observe": 3}, "observe must be a function, got 3"),
        ({"mistakes": Mistake(double, "no comma")}, "mistakes must be a tuple of Mistake, such as"),
        ({"mistakes": (double,)}, "mistakes must be a tuple of Mistake"),
    ],
)
def test_an_exercise_of_the_wrong_parts_is_refused_by_name(
    parts: dict[str, Any], words: str
) -> None:
    with pytest.raises(TypeError, match=words):
        Exercise(
            **{"number": "A.1", "reference": double, "inputs": one_case, "mistakes": (), **parts}
        )


def test_a_mistake_of_the_wrong_parts_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="answer must be a function, got 'double'"):
        Mistake("double", double)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="message must be a string, got None"):
        Mistake(double, None)  # type: ignore[arg-type]
