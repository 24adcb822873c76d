"""The MoE layer: a router, its experts, and perhaps one expert that is always on.

y_t = sum over e in S_t of g_te f_e(u_t) (+ shared(u_t)).                           Chapter 06.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from moe_tutorial.layer.dispatch import dispatch
from moe_tutorial.layer.experts import Activation, Experts, activate, first_width
from moe_tutorial.routing.decision import Routing
from moe_tutorial.routing.router import Router
from moe_tutorial.validation import check_choice, check_size


@dataclass(frozen=True, eq=False)
class MoEOutput:
    """What an MoE layer returns.

    Attributes:
        y_TD: the layer's output, with the shape of its input.
        routing: the decision that led to it.
    """

    y_TD: Tensor
    routing: Routing


class FeedForward(nn.Module):
    """One dense feed-forward network: what an MoE layer replaces, and what a shared expert is.

    Args:
        model_width: D.
        hidden_width: F.
        activation: ``"swiglu"`` or ``"gelu"``.
        bias: whether both matrices have a bias.

    Raises:
        TypeError, ValueError: a size that is no positive int, or an unknown activation.
    """

    def __init__(
        self,
        model_width: int,
        hidden_width: int,
        *,
        activation: Activation = "swiglu",
        bias: bool = False,
    ) -> None:
        super().__init__()
        check_size("model_width", model_width)
        check_size("hidden_width", hidden_width)
        check_choice("activation", activation, ("gelu", "swiglu"))
        self.activation: Activation = activation
        width = first_width(hidden_width, activation)
        self.into = nn.Linear(model_width, width, bias=bias)
        self.out = nn.Linear(hidden_width, model_width, bias=bias)

    def forward(self, x_TD: Tensor) -> Tensor:
        """Transform tokens ``[..., D]``, each on its own."""
        y_TD: Tensor = self.out(activate(self.into(x_TD), self.activation))
        return y_TD


class MoELayer(nn.Module):
    r"""Route every token to K experts and add up what they return, weighted by their gates.

    .. math:: y_t = \sum_{e \in S_t} g_{te} \, f_e(u_t) + \sigma(u_t \cdot w) \, f_{shared}(u_t)

    (Shazeer et al. 2017, equation 1; the shared expert as in DeepSeekMoE, Dai et al. 2024, its
    gate as in Qwen2-MoE.)

    Args:
        router: chooses the experts.
        experts: as many as the router knows, of its width.
        shared: an expert that every token uses; None for none.
        shared_gate: whether a learned sigmoid of the token weighs the shared expert's output.
        gates_on: ``"output"``, or ``"input"`` to scale the token before its expert (Llama 4).

    Raises:
        ValueError: widths or numbers of experts that differ, a gate without a shared expert, or
            an unknown word.
    """

    def __init__(
        self,
        router: Router,
        experts: Experts,
        *,
        shared: FeedForward | None = None,
        shared_gate: bool = False,
        gates_on: Literal["output", "input"] = "output",
    ) -> None:
        super().__init__()
        num_experts, model_width = router.centroids_ED.shape
        if experts.in_EDH.shape[:2] != (num_experts, model_width):
            raise ValueError(
                f"experts must be {num_experts} of width {model_width} as in router, got "
                f"{experts.in_EDH.shape[0]} of width {experts.in_EDH.shape[1]}"
            )
        if shared is not None and shared.into.in_features != model_width:
            raise ValueError(
                f"shared must have width {model_width} as router, got {shared.into.in_features}"
            )
        if shared_gate and shared is None:
            raise ValueError("shared_gate=True needs a shared expert, got shared=None")
        check_choice("gates_on", gates_on, ("output", "input"))
        self.router = router
        self.experts = experts
        self.shared = shared
        self.shared_gate = nn.Linear(model_width, 1, bias=False) if shared_gate else None
        self.gates_on = gates_on

    def forward(self, x_TD: Tensor, generator: torch.Generator | None = None) -> MoEOutput:
        """Transform tokens ``[T, D]`` or ``[B, S, D]``.

        Args:
            x_TD: tokens, floating point, on the layer's device.
            generator: the source of randomness of a router that draws.

        Returns:
            The output and the routing, with the tokens' leading dimensions.

        Raises:
            TypeError, ValueError: as :class:`~moe_tutorial.routing.router.Router` and
                :func:`~moe_tutorial.layer.dispatch.dispatch`.
        """
        routing: Routing = self.router(x_TD, generator)
        u_TD, experts_TK, gates_TK = x_TD, routing.experts_TK, routing.gates_TK
        if self.gates_on == "input":
            # Every assignment becomes a token of its own, scaled before and added up after.
            u_TD = (x_TD.unsqueeze(-2) * gates_TK.unsqueeze(-1)).to(x_TD.dtype)
            experts_TK, gates_TK = experts_TK.unsqueeze(-1), torch.ones_like(gates_TK).unsqueeze(-1)
        y_TD = dispatch(
            u_TD,
            experts_TK,
            gates_TK,
            self.experts.in_EDH,
            self.experts.out_EFD,
            self.experts.activation,
            self.experts.in_bias_EH,
            self.experts.out_bias_ED,
        )
        if self.gates_on == "input":
            y_TD = y_TD.sum(-2)
        if self.shared is not None:
            shared_TD = self.shared(x_TD)
            if self.shared_gate is not None:
                shared_TD = torch.sigmoid(self.shared_gate(x_TD)) * shared_TD
            y_TD = y_TD + shared_TD
        return MoEOutput(y_TD, routing)

    def extra_repr(self) -> str:
        """Where the gates act, as ``print(layer)`` shows it."""
        return f"gates_on={self.gates_on!r}"
