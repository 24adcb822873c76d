"""A feed-forward network: two matrices and a nonlinearity, dense or one of E experts.

f(u) = act(u W_in) W_out.                                                           Chapter 06.
"""

from typing import Literal, NamedTuple

from torch import Tensor, nn

from moe_tutorial.validation import check_choice, check_size

Activation = Literal["gelu", "swiglu"]


def first_width(hidden_width: int, activation: Activation) -> int:
    """H, the columns of the first matrix: F, or 2F where one half gates the other."""
    return hidden_width if activation == "gelu" else 2 * hidden_width


def activate(hidden_RH: Tensor, activation: Activation) -> Tensor:
    r"""The nonlinearity between the two matrices.

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


class ExpertWeights(NamedTuple):
    """What E experts of one shape are: their weights, stacked as ``nn.Linear`` stores one.

    Attributes:
        in_EHD: the first matrices, ``[E, H, D]`` with H = F, or 2F for SwiGLU, the gate half first.
        out_EDF: the second matrices, ``[E, D, F]``.
        activation: ``"gelu"`` or ``"swiglu"``.
        in_bias_EH: ``[E, H]``, or None.
        out_bias_ED: ``[E, D]``, or None; both biases are there or neither.
    """

    in_EHD: Tensor
    out_EDF: Tensor
    activation: Activation
    in_bias_EH: Tensor | None = None
    out_bias_ED: Tensor | None = None


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
