"""The MoE layer: a router, its experts, and perhaps one expert that is always on.

y_t = sum over e in S_t of g_te f_e(u_t) (+ shared(u_t)).                           Chapter 06.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from moe_tutorial.layer.experts import Experts
from moe_tutorial.layer.feed_forward import FeedForward
from moe_tutorial.routing.decision import Routing
from moe_tutorial.routing.router import Router
from moe_tutorial.routing.summary import Summary
from moe_tutorial.validation import check_choice, check_flag, check_kind


@dataclass(frozen=True, eq=False, repr=False)
class MoEOutput(Summary):
    """What an MoE layer returns.

    Attributes:
        y_TD: the layer's output, with the shape of its input.
        routing: the decision that led to it.
    """

    y_TD: Tensor
    routing: Routing

    def summary(self) -> dict[str, str]:
        """The size of the output, and what is to be said of the routing."""
        dtype = str(self.y_TD.dtype).removeprefix("torch.")
        return {"y_TD": f"{tuple(self.y_TD.shape)}, {dtype}"} | self.routing.summary()


torch.export.register_dataclass(MoEOutput)  # so that FSDP and torch.func find its tensors


class MoELayer(nn.Module):
    r"""Route every token to K experts and add up what they return, weighted by their gates.

    .. math:: y_t = \sum_{e \in S_t} g_{te} \, f_e(u_t) + \sigma(u_t \cdot w) \, f_{shared}(u_t)

    (Shazeer et al. 2017, equation 1; the shared expert as in DeepSeekMoE, Dai et al. 2024, its
    gate as in Qwen2-MoE.)

    Args:
        router: chooses the experts.
        experts: as many as the router knows, of its width; its null experts have no weights, and
            return the token or nothing.
        shared: an expert that every token uses; None for none.
        shared_gate: whether a learned sigmoid of the token weighs the shared expert's output.
        gates_on: ``"output"``, or ``"input"`` to scale the token before its expert (Llama 4).

    Raises:
        TypeError: a part that is something else.
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
        check_kind("router", router, Router)
        check_kind("experts", experts, Experts)
        check_flag("shared_gate", shared_gate)
        check_choice("gates_on", gates_on, ("output", "input"))
        model_width = router.model_width
        num_experts = router.num_experts - router.config.null_experts
        if experts.out_EDF.shape[:2] != (num_experts, model_width):
            raise ValueError(
                f"experts must be {num_experts} of width {model_width} as in router, got "
                f"{experts.out_EDF.shape[0]} of width {experts.out_EDF.shape[1]}"
            )
        if shared is not None:
            check_kind("shared", shared, FeedForward)
            if shared.into.in_features != model_width:
                raise ValueError(
                    f"shared must have width {model_width} as router, got {shared.into.in_features}"
                )
        if shared_gate and shared is None:
            raise ValueError("shared_gate=True needs a shared expert, got shared=None")
        if gates_on == "input" and router.config.null_experts:
            raise ValueError("gates_on='input' needs a router without null experts")
        self.router = router
        self.experts = experts
        self.shared = shared
        self.shared_gate = nn.Linear(model_width, 1, bias=False) if shared_gate else None
        self.gates_on = gates_on

    @classmethod
    def from_transformers(cls, block: nn.Module) -> "MoELayer":
        """A layer that computes what a block of transformers does, with a copy of its weights.

        Args:
            block: such as a ``MixtralSparseMoeBlock``, with ordinary experts; see
                :func:`moe_tutorial.models.layers.layer_from_transformers`.

        Raises:
            TypeError, ValueError: a block that the router zoo does not know, or whose experts are
                more than SwiGLU networks; the message names the class and its field.
        """
        # What is known of other people's code is a later part of the book, and is asked for only
        # when somebody has such a block.
        from moe_tutorial.models.layers import layer_from_transformers

        return layer_from_transformers(block)

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
        experts_TK, gates_TK = routing.experts_TK, routing.gates_TK
        if self.gates_on == "input":
            # Every assignment becomes a token of its own, scaled before and added up after.
            u_TKD = (x_TD.unsqueeze(-2) * gates_TK.unsqueeze(-1)).to(x_TD.dtype)
            ones_TK1 = torch.ones_like(gates_TK).unsqueeze(-1)
            y_TD = self.experts(u_TKD, experts_TK.unsqueeze(-1), ones_TK1).sum(-2)
        elif self.router.config.null_experts:
            y_TD = self._with_null_experts(x_TD, experts_TK, gates_TK)
        else:
            y_TD = self.experts(x_TD, experts_TK, gates_TK)
        if self.shared is not None:
            shared_TD = self.shared(x_TD)
            if self.shared_gate is not None:
                shared_TD = torch.sigmoid(self.shared_gate(x_TD)) * shared_TD
            y_TD = y_TD + shared_TD
        return MoEOutput(y_TD, routing)

    def _with_null_experts(self, x_TD: Tensor, experts_TK: Tensor, gates_TK: Tensor) -> Tensor:
        # Weights are there for the first experts only. Another one takes the place of a null
        # expert and gets the gate 0.
        null_TK = experts_TK >= len(self.experts.out_EDF)
        y_TD: Tensor = self.experts(
            x_TD, experts_TK.masked_fill(null_TK, 0), gates_TK.masked_fill(null_TK, 0)
        )
        if self.router.config.null == "skip":
            return y_TD
        identity_T1 = gates_TK.masked_fill(~null_TK, 0).sum(-1, keepdim=True)
        y_TD += (identity_T1 * x_TD).to(y_TD.dtype)
        return y_TD

    def extra_repr(self) -> str:
        """Where the gates act, as ``print(layer)`` shows it."""
        return f"gates_on={self.gates_on!r}"
