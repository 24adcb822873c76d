"""What is computed: an MoE layer, the same for every implementation.

Of the expert part, chosen experts and gates are given; of the whole layer, the router's weight.
"""

import abc
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from moe_tutorial import softmax_over_chosen, top_k
from moe_tutorial.layer.experts import Experts
from moe_tutorial.layer.feed_forward import Activation

CACHED = 2**26
"""Bytes: weights above this fit no cache, so that sharing them favours nobody."""


class SkippedError(Exception):
    """An implementation that cannot take part, with its reason."""


@dataclass(frozen=True)
class Size:
    """T tokens of width D, E experts of hidden width F, K experts for each token."""

    tokens: int
    model_width: int
    hidden_width: int
    num_experts: int
    k: int
    activation: Activation

    @classmethod
    def parse(cls, text: str) -> "Size":
        """Read ``"T,D,F,E,K,activation"``; G and S stand for gelu and swiglu."""
        *numbers, activation = text.replace(" ", ",").split(",")
        names: dict[str, Activation] = {
            "G": "gelu", "S": "swiglu", "gelu": "gelu", "swiglu": "swiglu"
        }  # fmt: skip
        if len(numbers) != 5 or activation not in names:
            raise ValueError(f"a size is T,D,F,E,K,gelu or T,D,F,E,K,swiglu, got {text!r}")
        tokens, model_width, hidden_width, num_experts, k = map(int, numbers)
        return cls(tokens, model_width, hidden_width, num_experts, k, names[activation])

    def __str__(self) -> str:
        numbers = (self.tokens, self.model_width, self.hidden_width, self.num_experts, self.k)
        return ",".join(map(str, numbers)) + (" G" if self.activation == "gelu" else " S")

    @property
    def inner_width(self) -> int:
        """H: what the first matrix makes, 2F for SwiGLU."""
        return self.hidden_width * (2 if self.activation == "swiglu" else 1)

    @property
    def flops(self) -> int:
        """Multiplications and additions of the forward's matmuls; the backward has twice these."""
        width = self.inner_width + self.hidden_width
        return 2 * self.tokens * self.k * self.model_width * width


class Problem:
    """The same tokens, weights, experts, gates, router and incoming gradient for everybody.

    Gates have the tokens' dtype: with float32 gates some peers would compute in float32.
    """

    def __init__(self, size: Size, device: torch.device, dtype: torch.dtype, seed: int = 0) -> None:
        self.size = size
        generator = torch.Generator(device).manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, device=device)

        with torch.device(device):
            experts = Experts(
                size.num_experts, size.model_width, size.hidden_width, activation=size.activation
            )
        experts.reset_parameters(generator)
        logits_TE = normal(size.tokens, size.num_experts)
        self.x_TD = normal(size.tokens, size.model_width).to(dtype)
        self.grad_TD = normal(size.tokens, size.model_width).to(dtype)
        self.experts_TK = top_k(logits_TE, size.k)
        self.gates_TK = softmax_over_chosen(logits_TE, self.experts_TK).to(dtype)
        self.in_EHD = experts.in_EHD.detach().to(dtype)
        self.out_EDF = experts.out_EDF.detach().to(dtype)
        centroids_ED = normal(size.num_experts, size.model_width) / math.sqrt(size.model_width)
        self.centroids_ED = centroids_ED.to(dtype)

    def weights(self) -> tuple[Tensor, Tensor]:
        """Both weights, ``[E, out, in]``: as ``nn.Linear`` keeps them, and all peers of today."""
        if self.in_EHD.nbytes + self.out_EDF.nbytes > CACHED:
            return self.in_EHD, self.out_EDF
        return self.in_EHD.clone(), self.out_EDF.clone()


class Layer(abc.ABC):
    """One implementation, ready to run."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.grad_TD = problem.grad_TD
        self.x_TD = problem.x_TD.clone().requires_grad_()
        self.gates_TK = problem.gates_TK.clone().requires_grad_()

    @abc.abstractmethod
    def forward(self) -> Tensor:
        """The output ``y_TD``."""

    @abc.abstractmethod
    def leaves(self) -> list[Tensor]:
        """The weights that want a gradient."""

    @abc.abstractmethod
    def weight_gradients(self) -> tuple[Tensor, Tensor]:
        """The gradients, ``[E, out, in]``."""

    def weighing(self) -> tuple[str, Tensor]:
        """What weighs the experts and wants a gradient too, with its name."""
        return "gates", self.gates_TK

    def forward_only(self) -> Tensor:
        """What is timed as "forward": nothing is kept for a backward."""
        with torch.no_grad():
            return self.forward()

    def forward_backward(self) -> None:
        """What is timed as "forward+backward": fresh gradients for everything."""
        torch.autograd.backward(self.forward(), self.grad_TD)

    def clear(self) -> None:
        """Drop all gradients."""
        for leaf in (self.x_TD, self.gates_TK, *self.leaves()):
            leaf.grad = None

    def results(self) -> dict[str, Tensor]:
        """The output and every gradient, to be compared."""
        y_TD = self.forward()
        torch.autograd.backward(y_TD, self.grad_TD)
        name, weighing = self.weighing()
        assert self.x_TD.grad is not None
        assert weighing.grad is not None
        in_EHD, out_EDF = self.weight_gradients()
        results = {
            "output": y_TD.detach(),
            "gradient of the tokens": self.x_TD.grad,
            f"gradient of the {name}": weighing.grad,
            "gradient of the first weights": in_EHD,
            "gradient of the second weights": out_EDF,
        }
        self.clear()
        return results
