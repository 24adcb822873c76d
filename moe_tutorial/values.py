"""Values: in which dtype they are calculated, and who may look at them.

Shapes, dtypes and devices are known to the host. Values on a GPU are not, and asking for one would
make the host wait for all the work before it. So a GPU checks its values itself: one that fails
ends the program with "device-side assert triggered", as an index out of range does in torch, and
the check's name stands on the standard error stream. ``CUDA_LAUNCH_BLOCKING=1`` shows the line.
"""

import math
from collections.abc import Iterable
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn


def compute_dtype(*tensors: Tensor) -> torch.dtype:
    """The dtype a router calculates in: float64 if any tensor is float64, else float32.

    A bfloat16 number has 8 significant bits, so two logits near 10 that differ by 0.03 round to
    the same value and the choice between their experts becomes arbitrary. Switch Transformers
    (Fedus et al. 2021, section 2.4) therefore keep the router alone in float32.
    """
    for tensor in tensors:
        if tensor.dtype == torch.float64:
            return torch.float64
    return torch.float32


FEW = 64
"""How many numbers Python looks at sooner than torch, which takes microseconds to begin."""


def numbers_of(tensor: Tensor) -> Iterable[float]:
    """All numbers of a small tensor, in order."""
    numbers: Any = tensor.tolist() if tensor.ndim else [tensor.item()]
    for _ in range(tensor.ndim - 1):
        numbers = chain.from_iterable(numbers)
    return numbers  # type: ignore[no-any-return]


def as_dtype(dtype: torch.dtype, tensor: Tensor) -> Tensor:
    """``tensor.to(dtype)``, which takes a microsecond even where it has nothing to do."""
    return tensor if tensor.dtype == dtype else tensor.to(dtype)


def as_float(number: Any) -> float:
    """A real number of any kind as a float; one that is too large for it is infinite."""
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def values_are_visible(tensor: Tensor) -> bool:
    """Whether there are numbers to look at.

    There are only shapes while torch.compile traces, on the meta device, in the wrapped tensors of
    ``torch.func``, and perhaps in a subclass, such as the fake tensors of a tracer.
    """
    if torch.compiler.is_compiling() or tensor.is_meta:
        return False
    plain = type(tensor) is Tensor or type(tensor) is nn.Parameter
    return plain and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)


def checks_itself(tensor: Tensor) -> bool:
    """Whether asking for a value would make the host wait, so that the device has to check it."""
    return tensor.is_cuda


def host_knows(tensor: Tensor) -> bool:
    """Whether the host can ask for a value without waiting for a device."""
    return tensor.is_cpu and values_are_visible(tensor) and not checks_itself(tensor)


def holds(condition: Tensor, requirement: str) -> bool:
    """Whether the condition holds; on a GPU always True, since there it checks itself."""
    if checks_itself(condition):
        torch._assert_async(condition, requirement)
        return True
    return bool(condition)
