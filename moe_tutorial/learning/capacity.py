"""Capacity: how many tokens an expert accepts, and whom it turns away.

C = ceil(c T K / E);  kept are the first C assignments in each expert's queue.      Chapter 09.
"""

import math
from fractions import Fraction
from typing import Any, Literal

import torch
from torch import Tensor

from moe_tutorial.layer.dispatch import dispatch
from moe_tutorial.layer.experts import Experts
from moe_tutorial.learning.padding import check_mask, filled, filled_experts
from moe_tutorial.routing.combination import combine
from moe_tutorial.routing.decision import LimitedRouting, Routing
from moe_tutorial.validation import (
    check_choice,
    check_finite,
    check_flag,
    check_floating,
    check_generator,
    check_int64,
    check_k,
    check_positive_number,
    check_same_device,
    check_same_shape,
    check_sets,
    check_size,
)

Policy = Literal["first_choices", "position", "gate", "random"]
POLICIES = ("first_choices", "position", "gate", "random")


def expert_capacity(num_tokens: int, num_experts: int, k: int, capacity_factor: float) -> int:
    r"""The most assignments that one expert accepts.

    .. math:: C = \left\lceil c \, \frac{T K}{E} \right\rceil

    A factor of 1 is just enough if all loads are equal, E / K is enough for any routing. With
    K = 1 this is equation 3 of Switch Transformers (Fedus et al. 2021); GShard (Lepikhin et al.
    2020) has K = 2 and C = 2T/E, a factor of 1. The papers leave the rounding open, and programs
    differ: Megatron-LM rounds up, as here; mesh-tensorflow rounds down and has no K in the
    formula, so that its factor 2 at K = 2 is 1 here; MaxText rounds TK/E up before it multiplies.
    Here the factor is taken as the decimal that it prints as: 1.1 times 10 is 11, not 12.

    Args:
        num_tokens: T; padding is best left out.
        num_experts: E.
        k: experts per token.
        capacity_factor: c, positive and finite; the papers use 1 to 2.

    Returns:
        C, an int; 0 for no tokens.

    Raises:
        TypeError, ValueError: an argument outside what is listed above; the message names it.
    """
    check_size("num_tokens", num_tokens, least=0)
    check_size("num_experts", num_experts)
    check_k(k, num_experts)
    check_positive_number("capacity_factor", capacity_factor)
    if capacity_factor == math.inf:
        raise ValueError(f"capacity_factor must be finite, got {capacity_factor}")
    return math.ceil(Fraction(str(capacity_factor)) * num_tokens * k / num_experts)


def within_capacity(
    experts_TK: Tensor,
    gates_TK: Tensor,
    num_experts: int,
    capacity: int,
    policy: Policy = "first_choices",
    *,
    mask_T: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Which assignments fit into their experts.

    Every expert has a queue of the assignments that name it, and keeps the first ``capacity``.
    How many are dropped follows from the loads alone; the policy, the order of the queue, decides
    who they are:

    - ``"first_choices"``: all tokens' first choices, then all second choices, and so on, each in
      the tokens' order. GShard and Switch Transformers do this.
    - ``"position"``: token after token, each with all its choices. The only one of the four under
      which a token's fate does not hang on later ones. MaxText does this.
    - ``"gate"``: the largest gates first, among equals the earlier token. Megatron-LM's "probs";
      for K = 1 the batch-prioritised routing of Riquelme et al. 2021. Gates that are all 1, as
      renormalised ones are at K = 1, leave only the order of position.
    - ``"random"``: in an order drawn anew, the random token selection of Kim et al. 2021.

    All leading dimensions share one capacity, as one group of tokens; where each sequence has its
    own, call this once for each.

    Args:
        experts_TK: int64 ids of the chosen experts, ``[T, K]``, best first, no id twice in a row.
        gates_TK: ``[T, K]``, floating point.
        num_experts: E.
        capacity: C, 0 or more.
        policy: one of the four.
        mask_T: bool ``[T]``, False for padding, which is not kept, takes no place and may hold
            anything; None if there is none.
        generator: the source of randomness of ``"random"``; None takes torch's own.

    Returns:
        kept_TK: bool, ``[T, K]``.

    Raises:
        TypeError: a tensor of the wrong dtype, or a number that is no int.
        ValueError: shapes that do not fit, ids out of range or named twice, gates that are not
            finite, an unknown policy, or two devices.
    """
    experts_TK = filled_experts(experts_TK, mask_T)
    check_sets(experts_TK, num_experts)
    check_floating("gates_TK", gates_TK)
    check_same_shape("gates_TK", gates_TK, "experts_TK", experts_TK)
    check_same_device(experts_TK=experts_TK, gates_TK=gates_TK)
    gates_TK = filled("gates_TK", gates_TK, mask_T)
    check_finite("gates_TK", gates_TK)
    check_size("capacity", capacity, least=0)
    check_choice("policy", policy, POLICIES)
    check_generator(generator, experts_TK)

    wanted_TK = experts_TK
    if mask_T is not None:
        wanted_TK = experts_TK.where(mask_T.unsqueeze(-1), num_experts)
    row_R = torch.arange(wanted_TK.numel(), device=wanted_TK.device)
    if policy == "first_choices":
        served_R = row_R.view(-1, wanted_TK.shape[-1]).T.flatten()
    elif policy == "gate":
        served_R = gates_TK.detach().flatten().argsort(descending=True, stable=True)
    elif policy == "random":
        served_R = torch.randperm(len(row_R), generator=generator, device=row_R.device)
    else:
        served_R = row_R

    # One queue behind the other: a stable sort by expert keeps the order within each.
    queued_R, order_R = wanted_TK.flatten()[served_R].sort(stable=True)
    place_R = row_R - torch.searchsorted(queued_R, queued_R)
    # A tensor compares with no int above 64 bits, and no queue is longer than all of them.
    fits_R = (place_R < min(capacity, len(row_R))) & (queued_R < num_experts)
    return torch.empty_like(fits_R).scatter(0, served_R[order_R], fits_R).view(wanted_TK.shape)


def limit_capacity(
    routing: Routing,
    capacity_factor: float,
    policy: Policy = "first_choices",
    *,
    renormalise: bool = False,
    mask_T: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> LimitedRouting:
    """Carry out only what fits, and set the gates of the rest to 0.

    A token that loses all K experts gets nothing from the layer, and in a block only the residual
    carries it on. One line puts the limit into a layer, in training or in evaluation::

        layer.router.register_forward_hook(lambda module, x, routing: limit_capacity(routing, 1.25))

    The layer then still *computes* what was dropped and multiplies it by 0: exact, but it saves
    nothing. :func:`dispatch_kept` computes only what was kept.

    Args:
        routing: the decision, from any router.
        capacity_factor: c of :func:`expert_capacity`.
        policy: as for :func:`within_capacity`.
        renormalise: whether the gates that a token keeps are divided by their sum, so that they
            sum to 1 again. NLLB-MoE (2022) does so when its
            ``normalize_router_prob_before_dropping`` is off; GShard and Switch do not.
        mask_T: bool ``[T]``, False for padding, which counts neither for the capacity nor in it
            and may hold anything.
        generator: the source of randomness of ``"random"``.

    Returns:
        The decision with 0 for dropped gates, and what was kept.

    Raises:
        TypeError, ValueError: as the functions it calls, or a routing that is no
            :class:`~moe_tutorial.routing.decision.Routing` or whose tensors do not fit each other.
    """
    _check_routing(routing, Routing)
    check_flag("renormalise", renormalise)
    num_experts, k = routing.logits_TE.shape[-1], routing.experts_TK.shape[-1]
    num_tokens = routing.experts_TK.numel() // k
    if mask_T is not None:
        check_mask(mask_T, "experts_TK", routing.experts_TK)
        num_tokens = int(mask_T.sum())
    capacity = expert_capacity(num_tokens, num_experts, k, capacity_factor)
    kept_TK = within_capacity(
        routing.experts_TK,
        routing.gates_TK,
        num_experts,
        capacity,
        policy,
        mask_T=mask_T,
        generator=generator,
    )
    gates_TK = routing.gates_TK.where(kept_TK, 0)
    if renormalise:
        sums_T1 = gates_TK.sum(-1, keepdim=True)
        gates_TK = gates_TK / sums_T1.where(sums_T1 > 0, 1)
    return LimitedRouting(
        routing.logits_TE, routing.probabilities_TE, routing.experts_TK, gates_TK, kept_TK
    )


def dispatch_kept(x_TD: Tensor, routing: LimitedRouting, experts: Experts) -> Tensor:
    """Run only the assignments that were kept.

    The same numbers as :func:`~moe_tutorial.layer.dispatch.dispatch` with the routing's gates, for
    less arithmetic. On a GPU it waits for the number of rows, once more than ``dispatch`` does.

    Args:
        x_TD: tokens, ``[T, D]`` with any leading dimensions.
        routing: the limited decision for these tokens.
        experts: the experts.

    Returns:
        y_TD: shape and dtype of ``x_TD``; 0 for a token that lost all its experts.

    Raises:
        TypeError, ValueError: as :func:`~moe_tutorial.layer.dispatch.dispatch`, or a decision for
            another number of tokens, or a routing that is no
            :class:`~moe_tutorial.routing.decision.LimitedRouting` or does not fit together.
    """
    check_floating("x_TD", x_TD)
    _check_routing(routing, LimitedRouting)
    if x_TD.shape[:-1] != routing.kept_TK.shape[:-1]:
        raise ValueError(
            f"routing must decide for the tokens of x_TD, {tuple(x_TD.shape[:-1])}, "
            f"got {tuple(routing.kept_TK.shape[:-1])}"
        )
    kept_TK = routing.kept_TK
    kept = kept_TK.nonzero(as_tuple=True)
    rows_RD = x_TD.unsqueeze(-2).expand(*kept_TK.shape, -1)[kept]
    outputs_RD = dispatch(
        rows_RD,
        routing.experts_TK[kept].unsqueeze(-1),
        torch.ones_like(rows_RD[:, :1]),
        experts,
    )
    outputs_TKD = outputs_RD.new_zeros(*kept_TK.shape, x_TD.shape[-1])
    return combine(outputs_TKD.index_put(kept, outputs_RD), routing.gates_TK)


def _check_routing(routing: Any, kind: type[Routing]) -> None:
    """Refuse what is no record of this kind, or one whose tensors do not fit each other."""
    if not isinstance(routing, kind):
        raise TypeError(f"routing must be a {kind.__name__}, got {type(routing).__name__}")
    check_floating("routing.logits_TE", routing.logits_TE)
    check_int64("routing.experts_TK", routing.experts_TK, "expert ids")
    rows = {"routing.logits_TE": routing.logits_TE, "routing.experts_TK": routing.experts_TK}
    for name in ("probabilities_TE", "gates_TK"):
        rows[f"routing.{name}"] = getattr(routing, name)
        check_floating(f"routing.{name}", rows[f"routing.{name}"])
    if isinstance(routing, LimitedRouting):
        if not isinstance(routing.kept_TK, Tensor) or routing.kept_TK.dtype != torch.bool:
            found = getattr(routing.kept_TK, "dtype", type(routing.kept_TK).__name__)
            raise TypeError(f"routing.kept_TK must be a bool tensor, got {found}")
        rows["routing.kept_TK"] = routing.kept_TK
    check_same_device(**rows)
    wanted = {"TE": routing.logits_TE.shape, "TK": routing.experts_TK.shape}
    for name, tensor in rows.items():
        shape = wanted[name[-2:]]
        if tensor.shape != shape or shape[:-1] != routing.logits_TE.shape[:-1]:
            raise ValueError(
                "routing must have the shape [T, E] in logits_TE and probabilities_TE and [T, K] "
                f"in all others, got {', '.join(f'{n} {tuple(t.shape)}' for n, t in rows.items())}"
            )
