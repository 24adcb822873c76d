"""Perturbations: what may change a little, so that one can see whether the choice changes.

u' = u + gamma m z / sqrt(D), m the mean length, z ~ N(0, I); or without sqrt(D).     Chapter 15.
"""

import math
from numbers import Real
from typing import Any, Literal

import torch
from torch import Tensor

from moe_tutorial.validation import (
    check_choice,
    check_finite,
    check_floating,
    check_generator,
    check_int64,
    check_size,
)
from moe_tutorial.values import as_float

NoiseSize = Literal["length", "coordinate"]


def noisy_tokens(
    x_TD: Tensor,
    gamma: float,
    size: NoiseSize = "length",
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Add Gaussian noise to tokens, as large as a share of their mean length.

    .. math:: u'_t = u_t + \gamma \, m \, z_t / \sqrt D \quad\text{(length)}, \qquad
              u'_t = u_t + \gamma \, m \, z_t \quad\text{(coordinate)}, \qquad
              m = \tfrac1T \textstyle\sum_t \lVert u_t \rVert, \quad z_t \sim \mathcal N(0, I)

    Two conventions have one name. With ``"length"`` the noise is about gamma times as long as a
    token. With ``"coordinate"`` (Li 2025) gamma m is the standard deviation of every coordinate,
    and the noise is longer by the square root of D: gamma = 0.05 at D = 1536 adds a vector twice
    as long as the token. So a plot over gamma says which one.

    Args:
        x_TD: tokens, ``[T, D]`` with any leading dimensions.
        gamma: at least 0.
        size: ``"length"`` or ``"coordinate"``.
        generator: the source of randomness, on the tokens' device; None takes torch's own.

    Returns:
        Tokens with the shape and dtype of ``x_TD``.

    Raises:
        TypeError, ValueError: tokens that are not floating point and finite, a gamma that is no
            finite number of at least 0, an unknown size, or a generator elsewhere.
    """
    check_floating("x_TD", x_TD)
    check_finite("x_TD", x_TD)
    check_gamma(gamma)
    check_choice("size", size, ("length", "coordinate"))
    check_generator(generator, x_TD)
    noise_TD = torch.empty_like(x_TD).normal_(generator=generator)
    deviation = gamma * torch.linalg.vector_norm(x_TD, dim=-1).mean()
    if size == "length":
        deviation = deviation / math.sqrt(x_TD.shape[-1])
    noisy_TD: Tensor = x_TD + deviation * noise_TD
    return noisy_TD


def check_gamma(gamma: Any) -> None:
    """Refuse a size of noise that is no finite number of at least 0."""
    if isinstance(gamma, bool) or not isinstance(gamma, Real):
        raise TypeError(f"gamma must be a number, got {type(gamma).__name__}")
    if not 0 <= as_float(gamma) < math.inf:
        raise ValueError(f"gamma must be finite and at least 0, got {gamma}")


def rounded(x: Tensor, dtype: torch.dtype) -> Tensor:
    """The nearest numbers that a narrower dtype can hold, in the dtype that they had.

    Round the token, the centroids and the logits, and route them: that is a router in bfloat16 in
    a model that is not.

    Args:
        x: floating point, of any shape.
        dtype: such as ``torch.bfloat16``.

    Returns:
        Shape and dtype of ``x``.

    Raises:
        TypeError: what is not floating point.
        ValueError: numbers that are too large for the narrower dtype.
    """
    check_floating("x", x, rank=0)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise TypeError(f"dtype must be a floating-point dtype, got {dtype}")
    check_finite("x", x)
    narrow = x.to(dtype).to(x.dtype)
    check_finite(f"x in {dtype}", narrow)
    return narrow


def without_context(tokens_BS: Tensor, dropped: int, filling: int = 0) -> Tensor:
    """Replace the first tokens of every window, so that the later ones have less to look back at.

    The later tokens stay where they are, so a change of their routing is due to their context, and
    not to their position.

    Args:
        tokens_BS: int64 ids, ``[B, S]``.
        dropped: how many, from 0 to S - 1.
        filling: the id in their place; 0 ends a document in the book's texts.

    Returns:
        New ids, ``[B, S]``.

    Raises:
        TypeError, ValueError: ids of another dtype or rank, or a number outside what is listed.
    """
    check_int64("tokens_BS", tokens_BS, "token ids")
    if tokens_BS.ndim != 2:
        raise ValueError(f"tokens_BS must have the shape [B, S], got {tuple(tokens_BS.shape)}")
    check_size("dropped", dropped, least=0)
    check_size("filling", filling, least=0)
    if dropped >= tokens_BS.shape[1]:
        raise ValueError(
            f"dropped must be below the {tokens_BS.shape[1]} tokens of a window, got {dropped}"
        )
    cut_BS = tokens_BS.clone()
    cut_BS[:, :dropped] = filling
    return cut_BS
