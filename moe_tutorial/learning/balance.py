r"""Balance: the losses that push tokens to spread evenly over the experts.

loss = E sum_e f_e P_e.                                                             Chapter 08.

Every function looks at one layer. Layers are measured one by one and their losses added, never
their tokens pooled: two layers that collapsed onto different experts look even when pooled.
"Collapsed" below means that all tokens go to the same K experts, with certainty. Where a function
takes a mask, the rows of padding may hold anything, NaN included.
"""

import torch
from torch import Tensor

from moe_tutorial.learning.loads import check_loads, expert_load
from moe_tutorial.learning.padding import filled, filled_experts, tokens_of
from moe_tutorial.routing.combination import scatter_gates
from moe_tutorial.routing.sampling import noise_deviation
from moe_tutorial.validation import (
    check_experts,
    check_finite,
    check_floating,
    check_k,
    check_probabilities,
    check_same_device,
    check_same_shape,
)
from moe_tutorial.values import compute_dtype


def squared_variation(values_E: Tensor) -> Tensor:
    r"""The squared coefficient of variation: the loss on importance and on load.

    .. math:: \operatorname{CV}^2 = \frac{\frac{1}{E} \sum_e (v_e - \bar v)^2}{\bar v^2}

    Balanced it reads 0, collapsed E/K - 1 if the K experts share evenly and up to E - 1 if one has
    all the weight (Shazeer et al. 2017, equations 7 and 11; the factor in front is 0.01 to 0.1).

    Args:
        values_E: :func:`importance`, :func:`smooth_load` or other non-negative numbers ``[E]``.

    Returns:
        A number, float32, or float64 for float64 values. Differentiable.

    Raises:
        TypeError: values_E is not a floating-point tensor: counts have no gradient.
        ValueError: a negative or non-finite value, or none above 0.
    """
    check_floating("values_E", values_E, rank=1)
    check_loads("values_E", values_E)
    # In float64, since a sum of numbers in float32 may overflow, and their mean underflow.
    wide_E = values_E.double()
    variation = (wide_E / wide_E.mean(-1, keepdim=True) - 1).square().mean(-1)
    return variation.to(compute_dtype(values_E))


def importance(
    gates_TK: Tensor, experts_TK: Tensor, num_experts: int, mask_T: Tensor | None = None
) -> Tensor:
    r"""The weight that each expert has in a batch: the sum of its gates.

    .. math:: \text{importance}_e = \sum_t g_{te}

    (Shazeer et al. 2017, equation 6.) Equal weights need not be equal loads: a few sure tokens
    weigh as much as many unsure ones. At K = 1 renormalised gates are the constant 1, and a loss
    on their importance has no gradient: use gates that were kept (chapter 03).

    Args:
        gates_TK: ``[T, K]`` with any leading dimensions, floating point.
        experts_TK: int64 ids of the chosen experts, ``[T, K]``.
        num_experts: E.
        mask_T: bool, one entry per token: False marks padding, which does not count.

    Returns:
        importance_E: ``[E]``, float32, or float64 for float64 gates; its sum is the number of
        tokens if the gates are renormalised. Differentiable in the gates.

    Raises:
        TypeError, ValueError: as :func:`moe_tutorial.routing.combination.scatter_gates`, or a
            mask that is not bool or does not fit.
    """
    check_floating("gates_TK", gates_TK)
    gates_TK = filled("gates_TK", gates_TK, mask_T)
    experts_TK = filled_experts(experts_TK, mask_T)
    rows_NE, mask_N = tokens_of(scatter_gates(gates_TK, experts_TK, num_experts), mask_T)
    return _total("gates_TK", rows_NE.to(compute_dtype(gates_TK)), mask_N)[0]


def smooth_load(
    logits_TE: Tensor,
    noisy_logits_TE: Tensor,
    noise_scores_TE: Tensor,
    k: int,
    mask_T: Tensor | None = None,
) -> Tensor:
    r"""A load that noisy top-k can be trained on: the sum of chances to be chosen.

    .. math:: \text{load}_e = \sum_t \Phi \Bigl( \frac{l_{te} - \operatorname{kth}_{j \ne e}
              (h_{tj})}{\operatorname{softplus}(n_{te}) + 10^{-2}} \Bigr)

    The chance that expert e is among the K best if its own noise is drawn again and that of the
    others stays; kth is the K-th largest of the others' noisy logits. Counts have no gradient,
    this has one (Shazeer et al. 2017, equations 8 to 10).

    Args:
        logits_TE: l, without noise, ``[T, E]`` with any leading dimensions.
        noisy_logits_TE: h, from :func:`moe_tutorial.routing.sampling.noisy_logits`.
        noise_scores_TE: n, the second projection, which h was made with.
        k: how many experts each token chooses, from 1 to E; at E every chance is 1.
        mask_T: bool, one entry per token: False marks padding, which does not count.

    Returns:
        load_E: ``[E]``, float32, or float64 if an input is. Differentiable in all three.

    Raises:
        TypeError: an input is not floating point, k is no int, or the mask is not bool.
        ValueError: shapes that differ, non-finite values, k out of range, or two devices.
    """
    tensors = {
        "logits_TE": logits_TE,
        "noisy_logits_TE": noisy_logits_TE,
        "noise_scores_TE": noise_scores_TE,
    }
    for name, tensor in tensors.items():
        check_floating(name, tensor)
        check_same_shape(name, tensor, "logits_TE", logits_TE)
    check_same_device(**tensors)
    num_experts = logits_TE.shape[-1]
    check_k(k, num_experts)
    dtype = compute_dtype(*tensors.values())
    rows = []
    for name, tensor in tensors.items():
        tensor = filled(name, tensor, mask_T)
        check_finite(name, tensor)
        rows_NE, mask_N = tokens_of(tensor.to(dtype), mask_T)
        rows.append(rows_NE)
    logits_NE, noisy_NE, scores_NE = rows
    if k == num_experts:
        chance_NE = torch.ones_like(logits_NE)
    else:
        kth_N1, next_N1 = noisy_NE.topk(k + 1).values[..., -2:, None].unbind(-2)
        # To an expert that is in, the K-th of the others is the best one that is out.
        bar_NE = torch.where(noisy_NE > next_N1, next_N1, kth_N1)
        chance_NE = torch.special.ndtr((logits_NE - bar_NE) / noise_deviation(scores_NE))
    return _total("logits_TE", chance_NE, mask_N)[0]


def switch_loss(
    probabilities_TE: Tensor, experts_TK: Tensor, mask_T: Tensor | None = None
) -> Tensor:
    r"""The balancing loss of Switch Transformers, for any K.

    .. math:: E \sum_{e=1}^{E} f_e P_e, \qquad f_e = \frac{\text{load}_e}{T K}, \quad
              P_e = \frac{1}{T} \sum_t s_{te}

    Balanced it reads 1, collapsed E/K (Fedus et al. 2021, equation 4, before its factor 0.01;
    divided by K as in Megatron). Hugging Face's ``load_balancing_loss_func`` leaves K in and reads
    K when balanced, E when collapsed. Neither 1 nor balance is its minimum: f = (.9, .1) with
    P = (.459, .541) gives .934. The gradient flows through P alone, so each token lowers the
    probabilities of the busy experts.

    Args:
        probabilities_TE: over all experts, ``[T, E]`` with any leading dimensions; sigmoid scores
            must be divided by their sum first.
        experts_TK: int64 ids of the chosen experts, ``[T, K]``.
        mask_T: bool, one entry per token: False marks padding, which does not count.

    Returns:
        A number, float32, or float64 for float64 probabilities.

    Raises:
        TypeError: probabilities that are not floating point, ids that are not int64, or a mask
            that is not bool.
        ValueError: rows that do not sum to 1, shapes that do not fit, ids out of range or named
            twice, no token that counts, or two devices.
    """
    return _load_times_probability(*_checked(probabilities_TE, experts_TK, mask_T), mask_T)


def gshard_loss(
    probabilities_TE: Tensor, experts_TK: Tensor, mask_T: Tensor | None = None
) -> Tensor:
    r"""The balancing loss of GShard: that of Switch, with each token's first choice alone counted.

    .. math:: E \sum_{e=1}^{E} f_e P_e, \qquad
              f_e = \frac{1}{T} \left| \{ t : e = \operatorname{first}(S_t) \} \right|

    Balanced it reads 1, collapsed E times the probability of the one first choice: between E/K and
    E. Second choices may crowd on one expert without changing it. (Lepikhin et al. 2020,
    algorithm 1, writes the mean over e in place of E times the sum: 1/E^2 of this.)

    Args:
        probabilities_TE: as for :func:`switch_loss`.
        experts_TK: int64 ids, best first, ``[T, K]``.
        mask_T: bool, one entry per token: False marks padding, which does not count.

    Returns:
        A number, float32, or float64 for float64 probabilities.

    Raises:
        TypeError, ValueError: as :func:`switch_loss`.
    """
    probabilities_TE, experts_TK = _checked(probabilities_TE, experts_TK, mask_T)
    return _load_times_probability(probabilities_TE, experts_TK[..., :1], mask_T)


def z_loss(logits_TE: Tensor, mask_T: Tensor | None = None) -> Tensor:
    r"""The router z-loss: keeps logits small, and does not balance.

    .. math:: \frac{1}{T} \sum_t \Bigl( \ln \sum_e e^{l_{te}} \Bigr)^2

    Zero logits, as balanced as can be, read (ln E)^2, 17.30 for E = 64; a constant of -ln E in
    every logit reads 0 (Zoph et al. 2022, equation 5, before its factor 0.001).

    Args:
        logits_TE: ``[T, E]`` with any leading dimensions, floating point.
        mask_T: bool, one entry per token: False marks padding, which does not count.

    Returns:
        A number, float32, or float64 for float64 logits.

    Raises:
        TypeError: logits that are not floating point, or a mask that is not bool.
        ValueError: wrong rank, non-finite logits, a mask that does not fit, or no token that
            counts.
    """
    check_floating("logits_TE", logits_TE)
    logits_TE = filled("logits_TE", logits_TE, mask_T)
    check_finite("logits_TE", logits_TE)
    rows_NE, mask_N = tokens_of(logits_TE.to(compute_dtype(logits_TE)), mask_T)
    squares_N1 = rows_NE.logsumexp(-1, keepdim=True).square()
    total_1, tokens = _total("logits_TE", squares_N1, mask_N)
    return (total_1 / tokens).squeeze(0)


def _checked(
    probabilities_TE: Tensor, experts_TK: Tensor, mask_T: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Both with harmless rows for padding."""
    check_floating("probabilities_TE", probabilities_TE)
    num_experts = probabilities_TE.shape[-1]
    probabilities_TE = filled("probabilities_TE", probabilities_TE, mask_T, 1 / num_experts)
    check_probabilities("probabilities_TE", probabilities_TE)
    experts_TK = filled_experts(experts_TK, mask_T)
    check_experts(experts_TK, "probabilities_TE", probabilities_TE)
    return probabilities_TE, experts_TK


def _load_times_probability(
    probabilities_TE: Tensor, experts_TK: Tensor, mask_T: Tensor | None
) -> Tensor:
    num_experts = probabilities_TE.shape[-1]
    load_E = expert_load(experts_TK, num_experts, mask_T)
    rows_NE, mask_N = tokens_of(probabilities_TE.to(compute_dtype(probabilities_TE)), mask_T)
    total_E, tokens = _total("probabilities_TE", rows_NE, mask_N)
    mean_E = total_E / tokens
    fraction_E = load_E.to(mean_E.dtype) / (tokens * experts_TK.shape[-1])
    return num_experts * (fraction_E * mean_E).sum()


def _total(name: str, rows_NX: Tensor, mask_N: Tensor | None) -> tuple[Tensor, int | Tensor]:
    """The sum over the tokens that count, and how many there are: at least one."""
    if len(rows_NX) == 0:
        raise ValueError(f"{name} must have at least one token, got none")
    if mask_N is None:
        return rows_NX.sum(0), len(rows_NX)
    return torch.where(mask_N.unsqueeze(-1), rows_NX, 0).sum(0), mask_N.sum()
