"""The loop: one expert after another, forward and backward.

y_TD[token_R] += gate_R f_e(x_TD[token_R]), for each expert e.                      Chapter 07.
"""

from typing import Any

import torch
from torch import Tensor

from moe_tutorial.layer.assignments import Assignments, expert_blocks, sort_assignments
from moe_tutorial.layer.backward import activate_backward, differentiable_gradients, row_dots
from moe_tutorial.layer.feed_forward import Activation, ExpertWeights, activate
from moe_tutorial.layer.memory import empty, gradient_of


class Loop(torch.autograd.Function):
    """One expert after another; every weight gradient is written where it belongs.

    Under plain autograd, indexing ``in_EHD[e]`` would add a gradient of the size of all experts
    for each expert.
    """

    @staticmethod
    def forward(
        ctx: Any | None,
        x_TD: Tensor,
        gates_TK: Tensor,
        experts_TK: Tensor,
        activation: Activation,
        in_EHD: Tensor,
        out_EDF: Tensor,
        in_bias_EH: Tensor | None,
        out_bias_ED: Tensor | None,
    ) -> Tensor:
        """y_TD from checked arguments; ``ctx`` is None where no backward follows."""
        rows = sort_assignments(experts_TK, in_EHD.shape[0])
        blocks = expert_blocks(rows.ends_E, len(rows.token_R))
        gates_R1 = gates_TK.flatten()[rows.order_R, None]
        y_TD = torch.zeros_like(x_TD, dtype=gates_TK.dtype)
        gates_learn = ctx is not None and ctx.needs_input_grad[1]
        hidden: list[Tensor] = []
        outputs: list[Tensor] = []
        for e, block in blocks:
            token_R = rows.token_R[block]
            u_RD = x_TD.index_select(0, token_R)
            h_RH = _affine(u_RD, in_EHD[e], None if in_bias_EH is None else in_bias_EH[e])
            o_RD = _affine(
                activate(h_RH, activation),
                out_EDF[e],
                None if out_bias_ED is None else out_bias_ED[e],
            )
            # Where a token names an expert once, no two rows of this sum meet.
            y_TD.index_add_(0, token_R, o_RD * gates_R1[block])
            if ctx:
                hidden.append(h_RH)
            if gates_learn:
                outputs.append(o_RD)
            del u_RD, h_RH, o_RD  # the next expert's rows take their place
        if ctx:
            ctx.save_for_backward(
                x_TD, gates_TK, in_EHD, out_EDF, in_bias_EH, out_bias_ED, *rows, *hidden, *outputs
            )
            ctx.activation, ctx.blocks = activation, blocks
        return y_TD.to(x_TD.dtype)

    @staticmethod
    def backward(ctx: Any, grad_y_TD: Tensor) -> tuple[Tensor | None, ...]:
        """One gradient for each argument of ``forward``, None where none is wanted."""
        x_TD, gates_TK, in_EHD, out_EDF, in_bias_EH, out_bias_ED, *rest = ctx.saved_tensors
        rows, rest = Assignments(*rest[:4]), rest[4:]
        if torch.is_grad_enabled():
            weights = ExpertWeights(in_EHD, out_EDF, ctx.activation, in_bias_EH, out_bias_ED)
            return differentiable_gradients(grad_y_TD, x_TD, gates_TK, rows, weights)
        # Unless the graph is kept for another backward, what is used up makes room for what comes.
        ctx.maybe_clear_saved_tensors()
        hidden, outputs = rest[: len(ctx.blocks)], rest[len(ctx.blocks) :]
        del rest
        for_x, for_gates, _, _, for_in, for_out, for_in_bias, for_out_bias = ctx.needs_input_grad
        gates_R1 = gates_TK.flatten()[rows.order_R, None]
        grad_x_TD = torch.zeros_like(x_TD, dtype=gates_TK.dtype) if for_x else None
        grad_gates_R = torch.empty_like(gates_R1[:, 0])
        grad_in_EHD = gradient_of(in_EHD, ctx.blocks) if for_in else None
        grad_out_EDF = gradient_of(out_EDF, ctx.blocks) if for_out else None
        grad_in_bias_EH = torch.zeros_like(in_bias_EH) if for_in_bias else None
        grad_out_bias_ED = torch.zeros_like(out_bias_ED) if for_out_bias else None
        for e, block in ctx.blocks:
            token_R, h_RH = rows.token_R[block], hidden.pop(0)
            dy_RD = grad_y_TD.index_select(0, token_R)
            if for_gates:
                grad_gates_R[block] = row_dots(outputs.pop(0), dy_RD)
            dy_RD.mul_(gates_R1[block])
            activated_RF, dh_RH = activate_backward(h_RH, dy_RD @ out_EDF[e], ctx.activation)
            del h_RH
            if grad_out_EDF is not None:
                torch.mm(dy_RD.T, activated_RF, out=grad_out_EDF[e])
            del activated_RF
            if grad_out_bias_ED is not None:
                grad_out_bias_ED[e] = dy_RD.sum(0)
            if grad_in_EHD is not None:
                torch.mm(dh_RH.T, x_TD.index_select(0, token_R), out=grad_in_EHD[e])
            if grad_in_bias_EH is not None:
                grad_in_bias_EH[e] = dh_RH.sum(0)
            if grad_x_TD is not None:
                du_RD = torch.mm(dh_RH, in_EHD[e], out=dy_RD)
                grad_x_TD.index_add_(0, token_R, du_RD.to(grad_x_TD.dtype))
        return (
            None if grad_x_TD is None else grad_x_TD.to(x_TD.dtype),
            grad_gates_R[rows.slot_TK] if for_gates else None,
            None,
            None,
            grad_in_EHD,
            grad_out_EDF,
            grad_in_bias_EH,
            grad_out_bias_ED,
        )


def _affine(u_RD: Tensor, weight_HD: Tensor, bias_H: Tensor | None) -> Tensor:
    out_RH = empty(u_RD, len(u_RD), len(weight_HD))
    if bias_H is None:
        return torch.mm(u_RD, weight_HD.T, out=out_RH)
    return torch.addmm(bias_H, u_RD, weight_HD.T, out=out_RH)
