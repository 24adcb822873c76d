"""What M passes say together, where they differ, and whether that tells anything.

p = mean over m of softmax(l_m);  I = H(p) - mean over m of H(p_m).                  Chapter 16.
"""

from typing import Any

import torch
from torch import Tensor

from moe_tutorial.routing.probabilities import entropy
from moe_tutorial.validation import (
    check_floating,
    check_logits,
    check_probabilities,
    check_same_device,
    check_sets,
)
from moe_tutorial.values import compute_dtype


def predictive(logits_MNC: Tensor) -> Tensor:
    r"""Average the *probabilities* of M passes of a model.

    .. math:: p_n = \frac1M \sum_m \operatorname{softmax}(l_{mn})

    This is what a posterior predicts. The mean of the logits, or of the log-probabilities, is
    another number: a geometric mean, which lets no pass speak against the others.

    Args:
        logits_MNC: the model's outputs, M passes over N things of C classes.

    Returns:
        probabilities_NC: float32, or float64 for float64 logits.

    Raises:
        TypeError, ValueError: what is not floating point and finite, or no pass.
    """
    check_logits("logits_MNC", logits_MNC, rank=3)
    _check_passes("logits_MNC", logits_MNC, 1)
    return logits_MNC.to(compute_dtype(logits_MNC)).softmax(-1).mean(0)


def mutual_information(probabilities_MNC: Tensor) -> Tensor:
    r"""How much of a prediction's uncertainty is about which pass is right, in nats.

    .. math:: I_n = H\Bigl( \frac1M \sum_m p_{mn} \Bigr) - \frac1M \sum_m H(p_{mn})

    0 where all passes say the same, however undecided each of them is (Houlsby et al. 2011;
    Depeweg et al. 2018).

    Args:
        probabilities_MNC: of M passes over N things of C classes.

    Returns:
        information_N: from 0 to ln M, up to rounding.

    Raises:
        TypeError, ValueError: rows that are no distributions, or no pass.
    """
    check_floating("probabilities_MNC", probabilities_MNC, rank=3)
    _check_passes("probabilities_MNC", probabilities_MNC, 1)
    check_probabilities("probabilities_MNC", probabilities_MNC)
    return entropy(probabilities_MNC.mean(0)) - entropy(probabilities_MNC).mean(0)


def inclusion_frequencies(experts_MTK: Tensor, num_experts: int) -> Tensor:
    r"""In what share of M passes each expert was chosen.

    .. math:: f_{te} = \frac1M \, \bigl| \{ m : e \in S_{mt} \} \bigr|

    Args:
        experts_MTK: int64 ids, M passes over tokens with any dimensions.
        num_experts: E.

    Returns:
        frequency_TE: float64, rows that sum to K.

    Raises:
        TypeError, ValueError: ids that are no sets of K experts of E, or no pass.
    """
    _check_choices(experts_MTK, num_experts, 1)
    chosen_MTE = torch.nn.functional.one_hot(experts_MTK, num_experts).sum(-2)
    return chosen_MTE.double().mean(0)


def disagreement(experts_MTK: Tensor, num_experts: int) -> Tensor:
    r"""What share of its experts a token does not keep, on average over two different passes.

    .. math:: a_t = 1 - \frac{\sum_e f_{te}^2 - K / M}{K (1 - 1 / M)}
              = 1 - \operatorname{mean}_{m \ne n} \frac{|S_{mt} \cap S_{nt}|}{K}

    Args:
        experts_MTK: int64 ids, at least two passes over tokens with any dimensions.
        num_experts: E.

    Returns:
        disagreement_T: float64, 0 where all passes chose the same.

    Raises:
        TypeError, ValueError: ids that are no sets of K experts of E, or fewer than two passes.
    """
    _check_choices(experts_MTK, num_experts, 2)
    passes, k = experts_MTK.shape[0], experts_MTK.shape[-1]
    squares_T = inclusion_frequencies(experts_MTK, num_experts).square().sum(-1)
    return 1 - (squares_T - k / passes) / (k * (1 - 1 / passes))


def logit_variance(logits_MTE: Tensor) -> Tensor:
    r"""How far M passes spread a token's logits, on average over its experts.

    .. math:: v_t = \frac1E \sum_e \frac{1}{M - 1} \sum_m (l_{mte} - \bar l_{te})^2

    Args:
        logits_MTE: at least two passes over tokens with any dimensions.

    Returns:
        variance_T: float32, or float64 for float64 logits.

    Raises:
        TypeError, ValueError: what is not floating point and finite, or fewer than two passes.
    """
    check_logits("logits_MTE", logits_MTE, rank=3)
    _check_passes("logits_MTE", logits_MTE, 2)
    return logits_MTE.to(compute_dtype(logits_MTE)).var(0).mean(-1)


def auroc(scores_N: Tensor, positive_N: Tensor) -> float:
    r"""How likely a positive example has the larger score than a negative one.

    .. math:: P(a_i > a_j) + \tfrac12 P(a_i = a_j), \qquad i \text{ positive}, j \text{ negative}

    The area under the receiver operating characteristic (Hanley and McNeil 1982): 1/2 for scores
    that tell nothing. Below that they tell something the other way round, 1 minus this number of
    it: report both, and do not turn a score round after the labels were seen.

    Args:
        scores_N: floating point, such as an uncertainty.
        positive_N: bool, such as whether an example is from elsewhere.

    Returns:
        A number from 0 to 1.

    Raises:
        TypeError: scores that are not floating point, or marks that are not bool.
        ValueError: scores that are not finite, other lengths, or examples of one kind alone.
    """
    check_logits("scores_N", scores_N, rank=1)
    if not isinstance(positive_N, Tensor) or positive_N.dtype != torch.bool:
        found = positive_N.dtype if isinstance(positive_N, Tensor) else type(positive_N).__name__
        raise TypeError(f"positive_N must be a bool tensor, got {found}")
    if scores_N.ndim != 1 or positive_N.shape != scores_N.shape:
        raise ValueError(
            "scores_N and positive_N must have one shape [N], got "
            f"{tuple(scores_N.shape)} and {tuple(positive_N.shape)}"
        )
    check_same_device(scores_N=scores_N, positive_N=positive_N)
    positives = int(positive_N.sum())
    negatives = len(positive_N) - positives
    if positives == 0 or negatives == 0:
        raise ValueError(
            "positive_N must mark some examples and leave some, got "
            f"{positives} of {len(positive_N)}"
        )
    _, which_N, counts = torch.unique(scores_N, return_inverse=True, return_counts=True)
    # Equal scores share the mean of their ranks.
    ranks_N = (counts.cumsum(0) - (counts - 1) / 2).double()[which_N]
    above = ranks_N[positive_N].sum() - positives * (positives + 1) / 2
    return float(above / (positives * negatives))


def _check_passes(name: str, tensor: Any, least: int) -> None:
    if len(tensor) < least:
        raise ValueError(f"{name} must hold at least {least} passes, got {len(tensor)}")


def _check_choices(experts_MTK: Any, num_experts: int, least: int) -> None:
    check_sets(experts_MTK, num_experts, "experts_MTK")
    if experts_MTK.ndim < 3:
        raise ValueError(
            f"experts_MTK must have at least 3 dimensions, got shape {tuple(experts_MTK.shape)}"
        )
    _check_passes("experts_MTK", experts_MTK, least)
