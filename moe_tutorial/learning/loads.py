r"""Loads: how many tokens came to each expert, and how even is that?

load_e = the number of tokens t with e in S_t.                                      Chapter 08.

"Collapsed" below means that all tokens go to the same K experts, with certainty.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from moe_tutorial.learning.padding import filled_experts
from moe_tutorial.validation import check_finite, check_floating, check_sets
from moe_tutorial.values import compute_dtype, holds, values_are_visible


@dataclass(frozen=True, eq=False)
class LoadMetrics:
    r"""How even a load is; each number with what it reads balanced; collapsed.

    Attributes:
        fraction_E: :math:`f_e`, each expert's share of all assignments. 1/E; 1/K for K experts.
        max_over_mean: the busiest expert's load over the mean. 1; E/K. Where experts run side by
            side, all wait for the busiest one.
        coefficient_of_variation: standard deviation (over all E) by mean. 0; sqrt(E/K - 1).
        entropy: :math:`-\sum_e f_e \ln f_e`, in nats. ln E; ln K.
        effective_experts: exp(entropy), so many equally busy experts. E; K.
        dead_experts: how many got nothing, int64. 0; E - K.
    """

    fraction_E: Tensor
    max_over_mean: Tensor
    coefficient_of_variation: Tensor
    entropy: Tensor
    effective_experts: Tensor
    dead_experts: Tensor


def expert_load(experts_TK: Tensor, num_experts: int, mask_T: Tensor | None = None) -> Tensor:
    r"""Count the tokens that chose each expert.

    .. math:: \text{load}_e = \left| \{ t : e \in S_t \} \right|

    Counted from the choice, before any capacity drops a token: what an expert was allowed to keep
    does not say what was sent to it.

    Args:
        experts_TK: int64 ids of the chosen experts, ``[T, K]`` with any leading dimensions.
        num_experts: E.
        mask_T: bool, one entry per token: False marks padding, which does not count and may hold
            any ids.

    Returns:
        load_E: int64 counts ``[E]``; their sum is K times the number of tokens that count.

    Raises:
        TypeError: ids that are not int64, num_experts that is no int, or a mask that is not bool.
        ValueError: shapes that do not fit, ids out of range or named twice, K above num_experts,
            or two devices.
    """
    experts_TK = filled_experts(experts_TK, mask_T)
    check_sets(experts_TK, num_experts)
    counted_TK = torch.ones_like(experts_TK)
    if mask_T is not None:
        counted_TK = counted_TK * mask_T.unsqueeze(-1)
    load_E = torch.zeros(num_experts, dtype=torch.int64, device=experts_TK.device)
    return load_E.scatter_add(0, experts_TK.flatten(), counted_TK.flatten())


def load_metrics(load_E: Tensor) -> LoadMetrics:
    """Say how even a load is, in six ways; :class:`LoadMetrics` says what each one reads.

    Args:
        load_E: counts or any non-negative numbers ``[E]``; ``[L, E]`` gives L layers' metrics,
            each layer for itself.

    Returns:
        The metrics, in float64 for counts and float64 loads, else in float32.

    Raises:
        TypeError: load_E is not a tensor of numbers.
        ValueError: a negative or non-finite load, or a layer without any.
    """
    load_E = counted_loads(load_E)
    dtype = load_E.dtype
    # In float64, since a sum of numbers in float32 may overflow, and their mean underflow.
    wide_E = load_E.double()
    relative_E = wide_E / wide_E.mean(-1, keepdim=True)
    fraction_E = wide_E / wide_E.sum(-1, keepdim=True)
    entropy = -torch.special.xlogy(fraction_E, fraction_E).sum(-1)
    return LoadMetrics(
        fraction_E=fraction_E.to(dtype),
        max_over_mean=relative_E.amax(-1).to(dtype),
        coefficient_of_variation=(relative_E - 1).square().mean(-1).sqrt().to(dtype),
        entropy=entropy.to(dtype),
        effective_experts=entropy.exp().to(dtype),
        dead_experts=(load_E == 0).sum(-1),
    )


def counted_loads(load_E: Any) -> Tensor:
    """Loads ``[E]`` or ``[L, E]`` that were checked, in float64 if they are counts."""
    if isinstance(load_E, Tensor) and load_E.dtype in (torch.int32, torch.int64):
        load_E = load_E.double()
    check_floating("load_E", load_E, rank=1)
    check_loads("load_E", load_E)
    wide_E: Tensor = load_E.detach().to(compute_dtype(load_E))
    return wide_E


def check_loads(name: str, load_E: Tensor) -> None:
    """Refuse loads with a negative or non-finite entry, or of a layer to which nothing came."""
    check_finite(name, load_E)
    if not values_are_visible(load_E) or load_E.numel() == 0:
        return
    requirement = f"{name} must not be negative"
    if not holds((load_E >= 0).all(), requirement):
        raise ValueError(f"{requirement}, got {load_E.min().item()}")
    requirement = f"{name} must sum to more than 0 in each layer"
    if not holds((load_E.sum(-1) > 0).all(), requirement):
        raise ValueError(f"{requirement}, got a layer to which no token came")
