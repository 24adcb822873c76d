"""Causality: does an output depend on tokens that come after it?

leak_s = the largest change of any y_t with t < s when x_s is replaced.              Chapter 09.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from moe_tutorial.validation import check_generator, check_logits


def future_leak(
    function: Callable[[Tensor], Tensor], x_SD: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """How much earlier outputs change when one token is replaced: nothing, in a causal model.

    A gradient does not answer this. A choice of tokens or experts is a step, flat nearly
    everywhere, so it lets the future through with a gradient of 0.

    Args:
        function: maps a sequence ``[S, D]`` to outputs ``[S, ...]``.
        x_SD: the sequence, floating point.
        generator: the source of the normal numbers that replace a token, as large as the sequence
            in root mean square; None takes torch's own.

    Returns:
        leak_S: for each position s the largest absolute change of an output before s when token s
        is replaced. A value above rounding proves a leak; zeros do not prove that there is none,
        but for the sequences that were tried.

    Raises:
        TypeError, ValueError: x_SD is no floating-point ``[S, D]`` with finite entries, or the
            generator is on another device.
    """
    check_logits("x_SD", x_SD)
    if x_SD.ndim != 2:
        raise ValueError(f"x_SD must be one sequence [S, D], got shape {tuple(x_SD.shape)}")
    check_generator(generator, x_SD)
    size = x_SD.square().mean().sqrt()
    with torch.no_grad():
        before = function(x_SD)
        leak_S = before.new_zeros(len(x_SD))
        for s in range(1, len(x_SD)):
            other_SD = x_SD.clone()
            noise_D = torch.randn(
                x_SD.shape[1], generator=generator, dtype=x_SD.dtype, device=x_SD.device
            )
            other_SD[s] = size * noise_D
            leak_S[s] = (function(other_SD)[:s] - before[:s]).abs().max()
    return leak_S
