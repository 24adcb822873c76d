"""Sampling: draw the K experts instead of taking the best.

S_t = top-k of l_t / tau + Gumbel noise: K draws without replacement.               Chapter 04.
"""

import itertools
import math

import torch
from torch import Tensor

from moe_tutorial.probabilities import tempered
from moe_tutorial.validation import (
    check_experts,
    check_generator,
    check_k,
    check_logits,
    check_same_device,
    check_same_shape,
    check_temperature,
    compute_dtype,
)

LARGEST_ENUMERATION = 1_000_000
"""The most ordered draws that :func:`inclusion_probabilities_by_enumeration` will list."""

LARGEST_BLOCK = 2_000_000
"""The most numbers (16 MB) in one intermediate tensor of :func:`inclusion_probabilities`."""


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
    logits_TE = logits_TE.detach().to(compute_dtype(logits_TE))
    noise_TE = torch.rand(
        logits_TE.shape, generator=generator, dtype=logits_TE.dtype, device=logits_TE.device
    )
    # rand can return exactly 0, whose logarithm would rule an expert out for good.
    tiny = torch.finfo(noise_TE.dtype).tiny
    noise_TE.clamp_(min=tiny).log_().neg_().log_()  # this is -G
    shifted_TE = logits_TE - logits_TE.amax(-1, keepdim=True)
    # l / tau + G and l + tau G order the experts alike; each form is used where it cannot overflow.
    if isinstance(temperature, Tensor):
        tau = temperature.to(logits_TE.dtype).clamp(min=tiny)
        perturbed_TE = shifted_TE.div_(tau.clamp(min=1)).sub_(noise_TE.mul_(tau.clamp(max=1)))
    elif temperature > 1:
        perturbed_TE = shifted_TE.div_(temperature).sub_(noise_TE)
    else:
        perturbed_TE = shifted_TE.sub_(noise_TE.mul_(max(temperature, tiny)))
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
        ValueError: shapes that differ, non-finite values, two devices, or a generator elsewhere.
    """
    check_logits("logits_TE", logits_TE)
    check_logits("noise_scores_TE", noise_scores_TE)
    check_same_shape("noise_scores_TE", noise_scores_TE, "logits_TE", logits_TE)
    check_same_device(logits_TE=logits_TE, noise_scores_TE=noise_scores_TE)
    check_generator(generator, logits_TE)
    dtype = compute_dtype(logits_TE, noise_scores_TE)
    normal_TE = torch.randn(
        logits_TE.shape, generator=generator, dtype=dtype, device=logits_TE.device
    )
    deviation_TE = torch.nn.functional.softplus(noise_scores_TE.to(dtype)) + 1e-2
    return logits_TE.to(dtype) + normal_TE * deviation_TE


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


def inclusion_probabilities_by_enumeration(
    logits_TE: Tensor, k: int, temperature: float | Tensor = 1.0
) -> Tensor:
    r"""How likely each expert is to be among the k drawn, by listing every ordered draw.

    .. math:: \pi_{te} = \sum_{b \,:\, e \in b} P(b_1, \dots, b_K)

    The definition itself, exact up to rounding, for small E: there are E! / (E - K)! ordered
    draws. :func:`inclusion_probabilities` has no such limit.

    Args:
        logits_TE: ``[T, E]`` with any leading dimensions, floating point.
        k: how many experts are drawn, from 1 to E.
        temperature: as for :func:`gumbel_top_k`.

    Returns:
        inclusion_TE: shape of ``logits_TE``, rows that sum to k; float32, or float64 for float64
        logits.

    Raises:
        TypeError: logits_TE is not floating point, or k is not an int.
        ValueError: as for :func:`gumbel_top_k`, or more ordered draws than
            :data:`LARGEST_ENUMERATION`.
    """
    check_logits("logits_TE", logits_TE)
    num_experts = logits_TE.shape[-1]
    check_k(k, num_experts)
    check_temperature(temperature, logits_TE)
    if math.perm(num_experts, k) > LARGEST_ENUMERATION:
        raise ValueError(
            f"k = {k} of {num_experts} experts have {math.perm(num_experts, k)} ordered draws, "
            f"more than {LARGEST_ENUMERATION}: use inclusion_probabilities"
        )
    draws_NK = torch.tensor(
        list(itertools.permutations(range(num_experts), k)), device=logits_TE.device
    )
    logits_TE = logits_TE.to(compute_dtype(logits_TE))
    tau = torch.as_tensor(temperature, dtype=torch.float64, device=logits_TE.device)
    tau_T = tau.expand(*logits_TE.shape[:-1], 1).flatten()
    inclusion = []
    for logits_E, its_tau in zip(logits_TE.reshape(-1, num_experts), tau_T, strict=True):
        rows_NE = logits_E.expand(len(draws_NK), num_experts)
        probability_N = plackett_luce_log_probability(rows_NE, draws_NK, its_tau).exp()
        inclusion.append(
            logits_E.new_zeros(num_experts).index_add(
                0, draws_NK.flatten(), probability_N.repeat_interleave(k)
            )
        )
    return torch.stack(inclusion).reshape(logits_TE.shape) if inclusion else logits_TE


def inclusion_probabilities(logits_TE: Tensor, k: int, temperature: float | Tensor = 1.0) -> Tensor:
    r"""How likely each expert is to be among the k drawn, for any number of experts.

    .. math:: \pi_{te} = \int_0^\infty P\bigl( \text{fewer than } K \text{ others have arrived by }
              x \bigr) \, f_e(x) \, dx

    Let expert e arrive after an exponentially distributed time with rate exp(l / tau) and density
    f_e: the first K arrivals are the draw. Given the moment x at which e arrives, the others have
    arrived or not independently of one another, so their number follows a Poisson-binomial
    distribution, built one expert at a time. The integral over the logarithm of x is a trapezoid
    rule, which converges exponentially for this integrand. In the tests the absolute error stays
    below 1e-13, E = 512 included; the calculation is in float64 for every input dtype.

    Time grows as E K per token and node, with some 400 nodes for logits that span 10 and 8 more
    for each unit beyond; memory stays at a few times :data:`LARGEST_BLOCK` without gradients.

    Args:
        logits_TE: ``[T, E]`` with any leading dimensions, floating point.
        k: how many experts are drawn, from 1 to E.
        temperature: as for :func:`gumbel_top_k`.

    Returns:
        inclusion_TE: shape of ``logits_TE``, rows that sum to k; float32, or float64 for float64
        logits. Differentiable in the logits.

    Raises:
        TypeError: logits_TE is not floating point, or k is not an int.
        ValueError: wrong rank, non-finite logits, k out of range, or a temperature that is not
            positive.
    """
    check_logits("logits_TE", logits_TE)
    num_experts = logits_TE.shape[-1]
    check_k(k, num_experts)
    check_temperature(temperature, logits_TE)
    tempered_TE = _closer(logits_TE.double(), temperature).reshape(-1, num_experts)
    # With s the logarithm of time, expert e's density is exp(z - exp(z)) at z = s + l_e: outside
    # -40 < z < 4 it is below 5e-18 of its integral, for the strongest and for the weakest expert.
    has_numbers = tempered_TE.numel() > 0 and not tempered_TE.is_meta
    weakest = tempered_TE.detach().amin().item() if has_numbers else 0.0
    step = 1 / 8
    nodes_N = torch.arange(
        -40, 4 - weakest + step, step, dtype=torch.float64, device=logits_TE.device
    )
    columns = max(1, LARGEST_BLOCK // (num_experts * k))
    rows = max(1, columns // len(nodes_N))
    inclusion_TE = torch.zeros_like(tempered_TE)
    for i in range(0, len(nodes_N), columns):
        density = [
            _density_of_inclusion(tempered_TE[j : j + rows], k, nodes_N[i : i + columns])
            for j in range(0, len(tempered_TE), rows)
        ]
        inclusion_TE = inclusion_TE + step * torch.cat(density) if density else inclusion_TE
    return inclusion_TE.reshape(logits_TE.shape).to(compute_dtype(logits_TE))


def _closer(logits_TE: Tensor, temperature: float | Tensor) -> Tensor:
    # Across a gap of 200 the weaker expert comes first with a probability of exp(-200). A wider gap
    # changes nothing that float64 could show, but would need nodes all along its way. The gaps are
    # divided by the temperature, not the logits: two quotients that overflow have no difference.
    sorted_TE, order_TE = logits_TE.sort(dim=-1, descending=True)
    tau = torch.as_tensor(temperature, dtype=logits_TE.dtype, device=logits_TE.device)
    tau = tau.clamp(min=torch.finfo(tau.dtype).tiny)
    steps_TE = (sorted_TE.diff(dim=-1, prepend=sorted_TE[..., :1]) / tau).clamp(min=-200)
    return torch.empty_like(logits_TE).scatter(-1, order_TE, steps_TE.cumsum(-1))


def _density_of_inclusion(logits_TE: Tensor, k: int, nodes_N: Tensor) -> Tensor:
    # Past 50 an expert has arrived to the last bit; the bound keeps exp and its gradient finite.
    z_ETN = (logits_TE.T[..., None] + nodes_N).clamp(max=50)
    waiting_ETN = torch.exp(-z_ETN.exp())
    arrived_ETN = -torch.expm1(-z_ETN.exp())
    density_ETN = torch.exp(z_ETN - z_ETN.exp())
    before = _arrivals(waiting_ETN, arrived_ETN, k)
    after = _arrivals(waiting_ETN.flip(0), arrived_ETN.flip(0), k)[::-1]
    # m of the experts before e have arrived, and at most K - 1 - m of those after e.
    fewer_ETN = [
        (first_KTN * second_KTN.cumsum(0).flip(0)).sum(0)
        for first_KTN, second_KTN in zip(before, after, strict=True)
    ]
    return (density_ETN * torch.stack(fewer_ETN)).sum(-1).T


def _arrivals(waiting_ETN: Tensor, arrived_ETN: Tensor, k: int) -> list[Tensor]:
    # For each expert, the probabilities that 0, 1, .. K - 1 of the experts before it have arrived.
    count_KTN = torch.zeros(
        k, *waiting_ETN.shape[1:], dtype=waiting_ETN.dtype, device=waiting_ETN.device
    )
    count_KTN[0] = 1
    counts = []
    for waiting_TN, arrived_TN in zip(waiting_ETN, arrived_ETN, strict=True):
        counts.append(count_KTN)
        one_more_KTN = torch.cat([torch.zeros_like(count_KTN[:1]), count_KTN[:-1]])
        count_KTN = count_KTN * waiting_TN + one_more_KTN * arrived_TN
    return counts
