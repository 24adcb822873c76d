"""Thrown at every check, random objects, errors and functions always get a verdict."""

from collections.abc import Callable
from typing import Any

import hypothesis.extra.numpy as from_numpy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_tutorial.exercises import EXERCISES, Verdict, check
from tests.hostile import Endless, Hostile, Nameless, SilentError, Strange, in_itself, nested

SHAPES = st.lists(st.integers(0, 6), max_size=4)
DTYPES = st.sampled_from(
    [torch.bool, torch.uint8, torch.int64, torch.float16, torch.float64, torch.complex64]
)


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    tensor = torch.full(draw(SHAPES), draw(st.sampled_from([0, 1, torch.inf]))).to(draw(DTYPES))
    changes: list[Callable[[torch.Tensor], torch.Tensor]] = [
        lambda t: t,
        lambda t: t.to_sparse(),
        lambda t: t.to("meta"),
        lambda t: t.as_subclass(Strange),
        lambda t: t.requires_grad_() if t.is_floating_point() else t,
        lambda t: t.expand(10**4, 10**4, *t.shape),
    ]
    return draw(st.sampled_from(changes))(tensor)


PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.complex_numbers(),
    st.text(max_size=5),
    st.binary(max_size=5),
    st.fractions(),
    st.decimals(),
    st.datetimes(),
    st.sampled_from([10**400, range(3), range(10**9), int, Hostile, len, ..., NotImplemented]),
)
ODD = st.builds(
    lambda make: make(),
    st.sampled_from(
        [
            Hostile,
            Endless,
            in_itself,
            SilentError,
            lambda: Nameless("Nobody", (), {})(),
            lambda: Nameless("Nobody", (Exception,), {})(),
            lambda: nested(2000),
            lambda: nested(60, 3),
            lambda: iter(int, 1),
            lambda: lambda *_: 1,
        ]
    ),
)
# Objects of their own at every draw, for a strategy compares and prints what it has sampled.
ARRAYS = from_numpy.arrays(from_numpy.scalar_dtypes(), from_numpy.array_shapes(min_dims=0))
THINGS = st.recursive(
    st.one_of(PLAIN, ODD, tensors(), ARRAYS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=6),
        st.tuples(inner, inner),
        st.dictionaries(st.text(max_size=2), inner, max_size=2),
    ),
    max_leaves=8,
)
ERRORS = st.sampled_from(
    [SystemExit, GeneratorExit, MemoryError, RecursionError, ValueError, SilentError, KeyError]
)


def judged(number: str, answer: Any) -> None:
    verdict = check(number, answer)
    assert isinstance(verdict, Verdict)
    assert len(repr(verdict)) < 1500


@given(st.data())
@settings(max_examples=300)
def test_any_result_gets_a_verdict(data: st.DataObject) -> None:
    number = data.draw(st.sampled_from(list(EXERCISES)))
    # Every call may return something else.
    judged(number, lambda *_: data.draw(THINGS))


@given(st.sampled_from(list(EXERCISES)), ERRORS, st.lists(st.text(max_size=2000), max_size=2))
def test_any_error_gets_a_verdict(
    number: str, error: type[BaseException], arguments: list[str]
) -> None:
    def answer(*_: Any) -> Any:
        raise error(*arguments)

    judged(number, answer)


@given(st.data())
def test_anything_in_place_of_a_function_gets_a_verdict(data: st.DataObject) -> None:
    judged(data.draw(st.sampled_from(list(EXERCISES))), data.draw(THINGS))


@given(st.data())
def test_any_method_of_the_argument_gets_a_verdict(data: st.DataObject) -> None:
    """What a reader finds by pressing the tab key: ``x.sum``, ``x.t_``, ``x.untyped_storage``."""
    number = data.draw(st.sampled_from(list(EXERCISES)))
    name = data.draw(st.sampled_from([n for n in dir(torch.Tensor) if not n.startswith("_")]))

    def answer(*case: Any) -> Any:
        found = getattr(case[0], name)
        return found() if callable(found) else found

    judged(number, answer)
