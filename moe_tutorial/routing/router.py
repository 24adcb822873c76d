"""The router: scores, probabilities, a choice and gates, in one thin module.

u_t -> l_t -> s_t -> S_t -> g_t.                                            End of chapter 05.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from moe_tutorial.routing.decision import Routing
from moe_tutorial.routing.probabilities import sigmoid, softmax
from moe_tutorial.routing.sampling import gumbel_top_k, noisy_logits
from moe_tutorial.routing.scores import cosine_scores, dot_scores
from moe_tutorial.routing.selection import keep, renormalise, softmax_over_chosen, top_k
from moe_tutorial.validation import (
    check_choice,
    check_k,
    check_positive_number,
    check_scale,
    check_size,
)


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
        probability: ``"softmax"``, or ``"sigmoid"`` (for ``"top_k"`` at temperature 1).
        selection: ``"top_k"``, ``"sampled"`` or ``"noisy_top_k"``.
        temperature: tau, of the probabilities and of the draw.
        gates: from the ``"original"`` or from the ``"tempered"`` logits.
        renormalise: whether the K gates of a token sum to 1. With a softmax and k = 1 the gate is
            then the constant 1 and the router learns nothing through it: pass False.
        selection_bias: add ``bias_E`` to the probabilities, for the choice of ``"top_k"`` and
            for nothing else; gates never see it (Wang et al. 2024).

    Attributes:
        centroids_ED: the learned W_EC, one row per expert, drawn from N(0, 1/D) so that a token
            with unit-variance entries starts with unit-variance logits.
        noise_ED: the noise projection W_noise of noisy top-k, zero at the start; absent otherwise.
        bias_E: the selection bias, zero at the start; absent without one. No optimiser trains it:
            :func:`moe_tutorial.learning.balance.updated_bias` does.

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
        check_choice("probability", probability, ("softmax", "sigmoid"))
        check_choice("selection", selection, ("top_k", "sampled", "noisy_top_k"))
        check_choice("gates", gates, ("original", "tempered"))
        check_positive_number("temperature", temperature)
        check_scale(scale)
        if probability == "sigmoid" and (selection != "top_k" or temperature != 1):
            raise ValueError(
                "probability='sigmoid' needs selection='top_k' and temperature=1, got "
                f"selection={selection!r} and temperature={temperature}"
            )
        if selection_bias and selection != "top_k":
            raise ValueError(
                f"selection_bias=True needs selection='top_k', got selection={selection!r}"
            )
        self.k = k
        self.scores = scores
        self.scale = scale
        self.probability = probability
        self.selection = selection
        self.temperature = temperature
        self.gates = gates
        self.renormalise = renormalise
        self.selection_bias = selection_bias
        self.bias_E: Tensor
        self.centroids_ED = nn.Parameter(torch.empty(num_experts, model_width))
        if selection == "noisy_top_k":
            self.noise_ED = nn.Parameter(torch.empty(num_experts, model_width))
        if selection_bias:
            self.register_buffer("bias_E", torch.empty(num_experts))
        self.reset_parameters()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw fresh centroids, from torch's own generator if None; no noise, no bias."""
        deviation = 1 / math.sqrt(self.centroids_ED.shape[1])
        nn.init.normal_(self.centroids_ED, std=deviation, generator=generator)
        if self.selection == "noisy_top_k":
            nn.init.zeros_(self.noise_ED)
        if self.selection_bias:
            nn.init.zeros_(self.bias_E)

    def forward(self, x_TD: Tensor, generator: torch.Generator | None = None) -> Routing:
        """Route tokens ``[T, D]`` or ``[B, S, D]``.

        A GPU checks values itself, so that nobody waits; under ``torch.compile``, where a generator
        cannot be passed, only shapes and dtypes are checked.

        Args:
            x_TD: tokens, floating point, on the router's device.
            generator: the source of randomness of ``"sampled"`` and ``"noisy_top_k"``.

        Returns:
            The decision, with the tokens' leading dimensions.

        Raises:
            TypeError, ValueError: as the functions of chapters 01 to 05.
        """
        if self.scores == "dot":
            logits_TE = dot_scores(x_TD, self.centroids_ED)
        else:
            logits_TE = cosine_scores(x_TD, self.centroids_ED, self.scale)
        if self.selection == "noisy_top_k" and self.training:
            logits_TE = noisy_logits(logits_TE, dot_scores(x_TD, self.noise_ED), generator)

        probabilities_TE = self._probabilities(logits_TE, self.temperature)

        if self.selection == "sampled":
            experts_TK = gumbel_top_k(logits_TE, self.k, self.temperature, generator)
        elif self.selection_bias:
            experts_TK = top_k(probabilities_TE + self.bias_E, self.k)
        else:
            experts_TK = top_k(logits_TE, self.k)

        return Routing(logits_TE, probabilities_TE, experts_TK, self._gates(logits_TE, experts_TK))

    def _probabilities(self, logits_TE: Tensor, temperature: float) -> Tensor:
        if self.probability == "sigmoid":
            return sigmoid(logits_TE)
        return softmax(logits_TE, temperature)

    def _gates(self, logits_TE: Tensor, experts_TK: Tensor) -> Tensor:
        temperature = self.temperature if self.gates == "tempered" else 1.0
        if self.probability == "softmax" and self.renormalise:
            return softmax_over_chosen(logits_TE, experts_TK, temperature)
        probabilities_TE = self._probabilities(logits_TE, temperature)
        if self.renormalise:
            return renormalise(probabilities_TE, experts_TK)
        return keep(probabilities_TE, experts_TK)

    def extra_repr(self) -> str:
        """The configuration, as ``print(router)`` shows it."""
        num_experts, model_width = self.centroids_ED.shape
        return (
            f"model_width={model_width}, num_experts={num_experts}, k={self.k}, "
            f"scores={self.scores!r}, probability={self.probability!r}, "
            f"selection={self.selection!r}, temperature={self.temperature}, "
            f"gates={self.gates!r}, renormalise={self.renormalise}"
            + (f", scale={float(self.scale):.4g}" if self.scores == "cosine" else "")
            + (", selection_bias=True" if self.selection_bias else "")
        )
