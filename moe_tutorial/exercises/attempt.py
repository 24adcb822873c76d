"""One call of a function that may do anything: the numbers it returned, or what it did instead.

Nothing the function does gets out of :func:`attempt`: no exception, no printed line, no changed
argument, no changed setting of torch. Only a ``KeyboardInterrupt`` does, for a person who stops
the cell must be obeyed.
"""

import copy
import dis
import reprlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from numbers import Number
from types import CodeType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from moe_tutorial.exercises.surroundings import neutral_surroundings

# A result of more numbers than this is not read: it is no right answer to a small question, and
# a copy of it could fill the memory.
MOST_NUMBERS = 1_000_000


@dataclass(frozen=True)
class Attempt:
    """What a function did with one list of arguments.

    Attributes:
        value: the numbers that it returned, in memory of their own: a dense CPU tensor of any
            real dtype without a gradient. None if there are none.
        gradient: the derivative of a fixed weighted sum of these numbers with respect to the
            first argument. None if it was not asked for, or does not exist.
        failure: what the function did instead, as the predicate of a sentence, such as
            "raised ZeroDivisionError: division by zero". Empty if nothing went wrong.
        blank: whether the function is still to be written: it has no body but returned None or
            ..., or it says itself, by NotImplementedError, that it is.
    """

    value: Tensor | None = None
    gradient: Tensor | None = None
    failure: str = ""
    blank: bool = False


def attempt(function: Callable[..., Any], case: tuple[Any, ...], gradient: bool = False) -> Attempt:
    """Call a function with copies of the arguments, in neutral surroundings.

    Args:
        function: anything that can be called.
        case: its arguments.
        gradient: call it a second time, with a first argument that requires a gradient.

    Returns:
        What the function did. Its result may be a tensor of any layout, device and dtype, a
        NumPy array, a number, or a list or tuple of these.

    Raises:
        KeyboardInterrupt: a person stopped the function.
    """
    value = None
    try:
        result = _call(function, case)
        if result is ... or (result is None and _has_no_body(function)):
            return Attempt(blank=True)
        if result is None:
            return Attempt(failure="returned None: is a return missing at its end?")
        with neutral_surroundings():
            value = _numbers(result).detach().clone()
            return Attempt(value, _gradient(function, case) if gradient else None)
    except KeyboardInterrupt:
        raise
    except _UnreadableError as problem:
        return Attempt(value, failure=f"returned a result that cannot be compared: {problem}")
    except BaseException as error:  # SystemExit is no Exception
        blank = value is None and _says_so_itself(error)
        # A stub raises a bare NotImplementedError; what torch says in one is worth passing on.
        failure = "" if blank and not error.args else what_was_raised(error)
        return Attempt(value, failure=failure, blank=blank)


def copies(case: tuple[Any, ...]) -> tuple[Any, ...]:
    """The same arguments in memory of their own."""
    # A clone of a view is contiguous, a deep copy is not, and a reader's .view() may need it.
    return tuple(v.clone() if isinstance(v, Tensor) else copy.deepcopy(v) for v in case)


def describe(case: tuple[Any, ...]) -> str:
    """The arguments in a few words, whatever they are."""
    parts = [
        f"a tensor of shape {tuple(value.shape)}"
        if isinstance(value, Tensor)
        else reprlib.repr(value)
        for value in case
    ]
    return "the arguments " + ", ".join(parts)


def what_was_raised(error: BaseException) -> str:
    """An exception as a predicate on one short line, whatever its own text is."""
    text = _line(lambda: str(error))
    return f"raised {kind_of(error)}{text and ': '}{text}"


def kind_of(value: Any) -> str:
    """The name of a value's class."""
    return _line(lambda: type(value).__name__) or "an object"


def _line(text: Callable[[], str]) -> str:
    # The reader's own classes may have a hand in such a text, and raise or never stop talking.
    try:
        line = " ".join(text().split())
    except KeyboardInterrupt:
        raise
    except BaseException:
        return ""
    return line if len(line) <= 300 else f"{line[:300]} ..."


class _UnreadableError(Exception):
    """A result does not stand for real numbers; the text says what it is."""


# What a function consists of that returns a constant.
_NOTHING = {"RESUME", "NOP", "LOAD_CONST", "RETURN_VALUE", "RETURN_CONST"}


def _has_no_body(function: Callable[..., Any]) -> bool:
    code = getattr(function, "__code__", None)
    if not isinstance(code, CodeType):
        return True
    return all(it.opname in _NOTHING for it in dis.get_instructions(code))


def _says_so_itself(error: BaseException) -> bool:
    """Whether a line of the reader's raises NotImplementedError: torch does, for a wrong dtype."""
    if not isinstance(error, NotImplementedError):
        return False
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    if last is None or str(last.tb_frame.f_globals.get("__name__")).split(".")[0] == "torch":
        return False
    return last.tb_frame.f_code.co_code[last.tb_lasti] == dis.opmap["RAISE_VARARGS"]


def _call(function: Callable[..., Any], case: tuple[Any, ...]) -> Any:
    with neutral_surroundings():
        return function(*copies(case))


def _gradient(function: Callable[..., Any], case: tuple[Any, ...]) -> Tensor:
    first = case[0].detach().clone().requires_grad_()
    # The call copies it once more, for autograd lets nobody write into the leaf itself.
    result = _numbers(_call(function, (first, *case[1:])))
    if not result.requires_grad:
        return torch.zeros_like(first)
    weights = torch.arange(1, result.numel() + 1, dtype=result.dtype).reshape(result.shape)
    (gradient,) = torch.autograd.grad((result * weights).sum(), first, allow_unused=True)
    return torch.zeros_like(first) if gradient is None else gradient


def _numbers(value: Any) -> Tensor:
    """A function's result as one dense CPU tensor, still with its gradient."""
    try:
        tensor = _tensor(value, MOST_NUMBERS)
    except (KeyboardInterrupt, _UnreadableError):
        raise
    except BaseException as error:
        problem = f"expected a tensor or a number, got {kind_of(value)}"
        raise _UnreadableError(f"{problem}, which {what_was_raised(error)}") from None
    if tensor.is_complex():
        raise _UnreadableError(f"expected real numbers, got {tensor.dtype}")
    return tensor


def _tensor(value: Any, room: int) -> Tensor:
    if isinstance(value, Tensor):
        if value.is_meta:
            raise _UnreadableError("a tensor on the meta device has a shape, but no numbers")
        _refuse_more_than(room, value.numel())
        dense = value if value.layout == torch.strided else value.to_dense()
        return (dense.dequantize() if dense.is_quantized else dense).cpu()
    if type(value).__module__ == "torch.return_types":
        raise _UnreadableError(
            f"this is the pair that torch's {kind_of(value)} returns: take values or indices of it"
        )
    if isinstance(value, (list, tuple, range)):
        parts = list(islice(value, room + 1))
        _refuse_more_than(room, len(parts))
        if not parts:
            return torch.empty(0, dtype=torch.int64)
        # Each part has its share of the room, so that lists in lists in lists end, too.
        return torch.stack([_tensor(part, room // len(parts)) for part in parts])
    if not isinstance(value, (Number, np.ndarray, np.generic)):
        raise _UnreadableError(f"expected a tensor or a number, got {kind_of(value)}")
    # NumPy keeps all 64 bits of a float, of which torch's default dtype would lose half.
    array = np.asarray(value)
    _refuse_more_than(room, array.size)
    if array.dtype.kind not in "biufcO":
        raise _UnreadableError(f"expected a tensor or a number, got an array of {array.dtype}")
    if array.dtype == np.float32:
        return torch.from_numpy(array.copy())  # judged as a tensor in float32 is
    exact = np.float64 if array.dtype.kind in "fO" else np.result_type(array.dtype, np.int64)
    return torch.from_numpy(array.astype(exact))


def _refuse_more_than(room: int, count: int) -> None:
    if count > room:
        raise _UnreadableError(f"it has more than {MOST_NUMBERS} numbers")
