"""Memory: where results and gradients of all experts are written to.

Memory fresh from the system costs a stop at the first use of each page of 4 KB, which for a
gradient of all experts takes as long as a good part of the products that fill it, if there are
few rows. Linux gives pages of 2 MB to those that ask, with far fewer stops; torch does not ask by
itself. With many rows, products hide the stops, and a step takes so long that a virtual machine
may have given such pages back to its host in between: having them again takes longest of all.
``benchmarks/README.md`` has the measurements.
"""

import contextlib
import math
import mmap
import sys
from collections.abc import Callable

import numpy
import torch
from torch import Tensor

LARGE = 2**25
"""Bytes from which on the C library asks the system unless it has so much at hand."""

FEW_ROWS = 128
"""Rows an expert below which getting memory and calling a product take a good part of the time."""

ALIGNMENT = 64
"""Torch aligns its own memory to so many bytes. A matmul library's last digits may depend on it."""


def zeros(like: Tensor, *shape: int) -> Tensor:
    """Zeros of which only those that are written to take time and memory.

    They come from the system, not from the C library, which may have memory at hand that was used
    before, whose zeros must be written.
    """
    size = math.prod(shape) * like.element_size()
    if not (like.is_cpu and size and sys.platform == "linux"):
        return like.new_zeros(shape)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # a kernel without such pages
        memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=like.dtype).view(shape)


def empty(like: Tensor, *shape: int) -> Tensor:
    """Memory that was used before, if the C library has so much at hand, or else fresh pages.

    NumPy asks for those of 2 MB.
    """
    size = math.prod(shape) * like.element_size()
    if not like.is_cpu or size < LARGE:
        return like.new_empty(shape)
    memory = numpy.empty(size + ALIGNMENT, numpy.uint8)
    begin = -memory.ctypes.data % ALIGNMENT
    return torch.from_numpy(memory[begin : begin + size]).view(like.dtype).view(shape)


def gradient_of(weight_EHD: Tensor, blocks: list[tuple[int, slice]]) -> Tensor:
    """Memory for a gradient, zero where experts are idle.

    It lies as its weight does, since autograd would copy another one.
    """
    num_experts = len(weight_EHD)
    idle = set(range(num_experts)).difference(e for e, _ in blocks)
    # A few zeros are written sooner than fresh memory is got for all experts.
    few_idle = 4 * len(idle) <= num_experts
    make: Callable[..., Tensor]
    if not few_idle:
        make = zeros
    elif blocks[-1][1].stop < FEW_ROWS * num_experts:
        make = empty
    else:
        make = Tensor.new_empty
    if weight_EHD.is_contiguous():
        gradient_EHD = make(weight_EHD, *weight_EHD.shape)
    else:
        gradient_EHD = make(weight_EHD, *weight_EHD.mT.shape).mT
    if few_idle:
        for e in idle:
            gradient_EHD[e].zero_()
    return gradient_EHD
