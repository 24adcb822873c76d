"""A temperature for each token, which the router infers; three gradients, of which one is exact.

tau_t = softplus(score(u_t)) + 1e-6;  S_t = K draws from softmax(l_t / tau_t).       Chapter 16.
"""

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor

from moe_tutorial.routing.inclusion import LARGEST_ENUMERATION
from moe_tutorial.routing.probabilities import tempered_softmax
from moe_tutorial.routing.sampling import plackett_luce_log_probability
from moe_tutorial.validation import (
    check_distinct,
    check_experts,
    check_k,
    check_logits,
    check_positive,
    check_same_device,
    check_temperature,
)


def inferred_temperature(score_T1: Tensor) -> Tensor:
    r"""A positive temperature from any number.

    .. math:: \tau_t = \operatorname{softplus}(r_t) + 10^{-6}

    (Li 2025.)

    Args:
        score_T1: r, ``[T, 1]`` with any leading dimensions.

    Returns:
        temperature_T1: shape and dtype of ``score_T1``.

    Raises:
        TypeError, ValueError: scores that are not floating point and finite.
    """
    check_logits("score_T1", score_T1)
    return torch.nn.functional.softplus(score_T1) + 1e-6


def temperature_penalty(temperature_T1: Tensor) -> Tensor:
    r"""What keeps a temperature from falling to 0: minus its logarithm.

    .. math:: -\ln \tau_t

    (Li 2025; there summed over tokens and layers.) It has no minimum, so its coefficient sets how
    far temperatures rise.

    Args:
        temperature_T1: ``[T, 1]`` with any leading dimensions, positive.

    Returns:
        penalty_T: one number per token.

    Raises:
        TypeError, ValueError: what is not floating point, or not positive.
    """
    check_logits("temperature_T1", temperature_T1)
    check_positive("temperature_T1", temperature_T1)
    return -temperature_T1.log().squeeze(-1)


def straight_through_gates(logits_TE: Tensor, experts_TK: Tensor, temperature_T1: Tensor) -> Tensor:
    r"""Gates as they are, with a gradient that takes the draw for the odds of the draw.

    .. math:: g_{te} = \frac{m_{te} e^{l_{te}}}{\sum_{j \in S_t} m_{tj} e^{l_{tj}}}, \qquad
              m_{te} = 1, \quad \mathrm{d} m_{te} := \mathrm{d}
              \operatorname{softmax}(l_t / \tau_t)_e \text{ as a function of } \tau_t

    The draw has no gradient, so the temperature would get none. The straight-through estimator
    (Bengio et al. 2013) lets it pass as if whether an expert was drawn were its probability. An
    expert that was not drawn has no output, so nothing is learnt from what it would have done; in
    the tests the result is not the gradient of the expected loss, which
    :func:`expected_over_draws` has.

    Args:
        logits_TE: ``[T, E]`` with any leading dimensions.
        experts_TK: int64 ids of the drawn experts.
        temperature_T1: ``[T, 1]``, or one number as a tensor.

    Returns:
        gates_TK: those of :func:`~moe_tutorial.routing.selection.softmax_over_chosen`.

    Raises:
        TypeError, ValueError: as there.
    """
    _check_draw(logits_TE, experts_TK, temperature_T1)
    odds_TE = tempered_softmax(logits_TE.detach(), temperature_T1)
    odds_TK = odds_TE.gather(-1, experts_TK)
    # ln m, which is 0 and has the gradient of m where m is 1.
    through_TK = odds_TK - odds_TK.detach()
    return tempered_softmax(logits_TE.gather(-1, experts_TK) + through_TK, 1.0)


def score_function_loss(
    loss_T: Tensor,
    logits_TE: Tensor,
    experts_TK: Tensor,
    temperature_T1: Tensor,
    baseline_T: Tensor | float = 0.0,
) -> Tensor:
    r"""Something whose gradient is, on average over draws, that of the expected loss.

    .. math:: (L(S_t) - b_t) \ln P(S_t; \tau_t), \qquad
              \nabla \operatorname{E}[L] = \operatorname{E}[(L - b) \nabla \ln P]

    The score-function estimator, or REINFORCE (Williams 1992). It is right for every
    baseline that does not know the draw; a good one makes it less noisy. It leaves out what the
    loss itself owes to the weights: add that loss.

    Args:
        loss_T: one number per token, what came of the draw.
        logits_TE: what the draw was made from.
        experts_TK: int64 ids in the order of the draw.
        temperature_T1: ``[T, 1]``, or one number as a tensor.
        baseline_T: b.

    Returns:
        One number per token; only its gradient in logits and temperature means anything.

    Raises:
        TypeError, ValueError: shapes that do not fit, or arguments that the draw refuses.
    """
    _check_draw(logits_TE, experts_TK, temperature_T1)
    if loss_T.shape != logits_TE.shape[:-1]:
        raise ValueError(
            f"loss_T must have one number per token, shape {tuple(logits_TE.shape[:-1])}, got "
            f"{tuple(loss_T.shape)}"
        )
    log_probability_T = plackett_luce_log_probability(logits_TE, experts_TK, temperature_T1)
    return (loss_T - baseline_T).detach() * log_probability_T


def expected_over_draws(
    value: Callable[[Tensor], Tensor], logits_TE: Tensor, k: int, temperature: float | Tensor
) -> Tensor:
    r"""The mean of anything over all draws of k experts: no sample, no noise.

    .. math:: \operatorname{E}[f(S_t)] = \sum_{b_1, \dots, b_K} P(b_1, \dots, b_K) f(b)

    For few experts, and to judge estimators by: its gradient is exact.

    Args:
        value: f, of int64 ids ``[N, T, K]``; returns ``[N, T]``.
        logits_TE: ``[T, E]`` with any leading dimensions.
        k: how many are drawn.
        temperature: a number, or ``[T, 1]``.

    Returns:
        expectation_T: differentiable in logits, temperature and what ``value`` depends on.

    Raises:
        TypeError, ValueError: arguments that a draw refuses, more ordered draws than
            :data:`~moe_tutorial.routing.inclusion.LARGEST_ENUMERATION`, or values of another shape.
    """
    check_logits("logits_TE", logits_TE)
    num_experts = logits_TE.shape[-1]
    check_k(k, num_experts)
    check_temperature(temperature, logits_TE)
    if math.perm(num_experts, k) > LARGEST_ENUMERATION:
        raise ValueError(
            f"k = {k} of {num_experts} experts have {math.perm(num_experts, k)} ordered draws, "
            f"more than {LARGEST_ENUMERATION}"
        )
    draws = list(itertools.permutations(range(num_experts), k))
    draws_NK = torch.tensor(draws, device=logits_TE.device)
    leading = logits_TE.shape[:-1]
    draws_NTK = draws_NK.view(-1, *[1] * len(leading), k).expand(-1, *leading, k)
    rows_NTE = logits_TE.expand(len(draws), *logits_TE.shape)
    log_probability_NT = plackett_luce_log_probability(rows_NTE, draws_NTK, temperature)
    value_NT = value(draws_NTK)
    if value_NT.shape != log_probability_NT.shape:
        raise ValueError(
            f"value must return shape {tuple(log_probability_NT.shape)}, got "
            f"{tuple(value_NT.shape)}"
        )
    return (log_probability_NT.exp() * value_NT).sum(0)


def _check_draw(logits_TE: Tensor, experts_TK: Tensor, temperature_T1: Tensor) -> None:
    check_logits("logits_TE", logits_TE)
    check_experts(experts_TK, "logits_TE", logits_TE)
    check_distinct(experts_TK)
    check_same_device(logits_TE=logits_TE, temperature_T1=temperature_T1)
    check_temperature(temperature_T1, logits_TE)
