"""What the backward of both methods shares.                                        Chapter 07."""

from typing import Any

import torch
from torch import Tensor

from moe_tutorial.layer.assignments import Assignments, gather_rows, run_blocks, sum_rows
from moe_tutorial.layer.feed_forward import Activation, ExpertWeights, activate
from moe_tutorial.values import compute_dtype


def activate_backward(
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


def row_dots(a_RD: Tensor, b_RD: Tensor) -> Tensor:
    """The dot product of each pair of rows, multiplied and added in float32 at least."""
    dtype = compute_dtype(a_RD)
    dots_R: Tensor = (a_RD.to(dtype) * b_RD.to(dtype)).sum(-1)
    return dots_R


def step_by_step(
    x_TD: Tensor, gates_TK: Tensor, assignments: Assignments, weights: ExpertWeights
) -> Tensor:
    """The three steps of ``assignments`` one by one, in operations that torch differentiates."""
    rows_RD = gather_rows(x_TD, assignments)
    return sum_rows(run_blocks(rows_RD, assignments.ends_E, weights), assignments, gates_TK)


def differentiable_gradients(
    grad_y_TD: Tensor,
    x_TD: Tensor,
    gates_TK: Tensor,
    assignments: Assignments,
    weights: ExpertWeights,
) -> tuple[Any, ...]:
    """The gradients of :func:`step_by_step`, as functions that can be differentiated again.

    Returns:
        One for each argument of a method's ``forward``, None where none is wanted.
    """
    y_TD = step_by_step(x_TD, gates_TK, assignments, weights)
    arguments = (x_TD, gates_TK, None, *weights)
    wanted = [it for it in arguments if isinstance(it, Tensor) and it.requires_grad]
    found = torch.autograd.grad(y_TD, wanted, grad_y_TD, create_graph=True, allow_unused=True)
    gradients = iter(found)
    order = (x_TD, gates_TK, None, None, weights.in_EHD, weights.out_EDF, *weights[3:])
    return tuple(next(gradients) if it is not None and it.requires_grad else None for it in order)
