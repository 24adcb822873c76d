"""Gates: how much each chosen expert's output counts.

g_t = s_t over S_t, divided by their sum or norm if asked for, times a scale.  Chapters 03 and 11.
"""

import torch
from torch import Tensor

from moe_tutorial.routing.configuration import RouterConfig
from moe_tutorial.routing.probabilities import (
    log_sqrt_softplus,
    root_of_softplus,
    tempered,
    tempered_softmax,
)


def scores_of(logits_TE: Tensor, config: RouterConfig, temperature: float) -> Tensor:
    """The probabilities that a configuration asks for, of logits that were checked."""
    if config.probability == "softmax":
        return tempered_softmax(logits_TE, temperature)
    if config.probability == "sigmoid":
        return torch.sigmoid(logits_TE)
    return root_of_softplus(logits_TE)


def gates_of(
    logits_TE: Tensor, probabilities_TE: Tensor, experts_TK: Tensor, config: RouterConfig
) -> Tensor:
    """The chosen experts' gates, of arguments that were checked.

    Args:
        logits_TE: the logits, ``[T, E]``.
        probabilities_TE: :func:`scores_of` them at the configuration's temperature.
        experts_TK: the chosen experts.
        config: how.

    Returns:
        gates_TK: dtype of the logits.
    """
    temperature = config.temperature if config.gates == "tempered" else 1.0
    if config.renormalise and config.epsilon == 0 and config.floor == 0:
        # Logarithms cannot underflow, where probabilities might all be 0.
        chosen_TK = logits_TE.gather(-1, experts_TK)
        if config.probability == "sigmoid":
            chosen_TK = torch.nn.functional.logsigmoid(chosen_TK)
        elif config.probability == "sqrtsoftplus":
            chosen_TK = log_sqrt_softplus(chosen_TK)
        if config.norm == 1:
            gates_TK = tempered_softmax(chosen_TK, temperature)
        else:
            shares_TK = tempered(chosen_TK, temperature).exp()  # the largest of a token is 1
            gates_TK = shares_TK / _norm(shares_TK, config)
    else:
        if temperature != config.temperature:
            probabilities_TE = scores_of(logits_TE, config, temperature)
        gates_TK = probabilities_TE.gather(-1, experts_TK)
        if config.renormalise:
            least = (_norm(gates_TK, config) + config.epsilon).clamp(min=config.floor)
            gates_TK = gates_TK / least
    if config.null == "skip":
        gates_TK = gates_TK.masked_fill(experts_TK >= logits_TE.shape[-1] - config.null_experts, 0)
    return gates_TK if config.gate_scale == 1 else gates_TK * config.gate_scale


def _norm(gates_TK: Tensor, config: RouterConfig) -> Tensor:
    if config.norm == 1:  # gates are positive
        return gates_TK.sum(-1, keepdim=True)
    norm_T1: Tensor = torch.linalg.vector_norm(gates_TK, config.norm, dim=-1, keepdim=True)
    return norm_T1
