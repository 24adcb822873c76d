"""The exchange: every row travels to the device that holds its expert, and back.

sort by expert -> counts -> rows -> local experts -> rows back -> sum of K rows.    Chapter 14.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from moe_tutorial.layer.assignments import gather_rows, sort_assignments, sum_rows
from moe_tutorial.layer.dispatch import dispatch
from moe_tutorial.layer.feed_forward import ExpertWeights
from moe_tutorial.validation import (
    check_floating,
    check_id_range,
    check_int64,
    check_kind,
    check_same_shape,
)


class _AllToAll(torch.autograd.Function):
    """What came back to a row along its way is its gradient: the same exchange, reversed."""

    @staticmethod
    def forward(
        ctx: Any,
        rows_RD: Tensor,
        sent: list[int],
        received: list[int],
        group: dist.ProcessGroup | None,
    ) -> Tensor:
        ctx.sent, ctx.received, ctx.group = sent, received, group
        rows_AD = rows_RD.new_empty(sum(received), *rows_RD.shape[1:])
        dist.all_to_all_single(rows_AD, rows_RD.contiguous(), received, sent, group=group)
        return rows_AD

    @staticmethod
    def backward(ctx: Any, grad_AD: Tensor) -> tuple[Tensor | None, ...]:
        return all_to_all(grad_AD, ctx.received, ctx.sent, ctx.group), None, None, None


def all_to_all(
    rows_RD: Tensor,
    sent: list[int],
    received: list[int],
    group: dist.ProcessGroup | None = None,
) -> Tensor:
    """Every rank sends some of its rows to every rank; the gradients come back the same way.

    ``torch.distributed.all_to_all_single`` moves the rows but is not differentiable: what it
    returns has no gradient, and nothing says so. All ranks of the group must call this together,
    and either all or none of them with rows that need a gradient.

    Args:
        rows_RD: ``[R, ...]``, first the rows for rank 0, then those for rank 1, and so on.
        sent: how many rows go to each rank; their sum is R.
        received: how many come from each rank; their sum is A.
        group: the ranks that take part; None for all of them.

    Returns:
        rows_AD: ``[A, ...]``, first the rows from rank 0, then those from rank 1, and so on.

    Raises:
        ValueError: counts that are not one for each rank, or not as many rows as are to be sent.
    """
    ranks = dist.get_world_size(group)
    for name, counts in (("sent", sent), ("received", received)):
        if len(counts) != ranks:
            raise ValueError(f"{name} must hold one number for each of {ranks} ranks, got {counts}")
    if sum(sent) != len(rows_RD):
        raise ValueError(f"sent must add up to the {len(rows_RD)} rows, got {sent}")
    rows_AD: Tensor = _AllToAll.apply(rows_RD, sent, received, group)  # type: ignore[no-untyped-call]
    return rows_AD


def dispatch_parallel(
    x_TD: Tensor,
    experts_TK: Tensor,
    gates_TK: Tensor,
    local: ExpertWeights,
    group: dist.ProcessGroup | None = None,
) -> Tensor:
    r"""Dispatch of chapter 07, where every rank of a group holds M = E / W of the experts.

    .. math:: y_t = \sum_{i=1}^{K} g_{ti} \, f_{e_{ti}}(u_t), \qquad
              \text{rank of expert } e = \lfloor e / M \rfloor

    All ranks must call it together, in the forward as in the backward; each has tokens of its own,
    as many as it likes, or none. The host waits once, for the numbers of rows. Gates stay at home:
    a row comes back unweighted, so that a gate's gradient needs no journey.

    Args:
        x_TD: this rank's tokens, ``[T, D]`` with any leading dimensions.
        experts_TK: int64 ids from 0 to E - 1, ``[T, K]``.
        gates_TK: ``[T, K]``.
        local: this rank's M experts: those from rank * M on.
        group: the W ranks over which the experts are spread; None for all.

    Returns:
        y_TD: shape and dtype of ``x_TD``; under autocast, in its dtype.

    Raises:
        TypeError: a tensor of the wrong dtype, or weights that are none.
        ValueError: shapes that do not fit, or ids out of range. Where only one rank's arguments
            are wrong, the others wait for it until the group's time-out.
    """
    check_kind("local", local, ExpertWeights)
    here, ranks = len(local.in_EHD), dist.get_world_size(group)
    check_floating("x_TD", x_TD)
    check_floating("gates_TK", gates_TK)
    check_int64("experts_TK", experts_TK, "expert ids")
    check_same_shape("gates_TK", gates_TK, "experts_TK", experts_TK)
    check_same_shape("x_TD[..., 0]", x_TD[..., 0], "experts_TK[..., 0]", experts_TK[..., 0])
    check_id_range("experts_TK", experts_TK, here * ranks)
    rows = sort_assignments(experts_TK.flatten(0, -2), here * ranks)
    rows_RD = gather_rows(x_TD.flatten(0, -2), rows)
    load_E = rows.ends_E.diff(prepend=rows.ends_E.new_zeros(1))
    one_each = [here] * ranks
    load_WM = all_to_all(load_E, one_each, one_each, group).view(ranks, here)
    # The one place where the host waits for the device: sizes of what comes must be known to it.
    sent, received = torch.stack([load_E.view(ranks, here).sum(1), load_WM.sum(1)]).tolist()
    rows_AD = all_to_all(rows_RD, sent, received, group)
    # From each rank came a block for each expert; dispatch sorts them by expert.
    ids_WM = torch.arange(here, device=x_TD.device).repeat(ranks)
    ids_A1 = ids_WM.repeat_interleave(load_WM.flatten(), output_size=sum(received)).unsqueeze(1)
    outputs_AD = dispatch(rows_AD, ids_A1, rows_AD.new_ones(len(ids_A1), 1), local)
    outputs_RD = all_to_all(outputs_AD, received, sent, group)
    y_TD = sum_rows(outputs_RD, rows, gates_TK.flatten(0, -2))
    return y_TD.view(x_TD.shape)
