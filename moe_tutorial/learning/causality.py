"""Causality: does an output depend on tokens that come after it?

leak_s = the largest change of any y_t with t < s when x_s is replaced.              Chapter 09.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from moe_tutorial.validation import check_finite, check_generator, check_logits
from moe_tutorial.values import values_are_visible


def future_leak(
    function: Callable[[Tensor], Tensor], x_SD: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """How much earlier outputs change when one token is replaced: nothing, in a causal model.

    A gradient does not answer this. A choice of tokens or experts is a step, flat nearly
    everywhere, so it lets the future through with a gradient of 0.

    A function that draws random numbers, for a sample or for dropout, would differ from itself
    without any leak. So torch's own random numbers start at the same place in every call, and are
    where they were afterwards. A generator inside the function is out of reach: seed it anew in
    each call. A function that gives one sequence two different outputs is refused.

    Args:
        function: maps a sequence ``[S, D]`` to outputs ``[S, ...]``, floating point.
        x_SD: the sequence, floating point.
        generator: the source of the normal numbers that replace a token, as large as the sequence
            in root mean square; None takes torch's own.

    Returns:
        leak_S: for each position s the largest absolute change of an output before s when token s
        is replaced. A value above rounding proves a leak; zeros do not prove that there is none,
        but for the sequences that were tried.

    Raises:
        TypeError: x_SD or an output is no floating-point tensor, or function cannot be called.
        ValueError: x_SD is no ``[S, D]`` with finite entries, the generator is on another device,
            an output has not one entry for each position or is not finite, or the function draws
            from a generator of its own.
    """
    if not callable(function):
        raise TypeError(f"function must be callable, got {type(function).__name__}")
    check_logits("x_SD", x_SD)
    if x_SD.ndim != 2:
        raise ValueError(f"x_SD must be one sequence [S, D], got shape {tuple(x_SD.shape)}")
    check_generator(generator, x_SD)
    # In float64, since the squares of narrower numbers overflow long before they do.
    size = x_SD.double().square().mean().sqrt()
    # All draws for the sequence come before the first call, which may draw as well.
    noise_SD = [
        torch.randn(x_SD.shape[1], generator=generator, dtype=x_SD.dtype, device=x_SD.device)
        for _ in range(1, len(x_SD))
    ]
    with torch.no_grad():
        before = _output(function, x_SD)
        again = _output(function, x_SD)
        difference = _largest(again - before)
        if values_are_visible(difference) and difference > _rounding(before):
            raise ValueError(
                "function must give the same outputs for the same sequence, got ones that differ "
                f"by {difference.item():.3g}: seed a generator that it draws from in each call"
            )
        leak_S = before.new_zeros(len(x_SD))
        for s, noise_D in enumerate(noise_SD, start=1):
            other_SD = x_SD.clone()
            other_SD[s] = size * noise_D
            leak_S[s] = _largest(_output(function, other_SD)[:s] - before[:s])
    return leak_S


def _output(function: Callable[[Tensor], Tensor], x_SD: Tensor) -> Tensor:
    """What the function makes of a copy, with the random numbers that every call gets."""
    accelerators = [x_SD.device] if x_SD.is_cuda else []
    with torch.random.fork_rng(accelerators):
        output = function(x_SD.clone())
    if not isinstance(output, Tensor) or not output.is_floating_point():
        found = getattr(output, "dtype", type(output).__name__)
        raise TypeError(f"function must return a floating-point tensor, got {found}")
    if output.shape[:1] != x_SD.shape[:1] or 0 in output.shape[1:]:
        raise ValueError(
            f"function must return outputs [S, ...] for {len(x_SD)} positions, got shape "
            f"{tuple(output.shape)}"
        )
    check_finite("the output of function", output)
    return output


def _largest(change: Tensor) -> Tensor:
    # Before the first position there is nothing, whose largest number torch does not know.
    return change.abs().max() if change.numel() > 0 else change.new_zeros(())


def _rounding(output: Tensor) -> Tensor:
    """A difference that sums in another order may make, and a draw would exceed."""
    bound: Tensor = _largest(output) * torch.finfo(output.dtype).eps ** 0.5
    return bound
