"""Four Bayesian routers, with uncertainty in the centroids, in the logits or in the decision.

u' = dropout(u);  W ~ Laplace;  l ~ N(l + d, L L');  S ~ softmax(l / tau(u)).        Chapter 16.
"""

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from moe_tutorial.routing.configuration import RouterConfig
from moe_tutorial.routing.probabilities import tempered_softmax
from moe_tutorial.routing.router import Router
from moe_tutorial.routing.sampling import drawn
from moe_tutorial.uncertainty.bayesian import PosteriorRouter, PosteriorRouting
from moe_tutorial.uncertainty.centroid_clouds import check_covariance, check_rate, dropped
from moe_tutorial.uncertainty.logit_clouds import (
    cholesky_factor,
    full_covariance_kl,
    full_covariance_logits,
    mean_field_kl,
    mean_field_logits,
)
from moe_tutorial.uncertainty.temperature import (
    inferred_temperature,
    straight_through_gates,
    temperature_penalty,
)
from moe_tutorial.validation import check_generator


class DropoutRouter(PosteriorRouter):
    """Monte-Carlo dropout: coordinates of the token are dropped before it meets the centroids.

    A cloud in the space of centroids (Gal and Ghahramani 2016; for routers Li 2025).

    Args:
        model_width: D.
        num_experts: E.
        k: experts per token, or a configuration.
        rate: p, from 0 up to but not including 1.
        options: of :class:`~moe_tutorial.uncertainty.bayesian.PosteriorRouter`.
    """

    def __init__(
        self, model_width: int, num_experts: int, k: int | RouterConfig, *, rate: float = 0.1,
        **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(model_width, num_experts, k, **options)
        check_rate(rate)
        self.rate = rate

    def drawn_logits(
        self, x_TD: Tensor, draws: int, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Logits of M copies of the token, each without other coordinates."""
        copies_MTD = x_TD.expand(draws, *x_TD.shape)
        logits_MTE = self.logits(dropped(copies_MTD, self.rate, generator))
        return logits_MTE, logits_MTE.new_zeros(x_TD.shape[:-1])


class LaplaceRouter(PosteriorRouter):
    """Centroids from a Gaussian around the trained ones, the same draw for all tokens of a forward.

    A cloud in the space of centroids, over a frozen model: nothing is trained. Until
    :meth:`set_covariances` is called there is no cloud.

    Args:
        model_width: D.
        num_experts: E.
        k: experts per token, or a configuration.
        options: of :class:`~moe_tutorial.uncertainty.bayesian.PosteriorRouter`; scores must be dot
            products of tokens as they are.
    """

    factor_EE: Tensor
    factor_DD: Tensor

    def __init__(
        self, model_width: int, num_experts: int, k: int | RouterConfig, **options: Any
    ) -> None:
        super().__init__(model_width, num_experts, k, **options)
        if self.scores != "dot" or self.input_norm is not None:
            raise ValueError(
                "a LaplaceRouter needs scores='dot' and input_norm=None, got "
                f"scores={self.scores!r} and input_norm={self.input_norm}"
            )
        self.register_buffer("factor_EE", torch.zeros(num_experts, num_experts))
        self.register_buffer("factor_DD", torch.zeros(model_width, model_width))

    def set_covariances(self, covariance_EE: Tensor, covariance_DD: Tensor) -> None:
        """Make the cloud as wide as these say.

        Args:
            covariance_EE: of experts with one another.
            covariance_DD: of coordinates; both as
                :func:`~moe_tutorial.uncertainty.centroid_clouds.laplace_covariances` returns them.

        Raises:
            TypeError, ValueError: what is no covariance, or of another size.
        """
        check_covariance("covariance_EE", covariance_EE, self.num_experts)
        check_covariance("covariance_DD", covariance_DD, self.model_width)
        for factor, covariance in (
            (self.factor_EE, covariance_EE),
            (self.factor_DD, covariance_DD),
        ):
            values, vectors = torch.linalg.eigh(covariance.double())
            factor.copy_(vectors * values.clamp(min=0).sqrt())  # also where one is singular

    def drawn_logits(
        self, x_TD: Tensor, draws: int, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Logits of M routers, whose centroids were drawn."""
        logits_TE = self.logits(x_TD)
        noise_MED = self.factor_EE.new_empty(draws, self.num_experts, self.model_width)
        noise_MED.normal_(generator=generator)
        shift_MED = (self.factor_EE @ noise_MED @ self.factor_DD.T).to(logits_TE.dtype)
        x_1XD = x_TD.to(logits_TE.dtype).flatten(0, -2).unsqueeze(0)
        shifts_MTE = (x_1XD @ shift_MED.mT).reshape(draws, *logits_TE.shape)
        return logits_TE + shifts_MTE, logits_TE.new_zeros(x_TD.shape[:-1])


class GaussianRouter(PosteriorRouter):
    """Logits from a Gaussian whose mean and width a linear map of the token says.

    A cloud in the space of logits (Li 2025). It starts at the prior, a unit cloud around the
    router's own logits, with divergence 0.

    Args:
        model_width: D.
        num_experts: E.
        k: experts per token, or a configuration.
        full_covariance: whether logits may move together, or each on its own (mean field).
        options: of :class:`~moe_tutorial.uncertainty.bayesian.PosteriorRouter`.
    """

    def __init__(
        self, model_width: int, num_experts: int, k: int | RouterConfig, *,
        full_covariance: bool = False, **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(model_width, num_experts, k, **options)
        self.full_covariance = full_covariance
        below = num_experts * (num_experts - 1) // 2 if full_covariance else 0
        self.posterior = nn.Linear(model_width, 2 * num_experts + below)
        self._start_at_the_prior()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw fresh centroids, and put the cloud back to the prior."""
        super().reset_parameters(generator)
        if hasattr(self, "posterior"):  # a router draws its centroids before it is complete
            self._start_at_the_prior()

    def _start_at_the_prior(self) -> None:
        nn.init.zeros_(self.posterior.weight)
        nn.init.zeros_(self.posterior.bias)

    def cloud(self, x_TD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the map says of each token.

        Returns:
            shift_TE, log_deviation_TE and below_TX, which is empty in a mean field.
        """
        said = self.posterior(x_TD.to(self.posterior.weight.dtype))
        n = self.num_experts
        return said[..., :n], said[..., n : 2 * n], said[..., 2 * n :]

    def drawn_logits(
        self, x_TD: Tensor, draws: int, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Logits around the router's own."""
        logits_TE = self.logits(x_TD)
        shift_TE, log_deviation_TE, below_TX = (it.to(logits_TE.dtype) for it in self.cloud(x_TD))
        mean_MTE = (logits_TE + shift_TE).expand(draws, *logits_TE.shape)
        if not self.full_covariance:
            log_deviation_MTE = log_deviation_TE.expand_as(mean_MTE)
            logits_MTE = mean_field_logits(mean_MTE, log_deviation_MTE, generator)
            return logits_MTE, mean_field_kl(shift_TE, log_deviation_TE)
        factor_TEE = cholesky_factor(log_deviation_TE, below_TX)
        logits_MTE = full_covariance_logits(mean_MTE, factor_TEE, generator)
        return logits_MTE, full_covariance_kl(shift_TE, factor_TEE)


class TemperatureRouter(Router):
    """K experts drawn at a temperature that is inferred from each token.

    Uncertainty in the space of decisions (Li 2025). Gates come from the original logits, and the
    temperature learns by the straight-through estimator. Averaging inside of this router would be
    the plain top-k: no temperature changes which logits are largest.

    Args:
        model_width: D.
        num_experts: E.
        k: experts per token, or a configuration with nothing but its k set, or a temperature of 1
            and ``selection="sampled"``.
        options: of :class:`~moe_tutorial.routing.router.Router`.
    """

    def __init__(
        self, model_width: int, num_experts: int, k: int | RouterConfig, **options: Any
    ) -> None:
        config = replace(k, selection="sampled") if isinstance(k, RouterConfig) else k
        if not isinstance(config, RouterConfig):
            config = RouterConfig(config, selection="sampled")
        if config != RouterConfig(config.k, selection="sampled"):
            raise ValueError(f"k must be an int or a configuration of nothing else, got {k}")
        super().__init__(model_width, num_experts, config, **options)
        self.score = nn.Linear(model_width, 1)
        nn.init.zeros_(self.score.weight)
        nn.init.constant_(self.score.bias, math.log(math.e - 1))  # a temperature of 1

    def temperature(self, x_TD: Tensor) -> Tensor:
        """temperature_T1 of tokens."""
        return inferred_temperature(self.score(x_TD.to(self.score.weight.dtype)))

    def forward(self, x_TD: Tensor, generator: torch.Generator | None = None) -> PosteriorRouting:
        """Route tokens ``[T, D]`` or ``[B, S, D]`` by a draw at their own temperatures."""
        logits_TE = self.logits(x_TD)
        check_generator(generator, logits_TE)
        temperature_T1 = self.temperature(x_TD).to(logits_TE.dtype)
        experts_TK = drawn(logits_TE, self.config.k, temperature_T1, generator)
        return PosteriorRouting(
            logits_TE,
            tempered_softmax(logits_TE, temperature_T1),
            experts_TK,
            straight_through_gates(logits_TE, experts_TK, temperature_T1),
            temperature_penalty(temperature_T1),
        )
