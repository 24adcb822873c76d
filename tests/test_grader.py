"""A right answer passes in any style, in any settings, and leaves the reader's settings alone."""

import decimal
import fractions
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from moe_tutorial.exercises import EXERCISES, check
from tests.exercise_answers import RIGHT, softmax, stable_order

Answer = Callable[..., Any]
BUFFER = torch.empty(100, dtype=torch.float64)


def lengths(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return x.norm(dim=-1)[:, None] * w.norm(dim=-1)


def in_place(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    x *= 2
    result = lengths(x, w)
    result /= 2
    w.zero_()
    return result


def in_one_buffer(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    result = BUFFER[: len(x) * len(w)].view(len(x), len(w))
    return torch.mul(x.norm(dim=-1)[:, None], w.norm(dim=-1), out=result)


def filled_in_a_loop(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    result = torch.zeros(len(x), len(w))
    for t, token in enumerate(x):
        for e, centroid in enumerate(w):
            result[t, e] = token.norm() * centroid.norm()
    return result


def softmax_in_place(logits: torch.Tensor) -> torch.Tensor:
    logits[:] = softmax(logits, -1)
    return logits.amax(-1, keepdim=True)


RIGHT_IN_ANOTHER_STYLE: dict[str, tuple[str, Answer]] = {
    "writes in place": ("1.1", in_place),
    "writes in place and needs a gradient": ("3.3", softmax_in_place),
    "the same memory for every result": ("1.1", in_one_buffer),
    "NumPy": ("1.1", lambda *a: np.outer(*(np.linalg.norm(v.numpy(), axis=1) for v in a))),
    "NumPy with negative strides": ("1.1", lambda x, w: lengths(x, w).numpy()[::-1].copy()[::-1]),
    "NumPy of the other byte order": ("1.1", lambda x, w: lengths(x, w).numpy().astype(">f8")),
    "NumPy, long": ("1.1", lambda x, w: lengths(x, w).numpy().astype(np.longdouble)),
    "NumPy objects": ("1.1", lambda x, w: lengths(x, w).numpy().astype(object)),
    "NumPy, unsigned": ("7.2", lambda *a: RIGHT["7.2"](*a).numpy().astype("u2")),
    "rounded to float32 by torch's default": ("1.1", filled_in_a_loop),
    "rows of tensors": ("1.1", lambda x, w: list(lengths(x, w))),
    "a tuple of rows": ("1.1", lambda x, w: tuple(lengths(x, w))),
    "rows of NumPy": ("1.1", lambda x, w: list(lengths(x, w).numpy())),
    "lists of tensors": ("3.3", lambda z: [[row.amax()] for row in softmax(z, -1)]),
    "lists of floats": ("1.1", lambda x, w: lengths(x, w).tolist()),
    "lists of ints": ("3.1", lambda s, k: stable_order(s, k).tolist()),
    "a list": ("7.2", lambda *a: RIGHT["7.2"](*a).tolist()),
    "sparse": ("1.1", lambda x, w: lengths(x, w).to_sparse()),
    "sparse rows": ("1.1", lambda x, w: lengths(x, w).to_sparse_csr()),
    "requires a gradient": ("1.1", lambda x, w: lengths(x.requires_grad_(), w)),
    "a parameter": ("1.1", lambda x, w: torch.nn.Parameter(lengths(x, w))),
    "not contiguous": ("1.1", lambda x, w: lengths(w, x).T),
    "a conjugate view": ("1.1", lambda x, w: torch.complex(*2 * [lengths(x, w)]).conj().real),
    "whole bools": ("9.2", lambda *a: RIGHT["9.2"](*a).long()),
    "a fraction": ("0.1", lambda T, E, K: fractions.Fraction(T * K, E)),
    "a decimal": ("0.1", lambda T, E, K: decimal.Decimal(T * K) / E),
    "a NumPy float": ("0.1", lambda T, E, K: np.float64(T * K / E)),
    "a tensor without dimensions": ("0.1", lambda T, E, K: torch.tensor(T * K / E).double()),
    "a whole tensor": ("6.2", lambda *sizes: torch.tensor(RIGHT["6.2"](*sizes))),
    "draws at random as well": ("1.1", lambda x, w: lengths(x, w) + 0 * torch.rand(1).double()),
}  # fmt: skip


@pytest.mark.parametrize("style", RIGHT_IN_ANOTHER_STYLE)
def test_a_right_answer_in_another_style_passes(style: str) -> None:
    number, answer = RIGHT_IN_ANOTHER_STYLE[style]
    assert repr(check(number, answer)) == f"Exercise {number}: correct."


@pytest.mark.parametrize("style", [np.asarray, lambda result: np.asarray(result).tolist()])
@pytest.mark.parametrize("number", [n for n, e in EXERCISES.items() if not e.gradient])
def test_numpy_and_plain_python_do_for_every_exercise(number: str, style: Answer) -> None:
    assert check(number, lambda *case: style(RIGHT[number](*case))).status == "correct"


def test_a_mistake_in_float32_is_named_as_well() -> None:
    verdict = check("1.1", lambda x, w: (x @ w.T).float())
    assert "as they lie" in verdict.message


def test_an_answer_cannot_spoil_the_inputs_of_the_reference() -> None:
    def in_place(o: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        result = (g[..., None] * o).sum(-2)
        o.zero_()
        g.zero_()
        return result

    assert check("5.1", in_place).status == "correct"


def test_where_the_expected_value_is_infinite_and_right_nothing_is_complained_of() -> None:
    exercise = type(EXERCISES["1.1"])(
        "A.1", lambda: torch.tensor([torch.inf, 1.0]), lambda generator: [()], ()
    )
    verdict = exercise.check(lambda: torch.tensor([torch.inf, 2.0]))
    assert "expected 1 at index (1,), got 2" in verdict.message


def test_a_wrong_gradient_is_found() -> None:
    def straight_through(logits: torch.Tensor) -> torch.Tensor:
        value = softmax(logits, -1).amax(-1, True).detach()
        best = logits.amax(-1, True)
        return value + best - best.detach()

    verdict = check("3.3", straight_through)
    assert verdict.status == "wrong"
    assert "gradient" in verdict.message


def test_numpy_has_no_gradient() -> None:
    cut_off = check("3.3", lambda z: softmax(z, -1).amax(-1, True).detach().numpy())
    assert "cut off from the logits" in cut_off.message
    refused = check("3.3", lambda z: softmax(z, -1).amax(-1, True).numpy())
    assert refused.status == "wrong"
    assert "the values are right, but asked for a gradient your function raised" in refused.message
    assert "Can't call numpy() on Tensor that requires grad" in refused.message


def test_a_gradient_that_cannot_be_computed_is_said_to_be_missing() -> None:
    def overwritten(logits: torch.Tensor) -> torch.Tensor:
        exponentials = logits.exp()
        result = exponentials.amax(-1, True) / exponentials.sum(-1, True)
        exponentials.zero_()
        return result

    message = check("3.3", overwritten).message
    assert "the values are right, but asked for a gradient your function raised" in message


SETTINGS: dict[str, tuple[Answer, Callable[[], Any]]] = {
    "default dtype": (lambda: torch.set_default_dtype(torch.float16), torch.get_default_dtype),
    "default device": (
        lambda: torch.set_default_device("meta"),
        lambda: torch.empty(0).device,  # get_default_device fails in torch 2.6 after a reset
    ),
    "grad mode": (lambda: torch.set_grad_enabled(False), torch.is_grad_enabled),
    "deterministic": (
        lambda: torch.use_deterministic_algorithms(True),
        torch.are_deterministic_algorithms_enabled,
    ),
    "warn only": (
        lambda: torch.use_deterministic_algorithms(True, warn_only=True),
        torch.is_deterministic_algorithms_warn_only_enabled,
    ),
    "torch's seed": (lambda: torch.manual_seed(1), lambda: torch.get_rng_state().tolist()),
    "NumPy's seed": (lambda: np.random.seed(1), lambda: np.random.get_state()[1].tolist()),  # noqa: NPY002
    "Python's seed": (lambda: random.seed(1), random.getstate),
    "warnings": (lambda: warnings.simplefilter("error"), lambda: list(warnings.filters)),
    "NumPy's errors": (lambda: np.seterr(all="raise"), np.geterr),
    "standard output": (lambda: setattr(sys, "stdout", None), lambda: sys.stdout),
}


@pytest.mark.parametrize("number", ["1.1", "3.3"])
@pytest.mark.parametrize("setting", SETTINGS)
def test_every_setting_is_given_back(setting: str, number: str) -> None:
    change, read = SETTINGS[setting]
    before = read()

    def answer(*case: Any) -> Any:
        result = RIGHT[number](*case)
        change()
        return result

    assert check(number, answer).status == "correct"
    assert read() == before


@pytest.fixture
def unusual_settings() -> Iterator[None]:
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("error")
        torch.set_default_dtype(torch.bfloat16)
        torch.set_default_device("meta")
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.set_default_dtype(torch.float32)
            torch.set_default_device(None)
            torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("unusual_settings")
@pytest.mark.parametrize("number", EXERCISES)
def test_a_verdict_does_not_depend_on_the_settings_of_the_notebook(number: str) -> None:
    assert check(number, RIGHT[number]).status == "correct"
    assert torch.get_default_dtype() == torch.bfloat16
    assert torch.get_default_device().type == "meta"
    assert torch.is_inference_mode_enabled()


def test_what_an_answer_prints_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    def talks(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        for _ in range(10_000):
            print("\ud800")
        print("x", file=sys.stderr)
        warnings.warn("y", stacklevel=1)
        return lengths(x, w)

    assert check("1.1", talks).status == "correct"
    assert capsys.readouterr() == ("", "")
