"""Bayesian routers: a Router whose logits are drawn from a cloud, whatever made the cloud.

l ~ q(l | u);  S, g = route(l).                                                      Chapter 16.
"""

import copy
import math
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from moe_tutorial.routing.configuration import RouterConfig
from moe_tutorial.routing.decision import Routing, decide
from moe_tutorial.routing.router import Router
from moe_tutorial.validation import check_generator, check_kind, check_size


@dataclass(frozen=True, eq=False, repr=False)
class PosteriorRouting(Routing):
    """A routing decision from a draw, and how far what it was drawn from is from its prior.

    Attributes:
        divergence_T: one number per token, in nats and summed over experts, to be added to the
            loss with a coefficient: a KL divergence, minus the logarithm of an inferred
            temperature, or 0 where nothing is learnt.
    """

    divergence_T: Tensor


torch.export.register_dataclass(PosteriorRouting)


class PosteriorRouter(Router):
    """A router that draws its logits, in training and in evaluation alike.

    A router of your own is a subclass with one method, :meth:`drawn_logits`. Call the model M
    times and average its *outputs* to use what the draws say. With ``draws`` above 1 the router
    itself averages the probabilities of so many draws, decides by these, and runs its experts
    once; the decision is then nearly that of the mean.

    Args:
        model_width: D.
        num_experts: E.
        k: experts per token, or a configuration.
        draws: M, of each forward.
        options: of :class:`~moe_tutorial.routing.router.Router`.

    Raises:
        TypeError, ValueError: as a router's; draws below 1; noisy top-k or scaled experts.
    """

    def __init__(
        self, model_width: int, num_experts: int, k: int | RouterConfig, *, draws: int = 1,
        **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(model_width, num_experts, k, **options)
        check_size("draws", draws)
        if self.config.selection == "noisy_top_k" or self.expert_scale_E is not None:
            raise ValueError(
                "a router that draws its logits needs selection='top_k' or 'sampled' and "
                f"expert_scale=False, got selection={self.config.selection!r} and "
                f"expert_scale={self.expert_scale_E is not None}"
            )
        self.draws = draws

    def drawn_logits(
        self, x_TD: Tensor, draws: int, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Draw logits.

        Args:
            x_TD: tokens, with any leading dimensions.
            draws: M.
            generator: the source of randomness.

        Returns:
            logits_MTE, and divergence_T as in :class:`PosteriorRouting`.
        """
        raise NotImplementedError

    def forward(self, x_TD: Tensor, generator: torch.Generator | None = None) -> PosteriorRouting:
        """Route tokens ``[T, D]`` or ``[B, S, D]`` by a draw, or by the mean of several.

        Args:
            x_TD: tokens, floating point, on the router's device.
            generator: the source of randomness; None takes torch's own.

        Raises:
            TypeError, ValueError: as :class:`~moe_tutorial.routing.router.Router`, or draws below
                1.
        """
        check_size("draws", self.draws)
        check_generator(generator, x_TD)
        logits_MTE, divergence_T = self.drawn_logits(x_TD, self.draws, generator)
        if self.draws == 1:
            logits_TE = logits_MTE[0]
        else:
            logits_TE = logits_MTE.log_softmax(-1).logsumexp(0) - math.log(self.draws)
        bias_E = self.bias_E if self.selection_bias else None
        routing = decide(logits_TE, self.config, bias_E, None, generator)
        return PosteriorRouting(**vars(routing), divergence_T=divergence_T)


Kind = TypeVar("Kind", bound=Router)


def over_frozen(kind: type[Kind], router: Router, **options: Any) -> Kind:
    """Put a posterior over a router that is trained already, and freeze what that has learnt.

    Args:
        kind: one of this module's routers, or yours.
        router: a plain one; it is copied and stays as it is.
        options: of ``kind``.

    Returns:
        A router with the same centroids, biases and decision, on the same device, of which only
        the posterior's own weights can be trained.

    Raises:
        TypeError, ValueError: what is no plain router, or what ``kind`` refuses.
    """
    check_kind("router", router, Router)
    if type(router) is not Router:
        raise TypeError(f"router must be a plain Router, got {type(router).__name__}")
    made = kind(
        router.model_width, router.num_experts, router.config, scores=router.scores,
        scale=copy.deepcopy(router.scale), selection_bias=router.selection_bias,
        logit_bias=router.logit_bias_E is not None, input_norm=router.input_norm,
        expert_scale=router.expert_scale_E is not None, **options,
    )  # fmt: skip
    made.to(router.centroids_ED.device, router.centroids_ED.dtype)
    made.load_state_dict(router.state_dict(), strict=False)
    for name, weight in made.named_parameters():
        weight.requires_grad_(name not in dict(router.named_parameters()))
    return made.train(router.training)
