"""Run sorted assignments, each expert on one contiguous block: a loop, or grouped products.

Both are forward and backward of one sum, dispatch, which checks
their arguments and chooses between them.                                           Chapter 07.
"""

import contextlib
import math
import mmap
import sys
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from moe_tutorial.layer.experts import Activation, activate
from moe_tutorial.validation import compute_dtype

LARGE = 2**25
"""Bytes from which on the C library asks the system unless it has so much at hand."""

FEW_ROWS = 128
"""Rows an expert below which getting memory and calling a product take a good part of the time."""

ALIGNMENT = 64
"""Bytes, as torch aligns its own memory: a matmul library's last digits may depend on it."""


class _Assignments(NamedTuple):
    """The T * K pairs (token, expert), sorted by expert: R rows."""

    order_R: Tensor  # which of the T * K assignments stands in this row
    token_R: Tensor  # whose token it is
    slot_TK: Tensor  # in which row a token's k-th assignment stands
    ends_E: Tensor  # where each expert's block of rows ends, int32


def _sort(experts_TK: Tensor, num_experts: int) -> _Assignments:
    sorted_R, order_R = experts_TK.flatten().sort(stable=True)
    token_R = order_R // experts_TK.shape[1]
    slot_R = torch.empty_like(order_R)
    slot_R.scatter_(0, order_R, torch.arange(order_R.numel(), device=order_R.device))
    # searchsorted needs no answer from the device, which bincount would wait for.
    ids_E = torch.arange(num_experts, device=order_R.device)
    ends_E = torch.searchsorted(sorted_R, ids_E, right=True, out_int32=True)
    return _Assignments(order_R, token_R, slot_R.view_as(experts_TK), ends_E)


def _blocks(ends_E: Tensor) -> list[tuple[int, slice]]:
    """Each expert that has rows, and which; on a GPU this waits for the numbers."""
    bounds = enumerate(pairwise([0, *ends_E.tolist()]))
    return [(e, slice(begin, end)) for e, (begin, end) in bounds if begin < end]


# Memory fresh from the system costs a stop at the first use of each page of 4 KB, which for a
# gradient of all experts takes as long as a good part of the products that fill it, if there are
# few rows. Linux gives pages of 2 MB to those that ask, with far fewer stops. Torch does not ask by
# itself. With many rows, products hide the stops, and a step takes so long that a virtual machine
# may have given such pages back to its host in between: having them again takes longest of all.


def _zeros(like: Tensor, *shape: int) -> Tensor:
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


def _empty(like: Tensor, *shape: int) -> Tensor:
    """Memory that was used before, if the C library has so much at hand, or else fresh pages.

    NumPy asks for those of 2 MB.
    """
    size = math.prod(shape) * like.element_size()
    if not like.is_cpu or size < LARGE:
        return like.new_empty(shape)
    memory = numpy.empty(size + ALIGNMENT, numpy.uint8)
    begin = -memory.ctypes.data % ALIGNMENT
    return torch.from_numpy(memory[begin : begin + size]).view(like.dtype).view(shape)


def _gradient_of(weight_EDH: Tensor, blocks: list[tuple[int, slice]]) -> Tensor:
    """Memory for a gradient, zero where experts are idle.

    It lies as its weight does, since autograd would copy another one.
    """
    num_experts = len(weight_EDH)
    idle = set(range(num_experts)).difference(e for e, _ in blocks)
    # A few zeros are written sooner than fresh memory is got for all experts.
    few_idle = 4 * len(idle) <= num_experts
    make: Callable[..., Tensor]
    if not few_idle:
        make = _zeros
    elif blocks[-1][1].stop < FEW_ROWS * num_experts:
        make = _empty
    else:
        make = Tensor.new_empty
    if weight_EDH.is_contiguous():
        gradient_EDH = make(weight_EDH, *weight_EDH.shape)
    else:
        gradient_EDH = make(weight_EDH, *weight_EDH.mT.shape).mT
    if few_idle:
        for e in idle:
            gradient_EDH[e].zero_()
    return gradient_EDH


def _activate_backward(
    hidden_RH: Tensor, grad_RF: Tensor, activation: Activation
) -> tuple[Tensor, Tensor]:
    """What ``activate`` returned, and the gradient of what it was given.

    Both need the same intermediate results, which are made once and written over, as ``grad_RF``
    is: beside the products, passes over memory are what counts here.
    """
    if activation == "gelu":
        grad_RH = torch.ops.aten.gelu_backward(grad_RF, hidden_RH)
        return activate(hidden_RH, activation), grad_RH
    gate_RF, up_RF = hidden_RH.chunk(2, dim=-1)
    silu_RF = torch.nn.functional.silu(gate_RF)
    grad_RH = torch.empty_like(hidden_RH)
    grad_gate_RF, grad_up_RF = grad_RH.chunk(2, dim=-1)
    torch.mul(grad_RF, silu_RF, out=grad_up_RF)
    torch.ops.aten.silu_backward(grad_RF.mul_(up_RF), gate_RF, grad_input=grad_gate_RF)
    return silu_RF.mul_(up_RF), grad_RH


class Loop(torch.autograd.Function):
    """One expert after another; every weight gradient is written where it belongs.

    Under plain autograd, indexing ``in_EDH[e]`` would add a gradient of the size of all experts
    for each expert.
    """

    @staticmethod
    def forward(
        ctx: Any | None,
        x_TD: Tensor,
        gates_TK: Tensor,
        experts_TK: Tensor,
        activation: Activation,
        in_EDH: Tensor,
        out_EFD: Tensor,
        in_bias_EH: Tensor | None,
        out_bias_ED: Tensor | None,
    ) -> Tensor:
        """y_TD from checked arguments; ``ctx`` is None where no backward follows."""
        rows = _sort(experts_TK, in_EDH.shape[0])
        blocks = _blocks(rows.ends_E)
        gates_R1 = gates_TK.flatten()[rows.order_R, None]
        y_TD = torch.zeros_like(x_TD, dtype=gates_TK.dtype)
        hidden: list[Tensor] = []
        outputs: list[Tensor] = []
        for e, block in blocks:
            token_R = rows.token_R[block]
            u_RD = x_TD.index_select(0, token_R)
            h_RH = _affine(u_RD, in_EDH[e], None if in_bias_EH is None else in_bias_EH[e])
            o_RD = _affine(
                activate(h_RH, activation),
                out_EFD[e],
                None if out_bias_ED is None else out_bias_ED[e],
            )
            # Where a token names an expert once, no two rows of this sum meet.
            y_TD.index_add_(0, token_R, o_RD * gates_R1[block])
            if ctx:
                hidden.append(h_RH)
                outputs.append(o_RD)
            del u_RD, h_RH, o_RD  # the next expert's rows take their place
        if ctx:
            ctx.save_for_backward(x_TD, gates_R1, in_EDH, out_EFD, *rows, *hidden, *outputs)
            ctx.activation, ctx.blocks, ctx.has_bias = activation, blocks, in_bias_EH is not None
        return y_TD.to(x_TD.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y_TD: Tensor) -> tuple[Tensor | None, ...]:
        """One gradient for each argument of ``forward``, None where there is none."""
        x_TD, gates_R1, in_EDH, out_EFD, *rest = ctx.saved_tensors
        # Unless the graph is kept for another backward, what is used up makes room for what comes.
        ctx.maybe_clear_saved_tensors()
        rows, rest = _Assignments(*rest[:4]), rest[4:]
        hidden, outputs = rest[: len(rest) // 2], rest[len(rest) // 2 :]
        del rest
        grad_x_TD = torch.zeros_like(x_TD, dtype=gates_R1.dtype)
        grad_gates_R = torch.empty_like(gates_R1[:, 0])
        grad_in_EDH = _gradient_of(in_EDH, ctx.blocks)
        grad_out_EFD = _gradient_of(out_EFD, ctx.blocks)
        grad_in_bias_EH = x_TD.new_zeros(in_EDH.shape[::2]) if ctx.has_bias else None
        grad_out_bias_ED = x_TD.new_zeros(out_EFD.shape[::2]) if ctx.has_bias else None
        for e, block in ctx.blocks:
            token_R, h_RH = rows.token_R[block], hidden.pop(0)
            dy_RD = grad_y_TD.index_select(0, token_R)
            grad_gates_R[block] = _row_dots(outputs.pop(0), dy_RD)
            dy_RD.mul_(gates_R1[block])
            activated_RF, dh_RH = _activate_backward(h_RH, dy_RD @ out_EFD[e].T, ctx.activation)
            del h_RH
            torch.mm(activated_RF.T, dy_RD, out=grad_out_EFD[e])
            del activated_RF
            torch.mm(x_TD.index_select(0, token_R).T, dh_RH, out=grad_in_EDH[e])
            if grad_in_bias_EH is not None and grad_out_bias_ED is not None:
                grad_in_bias_EH[e], grad_out_bias_ED[e] = dh_RH.sum(0), dy_RD.sum(0)
            du_RD = torch.mm(dh_RH, in_EDH[e].T, out=dy_RD)
            grad_x_TD.index_add_(0, token_R, du_RD.to(grad_x_TD.dtype))
        return (
            grad_x_TD.to(x_TD.dtype),
            grad_gates_R[rows.slot_TK],
            None,
            None,
            grad_in_EDH,
            grad_out_EFD,
            grad_in_bias_EH,
            grad_out_bias_ED,
        )


class Grouped(torch.autograd.Function):
    """All experts in one call: gather, grouped product, activation, grouped product, sum of K."""

    @staticmethod
    def forward(
        ctx: Any | None,
        x_TD: Tensor,
        gates_TK: Tensor,
        experts_TK: Tensor,
        activation: Activation,
        in_EDH: Tensor,
        out_EFD: Tensor,
        _in_bias: None,
        _out_bias: None,
    ) -> Tensor:
        """y_TD from checked arguments; ``ctx`` is None where no backward follows."""
        product = torch.nn.functional.grouped_mm
        rows = _sort(experts_TK, in_EDH.shape[0])
        hidden_RH = product(x_TD.index_select(0, rows.token_R), in_EDH, offs=rows.ends_E)
        activated_RF = activate(hidden_RH, activation)
        if not ctx:
            del hidden_RH
        outputs_RD = product(activated_RF, out_EFD, offs=rows.ends_E)
        if ctx:
            ctx.save_for_backward(x_TD, gates_TK, in_EDH, out_EFD, hidden_RH, outputs_RD, *rows)
            ctx.activation = activation
        return _sum_of_rows(outputs_RD, rows.slot_TK, gates_TK)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y_TD: Tensor) -> tuple[Tensor | None, ...]:
        """One gradient for each argument of ``forward``, None where there is none."""
        x_TD, gates_TK, in_EDH, out_EFD, hidden_RH, outputs_RD, *rest = ctx.saved_tensors
        ctx.maybe_clear_saved_tensors()  # as above
        rows = _Assignments(*rest)
        blocks = _blocks(rows.ends_E) if x_TD.is_cpu else None
        product = torch.nn.functional.grouped_mm
        dy_RD = grad_y_TD.index_select(0, rows.token_R)
        grad_gates_R = _row_dots(outputs_RD, dy_RD)
        del outputs_RD
        dy_RD.mul_(gates_TK.flatten()[rows.order_R, None])
        activated_RF, dh_RH = _activate_backward(
            hidden_RH, product(dy_RD, out_EFD.mT, offs=rows.ends_E), ctx.activation
        )
        del hidden_RH
        grad_out_EFD = _weight_gradients(activated_RF, dy_RD, rows.ends_E, blocks, out_EFD)
        del activated_RF
        tokens_RD = torch.index_select(x_TD, 0, rows.token_R, out=dy_RD)
        grad_in_EDH = _weight_gradients(tokens_RD, dh_RH, rows.ends_E, blocks, in_EDH)
        del dy_RD, tokens_RD
        du_RD = product(dh_RH, in_EDH.mT, offs=rows.ends_E)
        del dh_RH
        grad_x_TD = _sum_of_rows(du_RD, rows.slot_TK, None)
        return (
            grad_x_TD,
            grad_gates_R[rows.slot_TK],
            None,
            None,
            grad_in_EDH,
            grad_out_EFD,
            None,
            None,
        )


def _weight_gradients(
    rows_RD: Tensor,
    grads_RH: Tensor,
    ends_E: Tensor,
    blocks: list[tuple[int, slice]] | None,
    weight_EDH: Tensor,
) -> Tensor:
    if blocks is None:
        product = torch.nn.functional.grouped_mm
        if weight_EDH.is_contiguous():
            return product(rows_RD.mT, grads_RH, offs=ends_E)
        return product(grads_RH.mT, rows_RD, offs=ends_E).mT
    # On a CPU grouped_mm is a loop too, but one that cannot be told where to write, and that
    # writes the zeros of idle experts.
    gradients_EDH = _gradient_of(weight_EDH, blocks)
    for e, block in blocks:
        torch.mm(rows_RD[block].T, grads_RH[block], out=gradients_EDH[e])
    return gradients_EDH


def _row_dots(a_RD: Tensor, b_RD: Tensor) -> Tensor:
    dots_R: Tensor = (a_RD * b_RD).sum(-1, dtype=compute_dtype(a_RD))
    return dots_R


def _affine(u_RD: Tensor, weight_DH: Tensor, bias_H: Tensor | None) -> Tensor:
    out_RH = _empty(u_RD, len(u_RD), weight_DH.shape[1])
    if bias_H is None:
        return torch.mm(u_RD, weight_DH, out=out_RH)
    return torch.addmm(bias_H, u_RD, weight_DH, out=out_RH)


def _sum_of_rows(rows_RD: Tensor, slot_TK: Tensor, gates_TK: Tensor | None) -> Tensor:
    # embedding_bag adds the K rows of each token in the order of slot_TK, in one pass over memory.
    if gates_TK is not None and gates_TK.dtype != rows_RD.dtype:
        gates_TK = gates_TK.to(rows_RD.dtype)
    return torch.nn.functional.embedding_bag(
        slot_TK, rows_RD, mode="sum", per_sample_weights=gates_TK
    )
