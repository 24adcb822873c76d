"""Experts: E feed-forward networks of one shape, their weights stacked in one tensor each.

f_e(u) = act(u W_in,e) W_out,e.                                                     Chapter 06.
"""

import math

import torch
from torch import Tensor, nn

from moe_tutorial.layer.dispatch import dispatch
from moe_tutorial.layer.feed_forward import Activation, ExpertWeights, first_width
from moe_tutorial.validation import check_choice, check_size


class Experts(nn.Module):
    """E feed-forward networks with stacked weights.

    Each weight is stored as ``nn.Linear`` stores its own, ``[out, in]``, and used as ``x @ W.T``.

    Args:
        num_experts: E.
        model_width: D, the width of a token.
        hidden_width: F, the width between the two matrices.
        activation: ``"swiglu"`` (its first matrix makes 2F numbers) or ``"gelu"``.
        bias: whether both matrices have a bias.

    Attributes:
        in_EHD: ``[E, H, D]`` with H = F, or 2F for SwiGLU, the gate half first.
        out_EDF: ``[E, D, F]``.
        in_bias_EH: ``[E, H]``, or None.
        out_bias_ED: ``[E, D]``, or None.

    Raises:
        TypeError, ValueError: a size that is no positive int, or an unknown activation.
    """

    def __init__(
        self,
        num_experts: int,
        model_width: int,
        hidden_width: int,
        *,
        activation: Activation = "swiglu",
        bias: bool = False,
    ) -> None:
        super().__init__()
        check_size("num_experts", num_experts)
        check_size("model_width", model_width)
        check_size("hidden_width", hidden_width)
        check_choice("activation", activation, ("gelu", "swiglu"))
        self.activation: Activation = activation
        width = first_width(hidden_width, activation)
        self.in_EHD = nn.Parameter(torch.empty(num_experts, width, model_width))
        self.out_EDF = nn.Parameter(torch.empty(num_experts, model_width, hidden_width))
        self.in_bias_EH = nn.Parameter(torch.empty(num_experts, width)) if bias else None
        self.out_bias_ED = nn.Parameter(torch.empty(num_experts, model_width)) if bias else None
        self.reset_parameters()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the weights as ``nn.Linear`` does, uniform within 1/sqrt(fan in).

        Args:
            generator: the source of randomness, on the weights' device; None takes torch's own.
        """
        for weight, bias in ((self.in_EHD, self.in_bias_EH), (self.out_EDF, self.out_bias_ED)):
            bound = 1 / math.sqrt(weight.shape[2])
            # Drawn input by input, as the numbers that the book stores were.
            drawn = torch.empty_like(weight.mT, memory_format=torch.contiguous_format)
            with torch.no_grad():
                weight.copy_(nn.init.uniform_(drawn, -bound, bound, generator=generator).mT)
            if bias is not None:
                nn.init.uniform_(bias, -bound, bound, generator=generator)

    @property
    def weights(self) -> ExpertWeights:
        """All that the experts are, as :func:`~moe_tutorial.layer.dispatch.dispatch` takes it."""
        return ExpertWeights(
            self.in_EHD, self.out_EDF, self.activation, self.in_bias_EH, self.out_bias_ED
        )

    def forward(self, x_TD: Tensor, experts_TK: Tensor, gates_TK: Tensor) -> Tensor:
        """Run each token's chosen experts and add up their outputs, weighted by the gates.

        Args:
            x_TD: tokens, ``[T, D]`` with any leading dimensions.
            experts_TK: int64 ids of the chosen experts, ``[T, K]``; an id named twice counts twice.
            gates_TK: ``[T, K]``.

        Returns:
            y_TD: shape and dtype of ``x_TD``; under autocast, in its dtype.

        Raises:
            TypeError, ValueError: as :func:`~moe_tutorial.layer.dispatch.dispatch`.
        """
        return dispatch(x_TD, experts_TK, gates_TK, self.weights)

    def extra_repr(self) -> str:
        """The configuration, as ``print(experts)`` shows it."""
        num_experts, model_width, hidden_width = self.out_EDF.shape
        return (
            f"num_experts={num_experts}, model_width={model_width}, hidden_width={hidden_width}, "
            f"activation={self.activation!r}, bias={self.in_bias_EH is not None}"
        )
