"""Whatever a reader's function is, returns or raises, the check ends with a true verdict."""

import itertools
import signal
import sys
from typing import Any

import numpy as np
import pytest
import torch

from moe_tutorial.exercises import check
from tests.exercise_answers import RIGHT
from tests.hostile import (
    Endless,
    Hostile,
    Nameless,
    SilentError,
    Strange,
    in_itself,
    leaves,
    nested,
    raises,
    recurses,
    waits,
    yields,
)

NUMBER = "expected a tensor or a number, got "
ONE_SHAPE = "expected shape (5, 4), got "

ONES = torch.ones(5, 4)
HUGE = torch.sparse_coo_tensor(size=(10**12,), check_invariants=True)

NO_NUMBERS: dict[str, tuple[Any, str]] = {
    "a string": ("x", f"{NUMBER}str"),
    "bytes": (b"1", f"{NUMBER}bytes"),
    "a dict": ({1: 2}, f"{NUMBER}dict"),
    "a set": ({1, 2}, f"{NUMBER}set"),
    "a function": (len, f"{NUMBER}builtin_function_or_method"),
    "a class": (torch.Tensor, f"{NUMBER}_TensorMeta"),
    "a count": (itertools.count(), f"{NUMBER}count"),
    "strings in NumPy": (np.array(["a"]), f"{NUMBER}an array of <U1"),
    "objects in NumPy": (np.array([{}], dtype=object), f"{NUMBER}ndarray"),
    "dates": (np.array(["2024-02-29"], dtype="M8[D]"), "got an array of datetime64[D]"),
    "a huge int": (10**400, "OverflowError: int too large to convert to float"),
    "complex": (1j, "expected real numbers, got torch.complex128"),
    "a complex tensor": (torch.ones(5, 4) * 1j, "expected real numbers, got torch.complex64"),
    "on meta": (torch.ones(5, 4, device="meta"), "on the meta device has a shape, but no numbers"),
    "hostile": (Hostile(), f"{NUMBER}Hostile"),
    "nameless": (Nameless("Nobody", (), {})(), f"{NUMBER}an object"),
    "strange": (torch.ones(5, 4).as_subclass(Strange), f"{NUMBER}Strange"),
    "ragged": ([[1.0, 2.0], [3.0]], "stack expects each tensor to be equal size"),
    "a list of strings": (["x"], f"{NUMBER}str"),
    "a list in itself": (in_itself(), f"{NUMBER}list"),
    "deep": (nested(10_000), f"{NUMBER}list"),
    "deep and wide": (nested(200, 2), "more than 1000000 numbers"),
    "an endless list": (Endless(), "more than 1000000 numbers"),
    "a long range": (range(10**12), "more than 1000000 numbers"),
    "a huge view": (torch.ones(1).expand(10**12), "more than 1000000 numbers"),
    "huge and sparse": (HUGE, "more than 1000000 numbers"),
    "huge in NumPy": (np.broadcast_to(1.0, 10**12), "more than 1000000 numbers"),
    "None in a list": ([None], f"{NUMBER}NoneType"),
}  # fmt: skip

NO_RIGHT_NUMBERS: dict[str, tuple[Any, str]] = {
    "two things": ((torch.ones(5, 4), torch.ones(5, 4)), f"{ONE_SHAPE}shape (2, 5, 4)"),
    "a comma too many": ((torch.ones(5, 4),), f"{ONE_SHAPE}shape (1, 5, 4)"),
    "topk as it is": (torch.ones(5, 4).topk(1), "this is the pair that torch's topk returns"),
    "a number": (1.0, f"{ONE_SHAPE}a single number"),
    "True": (True, f"{ONE_SHAPE}a single number"),
    "an empty list": ([], f"{ONE_SHAPE}shape (0,)"),
    "NaN": (torch.full((5, 4), torch.nan), "got nan"),
    "infinity": (torch.full((5, 4), torch.inf), "at index (0, 0), got inf"),
    "large": (torch.full((5, 4), 1e308, dtype=torch.float64), "got 1e+308"),
    "whole": (torch.ones(5, 4, dtype=torch.uint8), "got 1"),
    "eight bits": (torch.ones(5, 4).to(torch.float8_e4m3fn), "got 1"),
}  # fmt: skip

OTHER_ANSWERS: dict[str, tuple[Any, str]] = {
    "exits": (leaves, "your function raised SystemExit: 3, for the arguments a tensor"),
    "exits with a novel": (raises(SystemExit("x" * 10**6)), "your function raised SystemExit: xxx"),
    "closes": (raises(GeneratorExit()), "your function raised GeneratorExit, for the arguments"),
    "recurses": (recurses, "your function raised RecursionError: maximum recursion depth"),
    "out of memory": (lambda *_: torch.empty(2**60), "your function raised RuntimeError"),
    "silent": (raises(SilentError()), "your function raised SilentError, for the arguments"),
    "many lines": (raises(ValueError("a\n\nb")), "your function raised ValueError: a b, for"),
    "no parameters": (lambda: 1, "<lambda>() takes 0 positional arguments but 2 were given"),
    "quantised": (lambda *_: torch.quantize_per_tensor(ONES, 1, 0, torch.qint8), "got 1"),
    "a generator": (yields, f"{NUMBER}generator"),
    "a class": (int, "your function raised TypeError"),
    "another class": (Hostile, "your function raised TypeError"),
    "a module": (torch.nn.Linear(3, 4), "your function raised TypeError"),
    "a number": (3, "expected a function, got int"),
    "a string": ("dot", "expected a function, got str"),
    "a result": (torch.ones(5, 4), "got Tensor: hand over the function itself"),
    "hostile": (Hostile(), "expected a function, got Hostile"),
    "nameless": (Nameless("Nobody", (), {})(), "expected a function, got an object"),
    "not implemented": (
        lambda x, w: torch.ones(1, device="meta").cpu(),
        "your function raised NotImplementedError: Cannot copy out of meta tensor",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", NO_NUMBERS)
def test_a_result_that_stands_for_no_numbers_is_called_so(kind: str) -> None:
    result, words = NO_NUMBERS[kind]
    verdict = check("1.1", lambda x, w: result)
    assert verdict.status == "wrong"
    assert "your function returned a result that cannot be compared" in verdict.message
    assert words in verdict.message
    assert len(verdict.message) < 500


@pytest.mark.parametrize("kind", NO_RIGHT_NUMBERS)
def test_a_wrong_result_of_any_kind_is_refused_by_its_values(kind: str) -> None:
    result, words = NO_RIGHT_NUMBERS[kind]
    verdict = check("1.1", lambda x, w: result)
    assert verdict.status == "wrong"
    assert words in verdict.message
    assert len(verdict.message) < 300


@pytest.mark.parametrize("kind", OTHER_ANSWERS)
def test_an_answer_of_any_kind_is_judged(kind: str) -> None:
    answer, words = OTHER_ANSWERS[kind]
    verdict = check("1.1", answer)
    assert verdict.status == "wrong"
    assert words in verdict.message
    assert len(verdict.message) < 500


@pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning")
def test_a_coroutine_is_no_number() -> None:
    assert f"{NUMBER}coroutine" in check("1.1", waits).message


def test_the_second_time_may_be_worse_than_the_first() -> None:
    calls = itertools.count()

    def wrong_then_gone(x: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        return x.sum() if next(calls) == 0 else sys.exit()

    assert f"{ONE_SHAPE}a single number" in check("1.1", wrong_then_gone).message


def test_a_person_who_presses_stop_is_obeyed() -> None:
    # A shell's background jobs ignore the signal, and so would a test run among them.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            check("1.1", lambda *_: signal.raise_signal(signal.SIGINT))
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_replaced_function_of_torch_does_not_end_the_notebook(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise SystemExit("broken")

    for name in ("isclose", "as_tensor", "from_numpy", "stack", "softmax", "get_default_dtype"):
        with monkeypatch.context() as patch:
            patch.setattr(torch, name, broken)
            verdicts = [check(number, RIGHT[number]) for number in ("1.1", "0.1", "3.3")]
        assert {v.status for v in verdicts} <= {"correct", "wrong", "not judged"}
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "double", broken)
        verdict = check("1.1", RIGHT["1.1"])
    assert verdict.status == "not judged"
    assert "SystemExit: broken (restart the kernel if you replaced a function" in verdict.message


UNKNOWN = {"float": 3.1, "None": None, "list": ["3.1"], "function": check}


@pytest.mark.parametrize("kind", UNKNOWN)
def test_what_is_no_number_of_an_exercise_is_refused(kind: str) -> None:
    words = r"number must be one of 0\.1 to 0\.3, .*, got "
    with pytest.raises(ValueError, match=words) as refusal:
        check(UNKNOWN[kind], None)  # type: ignore[arg-type]
    assert len(str(refusal.value)) < 300


def test_an_unknown_number_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"number must be one of 0\.1 to 0\.3, .*, got '9\.9'"):
        check("9.9", None)
