"""Assignments: T * K pairs of a token and an expert, and the three steps that carry them out.

gather rows by expert -> run each expert on its block of rows -> sum each token's K rows.

:func:`~moe_tutorial.layer.dispatch.dispatch` takes these steps in one go, faster and with a
backward of its own. One by one they are for whoever puts something in between, such as an exchange
between devices; they can be differentiated any number of times. Nothing is checked here: dispatch
is the door.                                                                        Chapter 07.
"""

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from moe_tutorial.layer.feed_forward import ExpertWeights, activate
from moe_tutorial.routing.combination import weighted_sum


class Assignments(NamedTuple):
    """The T * K assignments, sorted by expert: R rows.

    Attributes:
        order_R: which of the T * K assignments stands in each row, int64.
        token_R: whose token it is, int64.
        slot_TK: in which row a token's k-th assignment stands, int64.
        ends_E: where each expert's block of rows ends, int32.
    """

    order_R: Tensor
    token_R: Tensor
    slot_TK: Tensor
    ends_E: Tensor


def sort_assignments(experts_TK: Tensor, num_experts: int) -> Assignments:
    """Sort by expert, and within an expert by token; no answer of the device is waited for.

    Args:
        experts_TK: int64 ids ``[T, K]`` from 0 to E - 1.
        num_experts: E.

    Returns:
        What stands where.
    """
    sorted_R, order_R = experts_TK.flatten().sort(stable=True)
    token_R = order_R // experts_TK.shape[1]
    slot_R = torch.empty_like(order_R)
    slot_R.scatter_(0, order_R, torch.arange(order_R.numel(), device=order_R.device))
    # searchsorted needs no answer from the device, which bincount would wait for.
    ids_E = torch.arange(num_experts, device=order_R.device)
    ends_E = torch.searchsorted(sorted_R, ids_E, right=True, out_int32=True)
    return Assignments(order_R, token_R, slot_R.view_as(experts_TK), ends_E)


def expert_blocks(ends_E: Tensor, num_rows: int) -> list[tuple[int, slice]]:
    """Each expert that has rows, and which.

    On a GPU this waits for the numbers. The meta device has none: there the rows are shared out
    evenly, so that shapes, memory and FLOPs come out as for a balanced load.

    Args:
        ends_E: from :func:`sort_assignments`.
        num_rows: R.

    Returns:
        Pairs of an expert's id and the slice of its rows.
    """
    num_experts = len(ends_E)
    if ends_E.is_meta:
        ends = [num_rows * (e + 1) // num_experts for e in range(num_experts)]
    else:
        ends = ends_E.tolist()
    bounds = enumerate(pairwise([0, *ends]))
    return [(e, slice(begin, end)) for e, (begin, end) in bounds if begin < end]


def gather_rows(x_TD: Tensor, assignments: Assignments) -> Tensor:
    """Each assignment's token, ``[R, D]``, in the order of the experts."""
    return x_TD.index_select(0, assignments.token_R)


def run_blocks(rows_RD: Tensor, ends_E: Tensor, weights: ExpertWeights) -> Tensor:
    r"""Run each expert on its own rows.

    .. math:: o_r = \operatorname{act}(u_r {W^{in}_e}^\top + b^{in}_e) \, {W^{out}_e}^\top
              + b^{out}_e

    Args:
        rows_RD: ``[R, D]``, sorted by expert.
        ends_E: int32 ``[E]``, where each expert's block of rows ends.
        weights: of the experts, in the dtype of the rows.

    Returns:
        outputs_RD: ``[R, D]``.
    """
    num_experts = len(ends_E)
    # Indexing would add up, for each expert, a gradient of the size of all of them.
    first, second = weights.in_EHD.unbind(), weights.out_EDF.unbind()
    nothing = (None,) * num_experts
    in_bias = nothing if weights.in_bias_EH is None else weights.in_bias_EH.unbind()
    out_bias = nothing if weights.out_bias_ED is None else weights.out_bias_ED.unbind()
    outputs = []
    for e, block in expert_blocks(ends_E, len(rows_RD)):
        hidden_RH = nn.functional.linear(rows_RD[block], first[e], in_bias[e])
        activated_RF = activate(hidden_RH, weights.activation)
        outputs.append(nn.functional.linear(activated_RF, second[e], out_bias[e]))
    return torch.cat(outputs) if outputs else rows_RD


def sum_rows(outputs_RD: Tensor, assignments: Assignments, gates_TK: Tensor) -> Tensor:
    """Each token's K rows weighted by its gates and added in the order of its choices, ``[T, D]``.

    The sum runs in float32 at least; its result has the rows' dtype.
    """
    return weighted_sum(outputs_RD[assignments.slot_TK], gates_TK)
