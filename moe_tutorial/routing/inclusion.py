"""Inclusion: how likely is each expert to be among the K that are drawn?

pi_te = sum over the draws that hold e of their probability.                        Chapter 04.
"""

import itertools
import math

import torch
from torch import Tensor

from moe_tutorial.routing.sampling import plackett_luce_log_probability
from moe_tutorial.validation import check_k, check_logits, check_temperature
from moe_tutorial.values import as_float, compute_dtype

LARGEST_ENUMERATION = 1_000_000
"""The most ordered draws that :func:`inclusion_probabilities_by_enumeration` will list."""

LARGEST_BLOCK = 2_000_000
"""The most numbers (16 MB) in one intermediate tensor of :func:`inclusion_probabilities`."""


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
        temperature: as for :func:`~moe_tutorial.routing.sampling.gumbel_top_k`.

    Returns:
        inclusion_TE: shape of ``logits_TE``, rows that sum to k; float32, or float64 for float64
        logits.

    Raises:
        TypeError: logits_TE is not floating point, or k is not an int.
        ValueError: as for :func:`~moe_tutorial.routing.sampling.gumbel_top_k`, or more ordered
            draws than :data:`LARGEST_ENUMERATION`.
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
    tau = _as_tensor(temperature, logits_TE.double())
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
        temperature: as for :func:`~moe_tutorial.routing.sampling.gumbel_top_k`.

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
    tau = _as_tensor(temperature, logits_TE)
    tau = tau.clamp(min=torch.finfo(tau.dtype).tiny)
    steps_TE = (sorted_TE.diff(dim=-1, prepend=sorted_TE[..., :1]) / tau).clamp(min=-200)
    return torch.empty_like(logits_TE).scatter(-1, order_TE, steps_TE.cumsum(-1))


def _as_tensor(temperature: float | Tensor, logits_TE: Tensor) -> Tensor:
    if not isinstance(temperature, Tensor):
        temperature = as_float(temperature)
    return torch.as_tensor(temperature, dtype=logits_TE.dtype, device=logits_TE.device)


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
