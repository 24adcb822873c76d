"""Run sorted assignments, each expert on one contiguous block: a loop, or grouped products.

Both are forward and backward of one sum, :func:`~moe_tutorial.dispatch.dispatch`, which checks
their arguments and chooses between them.                                           Chapter 07.
"""

import math
import mmap
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from moe_tutorial.experts import Activation, activate
from moe_tutorial.validation import compute_dtype

LARGE = 2**25
"""Bytes from which on the C library always asks the system for fresh memory."""


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
    slot_R.scatter_(0, order_R, torch.arange(len(order_R), device=order_R.device))
    # searchsorted needs no answer from the device, which bincount would wait for.
    ids_E = torch.arange(num_experts, device=order_R.device)
    ends_E = torch.searchsorted(sorted_R, ids_E, right=True, out_int32=True)
    return _Assignments(order_R, token_R, slot_R.view_as(experts_TK), ends_E)


def _is_large(like: Tensor, *shape: int) -> bool:
    size = math.prod(shape) * like.element_size()
    return like.device.type == "cpu" and size >= LARGE and hasattr(mmap, "MADV_HUGEPAGE")


def _empty(like: Tensor, *shape: int) -> Tensor:
    """Memory for a large result.

    Linux hands out fresh memory in pages of 4 KB and clears each at its first use, which for a
    gradient of all experts takes as long as a good part of the products that fill it. Pages of
    2 MB, which torch asks for only if THP_MEM_ALLOC_ENABLE is set, need far fewer such stops.
    """
    if not _is_large(like, *shape):
        return like.new_empty(shape)
    size = math.prod(shape) * like.element_size()
    memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=like.dtype).view(shape)


def _activate_backward(hidden_RH: Tensor, grad_RF: Tensor, activation: Activation) -> Tensor:
    if activation == "gelu":
        return torch.ops.aten.gelu_backward(grad_RF, hidden_RH)  # type: ignore[no-any-return]
    gate_RF, up_RF = hidden_RH.chunk(2, dim=-1)
    grad_RH = torch.empty_like(hidden_RH)
    grad_gate_RF, grad_up_RF = grad_RH.chunk(2, dim=-1)
    torch.mul(grad_RF, torch.nn.functional.silu(gate_RF), out=grad_up_RF)
    grad_gate_RF.copy_(torch.ops.aten.silu_backward(grad_RF * up_RF, gate_RF))
    return grad_RH


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
        rows = _sort(experts_TK, len(in_EDH))
        ends = rows.ends_E.tolist()
        gates_R1 = gates_TK.flatten()[rows.order_R, None]
        most = max(end - begin for begin, end in zip([0, *ends], ends, strict=False))
        # Blocks of memory that all experts share: fresh ones would cost more than the copying.
        kept = len(rows.order_R) if ctx else most
        hidden_RH, outputs_RD = (
            _empty(x_TD, kept, in_EDH.shape[2]),
            _empty(x_TD, kept, x_TD.shape[1]),
        )
        tokens_RD, weighted_RD = (
            x_TD.new_empty(most, x_TD.shape[1]),
            gates_TK.new_empty(most, x_TD.shape[1]),
        )
        y_TD = torch.zeros_like(x_TD, dtype=gates_TK.dtype)
        begin = 0
        for e, end in enumerate(ends):
            if end == begin:
                continue
            n, kept = end - begin, begin if ctx else 0
            token_R, u_RD = rows.token_R[begin:end], tokens_RD[:n]
            h_RH, o_RD = hidden_RH[kept : kept + n], outputs_RD[kept : kept + n]
            torch.index_select(x_TD, 0, token_R, out=u_RD)
            _affine(u_RD, in_EDH[e], in_bias_EH if in_bias_EH is None else in_bias_EH[e], h_RH)
            a_RF = activate(h_RH, activation)
            _affine(a_RF, out_EFD[e], out_bias_ED if out_bias_ED is None else out_bias_ED[e], o_RD)
            # Where a token names an expert once, no two rows of this sum meet.
            torch.mul(o_RD, gates_R1[begin:end], out=weighted_RD[:n])
            y_TD.index_add_(0, token_R, weighted_RD[:n])
            begin = end
        if ctx:
            ctx.save_for_backward(x_TD, gates_R1, in_EDH, out_EFD, hidden_RH, outputs_RD, *rows)
            ctx.activation, ctx.ends, ctx.most = activation, ends, most
            ctx.has_bias = in_bias_EH is not None
        return y_TD.to(x_TD.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y_TD: Tensor) -> tuple[Tensor | None, ...]:
        """One gradient for each argument of ``forward``, None where there is none."""
        x_TD, gates_R1, in_EDH, out_EFD, hidden_RH, outputs_RD, *rest = ctx.saved_tensors
        rows = _Assignments(*rest)
        grad_x_TD = torch.zeros_like(x_TD, dtype=gates_R1.dtype)
        grad_gates_R = torch.empty_like(gates_R1[:, 0])
        grad_in_EDH, grad_out_EFD = _empty(in_EDH, *in_EDH.shape), _empty(out_EFD, *out_EFD.shape)
        grad_in_bias_EH = x_TD.new_zeros(in_EDH.shape[::2]) if ctx.has_bias else None
        grad_out_bias_ED = x_TD.new_zeros(out_EFD.shape[::2]) if ctx.has_bias else None
        tokens_RD, grads_RD = x_TD.new_empty(2, ctx.most, x_TD.shape[1])
        activated_RF = x_TD.new_empty(ctx.most, out_EFD.shape[1])
        begin = 0
        for e, end in enumerate(ctx.ends):
            n = end - begin
            if n == 0:
                grad_in_EDH[e].zero_()
                grad_out_EFD[e].zero_()
                continue
            block = slice(begin, end)
            token_R, h_RH = rows.token_R[block], hidden_RH[block]
            u_RD, dy_RD, da_RF = tokens_RD[:n], grads_RD[:n], activated_RF[:n]
            torch.index_select(x_TD, 0, token_R, out=u_RD)
            torch.index_select(grad_y_TD, 0, token_R, out=dy_RD)
            grad_gates_R[block] = _row_dots(outputs_RD[block], dy_RD)
            dy_RD.mul_(gates_R1[block])
            torch.mm(activate(h_RH, ctx.activation).T, dy_RD, out=grad_out_EFD[e])
            torch.mm(dy_RD, out_EFD[e].T, out=da_RF)
            dh_RH = _activate_backward(h_RH, da_RF, ctx.activation)
            torch.mm(u_RD.T, dh_RH, out=grad_in_EDH[e])
            if grad_in_bias_EH is not None and grad_out_bias_ED is not None:
                grad_in_bias_EH[e], grad_out_bias_ED[e] = dh_RH.sum(0), dy_RD.sum(0)
            du_RD = torch.mm(dh_RH, in_EDH[e].T, out=dy_RD)
            grad_x_TD.index_add_(0, token_R, du_RD.to(grad_x_TD.dtype))
            begin = end
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
        rows = _sort(experts_TK, len(in_EDH))
        hidden_RH = product(x_TD.index_select(0, rows.token_R), in_EDH, offs=rows.ends_E)
        activated_RF = activate(hidden_RH, activation)
        if not ctx:
            del hidden_RH
        outputs_RD = product(activated_RF, out_EFD, offs=rows.ends_E)
        if ctx:
            ctx.save_for_backward(
                x_TD, gates_TK, in_EDH, out_EFD, hidden_RH, activated_RF, outputs_RD, *rows
            )
            ctx.activation = activation
        return _sum_of_rows(outputs_RD, rows.slot_TK, gates_TK)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y_TD: Tensor) -> tuple[Tensor | None, ...]:
        """One gradient for each argument of ``forward``, None where there is none."""
        x_TD, gates_TK, in_EDH, out_EFD, hidden_RH, activated_RF, outputs_RD, *rest = (
            ctx.saved_tensors
        )
        rows = _Assignments(*rest)
        product = torch.nn.functional.grouped_mm
        dy_RD = grad_y_TD.index_select(0, rows.token_R)
        grad_gates_R = _row_dots(outputs_RD, dy_RD)
        dy_RD.mul_(gates_TK.flatten()[rows.order_R, None])
        grad_out_EFD = _weight_gradients(activated_RF, dy_RD, rows.ends_E)
        dh_RH = _activate_backward(
            hidden_RH, product(dy_RD, out_EFD.mT, offs=rows.ends_E), ctx.activation
        )
        tokens_RD = torch.index_select(x_TD, 0, rows.token_R, out=dy_RD)
        grad_in_EDH = _weight_gradients(tokens_RD, dh_RH, rows.ends_E)
        du_RD = product(dh_RH, in_EDH.mT, offs=rows.ends_E)
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


def _weight_gradients(rows_RD: Tensor, grads_RH: Tensor, ends_E: Tensor) -> Tensor:
    shape = (len(ends_E), rows_RD.shape[1], grads_RH.shape[1])
    if not _is_large(rows_RD, *shape):
        return torch.nn.functional.grouped_mm(rows_RD.mT, grads_RH, offs=ends_E)
    # On a CPU grouped_mm is a loop too, but one that cannot be told where to write.
    gradients_EDH = _empty(rows_RD, *shape)
    counts = ends_E.diff(prepend=ends_E.new_zeros(1)).tolist()
    blocks = zip(
        torch.split(rows_RD, counts), torch.split(grads_RH, counts), gradients_EDH, strict=True
    )
    for rows_ND, grads_NH, gradient_DH in blocks:
        torch.mm(rows_ND.T, grads_NH, out=gradient_DH)
    return gradients_EDH


def _row_dots(a_RD: Tensor, b_RD: Tensor) -> Tensor:
    dots_R: Tensor = (a_RD * b_RD).sum(-1, dtype=compute_dtype(a_RD))
    return dots_R


def _affine(u_RD: Tensor, weight_DH: Tensor, bias_H: Tensor | None, out: Tensor) -> None:
    if bias_H is None:
        torch.mm(u_RD, weight_DH, out=out)
    else:
        torch.addmm(bias_H, u_RD, weight_DH, out=out)


def _sum_of_rows(rows_RD: Tensor, slot_TK: Tensor, gates_TK: Tensor | None) -> Tensor:
    # embedding_bag adds the K rows of each token in the order of slot_TK, in one pass over memory.
    if gates_TK is not None:
        gates_TK = gates_TK.to(rows_RD.dtype)
    return torch.nn.functional.embedding_bag(
        slot_TK, rows_RD, mode="sum", per_sample_weights=gates_TK
    )
