"""Routers of other programs and papers: as recipes where they are, else as one short function.

Sinkhorn, top-p, ReLU and cosine gates, and a second expert that is drawn.            Chapter 11.
"""

import math

import torch
from torch import Tensor, nn

from moe_tutorial.models.recipes import Recipe
from moe_tutorial.routing.configuration import Groups, RouterConfig
from moe_tutorial.routing.sampling import gumbel_top_k
from moe_tutorial.routing.scores import cosine_scores
from moe_tutorial.validation import (
    check_k,
    check_logits,
    check_positive_number,
    check_probabilities,
    check_size,
)

ELSEWHERE: dict[str, Recipe] = {
    # A group's score is the sum of its K // kept best: 2 as in DeepSeek-V3 only where that is 2.
    "Megatron-Core": Recipe(
        256,
        RouterConfig(8, "sigmoid", groups=Groups(8, 4, 8 // 4), epsilon=1e-20, gate_scale=2.5),
        selection_bias=True,
    ),
    "torchtitan": Recipe(64, RouterConfig(6, "sigmoid", renormalise=False), selection_bias=True),
    "sigma-MoE": Recipe(128, RouterConfig(4, "sigmoid", renormalise=False)),
}
"""Megatron-Core as it trains DeepSeek-V3, torchtitan's default, and sigma-MoE."""


def sinkhorn(scores_TE: Tensor, tolerance: float = 1e-4, most: int = 1000) -> Tensor:
    r"""Scale rows and columns of a batch until every expert has the same share of it.

    .. math:: P_{te} = r_t \, e^{l_{te}} c_e, \qquad \sum_e P_{te} = \frac1T, \qquad
              \sum_t P_{te} = \frac1E

    S-BASE (Clark et al. 2022) chooses each token's largest P in training. A token's choice then
    hangs on the whole batch, so evaluation takes the largest logit instead: another choice.

    Args:
        scores_TE: logits, ``[T, E]``.
        tolerance: how much a column's factor may still change, on average.
        most: how many rounds there are at most.

    Returns:
        P_TE: positive, sum 1.

    Raises:
        TypeError, ValueError: logits that are not finite floating point, or a bad number.
    """
    check_logits("scores_TE", scores_TE)
    check_positive_number("tolerance", tolerance)
    check_size("most", most)
    cost_TE = torch.exp(scores_TE - scores_TE.amax())
    tokens, experts = cost_TE.shape
    column_E = cost_TE.new_ones(experts)
    for _ in range(most):
        row_T = 1 / (tokens * (cost_TE @ column_E))
        next_E = 1 / (experts * (row_T @ cost_TE))
        change = ((next_E - column_E).abs() / next_E).mean()
        column_E = next_E
        if change < tolerance:
            break
    row_T = 1 / (tokens * (cost_TE @ column_E))
    return row_T[:, None] * cost_TE * column_E


def top_p_gates(probabilities_TE: Tensor, p: float) -> Tensor:
    r"""Gates of as many experts as it takes for their probabilities to sum to p.

    .. math:: S_t = \text{the fewest experts, largest first, with } \sum_{e \in S_t} s_{te} \ge p

    An undecided token gets more experts than a sure one (Huang et al. 2024), so K
    varies, and gates come as a row of E with zeros.

    Args:
        probabilities_TE: ``[T, E]``, rows that sum to 1.
        p: above 0 and at most 1.

    Returns:
        gates_TE: the probabilities of the chosen, 0 elsewhere.

    Raises:
        TypeError, ValueError: rows that are no distributions, or a p out of range.
    """
    check_probabilities("probabilities_TE", probabilities_TE)
    check_positive_number("p", p)
    if p > 1:
        raise ValueError(f"p must be at most 1, got {p}")
    sorted_TE, order_TE = torch.sort(probabilities_TE, dim=-1, descending=True, stable=True)
    before_TE = sorted_TE.cumsum(-1) - sorted_TE
    kept_TE = sorted_TE.masked_fill(before_TE >= p, 0)
    return torch.zeros_like(kept_TE).scatter(-1, order_TE, kept_TE)


def relu_gates(logits_TE: Tensor) -> Tensor:
    r"""Gates that are the logits where these are positive: no K, and no jump anywhere.

    .. math:: g_{te} = \max(l_{te}, 0)

    (ReMoE, Wang et al. 2025.) How many experts a token gets, a loss has to hold down.

    Args:
        logits_TE: ``[T, E]``.

    Returns:
        gates_TE: 0 for the experts that are not chosen.

    Raises:
        TypeError, ValueError: logits that are not finite floating point.
    """
    check_logits("logits_TE", logits_TE)
    return torch.relu(logits_TE)


class CosineScorer(nn.Module):
    r"""Tutel's cosine router: a projection to few dimensions, and a learned, bounded sharpness.

    .. math:: l_{te} = \min(e^{\theta}, 100) \, \cos(P u_t, w_e)

    (Chi et al. 2022; Tutel's ``CosineTopKGate``.) It is a scorer of a
    :class:`~moe_tutorial.models.compositions.ScoredRouter`.

    Args:
        model_width: D.
        num_experts: E.
        width: of the space where directions are compared.
        start: of the temperature :math:`e^{-\theta}`.
    """

    def __init__(
        self, model_width: int, num_experts: int, width: int = 256, start: float = 0.5
    ) -> None:
        super().__init__()
        check_size("model_width", model_width)
        check_size("num_experts", num_experts)
        check_positive_number("start", start)
        self.project = nn.Linear(model_width, width)
        self.centroids_EP = nn.Parameter(0.01 * torch.randn(num_experts, width))
        self.log_scale = nn.Parameter(torch.tensor(-math.log(start)))

    def forward(self, x_TD: Tensor) -> Tensor:
        """Logits ``[T, E]`` of tokens ``[T, D]``."""
        scale = self.log_scale.clamp(max=math.log(100)).exp()
        return cosine_scores(self.project(x_TD), self.centroids_EP, scale)


def top_1_then_drawn(logits_TE: Tensor, generator: torch.Generator | None = None) -> Tensor:
    r"""DeepSpeed's two experts: the best one, and one that is drawn from the softmax of the rest.

    The second is the largest logit plus Gumbel noise, which is such a draw; it is on by default,
    and in evaluation as well.

    Args:
        logits_TE: ``[T, E]`` with E of at least 2.
        generator: the source of randomness; None takes torch's own.

    Returns:
        experts_TK: ``[T, 2]``.

    Raises:
        TypeError, ValueError: logits that are not finite floating point, or one expert.
    """
    check_logits("logits_TE", logits_TE)
    check_k(2, logits_TE.shape[-1])
    first_T1 = logits_TE.argmax(-1, keepdim=True)
    order_TE = gumbel_top_k(logits_TE, 2, 1.0, generator)
    # A draw without replacement, of which the best expert is left out, is a draw from the rest.
    second_T1 = torch.where(order_TE[..., :1] == first_T1, order_TE[..., 1:], order_TE[..., :1])
    return torch.cat([first_T1, second_T1], dim=-1)
