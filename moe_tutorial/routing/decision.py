"""The decision: how E logits of a token become K experts and their gates.

l_t -> s_t -> S_t -> g_t, in one function.                                   End of chapter 05.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from moe_tutorial.routing.configuration import RouterConfig, check_config
from moe_tutorial.routing.gates import gates_of, scores_of
from moe_tutorial.routing.groups import limited
from moe_tutorial.routing.sampling import drawn, with_noise
from moe_tutorial.routing.selection import largest
from moe_tutorial.routing.summary import Summary, summary_of
from moe_tutorial.validation import (
    check_generator,
    check_logits,
    check_same_device,
    check_same_shape,
)
from moe_tutorial.values import as_dtype, compute_dtype


@dataclass(frozen=True, eq=False, repr=False)
class Routing(Summary):
    """One routing decision for every token, as it travels through the code.

    Attributes:
        logits_TE: the scores that the choice was made from, scaled and capped where the
            configuration says so, noise included where there was any.
        probabilities_TE: softmax of these logits at the router's temperature, or their sigmoid or
            square root of softplus.
        experts_TK: int64 ids of the chosen experts: best first, or in the order of the draw.
        gates_TK: the weight of each chosen expert's output.
    """

    logits_TE: Tensor
    probabilities_TE: Tensor
    experts_TK: Tensor
    gates_TK: Tensor

    def summary(self) -> dict[str, str]:
        """What a person wants to know of the decision, as ``print(routing)`` shows it."""
        return summary_of(self.experts_TK, self.gates_TK, self.logits_TE.shape[-1])


@dataclass(frozen=True, eq=False, repr=False)
class LimitedRouting(Routing):
    """A routing decision of which not every assignment is carried out.

    ``experts_TK`` still names the experts that were *wanted*, so that a load counted from it is
    the load before drops. The gates of dropped assignments are 0.

    Attributes:
        kept_TK: bool, which assignments are carried out.
    """

    kept_TK: Tensor

    def summary(self) -> dict[str, str]:
        """As for :class:`Routing`, and what was kept."""
        return summary_of(
            self.experts_TK, self.gates_TK, self.logits_TE.shape[-1], kept_TK=self.kept_TK
        )


# FSDP, torch.func and torch.export look for the tensors inside of what a module returns.
torch.export.register_dataclass(Routing)
torch.export.register_dataclass(LimitedRouting)


def route(
    logits_TE: Tensor,
    config: RouterConfig,
    *,
    bias_E: Tensor | None = None,
    noise_scores_TE: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Routing:
    r"""Decide for every token, from its logits alone.

    .. math:: s_t = \operatorname{softmax}(l_t / \tau), \qquad
              S_t = \operatorname{top\text{-}k}(l_t) \text{ or } K \text{ draws from } s_t, \qquad
              g_t = \operatorname{softmax}(l_t) \text{ over } S_t

    and, where the configuration says so, with another score in place of the softmax, a choice that
    a bias or groups of experts change, and gates that are not renormalised, or scaled.

    Args:
        logits_TE: ``[T, E]`` with any leading dimensions, floating point.
        config: how.
        bias_E: ``[E]``, added to the probabilities, or to the logits where ``choice_on`` says so,
            for the choice of ``"top_k"`` and for nothing else; gates never see it (Wang et al.
            2024).
        noise_scores_TE: for ``"noisy_top_k"``, the second projection of the token, with the shape
            of the logits; None leaves the noise out, as in evaluation.
        generator: the source of randomness, on the logits' device; None takes torch's own.

    Returns:
        The decision, with the tokens' leading dimensions; logits, probabilities and gates in
        float32, or float64 for float64 logits.

    Raises:
        TypeError, ValueError: logits that are not finite floating point, a k above E or groups
            that do not divide E, a bias or noise that does not fit the logits or the selection, or
            a generator elsewhere.
    """
    check_logits("logits_TE", logits_TE)
    check_config(config, logits_TE.shape[-1])
    check_generator(generator, logits_TE)
    if bias_E is not None:
        check_logits("bias_E", bias_E, rank=1)
        check_same_device(bias_E=bias_E, logits_TE=logits_TE)
        if bias_E.shape != logits_TE.shape[-1:]:
            raise ValueError(
                f"bias_E must have shape {tuple(logits_TE.shape[-1:])}, got {tuple(bias_E.shape)}"
            )
        check_fits("bias_E", "top_k", config)
    if noise_scores_TE is not None:
        check_logits("noise_scores_TE", noise_scores_TE)
        check_same_device(noise_scores_TE=noise_scores_TE, logits_TE=logits_TE)
        check_same_shape("noise_scores_TE", noise_scores_TE, "logits_TE", logits_TE)
        check_fits("noise_scores_TE", "noisy_top_k", config)
    logits_TE = as_dtype(compute_dtype(logits_TE), logits_TE)
    return decide(logits_TE, config, bias_E, noise_scores_TE, generator)


def check_fits(name: str, selection: str, config: RouterConfig) -> None:
    """Refuse what only another selection makes use of."""
    if config.selection != selection:
        raise ValueError(
            f"{name} needs selection={selection!r}, got selection={config.selection!r}"
        )


def decide(
    logits_TE: Tensor,
    config: RouterConfig,
    bias_E: Tensor | None,
    noise_scores_TE: Tensor | None,
    generator: torch.Generator | None,
) -> Routing:
    """:func:`route` of arguments that were checked, and of logits in float32 at least."""
    if config.logit_scale != 1:
        logits_TE = logits_TE * config.logit_scale
    if config.logit_cap is not None:
        logits_TE = config.logit_cap * torch.tanh(logits_TE / config.logit_cap)
    if noise_scores_TE is not None:
        logits_TE = with_noise(logits_TE, noise_scores_TE, generator)
    probabilities_TE = scores_of(logits_TE, config, config.temperature)
    if config.selection == "sampled":
        experts_TK = drawn(logits_TE, config.k, config.temperature, generator)
    elif bias_E is None and config.groups is None:
        experts_TK = largest(logits_TE, config.k)
    else:
        chosen_by_TE = logits_TE if config.choice_on == "logits" else probabilities_TE
        if bias_E is not None:
            chosen_by_TE = chosen_by_TE + bias_E
        if config.groups is not None:
            chosen_by_TE = limited(chosen_by_TE, config.groups)
        experts_TK = largest(chosen_by_TE, config.k)
    gates_TK = gates_of(logits_TE, probabilities_TE, experts_TK, config)
    return Routing(logits_TE, probabilities_TE, experts_TK, gates_TK)
