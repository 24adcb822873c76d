r"""Drops: how many assignments a capacity turns away, on average over batches.

sum over e of E[max(load_e - C, 0)], load_e ~ Binomial(T, pi_e).                    Chapter 09.
"""

import math

import torch
from torch import Tensor

from moe_tutorial.validation import check_finite, check_floating, check_size
from moe_tutorial.values import compute_dtype, holds, values_are_visible


def expected_drops(inclusion_E: Tensor, num_tokens: int, capacity: int) -> Tensor:
    r"""How many assignments a capacity drops, on average over batches.

    .. math:: \sum_{e=1}^{E} \sum_{n=C+1}^{T} (n - C) \binom{T}{n} \pi_e^n (1 - \pi_e)^{T-n}

    Exact where tokens choose independently and each names expert e with probability
    :math:`\pi_e`: an expert's load is then binomial. It holds for every policy and every K, since
    a mean of a sum does not ask how a token's K choices hang together.

    Args:
        inclusion_E: the probabilities, ``[E]`` with any leading dimensions, such as those of
            :func:`~moe_tutorial.routing.inclusion.inclusion_probabilities`.
        num_tokens: T, 0 or more.
        capacity: C, 0 or more.

    Returns:
        The mean number of drops, of T K, with the leading dimensions; float32, or float64 for
        float64 probabilities.

    Raises:
        TypeError, ValueError: an argument outside what is listed above; the message names it.
    """
    check_floating("inclusion_E", inclusion_E, rank=1)
    _check_fractions("inclusion_E", inclusion_E)
    check_size("num_tokens", num_tokens, least=0)
    check_size("capacity", capacity, least=0)
    # Inclusion probabilities of nearly 1 may have been rounded to above it.
    pi_E1 = inclusion_E.double().clamp(max=1).unsqueeze(-1)
    capacity = min(capacity, num_tokens)  # nothing is dropped from there on
    too_many = range(capacity + 1, num_tokens + 1)
    n = torch.tensor(too_many, device=pi_E1.device, dtype=torch.float64)
    log_ways = math.lgamma(num_tokens + 1) - (n + 1).lgamma() - (num_tokens - n + 1).lgamma()
    log_chance = torch.xlogy(n, pi_E1) + torch.special.xlog1py(num_tokens - n, -pi_E1)
    drops: Tensor = ((n - capacity) * (log_ways + log_chance).exp()).sum((-2, -1))
    return drops.to(compute_dtype(inclusion_E))


def _check_fractions(name: str, tensor: Tensor) -> None:
    """Refuse entries that are no probabilities; a little above 1 may be rounding."""
    check_finite(name, tensor)
    if not values_are_visible(tensor) or tensor.numel() == 0:
        return
    lowest, highest = torch.aminmax(tensor)
    requirement = f"{name} must lie between 0 and 1"
    if not holds((lowest >= 0) & (highest <= 1.001), requirement):
        raise ValueError(f"{requirement}, got {(lowest if lowest < 0 else highest).item()}")
