"""What a reader's function might return, raise or be, in the worst case."""

import itertools
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch


class Hostile:
    """Every question to it ends in an error."""

    def _refuse(self, *_: Any) -> Any:
        raise SystemExit("no questions")

    __eq__ = __repr__ = __len__ = __iter__ = __getitem__ = __bool__ = _refuse
    __float__ = __array__ = __getattr__ = __torch_function__ = _refuse
    __hash__ = None  # type: ignore[assignment]
    __class__ = property(_refuse)  # type: ignore[assignment]


class SilentError(Exception):
    """Its own text cannot be read."""

    def __str__(self) -> str:
        raise SystemExit


class Nameless(type):
    """A class of this class has no name that can be read."""

    __name__ = property(Hostile._refuse)  # type: ignore[assignment]


class Strange(torch.Tensor):
    """A tensor with which nothing can be done."""

    @classmethod
    def __torch_function__(cls, *_: Any, **__: Any) -> Any:
        raise SystemExit


class Endless(list[int]):
    """A list that never ends, whatever its length says."""

    def __iter__(self) -> Iterator[int]:
        return itertools.count()


def raises(error: BaseException) -> Callable[..., Any]:
    def answer(*_: Any) -> Any:
        raise error

    return answer


def leaves(*_: Any) -> None:
    sys.exit(3)


def recurses(*case: Any) -> Any:
    return recurses(*case)


def yields(*_: Any) -> Iterator[float]:
    yield from itertools.count()


async def waits(*_: Any) -> float:
    return 1.0


def nested(levels: int, width: int = 1) -> list[Any]:
    result: list[Any] = [1.0]
    for _ in range(levels):
        result = [result] * width
    return result


def in_itself() -> list[Any]:
    result: list[Any] = []
    result.append(result)
    return result
