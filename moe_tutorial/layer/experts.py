"""Experts: E feed-forward networks of one shape, their weights stacked in one tensor each.

f_e(u) = act(u W_in,e) W_out,e.                                                     Chapter 06.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from moe_tutorial.validation import check_choice, check_size

Activation = Literal["gelu", "swiglu"]


def first_width(hidden_width: int, activation: Activation) -> int:
    """H, the columns of an expert's first matrix: F, or 2F where one half gates the other."""
    return hidden_width if activation == "gelu" else 2 * hidden_width


def activate(hidden_RH: Tensor, activation: Activation) -> Tensor:
    r"""The nonlinearity between an expert's two matrices.

    .. math:: \operatorname{gelu}(h), \qquad
              \operatorname{swiglu}([g, u]) = \operatorname{silu}(g) \odot u

    Args:
        hidden_RH: ``[R, H]``; for ``"swiglu"`` H = 2F, the gate half first (Shazeer 2020).
        activation: ``"gelu"`` (exact, with the error function) or ``"swiglu"``.

    Returns:
        activated_RF: ``[R, H]`` or, for ``"swiglu"``, ``[R, H / 2]``, dtype of the input.
    """
    if activation == "gelu":
        return nn.functional.gelu(hidden_RH)
    gate_RF, up_RF = hidden_RH.chunk(2, dim=-1)
    return nn.functional.silu(gate_RF) * up_RF


class Experts(nn.Module):
    """E feed-forward networks with stacked weights.

    The weights are used as ``x @ W``, so their shape is ``[E, in, out]``. In memory they lie as
    those of ``nn.Linear`` do, output by output: on a CPU, products of few rows are a few percent
    faster so.

    Args:
        num_experts: E.
        model_width: D, the width of a token.
        hidden_width: F, the width between the two matrices.
        activation: ``"swiglu"`` (its first matrix makes 2F numbers) or ``"gelu"``.
        bias: whether both matrices have a bias.

    Attributes:
        in_EDH: ``[E, D, H]`` with H = F, or 2F for SwiGLU, the gate half first.
        out_EFD: ``[E, F, D]``.
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
        self.in_EDH = nn.Parameter(torch.empty(num_experts, width, model_width).mT)
        self.out_EFD = nn.Parameter(torch.empty(num_experts, model_width, hidden_width).mT)
        self.in_bias_EH = nn.Parameter(torch.empty(num_experts, width)) if bias else None
        self.out_bias_ED = nn.Parameter(torch.empty(num_experts, model_width)) if bias else None
        self.reset_parameters()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the weights as ``nn.Linear`` does, uniform within 1/sqrt(fan in)."""
        for weight, bias in ((self.in_EDH, self.in_bias_EH), (self.out_EFD, self.out_bias_ED)):
            bound = 1 / math.sqrt(weight.shape[1])
            # Drawn row by row, however the weights lie in memory: a seed gives the same numbers.
            drawn = torch.empty_like(weight, memory_format=torch.contiguous_format)
            with torch.no_grad():
                weight.copy_(nn.init.uniform_(drawn, -bound, bound, generator=generator))
            if bias is not None:
                nn.init.uniform_(bias, -bound, bound, generator=generator)

    def extra_repr(self) -> str:
        """The configuration, as ``print(experts)`` shows it."""
        num_experts, hidden_width, model_width = self.out_EFD.shape
        return (
            f"num_experts={num_experts}, model_width={model_width}, hidden_width={hidden_width}, "
            f"activation={self.activation!r}, bias={self.in_bias_EH is not None}"
        )
