"""The router: centroids that score a token, and a decision.

u_t -> l_t -> s_t, S_t, g_t.                                                 End of chapter 05.
"""

import math
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from moe_tutorial.routing.configuration import Probability, RouterConfig, check_config
from moe_tutorial.routing.decision import Routing, check_fits, decide
from moe_tutorial.routing.scores import cosine_scores, dot_scores
from moe_tutorial.validation import (
    check_choice,
    check_flag,
    check_floating,
    check_generator,
    check_positive_number,
    check_scale,
    check_size,
)
from moe_tutorial.values import as_dtype, compute_dtype, values_are_visible

_OF_THE_CONFIG = {it.name for it in fields(RouterConfig)}


class Router(nn.Module):
    """Send every token to K of E experts.

    The three selections of chapters 03 and 04:

    - ``"top_k"``: the K largest logits.
    - ``"sampled"``: K draws without replacement from softmax(l / tau), in training and in
      evaluation alike, since the draw is the method and no mere regulariser.
    - ``"noisy_top_k"``: the K largest of logits with learned noise (Shazeer et al. 2017); the
      noise is off in evaluation.

    Gates come from the original logits unless ``gates="tempered"``, over the chosen experts alone
    unless ``renormalise=False``.

    Args:
        model_width: D, the width of a token.
        num_experts: E.
        k: experts per token, from 1 to E; or a whole
            :class:`~moe_tutorial.routing.configuration.RouterConfig`, instead of the five options.
        scores: ``"dot"`` or ``"cosine"``.
        scale: of the cosine; an ``nn.Parameter`` with one element is learned, and must stay
            positive while it is.
        probability, selection, temperature, gates, renormalise: what becomes of the logits, as in
            :class:`~moe_tutorial.routing.configuration.RouterConfig`.
        selection_bias: add ``bias_E`` to the probabilities, for the choice of ``"top_k"`` and
            for nothing else; gates never see it (Wang et al. 2024).
        logit_bias: add a learned ``logit_bias_E`` to the logits, which gates see as well (gpt-oss).
        input_norm: divide each token by its root mean square first, with this number added to the
            mean square; None leaves tokens as they are. A learned scale of the token's entries
            would be a scale of the centroids' entries (Gemma 4).
        expert_scale: multiply the gates of expert e by a learned ``expert_scale_E[e]`` (Gemma 4).

    Attributes:
        model_width, num_experts: D and E.
        config: what becomes of the logits, frozen; put another one in its place with
            ``router.config = dataclasses.replace(router.config, temperature=0.5)``.
        centroids_ED: the learned W_EC, one row per expert, drawn from N(0, 1/D) so that a token
            with unit-variance entries starts with unit-variance logits.
        noise_ED: the noise projection W_noise of noisy top-k, zero at the start; None otherwise.
        bias_E: the selection bias, zero at the start; None without one. It stays in float32 where
            the rest of the module is made narrower, since 16 bits would round small steps away.
            No optimiser trains it: :func:`moe_tutorial.learning.selection_bias.updated_bias` does.
        logit_bias_E: zero at the start; None without one.
        expert_scale_E: one at the start; None without one.

    Raises:
        TypeError, ValueError: an argument outside what is listed above; the message names it.
    """

    def __init__(
        self,
        model_width: int,
        num_experts: int,
        k: int | RouterConfig,
        *,
        scores: Literal["dot", "cosine"] = "dot",
        scale: float | nn.Parameter = 1.0,
        probability: Probability = "softmax",
        selection: Literal["top_k", "sampled", "noisy_top_k"] = "top_k",
        temperature: float = 1.0,
        gates: Literal["original", "tempered"] = "original",
        renormalise: bool = True,
        selection_bias: bool = False,
        logit_bias: bool = False,
        input_norm: float | None = None,
        expert_scale: bool = False,
    ) -> None:
        super().__init__()
        check_size("model_width", model_width)
        check_size("num_experts", num_experts)
        check_choice("scores", scores, ("dot", "cosine"))
        check_scale(scale)
        check_flag("selection_bias", selection_bias)
        check_flag("logit_bias", logit_bias)
        check_flag("expert_scale", expert_scale)
        if input_norm is not None:
            check_positive_number("input_norm", input_norm)
            if scores == "cosine":
                raise ValueError("input_norm must be None with scores='cosine', which norms tokens")
        self.model_width = model_width
        self.num_experts = num_experts
        config = _configuration(k, probability, selection, temperature, gates, renormalise)
        check_config(config, num_experts)
        if selection_bias:
            check_fits("selection_bias=True", "top_k", config)
        self.scores = scores
        self.selection_bias = selection_bias
        self.scale = scale if isinstance(scale, Tensor) else float(scale)
        self.input_norm = input_norm
        noisy = config.selection == "noisy_top_k"
        self.centroids_ED = nn.Parameter(torch.empty(num_experts, model_width))
        self.noise_ED = nn.Parameter(torch.empty(num_experts, model_width)) if noisy else None
        self.bias_E: Tensor | None
        self.register_buffer("bias_E", torch.empty(num_experts) if selection_bias else None)
        self.logit_bias_E = nn.Parameter(torch.empty(num_experts)) if logit_bias else None
        self.expert_scale_E = nn.Parameter(torch.empty(num_experts)) if expert_scale else None
        self.config = config
        self.reset_parameters()

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _OF_THE_CONFIG:
            raise AttributeError(
                f"{name} is a part of router.config, which is frozen: write router.config = "
                f"dataclasses.replace(router.config, {name}={value!r})"
            )
        if name == "config":
            self._check_config(value)
        super().__setattr__(name, value)

    def _check_config(self, config: Any) -> None:
        check_config(config, self.num_experts)
        if config.selection == "noisy_top_k" and self.noise_ED is None:
            raise ValueError("selection='noisy_top_k' needs a router that was made with it")
        if self.selection_bias:
            check_fits("selection_bias=True", "top_k", config)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Router":
        bias_E = self.bias_E
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if bias_E is not None and self.bias_E is not None and self.bias_E.itemsize < 4:
            self.bias_E = bias_E.to(self.bias_E.device)
        return self

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw fresh centroids, from torch's own generator if None; no noise, bias or scale."""
        deviation = 1 / math.sqrt(self.centroids_ED.shape[1])
        nn.init.normal_(self.centroids_ED, std=deviation, generator=generator)
        for start_at_zero in (self.noise_ED, self.bias_E, self.logit_bias_E):
            if start_at_zero is not None:
                nn.init.zeros_(start_at_zero)
        if self.expert_scale_E is not None:
            nn.init.ones_(self.expert_scale_E)

    def logits(self, x_TD: Tensor) -> Tensor:
        """How well each expert matches each token, before any decision.

        Args:
            x_TD: tokens, ``[T, D]`` with any leading dimensions.

        Returns:
            logits_TE: float32, or float64 if an input is.

        Raises:
            TypeError, ValueError: as :func:`~moe_tutorial.routing.scores.dot_scores`.
        """
        if self.input_norm is not None:
            check_floating("x_TD", x_TD)
            x_TD = as_dtype(compute_dtype(x_TD, self.centroids_ED), x_TD)
            x_TD = nn.functional.rms_norm(x_TD, x_TD.shape[-1:], eps=self.input_norm)
        if self.scores == "dot":
            logits_TE = dot_scores(x_TD, self.centroids_ED)
        else:
            logits_TE = cosine_scores(x_TD, self.centroids_ED, self.scale)
        return logits_TE if self.logit_bias_E is None else logits_TE + self.logit_bias_E

    def forward(self, x_TD: Tensor, generator: torch.Generator | None = None) -> Routing:
        """Route tokens ``[T, D]`` or ``[B, S, D]``.

        A GPU checks values itself, so that nobody waits; under ``torch.compile``, where a generator
        cannot be passed, only shapes and dtypes are checked.

        Args:
            x_TD: tokens, floating point, on the router's device.
            generator: the source of randomness of ``"sampled"`` and ``"noisy_top_k"``. Activation
                checkpointing would draw other numbers from it, and so needs None.

        Returns:
            The decision, with the tokens' leading dimensions.

        Raises:
            TypeError, ValueError: as the functions of chapters 01 to 05.
            RuntimeError: a generator where a forward is run again in the backward.
        """
        config = self.config
        logits_TE = self.logits(x_TD)
        check_generator(generator, logits_TE)
        noise_scores_TE = None
        if config.selection == "noisy_top_k" and self.training:
            assert self.noise_ED is not None
            noise_scores_TE = dot_scores(x_TD, self.noise_ED)
        bias_E = self.bias_E if self.selection_bias else None
        routing = decide(logits_TE, config, bias_E, noise_scores_TE, generator)
        if self.expert_scale_E is None:
            return routing
        scales_TK = self.expert_scale_E[routing.experts_TK]
        return replace(routing, gates_TK=routing.gates_TK * scales_TK)

    def extra_repr(self) -> str:
        """The configuration, as ``print(router)`` shows it."""
        scale = "learned"
        if not isinstance(self.scale, Tensor):
            scale = f"{self.scale:.4g}"
        elif values_are_visible(self.scale):
            scale = f"{self.scale.item():.4g}"
        lines = [
            f"model_width={self.model_width}, num_experts={self.num_experts}, "
            f"scores={self.scores!r}"
            + (f", scale={scale}" if self.scores == "cosine" else "")
            + (", selection_bias=True" if self.selection_bias else "")
            + (", logit_bias=True" if self.logit_bias_E is not None else "")
            + (f", input_norm={self.input_norm:g}" if self.input_norm is not None else "")
            + (", expert_scale=True" if self.expert_scale_E is not None else ""),
            str(self.config),
        ]
        return ",\n".join(lines)


def _configuration(k: Any, *options: Any) -> RouterConfig:
    if not isinstance(k, RouterConfig):
        return RouterConfig(k, *options)
    if RouterConfig(k.k, *options) != RouterConfig(k.k):
        raise ValueError(
            "a RouterConfig in the place of k says all that becomes of the logits, so probability, "
            "selection, temperature, gates and renormalise must be left out"
        )
    return k
