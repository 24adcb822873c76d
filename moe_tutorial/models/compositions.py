"""Routers that one configuration does not describe: each is a Router with one step of its own.

What is no function of the token alone is given to ``forward`` by name.               Chapter 11.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from moe_tutorial.routing.configuration import RouterConfig
from moe_tutorial.routing.decision import Routing, decide
from moe_tutorial.routing.gates import gates_of, scores_of
from moe_tutorial.routing.router import Router
from moe_tutorial.validation import check_id_range, check_int64, check_kind


class ScoredRouter(Router):
    """A router whose logits come from a module in the place of centroids.

    Args:
        scorer: makes logits ``[T, E]`` of tokens ``[T, D]``, with any leading dimensions.
        model_width: D.
        num_experts: E.
        config: what becomes of the logits.
        selection_bias: whether there is one.
    """

    def __init__(
        self,
        scorer: nn.Module,
        model_width: int,
        num_experts: int,
        config: RouterConfig,
        *,
        selection_bias: bool = False,
    ) -> None:
        super().__init__(model_width, num_experts, config, selection_bias=selection_bias)
        check_kind("scorer", scorer, nn.Module)
        self.centroids_ED = None  # type: ignore[assignment]
        self.scorer = scorer

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:  # noqa: ARG002
        """Put the selection bias back to zero; the scorer draws its weights itself."""
        if self.bias_E is not None:
            nn.init.zeros_(self.bias_E)

    def logits(self, x_TD: Tensor) -> Tensor:
        """What the scorer says of the tokens."""
        logits_TE: Tensor = self.scorer(x_TD)
        return logits_TE


class ProductKeys(nn.Module):
    r"""n * n experts from 2n keys: expert (i, j) is scored by one key of each half.

    .. math:: l_{t,(i, j)} = u_t \cdot a_i + u_t \cdot b_j

    So an expert's centroid is :math:`a_i + b_j` (PEER, He 2024).

    Args:
        keys_ND: the keys a and then b, ``[2n, D]``.
        mixed: as Doge has it in transformers, where a ``view`` in the place of a split hands the
            scores of token t to other tokens as soon as there are two.
    """

    def __init__(self, keys_ND: Tensor, mixed: bool = False) -> None:
        super().__init__()
        self.keys_ND = nn.Parameter(keys_ND.detach().clone())
        self.mixed = mixed

    def forward(self, x_TD: Tensor) -> Tensor:
        """Logits ``[T, n * n]`` of tokens ``[T, D]``."""
        scores_TN = nn.functional.linear(x_TD, self.keys_ND)
        n = scores_TN.shape[-1] // 2
        if self.mixed:
            first, second = scores_TN.reshape(2, *scores_TN.shape[:-1], n)
        else:
            first, second = scores_TN[..., :n], scores_TN[..., n:]
        logits_TE: Tensor = (first.unsqueeze(-1) + second.unsqueeze(-2)).flatten(-2)
        return logits_TE


@dataclass(frozen=True, eq=False, repr=False)
class RoutingWithState(Routing):
    """A decision, and what the router of the next layer adds to its own.

    Attributes:
        state_TH: ``[T, H]``.
    """

    state_TH: Tensor


class StatefulRouter(ScoredRouter):
    """Zaya's router: a small network, to whose input the layer before adds its own.

    h = U u + scale h_before;  l = network(h).

    Args:
        into: U, from tokens ``[T, D]`` to ``[T, H]``.
        network: from ``[T, H]`` to logits ``[T, E]``.
        scale_H: of the state of the layer before; None in the first layer.
        config: what becomes of the logits.
    """

    def __init__(
        self, into: nn.Linear, network: nn.Module, scale_H: Tensor | None, config: RouterConfig,
        num_experts: int,
    ) -> None:  # fmt: skip
        super().__init__(network, into.in_features, num_experts, config, selection_bias=True)
        self.into = into
        self.scale_H = None if scale_H is None else nn.Parameter(scale_H.detach().clone())

    def forward(
        self,
        x_TD: Tensor,
        generator: torch.Generator | None = None,
        *,
        state_TH: Tensor | None = None,
    ) -> RoutingWithState:
        """Route tokens, with the state that the layer before returned, if there is one."""
        hidden_TH: Tensor = self.into(x_TD)
        if state_TH is not None:
            if self.scale_H is None:
                raise ValueError("state_TH must be None for a router of the first layer")
            hidden_TH = hidden_TH + state_TH * self.scale_H
        routing = decide(self.logits(hidden_TH), self.config, self.bias_E, None, generator)
        return RoutingWithState(**vars(routing), state_TH=hidden_TH)


class HashRouter(Router):
    """Experts from a table of token ids; the token's vector decides over their gates alone.

    (Hash layers, Roller et al. 2021, with learned gates in the first layers of DeepSeek-V4.)

    Args:
        model_width: D.
        num_experts: E.
        config: how gates are made.
        table_VK: int64 ids of the experts of each of V token ids.
    """

    table_VK: Tensor

    def __init__(
        self, model_width: int, num_experts: int, config: RouterConfig, table_VK: Tensor
    ) -> None:
        super().__init__(model_width, num_experts, config)
        check_int64("table_VK", table_VK, "expert ids")
        check_id_range("table_VK", table_VK, num_experts)
        self.register_buffer("table_VK", table_VK.clone())

    def forward(
        self,
        x_TD: Tensor,
        generator: torch.Generator | None = None,  # noqa: ARG002
        *,
        token_ids_T: Tensor | None = None,
    ) -> Routing:
        """Route tokens ``[T, D]`` by their ids ``[T]``, which must be given."""
        if token_ids_T is None:
            raise ValueError("token_ids_T must be given, since a hash router chooses by them")
        check_int64("token_ids_T", token_ids_T, "token ids")
        check_id_range("token_ids_T", token_ids_T, len(self.table_VK))
        logits_TE = self.logits(x_TD)
        probabilities_TE = scores_of(logits_TE, self.config, 1.0)
        experts_TK = self.table_VK[token_ids_T]
        gates_TK = gates_of(logits_TE, probabilities_TE, experts_TK, self.config)
        return Routing(logits_TE, probabilities_TE, experts_TK, gates_TK)


@dataclass(frozen=True, eq=False, repr=False)
class RoutingWithShared(Routing):
    """A decision whose gates sum to the scale together with those of the shared experts.

    Attributes:
        shared_gates_TS: ``[T, S]``.
    """

    shared_gates_TS: Tensor


class JointRouter(Router):
    """Inkling's router: shared experts are always chosen, and share in the sum of the gates.

    Args:
        model_width: D.
        num_experts: E, of those that are chosen from.
        num_shared: S.
        config: of all.
    """

    def __init__(
        self, model_width: int, num_experts: int, num_shared: int, config: RouterConfig
    ) -> None:
        super().__init__(model_width, num_experts, config, selection_bias=True)
        self.shared_SD = nn.Parameter(self.centroids_ED.new_zeros(num_shared, model_width))

    def forward(self, x_TD: Tensor, generator: torch.Generator | None = None) -> RoutingWithShared:
        """Route tokens ``[T, D]``."""
        logits_TE = self.logits(x_TD)
        shared_TS = nn.functional.linear(x_TD.to(logits_TE.dtype), self.shared_SD)
        routing = decide(logits_TE, self.config, self.bias_E, None, generator)
        both_TX = torch.cat([logits_TE, shared_TS], dim=-1)
        shared = torch.arange(len(self.shared_SD), device=x_TD.device) + self.num_experts
        ids_TX = torch.cat(
            [routing.experts_TK, shared.expand(*x_TD.shape[:-1], len(shared))], dim=-1
        )
        probabilities_TX = scores_of(both_TX, self.config, 1.0)
        gates_TX = gates_of(both_TX, probabilities_TX, ids_TX, self.config)
        k = self.config.k
        gates_TK, shared_gates_TS = gates_TX[..., :k], gates_TX[..., k:]
        return RoutingWithShared(
            **vars(replace(routing, gates_TK=gates_TK)), shared_gates_TS=shared_gates_TS
        )


class ModalityRouter(nn.Module):
    """ERNIE 4.5-VL's two routers: text tokens have experts of their own, and so have images'.

    Text's experts are 0 .. E-1 and the others' E .. 2E-1, so that counts of ids do not mix them.

    Args:
        text, vision: two routers of one width and one k.
    """

    def __init__(self, text: Router, vision: Router) -> None:
        super().__init__()
        self.text, self.vision = text, vision

    def forward(
        self,
        x_TD: Tensor,
        generator: torch.Generator | None = None,
        *,
        is_vision_T: Tensor | None = None,
    ) -> Routing:
        """Route tokens ``[T, D]``; all are text where ``is_vision_T`` (bool) is not given."""
        if is_vision_T is None:
            is_vision_T = torch.zeros(x_TD.shape[:-1], dtype=torch.bool, device=x_TD.device)
        routings: list[Any] = [self.text(x_TD, generator), self.vision(x_TD, generator)]
        text, vision = routings
        fields = {
            "experts_TK": torch.where(
                is_vision_T[..., None], vision.experts_TK + self.text.num_experts, text.experts_TK
            ),
            "gates_TK": torch.where(is_vision_T[..., None], vision.gates_TK, text.gates_TK),
        }
        for name, nothing in (("logits_TE", -torch.inf), ("probabilities_TE", 0.0)):
            theirs = [getattr(text, name), getattr(vision, name)]
            masks = (is_vision_T[..., None], ~is_vision_T[..., None])
            parts = [it.masked_fill(m, nothing) for it, m in zip(theirs, masks, strict=True)]
            fields[name] = torch.cat(parts, dim=-1)
        return Routing(**fields)
