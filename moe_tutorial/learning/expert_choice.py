"""Expert choice: every expert takes its C best tokens, rather than every token its K experts.

g_te = s_te where it is among the C largest of column e.                            Chapter 09.
"""

import torch
from torch import Tensor

from moe_tutorial.learning.padding import filled
from moe_tutorial.routing.decision import LimitedRouting
from moe_tutorial.routing.probabilities import softmax
from moe_tutorial.validation import check_floating, check_size


def expert_choice(
    logits_TE: Tensor, capacity: int, *, mask_T: Tensor | None = None
) -> LimitedRouting:
    r"""Every expert takes the C tokens that score highest for it.

    .. math:: g_{te} = s_{te} \text{ if } s_{te} \text{ is among the } C \text{ largest of column }
              e, \text{ else } 0; \qquad s_t = \operatorname{softmax}(l_t)

    (Zhou et al. 2022, section 3.2, where C = cT/E:
    :func:`~moe_tutorial.learning.capacity.expert_capacity` with k = 1.) All loads are equal without
    any loss, and a token gets as many experts as want it: all, some or none. Among equal scores the
    earlier token is taken.

    The experts compare all tokens of the call. In a causal model a later token can so push an
    earlier one out, which :func:`~moe_tutorial.learning.causality.future_leak` finds.

    Args:
        logits_TE: ``[T, E]`` with any leading dimensions, floating point.
        capacity: C; from T on every expert takes every token.
        mask_T: bool ``[T]``, False for padding, which no expert takes and which may hold anything;
            None if there is none.

    Returns:
        A decision with K = E: ``experts_TK`` names all experts in order, ``gates_TK`` holds their
        probabilities where ``kept_TK`` is True and 0 elsewhere. The logits and probabilities of
        padding are those of a token without a preference.

    Raises:
        TypeError, ValueError: logits, a capacity or a mask that do not fit.
    """
    check_floating("logits_TE", logits_TE)
    check_size("capacity", capacity, least=0)
    logits_TE = filled("logits_TE", logits_TE, mask_T)
    probabilities_TE = softmax(logits_TE)
    scores_TE = probabilities_TE.detach().flatten(0, -2)
    if mask_T is not None:
        scores_TE = scores_TE.where(mask_T.flatten()[:, None], -1)
    best_CE = scores_TE.sort(dim=0, descending=True, stable=True).indices[:capacity]
    kept_TE = torch.zeros_like(scores_TE, dtype=torch.bool).scatter(0, best_CE, True)
    kept_TE = (kept_TE & (scores_TE >= 0)).view(logits_TE.shape)
    experts_TE = torch.arange(logits_TE.shape[-1], device=logits_TE.device).expand(logits_TE.shape)
    gates_TE = probabilities_TE.where(kept_TE, 0)
    return LimitedRouting(logits_TE, probabilities_TE, experts_TE, gates_TE, kept_TE)
