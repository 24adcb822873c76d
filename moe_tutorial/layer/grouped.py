"""The grouped method: all experts in one call of ``torch.nn.functional.grouped_mm``.

gather, grouped product, activation, grouped product, sum of K rows.                Chapter 07.
"""

from typing import Any

import torch
from torch import Tensor

from moe_tutorial.layer.assignments import Assignments, expert_blocks, sort_assignments
from moe_tutorial.layer.backward import activate_backward, differentiable_gradients, row_dots
from moe_tutorial.layer.feed_forward import Activation, ExpertWeights, activate
from moe_tutorial.layer.memory import gradient_of

FEW_TOKENS = 8
"""Tokens up to which a batched product begins sooner than embedding_bag."""


class Grouped(torch.autograd.Function):
    """Gather and the sum of rows are each other's backward, so neither needs atomic additions."""

    @staticmethod
    def forward(
        ctx: Any | None,
        x_TD: Tensor,
        gates_TK: Tensor,
        experts_TK: Tensor,
        activation: Activation,
        in_EHD: Tensor,
        out_EDF: Tensor,
        _in_bias: None,
        _out_bias: None,
    ) -> Tensor:
        """y_TD from checked arguments; ``ctx`` is None where no backward of ours follows."""
        product = torch.nn.functional.grouped_mm
        rows = sort_assignments(experts_TK, in_EHD.shape[0])
        hidden_RH = product(x_TD.index_select(0, rows.token_R), in_EHD.mT, offs=rows.ends_E)
        activated_RF = activate(hidden_RH, activation)
        if not ctx:
            del hidden_RH
        outputs_RD = product(activated_RF, out_EDF.mT, offs=rows.ends_E)
        if ctx is None:
            return _differentiable_sum_of_rows(outputs_RD, gates_TK, rows)
        ctx.save_for_backward(x_TD, gates_TK, in_EHD, out_EDF, hidden_RH, outputs_RD, *rows)
        ctx.activation = activation
        return _sum_of_rows(outputs_RD, rows.slot_TK, gates_TK)

    @staticmethod
    def backward(ctx: Any, grad_y_TD: Tensor) -> tuple[Tensor | None, ...]:
        """One gradient for each argument of ``forward``, None where none is wanted."""
        x_TD, gates_TK, in_EHD, out_EDF, hidden_RH, outputs_RD, *rest = ctx.saved_tensors
        rows = Assignments(*rest)
        if torch.is_grad_enabled():
            weights = ExpertWeights(in_EHD, out_EDF, ctx.activation)
            return differentiable_gradients(grad_y_TD, x_TD, gates_TK, rows, weights)
        ctx.maybe_clear_saved_tensors()  # unless the graph is kept, this makes room
        for_x, for_gates, _, _, for_in, for_out, _, _ = ctx.needs_input_grad
        blocks = expert_blocks(rows.ends_E, len(rows.token_R)) if x_TD.is_cpu else None
        product = torch.nn.functional.grouped_mm
        dy_RD = grad_y_TD.index_select(0, rows.token_R)
        grad_gates_R = row_dots(outputs_RD, dy_RD) if for_gates else None
        del outputs_RD
        dy_RD.mul_(gates_TK.flatten()[rows.order_R, None])
        activated_RF, dh_RH = activate_backward(
            hidden_RH, product(dy_RD, out_EDF, offs=rows.ends_E), ctx.activation
        )
        del hidden_RH
        grad_x_TD = grad_in_EHD = grad_out_EDF = None
        if for_out:
            grad_out_EDF = _weight_gradients(dy_RD, activated_RF, rows.ends_E, blocks, out_EDF)
        del activated_RF
        if for_in:
            tokens_RD = torch.index_select(x_TD, 0, rows.token_R, out=dy_RD)
            grad_in_EHD = _weight_gradients(dh_RH, tokens_RD, rows.ends_E, blocks, in_EHD)
            del tokens_RD
        del dy_RD
        if for_x:
            du_RD = product(dh_RH, in_EHD, offs=rows.ends_E)
            del dh_RH
            grad_x_TD = _sum_of_rows(du_RD, rows.slot_TK, None)
        return (
            grad_x_TD,
            None if grad_gates_R is None else grad_gates_R[rows.slot_TK],
            None,
            None,
            grad_in_EHD,
            grad_out_EDF,
            None,
            None,
        )


def _weight_gradients(
    grads_RH: Tensor,
    rows_RD: Tensor,
    ends_E: Tensor,
    blocks: list[tuple[int, slice]] | None,
    weight_EHD: Tensor,
) -> Tensor:
    if blocks is None:
        product = torch.nn.functional.grouped_mm
        if weight_EHD.is_contiguous():
            return product(grads_RH.mT, rows_RD, offs=ends_E)
        return product(rows_RD.mT, grads_RH, offs=ends_E).mT
    # On a CPU grouped_mm is a loop too, but one that cannot be told where to write, and that
    # writes the zeros of idle experts.
    gradients_EHD = gradient_of(weight_EHD, blocks)
    for e, block in blocks:
        torch.mm(grads_RH[block].T, rows_RD[block], out=gradients_EHD[e])
    return gradients_EHD


class _SumOfRows(torch.autograd.Function):
    """Each token's rows, weighted and added: embedding_bag's own backward has no derivative."""

    @staticmethod
    def forward(
        ctx: Any,
        rows_RD: Tensor,
        gates_TK: Tensor,
        order_R: Tensor,
        token_R: Tensor,
        slot_TK: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(rows_RD, gates_TK, order_R, token_R, slot_TK)
        return _sum_of_rows(rows_RD, slot_TK, gates_TK)

    @staticmethod
    def backward(ctx: Any, grad_y_TD: Tensor) -> tuple[Tensor | None, ...]:
        rows_RD, gates_TK, order_R, token_R, slot_TK = ctx.saved_tensors
        dy_RD = grad_y_TD.index_select(0, token_R)
        grad_rows_RD = (
            dy_RD * gates_TK.flatten()[order_R, None] if ctx.needs_input_grad[0] else None
        )
        grad_gates_TK = row_dots(rows_RD, dy_RD)[slot_TK] if ctx.needs_input_grad[1] else None
        return grad_rows_RD, grad_gates_TK, None, None, None


def _differentiable_sum_of_rows(rows_RD: Tensor, gates_TK: Tensor, rows: Assignments) -> Tensor:
    if not (torch.is_grad_enabled() and (rows_RD.requires_grad or gates_TK.requires_grad)):
        return _sum_of_rows(rows_RD, rows.slot_TK, gates_TK)
    y_TD: Tensor = _SumOfRows.apply(rows_RD, gates_TK, *rows[:3])  # type: ignore[no-untyped-call]
    return y_TD


def _sum_of_rows(rows_RD: Tensor, slot_TK: Tensor, gates_TK: Tensor | None) -> Tensor:
    # Both ways ask for gates in the dtype of the rows; narrow rows are widened, not gates rounded.
    dtype = rows_RD.dtype
    if dtype in (torch.bfloat16, torch.float16):
        rows_RD = rows_RD.float()
    if gates_TK is not None and len(slot_TK) <= FEW_TOKENS:
        rows_TKD = rows_RD.index_select(0, slot_TK.flatten()).view(*slot_TK.shape, rows_RD.shape[1])
        return torch.bmm(gates_TK.unsqueeze(1), rows_TKD).squeeze(1).to(dtype)
    # embedding_bag adds the K rows of each token in the order of slot_TK, in one pass over memory.
    y_TD = torch.nn.functional.embedding_bag(
        slot_TK, rows_RD, mode="sum", per_sample_weights=gates_TK
    )
    return y_TD.to(dtype)
