"""The router: centroids that score a token, and a decision.

u_t -> l_t -> s_t, S_t, g_t.                                                 End of chapter 05.
"""

import math
from collections.abc import Callable
from dataclasses import fields
from typing import Any, Literal

import torch
from torch import Tensor, nn

from moe_tutorial.routing.decision import RouterConfig, Routing, check_fits, decide
from moe_tutorial.routing.scores import cosine_scores, dot_scores
from moe_tutorial.validation import (
    check_choice,
    check_flag,
    check_generator,
    check_k,
    check_kind,
    check_scale,
    check_size,
)
from moe_tutorial.values import values_are_visible

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
        k: experts per token, from 1 to E.
        scores: ``"dot"`` or ``"cosine"``.
        scale: of the cosine; an ``nn.Parameter`` with one element is learned, and must stay
            positive while it is.
        probability, selection, temperature, gates, renormalise: what becomes of the logits, as in
            :class:`~moe_tutorial.routing.decision.RouterConfig`.
        selection_bias: add ``bias_E`` to the probabilities, for the choice of ``"top_k"`` and
            for nothing else; gates never see it (Wang et al. 2024).

    Attributes:
        config: k and the five options named above, frozen; put another one in its place with
            ``router.config = dataclasses.replace(router.config, temperature=0.5)``.
        centroids_ED: the learned W_EC, one row per expert, drawn from N(0, 1/D) so that a token
            with unit-variance entries starts with unit-variance logits.
        noise_ED: the noise projection W_noise of noisy top-k, zero at the start; None otherwise.
        bias_E: the selection bias, zero at the start; None without one. It stays in float32 where
            the rest of the module is made narrower, since 16 bits would round small steps away.
            No optimiser trains it: :func:`moe_tutorial.learning.selection_bias.updated_bias` does.

    Raises:
        TypeError, ValueError: an argument outside what is listed above; the message names it.
    """

    def __init__(
        self,
        model_width: int,
        num_experts: int,
        k: int,
        *,
        scores: Literal["dot", "cosine"] = "dot",
        scale: float | nn.Parameter = 1.0,
        probability: Literal["softmax", "sigmoid"] = "softmax",
        selection: Literal["top_k", "sampled", "noisy_top_k"] = "top_k",
        temperature: float = 1.0,
        gates: Literal["original", "tempered"] = "original",
        renormalise: bool = True,
        selection_bias: bool = False,
    ) -> None:
        super().__init__()
        check_size("model_width", model_width)
        check_size("num_experts", num_experts)
        check_k(k, num_experts)
        check_choice("scores", scores, ("dot", "cosine"))
        check_scale(scale)
        check_flag("selection_bias", selection_bias)
        config = RouterConfig(k, probability, selection, temperature, gates, renormalise)
        if selection_bias:
            check_fits("selection_bias=True", "top_k", config)
        self.scores = scores
        self.selection_bias = selection_bias
        self.scale = scale if isinstance(scale, Tensor) else float(scale)
        noisy = selection == "noisy_top_k"
        self.centroids_ED = nn.Parameter(torch.empty(num_experts, model_width))
        self.noise_ED = nn.Parameter(torch.empty(num_experts, model_width)) if noisy else None
        self.bias_E: Tensor | None
        self.register_buffer("bias_E", torch.empty(num_experts) if selection_bias else None)
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
        check_kind("config", config, RouterConfig)
        check_k(config.k, len(self.centroids_ED))
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
        """Draw fresh centroids, from torch's own generator if None; no noise, no bias."""
        deviation = 1 / math.sqrt(self.centroids_ED.shape[1])
        nn.init.normal_(self.centroids_ED, std=deviation, generator=generator)
        for start_at_zero in (self.noise_ED, self.bias_E):
            if start_at_zero is not None:
                nn.init.zeros_(start_at_zero)

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
        if self.scores == "dot":
            logits_TE = dot_scores(x_TD, self.centroids_ED)
        else:
            logits_TE = cosine_scores(x_TD, self.centroids_ED, self.scale)
        check_generator(generator, logits_TE)
        noise_scores_TE = None
        if config.selection == "noisy_top_k" and self.training:
            assert self.noise_ED is not None
            noise_scores_TE = dot_scores(x_TD, self.noise_ED)
        bias_E = self.bias_E if self.selection_bias else None
        return decide(logits_TE, config, bias_E, noise_scores_TE, generator)

    def extra_repr(self) -> str:
        """The configuration, as ``print(router)`` shows it."""
        num_experts, model_width = self.centroids_ED.shape
        scale = "learned"
        if not isinstance(self.scale, Tensor):
            scale = f"{self.scale:.4g}"
        elif values_are_visible(self.scale):
            scale = f"{self.scale.item():.4g}"
        lines = [
            f"model_width={model_width}, num_experts={num_experts}, scores={self.scores!r}"
            + (f", scale={scale}" if self.scores == "cosine" else "")
            + (", selection_bias=True" if self.selection_bias else ""),
            str(self.config),
        ]
        return ",\n".join(lines)
