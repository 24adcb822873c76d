"""The decision: how E logits of a token become K experts and their gates.

l_t -> s_t -> S_t -> g_t, in one function.                                   End of chapter 05.
"""

from dataclasses import dataclass, fields
from typing import Literal

import torch
from torch import Tensor

from moe_tutorial.routing.probabilities import tempered_softmax
from moe_tutorial.routing.sampling import drawn, with_noise
from moe_tutorial.routing.selection import largest
from moe_tutorial.routing.summary import Summary, summary_of
from moe_tutorial.validation import (
    check_choice,
    check_flag,
    check_generator,
    check_k,
    check_kind,
    check_logits,
    check_positive_number,
    check_same_device,
    check_same_shape,
    check_size,
)
from moe_tutorial.values import as_dtype, as_float, compute_dtype


@dataclass(frozen=True, eq=False, repr=False)
class Routing(Summary):
    """One routing decision for every token, as it travels through the code.

    Attributes:
        logits_TE: the scores that the choice was made from, noise included where there was any.
        probabilities_TE: softmax of these logits at the router's temperature, or their sigmoid.
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


@dataclass(frozen=True)
class RouterConfig:
    """What a router does with its logits, apart from weights and randomness.

    Attributes:
        k: experts per token, at least 1.
        probability: ``"softmax"``, or ``"sigmoid"`` (for ``"top_k"`` at temperature 1).
        selection: ``"top_k"``, the K largest logits; ``"sampled"``, K draws without replacement
            from softmax(l / tau); or ``"noisy_top_k"``, the K largest of logits with learned noise
            (Shazeer et al. 2017), where noise is given.
        temperature: tau, of the probabilities and of the draw.
        gates: from the ``"original"`` or from the ``"tempered"`` logits.
        renormalise: whether the K gates of a token sum to 1. With a softmax and k = 1 the gate is
            then the constant 1 and the router learns nothing through it: pass False.

    Raises:
        TypeError, ValueError: an argument outside what is listed above; the message names it.
    """

    k: int
    probability: Literal["softmax", "sigmoid"] = "softmax"
    selection: Literal["top_k", "sampled", "noisy_top_k"] = "top_k"
    temperature: float = 1.0
    gates: Literal["original", "tempered"] = "original"
    renormalise: bool = True

    def __post_init__(self) -> None:
        check_size("k", self.k)
        check_choice("probability", self.probability, ("softmax", "sigmoid"))
        check_choice("selection", self.selection, ("top_k", "sampled", "noisy_top_k"))
        check_choice("gates", self.gates, ("original", "tempered"))
        check_positive_number("temperature", self.temperature)
        check_flag("renormalise", self.renormalise)
        # A NumPy number or a fraction becomes what every file and every print can hold.
        object.__setattr__(self, "temperature", as_float(self.temperature))
        if self.probability == "sigmoid" and (self.selection != "top_k" or self.temperature != 1):
            raise ValueError(
                "probability='sigmoid' needs selection='top_k' and temperature=1, got "
                f"selection={self.selection!r} and temperature={self.temperature}"
            )

    def __str__(self) -> str:
        """The configuration as arguments, without parentheses."""
        return ", ".join(f"{it.name}={getattr(self, it.name)!r}" for it in fields(self))


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

    Args:
        logits_TE: ``[T, E]`` with any leading dimensions, floating point.
        config: how.
        bias_E: ``[E]``, added to the probabilities for the choice of ``"top_k"`` and for nothing
            else; gates never see it (Wang et al. 2024).
        noise_scores_TE: for ``"noisy_top_k"``, the second projection of the token, with the shape
            of the logits; None leaves the noise out, as in evaluation.
        generator: the source of randomness, on the logits' device; None takes torch's own.

    Returns:
        The decision, with the tokens' leading dimensions; logits, probabilities and gates in
        float32, or float64 for float64 logits.

    Raises:
        TypeError, ValueError: logits that are not finite floating point, a k above E, a bias or
            noise that does not fit the logits or the selection, or a generator elsewhere.
    """
    check_logits("logits_TE", logits_TE)
    check_kind("config", config, RouterConfig)
    check_k(config.k, logits_TE.shape[-1])
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
    if noise_scores_TE is not None:
        logits_TE = with_noise(logits_TE, noise_scores_TE, generator)
    probabilities_TE = _probabilities(logits_TE, config, config.temperature)
    if config.selection == "sampled":
        experts_TK = drawn(logits_TE, config.k, config.temperature, generator)
    elif bias_E is not None:
        experts_TK = largest(probabilities_TE + bias_E, config.k)
    else:
        experts_TK = largest(logits_TE, config.k)
    gates_TK = _gates(logits_TE, probabilities_TE, experts_TK, config)
    return Routing(logits_TE, probabilities_TE, experts_TK, gates_TK)


def _probabilities(logits_TE: Tensor, config: RouterConfig, temperature: float) -> Tensor:
    if config.probability == "sigmoid":
        return torch.sigmoid(logits_TE)
    return tempered_softmax(logits_TE, temperature)


def _gates(
    logits_TE: Tensor, probabilities_TE: Tensor, experts_TK: Tensor, config: RouterConfig
) -> Tensor:
    temperature = config.temperature if config.gates == "tempered" else 1.0
    if not config.renormalise:
        if temperature != config.temperature:
            probabilities_TE = _probabilities(logits_TE, config, temperature)
        return probabilities_TE.gather(-1, experts_TK)
    chosen_TK = logits_TE.gather(-1, experts_TK)
    if config.probability == "sigmoid":
        # sigmoids divided by their sum, with logarithms that cannot underflow
        chosen_TK = torch.nn.functional.logsigmoid(chosen_TK)
    return tempered_softmax(chosen_TK, temperature)
