"""Sampling: draw the K experts instead of taking the best.

S_t = top-k of l_t / tau + Gumbel noise: K draws without replacement.               Chapter 04.
"""

import math

import torch
from torch import Tensor

from moe_tutorial.routing.probabilities import tempered
from moe_tutorial.validation import (
    check_experts,
    check_finite,
    check_generator,
    check_k,
    check_logits,
    check_same_device,
    check_same_shape,
    check_temperature,
)
from moe_tutorial.values import as_float, compute_dtype


def gumbel_top_k(
    logits_TE: Tensor,
    k: int,
    temperature: float | Tensor = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Draw k experts without replacement from softmax(logits / temperature).

    .. math:: S_t = \operatorname{top\text{-}k}_e \bigl( l_{te} / \tau + G_{te} \bigr),
              \qquad G_{te} = -\ln(-\ln U_{te}), \quad U_{te} \sim \mathcal U(0, 1)

    The largest perturbed logit is a draw from the softmax, the next largest is a draw from what
    is left, and so on (Kool, van Hoof and Welling 2019, "Stochastic Beams and Where to Find
    Them"). Two limits come with the dtype, float32 or, for float64 logits, float64: a probability
    below about 1e-7 (1e-16) is not resolved by the uniform numbers, and where the temperature is
    below 1e-7 (1e-16) times the spread of the logits the noise is lost in rounding, so that the
    largest logits are taken, equal ones in an order that ``torch.topk`` leaves open.

    Args:
        logits_TE: ``[T, E]`` with any leading dimensions, floating point.
        k: how many experts to draw, from 1 to E.
        temperature: positive; below 1 sharpens, above 1 softens, ``math.inf`` draws uniformly.
        generator: the source of randomness, on the logits' device; None takes torch's own.

    Returns:
        experts_TK: int64 ids ``[T, K]``, no id twice in a row, in the order they were drawn.

    Raises:
        TypeError: logits_TE is not floating point, k is not an int, or generator is not one.
        ValueError: wrong rank, non-finite logits, k out of range, a temperature that is not
            positive, or a generator on another device.
    """
    check_logits("logits_TE", logits_TE)
    check_k(k, logits_TE.shape[-1])
    check_temperature(temperature, logits_TE)
    check_generator(generator, logits_TE)
    return drawn(logits_TE, k, temperature, generator)


def drawn(
    logits_TE: Tensor, k: int, temperature: float | Tensor, generator: torch.Generator | None
) -> Tensor:
    """:func:`gumbel_top_k` of arguments that were checked."""
    logits_TE = logits_TE.detach().to(compute_dtype(logits_TE))
    noise_TE = logits_TE.new_empty(logits_TE.shape)
    # A compiled graph knows no generator, not even None, once its sizes may change.
    noise_TE = noise_TE.uniform_() if generator is None else noise_TE.uniform_(generator=generator)
    # uniform_ can return exactly 0, whose logarithm would rule an expert out for good.
    tiny = torch.finfo(noise_TE.dtype).tiny
    noise_TE.clamp_(min=tiny).log_().neg_().log_()  # this is -G
    shifted_TE = logits_TE - logits_TE.amax(-1, keepdim=True)
    # l / tau + G and l + tau G order the experts alike; each form is used where it cannot overflow.
    if isinstance(temperature, Tensor):
        tau = temperature.to(logits_TE.dtype).clamp(min=tiny)
        perturbed_TE = shifted_TE.div_(tau.clamp(min=1)).sub_(noise_TE.mul_(tau.clamp(max=1)))
    elif temperature > 1:
        perturbed_TE = shifted_TE.div_(as_float(temperature)).sub_(noise_TE)
    else:
        perturbed_TE = shifted_TE.sub_(noise_TE.mul_(max(as_float(temperature), tiny)))
    return perturbed_TE.topk(k, dim=-1).indices


def noisy_logits(
    logits_TE: Tensor, noise_scores_TE: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    r"""Add noise whose size the router learns, separately for every token and expert.

    .. math:: h_{te} = l_{te} + z_{te} \bigl( \operatorname{softplus}(n_{te}) + 10^{-2} \bigr),
              \qquad z_{te} \sim \mathcal N(0, 1)

    Noisy top-k (Shazeer et al. 2017, equation 4; the floor of 1e-2 is from its published code)
    chooses and gates with h in training and with l in evaluation.

    Args:
        logits_TE: ``[T, E]`` with any leading dimensions, floating point.
        noise_scores_TE: n, the second projection of the token, shape of ``logits_TE``.
        generator: the source of randomness, on the logits' device; None takes torch's own.

    Returns:
        noisy_logits_TE: shape of ``logits_TE``, float32, or float64 if an input is. Gradients
        flow into both inputs.

    Raises:
        TypeError: an input is not floating point, or generator is not a torch.Generator.
        ValueError: shapes that differ, non-finite values, a sum that overflows, two devices, or a
            generator elsewhere.
    """
    check_logits("logits_TE", logits_TE)
    check_logits("noise_scores_TE", noise_scores_TE)
    check_same_shape("noise_scores_TE", noise_scores_TE, "logits_TE", logits_TE)
    check_same_device(logits_TE=logits_TE, noise_scores_TE=noise_scores_TE)
    check_generator(generator, logits_TE)
    return with_noise(logits_TE, noise_scores_TE, generator)


def with_noise(
    logits_TE: Tensor, noise_scores_TE: Tensor, generator: torch.Generator | None
) -> Tensor:
    """:func:`noisy_logits` of arguments that were checked."""
    dtype = compute_dtype(logits_TE, noise_scores_TE)
    normal_TE = logits_TE.new_empty(logits_TE.shape, dtype=dtype)
    normal_TE = normal_TE.normal_() if generator is None else normal_TE.normal_(generator=generator)
    noisy_TE = logits_TE.to(dtype) + normal_TE * noise_deviation(noise_scores_TE.to(dtype))
    check_finite("logits_TE with noise, too large for their dtype,", noisy_TE)
    return noisy_TE


def noise_deviation(noise_scores_TE: Tensor) -> Tensor:
    r"""How large the noise of noisy top-k is: softplus(n) + 0.01.

    Args:
        noise_scores_TE: n, of any shape, float32 or float64.

    Returns:
        Standard deviations, shape and dtype of ``noise_scores_TE``.
    """
    return torch.nn.functional.softplus(noise_scores_TE) + 1e-2


def plackett_luce_log_probability(
    logits_TE: Tensor, experts_TK: Tensor, temperature: float | Tensor = 1.0
) -> Tensor:
    r"""The log-probability of drawing exactly these experts in exactly this order.

    .. math:: \ln P(b_1, \dots, b_K) = \sum_{i=1}^{K} \ln
              \frac{s_{b_i}}{1 - \sum_{j < i} s_{b_j}}

    The Plackett-Luce distribution (Plackett 1975): every draw is a softmax over what the earlier
    draws left. An order that names an expert twice is impossible and gets minus infinity.

    Args:
        logits_TE: ``[T, E]`` with any leading dimensions, floating point.
        experts_TK: int64 ids ``[T, K]`` in the order of the draw.
        temperature: as for :func:`gumbel_top_k`.

    Returns:
        log_probability_T: one number per token, float32, or float64 for float64 logits.

    Raises:
        TypeError: logits_TE is not floating point, or experts_TK does not hold int64 ids.
        ValueError: shapes that do not fit, ids out of range, non-finite logits, or a temperature
            that is not positive.
    """
    check_logits("logits_TE", logits_TE)
    check_experts(experts_TK, "logits_TE", logits_TE)
    check_temperature(temperature, logits_TE)
    total_T = logits_TE.new_zeros(logits_TE.shape[:-1], dtype=compute_dtype(logits_TE))
    drawn_TE = torch.zeros_like(logits_TE, dtype=torch.bool)
    for i in range(experts_TK.shape[-1]):
        expert_T1 = experts_TK[..., i : i + 1]
        best_T1 = logits_TE.detach().masked_fill(drawn_TE, -math.inf).amax(-1, keepdim=True)
        # Gaps to the best of those left, not to one that is gone: over a tiny temperature, the
        # latter would all be infinite.
        gaps_TE = tempered(torch.where(drawn_TE, best_T1, logits_TE), temperature)
        # Written as a log-softmax of what is left, no 1 - sum of probabilities can cancel.
        left_TE = gaps_TE.masked_fill(drawn_TE, -math.inf).log_softmax(-1)
        total_T = total_T + left_TE.gather(-1, expert_T1).squeeze(-1)
        drawn_TE = drawn_TE.scatter(-1, expert_T1, True)
    return total_T
