r"""Balance: how evenly tokens spread over the experts, and what pushes them to.

loss = E sum_e f_e P_e, or a bias: b_e + gamma sign(mean load - load_e).            Chapter 08.

Every function looks at one layer. Layers are measured one by one and their losses added, never
their tokens pooled: two layers that collapsed onto different experts look even when pooled.
"Collapsed" below means that all tokens go to the same K experts, with certainty.
"""

import torch
from torch import Tensor

from moe_tutorial.learning.loads import counted_loads, expert_load
from moe_tutorial.routing.combination import scatter_gates
from moe_tutorial.validation import (
    check_experts,
    check_floating,
    check_k,
    check_loads,
    check_logits,
    check_mask,
    check_positive_number,
    check_probabilities,
    check_same_device,
    check_same_shape,
    compute_dtype,
)


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
    values_E = values_E.to(compute_dtype(values_E))
    return (values_E / values_E.mean(-1, keepdim=True) - 1).square().mean(-1)


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
    gates_TE = scatter_gates(gates_TK, experts_TK, num_experts)
    return _total(gates_TE, mask_T, "gates_TK")[0]


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
        check_logits(name, tensor)
        check_same_shape(name, tensor, "logits_TE", logits_TE)
    check_same_device(**tensors)
    num_experts = logits_TE.shape[-1]
    check_k(k, num_experts)
    dtype = compute_dtype(*tensors.values())
    logits_TE, noisy_TE, scores_TE = (tensor.to(dtype) for tensor in tensors.values())
    if k == num_experts:
        chance_TE = torch.ones_like(logits_TE)
    else:
        kth_T1, next_T1 = noisy_TE.topk(k + 1).values[..., -2:, None].unbind(-2)
        # To an expert that is in, the K-th of the others is the best one that is out.
        bar_TE = torch.where(noisy_TE > next_T1, next_T1, kth_T1)
        deviation_TE = torch.nn.functional.softplus(scores_TE) + 1e-2
        chance_TE = torch.special.ndtr((logits_TE - bar_TE) / deviation_TE)
    return _total(chance_TE, mask_T, "logits_TE")[0]


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
    check_probabilities("probabilities_TE", probabilities_TE)
    check_experts(experts_TK, "probabilities_TE", probabilities_TE)
    num_experts = probabilities_TE.shape[-1]
    load_E = expert_load(experts_TK, num_experts, mask_T)
    total_E, tokens = _total(probabilities_TE, mask_T, "probabilities_TE")
    mean_E = total_E / tokens
    fraction_E = load_E.to(mean_E.dtype) / (tokens * experts_TK.shape[-1])
    return num_experts * (fraction_E * mean_E).sum()


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
    check_probabilities("probabilities_TE", probabilities_TE)
    check_experts(experts_TK, "probabilities_TE", probabilities_TE)
    return switch_loss(probabilities_TE, experts_TK[..., :1], mask_T)


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
    check_logits("logits_TE", logits_TE)
    squares_T1 = logits_TE.to(compute_dtype(logits_TE)).logsumexp(-1, keepdim=True).square()
    total_1, tokens = _total(squares_T1, mask_T, "logits_TE")
    return (total_1 / tokens).squeeze(0)


def updated_bias(bias_E: Tensor, load_E: Tensor, rate: float) -> Tensor:
    r"""Balance without a loss: raise the bias of idle experts, lower that of busy ones, one step.

    .. math:: b_e \leftarrow b_e + \gamma \, \operatorname{sign} \bigl(
              \overline{\text{load}} - \text{load}_e \bigr)

    The bias takes part in the selection alone, never in a gate (Wang et al. 2024; DeepSeek-V3 2024
    with gamma = 0.001). Call it once per step, with the load of the whole batch, of all devices.
    Every step has the size gamma, however near the balance: the bias ends up swinging about it.

    Args:
        bias_E: ``[E]``, float32 or float64: narrower formats would round small steps away.
        load_E: counts ``[E]`` from :func:`expert_load`.
        rate: gamma, positive and finite.

    Returns:
        bias_E: the new bias; the old one stays as it was. To use it:
        ``router.bias_E = updated_bias(router.bias_E, load_E, 0.001)``.

    Raises:
        TypeError: a bias that is not float32 or float64, or a load or rate that is no number.
        ValueError: shapes that differ, a negative or non-finite load, no load at all, a rate that
            is not positive and finite, or two devices.
    """
    if not isinstance(bias_E, Tensor) or bias_E.dtype not in (torch.float32, torch.float64):
        raise TypeError(
            "bias_E must be a float32 or float64 tensor, since 16 bits round small steps away, got "
            f"{bias_E.dtype if isinstance(bias_E, Tensor) else type(bias_E).__name__}"
        )
    load_E = counted_loads(load_E)
    if bias_E.shape != load_E.shape or bias_E.ndim != 1:
        raise ValueError(
            f"bias_E and load_E must both have shape [E], got {tuple(bias_E.shape)} and "
            f"{tuple(load_E.shape)}"
        )
    check_same_device(bias_E=bias_E, load_E=load_E)
    check_positive_number("rate", rate)
    if rate == float("inf"):
        raise ValueError(f"rate must be finite, got {rate}")
    step_E: Tensor = rate * torch.sign(load_E.mean() - load_E).to(bias_E.dtype)
    return bias_E.detach() + step_E


def _total(values_TX: Tensor, mask_T: Tensor | None, name: str) -> tuple[Tensor, int | Tensor]:
    """The sum over the tokens that count, and how many there are: at least one."""
    rows_TX = values_TX.to(compute_dtype(values_TX)).flatten(0, -2)
    if rows_TX.shape[0] == 0:
        raise ValueError(f"{name} must have at least one token, got shape {tuple(values_TX.shape)}")
    if mask_T is None:
        return rows_TX.sum(0), rows_TX.shape[0]
    check_mask(mask_T, name, values_TX)
    kept_T = mask_T.flatten()
    if kept_T.device.type == "cpu" and not torch.compiler.is_compiling():
        # Without its rows of padding a sum has the bits that it has where there never was padding.
        rows_TX = rows_TX[kept_T]
        return rows_TX.sum(0), rows_TX.shape[0]
    # Elsewhere the number of rows would have to be waited for, so padding adds zeros.
    return torch.where(kept_T.unsqueeze(-1), rows_TX, 0).sum(0), kept_T.sum()
