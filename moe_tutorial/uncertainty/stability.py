"""Stability: how much of a choice is left when something has changed?

J_t = shared experts / experts in either choice, beside what two random choices have.
"""

from fractions import Fraction
from math import comb

import torch
from torch import Tensor

from moe_tutorial.validation import (
    check_distinct,
    check_generator,
    check_int64,
    check_k,
    check_same_device,
    check_size,
)


def jaccard(experts_TK: Tensor, other_TK: Tensor) -> Tensor:
    r"""What share of the experts in either choice is in both, for each token.

    .. math:: J_t = \frac{|A_t \cap B_t|}{|A_t \cup B_t|}

    1 where both name the same experts, in whatever order; 0 where they share none (Jaccard 1901).
    Compare it with :func:`chance_jaccard`: among few experts, chance alone shares many.

    Args:
        experts_TK: int64 ids of the chosen experts, ``[T, K]`` with any leading dimensions.
        other_TK: another choice for the same tokens; its K may differ.

    Returns:
        jaccard_T: float64, one number per token.

    Raises:
        TypeError: ids that are not int64.
        ValueError: no token dimension, other tokens, no expert at all, an id named twice by one
            token, or two devices.
    """
    for name, ids in (("experts_TK", experts_TK), ("other_TK", other_TK)):
        check_int64(name, ids, "expert ids")
        if ids.ndim < 2 or ids.shape[-1] == 0:
            raise ValueError(f"{name} must have shape [T, K] with K >= 1, got {tuple(ids.shape)}")
        check_distinct(ids, name)
    if experts_TK.shape[:-1] != other_TK.shape[:-1]:
        raise ValueError(
            f"other_TK must be for the tokens of experts_TK, {tuple(experts_TK.shape[:-1])}, got "
            f"{tuple(other_TK.shape[:-1])}"
        )
    check_same_device(experts_TK=experts_TK, other_TK=other_TK)
    shared_T = (experts_TK.unsqueeze(-1) == other_TK.unsqueeze(-2)).sum((-2, -1))
    return shared_T.double() / (experts_TK.shape[-1] + other_TK.shape[-1] - shared_T)


def chance_jaccard(num_experts: int, k: int) -> float:
    r"""The mean Jaccard overlap of two sets of k experts that are drawn at random.

    .. math:: \sum_{m=0}^{K} \frac{\binom{K}{m} \binom{E-K}{K-m}}{\binom{E}{K}} \, \frac{m}{2K - m}

    The number m of shared experts is hypergeometric. This is not the quotient of the means,
    K / (2E - K), and it holds for balanced choices: where a few experts take most tokens, chance
    shares more, and shuffling one choice over the tokens shows how much.

    Args:
        num_experts: E.
        k: K, from 1 to E.

    Returns:
        A number from 0 to 1, exact up to its last rounding.

    Raises:
        TypeError, ValueError: sizes outside what is listed above; the message names them.
    """
    check_size("num_experts", num_experts)
    check_k(k, num_experts)
    total = sum(
        Fraction(m * comb(k, m) * comb(num_experts - k, k - m), 2 * k - m) for m in range(k + 1)
    )
    return float(total / comb(num_experts, k))


def shuffled_jaccard(
    experts_TK: Tensor, other_TK: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """The overlap of each token's choice with that of a token that is drawn at random.

    :func:`chance_jaccard` takes all experts for equally busy. Here both choices keep their loads,
    and only which token is which is forgotten: the chance level where loads are skewed.

    Args:
        experts_TK: as for :func:`jaccard`.
        other_TK: as for :func:`jaccard`.
        generator: the source of the permutation, on the ids' device; None takes torch's own.

    Returns:
        jaccard_T: float64, one number per token; their mean is the chance level.

    Raises:
        TypeError, ValueError: as for :func:`jaccard`, or a generator elsewhere.
    """
    jaccard(experts_TK, other_TK)
    check_generator(generator, other_TK)
    rows_TK = other_TK.flatten(0, -2)
    order_T = torch.randperm(len(rows_TK), generator=generator, device=other_TK.device)
    return jaccard(experts_TK, rows_TK[order_T].reshape(other_TK.shape))
