"""Selection: which K experts does the token go to, and with what gates?

S_t = top-k of l_t;  g_t = softmax of l_t over S_t.                                 Chapter 03.
"""

import torch
from torch import Tensor

from moe_tutorial.routing.probabilities import tempered_softmax
from moe_tutorial.validation import (
    check_distinct,
    check_experts,
    check_k,
    check_logits,
    check_temperature,
)
from moe_tutorial.values import compute_dtype, holds, host_knows, numbers_of, values_are_visible


def top_k(scores_TE: Tensor, k: int) -> Tensor:
    r"""Choose the k experts with the largest scores.

    .. math:: S_t = \operatorname{top\text{-}k}_e \; l_{te}

    Equal scores go to the expert with the lower id first, on every device: ``torch.topk`` leaves
    the order of ties open. The choice is a set of integers, so no gradient flows through it.

    Args:
        scores_TE: logits or probabilities, ``[T, E]`` with any leading dimensions.
        k: how many experts to choose, from 1 to E.

    Returns:
        experts_TK: int64 expert ids ``[T, K]``, best first.

    Raises:
        TypeError: scores_TE is not a floating-point tensor, or k is not an int.
        ValueError: wrong rank, a score that is not finite, or k out of range.
    """
    check_logits("scores_TE", scores_TE)
    check_k(k, scores_TE.shape[-1])
    return largest(scores_TE, k)


def largest(scores_TE: Tensor, k: int) -> Tensor:
    """:func:`top_k` of arguments that were checked."""
    if scores_TE.requires_grad:
        scores_TE = scores_TE.detach()
    # torch.topk takes a fraction of a sort's time. But asking which rows have ties would make the
    # host wait for a GPU, and it needs values.
    if k < scores_TE.shape[-1] and host_knows(scores_TE):
        return _largest_unless_tied(scores_TE, k)
    return _first_of_sorted(scores_TE, k)


def _first_of_sorted(scores_TE: Tensor, k: int) -> Tensor:
    _, order_TE = torch.sort(scores_TE, dim=-1, descending=True, stable=True)
    return order_TE.narrow(-1, 0, k).contiguous()  # a view would keep the whole order in memory


def _largest_unless_tied(scores_TE: Tensor, k: int) -> Tensor:
    # k + 1 scores that all differ leave only one choice and one order; other rows are sorted.
    best_TX, experts_TX = torch.topk(scores_TE, k + 1)
    experts_TK = experts_TX.narrow(-1, 0, k).contiguous()
    if best_TX.numel() == k + 1:  # one token: Python compares a few numbers sooner than torch
        different = len(set(numbers_of(best_TX))) == k + 1
        return experts_TK if different else _first_of_sorted(scores_TE, k)
    equal_TK = best_TX.narrow(-1, 1, k) == best_TX.narrow(-1, 0, k)
    if equal_TK.any():
        tied_T = equal_TK.any(-1)
        experts_TK[tied_T] = _first_of_sorted(scores_TE[tied_T], k)
    return experts_TK


def softmax_over_chosen(
    logits_TE: Tensor, experts_TK: Tensor, temperature: float | Tensor = 1.0
) -> Tensor:
    r"""Gates from a softmax over the chosen experts' logits alone ("top-k then softmax").

    .. math:: g_{te} = \frac{e^{l_{te} / \tau}}{\sum_{j \in S_t} e^{l_{tj} / \tau}}, \quad e \in S_t

    Equal to :func:`renormalise` of the softmax, because the full softmax's denominator cancels;
    this form cannot divide 0 by 0. At K = 1 the gate is the constant 1 and carries no gradient.
    Used by Mixtral (Jiang et al. 2024, section 2.1).

    Args:
        logits_TE: ``[T, E]`` with any leading dimensions, floating point.
        experts_TK: int64 ids of the chosen experts, ``[T, K]``.
        temperature: as for :func:`moe_tutorial.routing.probabilities.softmax`; 1 gives gates
            from the original logits, the sampling temperature gives tempered gates (chapter 05).

    Returns:
        gates_TK: ``[T, K]``, rows that sum to 1, float32, or float64 for float64 logits.

    Raises:
        TypeError: logits_TE is not floating point, or experts_TK does not hold int64 ids.
        ValueError: shapes that do not fit, ids out of range or named twice, non-finite logits, a
            temperature that is not positive, or two devices.
    """
    check_logits("logits_TE", logits_TE)
    check_experts(experts_TK, "logits_TE", logits_TE)
    check_distinct(experts_TK)
    check_temperature(temperature, logits_TE)
    return tempered_softmax(logits_TE.gather(-1, experts_TK), temperature)


def keep(probabilities_TE: Tensor, experts_TK: Tensor) -> Tensor:
    r"""Gates that are the chosen probabilities as they are ("softmax then top-k").

    .. math:: g_{te} = s_{te}, \quad e \in S_t

    With softmax probabilities and K < E the gates sum to less than 1 and depend on every logit;
    sigmoid gates depend on their own logit alone. Switch Transformers (Fedus et al. 2021,
    equation 2) keep them so: at K = 1 it is what lets the router learn.

    Args:
        probabilities_TE: softmax or sigmoid scores, ``[T, E]`` with any leading dimensions.
        experts_TK: int64 ids of the chosen experts, ``[T, K]``.

    Returns:
        gates_TK: ``[T, K]``, float32, or float64 for float64 probabilities.

    Raises:
        TypeError: probabilities_TE is not floating point, or experts_TK does not hold int64 ids.
        ValueError: shapes that do not fit, ids out of range or named twice, non-finite values, or
            two devices.
    """
    check_logits("probabilities_TE", probabilities_TE)
    check_experts(experts_TK, "probabilities_TE", probabilities_TE)
    check_distinct(experts_TK)
    return probabilities_TE.to(compute_dtype(probabilities_TE)).gather(-1, experts_TK)


def renormalise(probabilities_TE: Tensor, experts_TK: Tensor) -> Tensor:
    r"""Gates that are the chosen probabilities divided by their sum.

    .. math:: g_{te} = \frac{s_{te}}{\sum_{j \in S_t} s_{tj}}, \quad e \in S_t

    With softmax probabilities this is "softmax then top-k then renormalise" and equals
    :func:`softmax_over_chosen`; with sigmoid scores it is the rule of DeepSeek-V3 (2024,
    equation 13) before its scaling factor.

    Args:
        probabilities_TE: softmax or sigmoid scores, ``[T, E]`` with any leading dimensions.
        experts_TK: int64 ids of the chosen experts, ``[T, K]``.

    Returns:
        gates_TK: ``[T, K]``, rows that sum to 1, float32, or float64 for float64 probabilities.

    Raises:
        TypeError: as for :func:`keep`.
        ValueError: as for :func:`keep`, or a token whose chosen probabilities sum to 0.
    """
    kept_TK = keep(probabilities_TE, experts_TK)
    sums_T1 = kept_TK.sum(-1, keepdim=True)
    _check_sums(sums_T1)
    return kept_TK / sums_T1


def _check_sums(sums_T1: Tensor) -> None:
    if not values_are_visible(sums_T1) or sums_T1.numel() == 0:
        return
    requirement = "probabilities_TE of the chosen experts must sum to more than 0"
    lowest = sums_T1.detach().amin()
    if not holds(lowest > 0, requirement):
        raise ValueError(
            f"{requirement}, got a token where they sum to {lowest.item()}: use "
            "softmax_over_chosen of the logits, or for sigmoid scores of their logsigmoid, which "
            "cannot underflow"
        )
