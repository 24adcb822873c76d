"""PhiMoE's rule: two experts, each with a softmax over those that are nearly as good.

g_1 = share of the best among the near;  g_2 = the same without the first.            Chapter 11.
"""

import torch
from torch import Tensor

from moe_tutorial.routing.configuration import RouterConfig
from moe_tutorial.routing.decision import Routing
from moe_tutorial.routing.gates import scores_of
from moe_tutorial.routing.router import Router
from moe_tutorial.routing.selection import largest


def sparsemixer(logits_TE: Tensor, tolerance: float) -> tuple[Tensor, Tensor]:
    r"""PhiMoE's rule in evaluation: two experts, each with a softmax of its own.

    The first gate is the share of the best expert among those whose logits are near to the best,
    :math:`l_{max} - l_e \le 2 \epsilon \max(|l_e|, l_{max})`; the second one is the same after the
    first expert has left. So a gate is 1 where nobody is near, and the two sum to anything from
    about 0.5 to 2 (Liu et al. 2023; transformers' ``sparsemixer``).

    Args:
        logits_TE: ``[T, E]`` with any leading dimensions.
        tolerance: epsilon.

    Returns:
        experts_TK and gates_TK, ``[T, 2]``.
    """
    left_TE, ids, gates = logits_TE, [], []
    for _ in range(2):
        best_T1 = largest(left_TE, 1)
        top_T1 = left_TE.gather(-1, best_T1)
        size_TE = torch.maximum(logits_TE.abs(), top_T1)
        near_TE = (top_T1 - logits_TE) / size_TE <= 2 * tolerance
        shares_TE = torch.softmax(left_TE.masked_fill(~near_TE, -torch.inf), -1)
        ids.append(best_T1)
        gates.append(shares_TE.gather(-1, best_T1))
        left_TE = left_TE.scatter(-1, best_T1, -torch.inf)
    return torch.cat(ids, -1), torch.cat(gates, -1)


class SparseMixerRouter(Router):
    """PhiMoE's router, as it is in evaluation: see :func:`sparsemixer`.

    In training PhiMoE draws its experts and has a gradient of its own; that is refused here.

    Args:
        model_width: D.
        num_experts: E.
        tolerance: how near to the best a logit must be.
    """

    def __init__(self, model_width: int, num_experts: int, tolerance: float) -> None:
        super().__init__(model_width, num_experts, RouterConfig(2, renormalise=False))
        self.tolerance = tolerance

    def forward(
        self,
        x_TD: Tensor,
        generator: torch.Generator | None = None,  # noqa: ARG002
    ) -> Routing:
        """Route tokens ``[T, D]``."""
        if self.training:
            raise RuntimeError("a SparseMixerRouter runs in evaluation only: call eval() first")
        logits_TE = self.logits(x_TD)
        probabilities_TE = scores_of(logits_TE, self.config, 1.0)
        return Routing(logits_TE, probabilities_TE, *sparsemixer(logits_TE, self.tolerance))
