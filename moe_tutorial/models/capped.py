"""Routers with a capacity: what an expert accepts hangs on the other tokens of the batch.

kept are the first C assignments in each expert's queue.                    Chapters 09 and 11.
"""

import math
from dataclasses import replace

import torch
from torch import Tensor

from moe_tutorial.learning.capacity import within_capacity
from moe_tutorial.routing.configuration import RouterConfig
from moe_tutorial.routing.decision import LimitedRouting, Routing
from moe_tutorial.routing.router import Router


class CappedRouter(Router):
    """The routers of Switch Transformers and NLLB as transformers has them.

    Args:
        model_width: D.
        num_experts: E.
        config: what becomes of the logits, before any drop.
        capacity: C; None for 2 ceil(T / E).
        eval_share: in evaluation C is the ceiling of this share of the tokens; None for the same
            C as in training.
        per_sequence: whether each sequence of ``[B, S, D]`` has its own queues (Switch), or all
            tokens share one (NLLB).
        surest_first: whether tokens queue by their largest probability (batch-prioritised routing,
            Riquelme et al. 2021), or in their order.
        renormalise_kept: whether the gates of what was kept are divided by their sum.
        logit_bias: whether there is one.
    """

    def __init__(
        self,
        model_width: int,
        num_experts: int,
        config: RouterConfig,
        *,
        capacity: int | None,
        eval_share: float | None = None,
        per_sequence: bool = False,
        surest_first: bool = False,
        renormalise_kept: bool = False,
        logit_bias: bool = False,
    ) -> None:
        super().__init__(model_width, num_experts, config, logit_bias=logit_bias)
        self.capacity = capacity
        self.eval_share = eval_share
        self.per_sequence = per_sequence
        self.surest_first = surest_first
        self.renormalise_kept = renormalise_kept

    def forward(
        self,
        x_TD: Tensor,
        generator: torch.Generator | None = None,
        *,
        mask_T: Tensor | None = None,
    ) -> LimitedRouting:
        """Route tokens ``[T, D]`` or ``[B, S, D]``; ``mask_T`` is False for padding."""
        routing = super().forward(x_TD, generator)
        if not (self.per_sequence and x_TD.ndim > 2):
            kept_TK = self._kept(routing, mask_T)
        else:
            rows = [
                self._kept(_row(routing, b), None if mask_T is None else mask_T[b])
                for b in range(len(x_TD))
            ]
            kept_TK = torch.stack(rows) if rows else routing.experts_TK.bool()
        gates_TK = routing.gates_TK.masked_fill(~kept_TK, 0)
        if self.renormalise_kept:
            least = torch.finfo(gates_TK.dtype).eps
            gates_TK = gates_TK / gates_TK.sum(-1, keepdim=True).clamp(min=least)
        return LimitedRouting(**vars(replace(routing, gates_TK=gates_TK)), kept_TK=kept_TK)

    def _kept(self, routing: Routing, mask_T: Tensor | None) -> Tensor:
        capacity = self._capacity_of(math.prod(routing.experts_TK.shape[:-1]))
        experts_TK, gates_TK = routing.experts_TK.flatten(0, -2), routing.gates_TK.flatten(0, -2)
        mask_T = None if mask_T is None else mask_T.flatten()
        order_T = torch.arange(len(experts_TK), device=experts_TK.device)
        if self.surest_first:
            surest_T = routing.probabilities_TE.detach().amax(-1).flatten()
            order_T = surest_T.argsort(descending=True, stable=True)
        sorted_mask_T = None if mask_T is None else mask_T[order_T]
        kept_TK = within_capacity(
            experts_TK[order_T], gates_TK[order_T], self.num_experts, capacity, mask_T=sorted_mask_T
        )
        return kept_TK[order_T.argsort()].view(routing.experts_TK.shape)

    def _capacity_of(self, num_tokens: int) -> int:
        if self.eval_share is not None and not self.training:
            return math.ceil(self.eval_share * num_tokens)
        if self.capacity is None:
            return 2 * math.ceil(num_tokens / self.num_experts)
        return self.capacity


def _row(routing: Routing, index: int) -> Routing:
    return Routing(*(getattr(routing, name)[index] for name in Routing.__dataclass_fields__))
