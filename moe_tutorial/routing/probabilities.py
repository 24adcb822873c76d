"""Probabilities: E logits become E shares of one token.

s_t = softmax(l_t / tau).                                                           Chapter 02.
"""

import torch
from torch import Tensor

from moe_tutorial.validation import check_logits, check_probabilities, check_temperature
from moe_tutorial.values import as_dtype, as_float, compute_dtype


def softmax(logits_TE: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    r"""Turn logits into probabilities, sharper or flatter by a temperature.

    .. math:: s_{te} = \frac{e^{l_{te} / \tau}}{\sum_j e^{l_{tj} / \tau}}

    As :math:`\tau \to 0` all mass goes to the largest logit (shared among ties); as
    :math:`\tau \to \infty` every expert gets 1/E. The row's maximum is subtracted before the
    division, so neither large logits nor a tiny temperature can overflow.

    Args:
        logits_TE: ``[T, E]`` with any leading dimensions, floating point.
        temperature: a positive number, ``math.inf`` included, or a tensor: ``[T, 1]`` gives every
            token its own.

    Returns:
        probabilities_TE: shape of ``logits_TE``, float32, or float64 for float64 logits.

    Raises:
        TypeError: logits_TE is not a floating-point tensor.
        ValueError: wrong rank, a logit that is not finite, or a temperature that is not positive.
    """
    check_logits("logits_TE", logits_TE)
    check_temperature(temperature, logits_TE)
    return tempered_softmax(logits_TE, temperature)


def tempered_softmax(logits_TE: Tensor, temperature: float | Tensor) -> Tensor:
    """:func:`softmax` of arguments that were checked."""
    if not isinstance(temperature, Tensor) and temperature == 1:
        # What most routers ask for; torch shifts each row by itself, in the same pass.
        return torch.softmax(as_dtype(compute_dtype(logits_TE), logits_TE), -1)
    return torch.softmax(tempered(logits_TE, temperature), dim=-1)


def tempered(logits_TE: Tensor, temperature: float | Tensor) -> Tensor:
    """Checked logits over a temperature, each row shifted to a maximum of 0."""
    dtype = compute_dtype(logits_TE)
    logits_TE = logits_TE.to(dtype)
    # A shift changes no softmax, so it needs no gradient of its own.
    shifted_TE = logits_TE - logits_TE.detach().amax(-1, keepdim=True)
    # Below the smallest normal number a temperature would round to 0, and 0 / 0 is no limit.
    tiny = torch.finfo(dtype).tiny
    if isinstance(temperature, Tensor):
        return shifted_TE / temperature.to(dtype).clamp(min=tiny)
    return shifted_TE / max(as_float(temperature), tiny)


def sigmoid(logits_TE: Tensor) -> Tensor:
    r"""Score each expert on its own, between 0 and 1, without competition.

    .. math:: s_{te} = \frac{1}{1 + e^{-l_{te}}}

    The rows do not sum to 1. DeepSeek-V3 (2024, equation 15) scores its experts so.

    Args:
        logits_TE: ``[T, E]`` with any leading dimensions, floating point.

    Returns:
        probabilities_TE: shape of ``logits_TE``, float32, or float64 for float64 logits.

    Raises:
        TypeError: logits_TE is not a floating-point tensor.
        ValueError: wrong rank, or a logit that is not finite.
    """
    check_logits("logits_TE", logits_TE)
    return torch.sigmoid(logits_TE.to(compute_dtype(logits_TE)))


def sqrt_softplus(logits_TE: Tensor) -> Tensor:
    r"""Score each expert on its own, without an upper bound.

    .. math:: s_{te} = \sqrt{\ln(1 + e^{l_{te}})}

    It grows as the square root of the logit, where a sigmoid ends at 1: so even large logits stay
    apart. The router of DeepSeek-V4 in transformers scores its experts so.

    Args:
        logits_TE: ``[T, E]`` with any leading dimensions, floating point.

    Returns:
        scores_TE: shape of ``logits_TE``, float32, or float64 for float64 logits.

    Raises:
        TypeError: logits_TE is not a floating-point tensor.
        ValueError: wrong rank, or a logit that is not finite.
    """
    check_logits("logits_TE", logits_TE)
    return root_of_softplus(logits_TE.to(compute_dtype(logits_TE)))


def root_of_softplus(logits_TE: Tensor) -> Tensor:
    """:func:`sqrt_softplus` of logits that were checked."""
    # Half of the logarithm first: softplus itself may underflow, and its root has no slope at 0.
    return log_sqrt_softplus(logits_TE).exp()


def log_sqrt_softplus(logits_TE: Tensor) -> Tensor:
    """The logarithm of :func:`sqrt_softplus`, which cannot underflow."""
    # Below -40 softplus(l) is e^l to all digits of float64, so there its logarithm is l.
    large_TE = torch.nn.functional.softplus(logits_TE.clamp(min=-40.0))
    return (large_TE.log() + (logits_TE + 40.0).clamp(max=0.0)) / 2


def entropy(probabilities_TE: Tensor) -> Tensor:
    r"""How undecided each token is, in nats: 0 for one sure expert, ln E for a uniform choice.

    .. math:: H_t = -\sum_e s_{te} \ln s_{te}, \qquad 0 \ln 0 = 0

    Args:
        probabilities_TE: ``[T, E]`` with any leading dimensions, rows that sum to 1.

    Returns:
        entropy_T: one number per token, float32, or float64 for float64 probabilities.

    Raises:
        TypeError: probabilities_TE is not a floating-point tensor.
        ValueError: wrong rank, a negative or non-finite entry, or a row that does not sum to 1.
    """
    check_probabilities("probabilities_TE", probabilities_TE)
    p_TE = probabilities_TE.to(compute_dtype(probabilities_TE))
    # ln 1 stands in where p is 0: the product is 0 either way, and the gradient stays finite.
    return -(p_TE * torch.where(p_TE > 0, p_TE, 1).log()).sum(-1)
