r"""Balance over all devices: the load that counts is that of the whole batch.

loss = E sum_e f_e P_e, with f of all tokens.                                       Chapter 14.
"""

import torch.distributed as dist
from torch import Tensor

from moe_tutorial.learning.loads import expert_load
from moe_tutorial.routing.decision import Routing
from moe_tutorial.validation import check_kind, check_probabilities
from moe_tutorial.values import compute_dtype


def total_load(routing: Routing, group: dist.ProcessGroup | None = None) -> Tensor:
    """Count the tokens of all ranks that chose each expert.

    This is what moves a selection bias: a bias that followed its own rank's load would be another
    one on each rank, and the ranks would no longer train one model.

    Args:
        routing: this rank's decision; all ranks call this together.
        group: whose tokens to count; None for those of all ranks.

    Returns:
        load_E: int64 counts ``[E]``, the same on every rank.
    """
    check_kind("routing", routing, Routing)
    load_E = expert_load(routing.experts_TK, routing.logits_TE.shape[-1])
    dist.all_reduce(load_E, group=group)
    return load_E


def global_switch_loss(routing: Routing, group: dist.ProcessGroup | None = None) -> Tensor:
    r"""This rank's share of the balance loss of the whole batch; the shares add up to it.

    .. math:: E \sum_e f_e \, \frac{1}{T} \sum_{t \text{ of this rank}} s_{te}, \qquad
              f_e = \frac{\text{load}_e}{T K}

    with load and T of all ranks (:func:`~moe_tutorial.learning.balance.switch_loss`, for one
    process). Each rank balancing its own tokens is another loss, and a stricter one: it forbids
    that ranks have different texts.

    Args:
        routing: this rank's decision, perhaps of no tokens; all ranks call this together.
        group: whose tokens make up the batch; None for those of all ranks.

    Returns:
        A number, float32, or float64 for float64 probabilities. Its gradients are to be summed
        over ranks, never averaged.

    Raises:
        ValueError: probabilities that do not sum to 1, such as sigmoid scores.
    """
    load_E = total_load(routing, group)
    check_probabilities("probabilities_TE", routing.probabilities_TE)
    probabilities_TE = routing.probabilities_TE.flatten(0, -2)
    probabilities_TE = probabilities_TE.to(compute_dtype(probabilities_TE))
    assignments = load_E.sum()
    tokens = assignments // routing.experts_TK.shape[-1]
    share_E = probabilities_TE.sum(0) / tokens
    fraction_E = load_E.to(share_E.dtype) / assignments
    return len(load_E) * (fraction_E * share_E).sum()
