"""Drift: how far two models, or one model on two texts, route apart.

overlap_L of the same tokens' experts; shift_L of the loads.                         Chapter 12.
"""

import torch
from torch import Tensor

from moe_tutorial.models.questions import Compared, used
from moe_tutorial.models.traces import Trace, check_trace
from moe_tutorial.validation import check_size

BLOCK = 16
"""Neighbouring tokens are alike, so chance exchanges blocks of so many, not single tokens."""


def overlap(first: Trace, second: Trace) -> Compared:
    r"""What share of its experts a token has in both of two traces of the same tokens.

    Of two models, or of one before and after some training; expert 3 of one must mean expert 3 of
    the other. Chance is that of two choices that have nothing to do with each other but the same
    loads, :math:`\sum_e p_e q_e / K` with p and q the shares of tokens that use an expert.

    Raises:
        TypeError, ValueError: traces of other tokens, or of models of another shape.
    """
    _check_alike(first, second)
    if not torch.equal(first.tokens_T, second.tokens_T):
        raise ValueError("second must be a trace of the same tokens as first")
    p_LTE, q_LTE = used(first), used(second)
    both_L = (p_LTE * q_LTE).sum(-1).mean(-1) / first.k
    return Compared(both_L, (p_LTE.mean(1) * q_LTE.mean(1)).sum(-1) / first.k)


def load_shift(first: Trace, second: Trace, shuffles: int = 100) -> Compared:
    r"""How far the loads of two texts, or of two models, are from each other.

    .. math:: \frac{1}{2} \sum_e | p_e - q_e |

    with p and q the shares of the assignments: 0 if they are alike, 1 if no expert serves both.
    Chance is the mean after both texts' blocks of :data:`BLOCK` tokens were mixed.

    Raises:
        TypeError, ValueError: models of another shape, or a text shorter than a block.
    """
    _check_alike(first, second)
    check_size("shuffles", shuffles)
    blocks = [_block_loads(trace) for trace in (first, second)]
    every_LNE, split = torch.cat(blocks, 1), blocks[0].shape[1]
    generator = torch.Generator("cpu").manual_seed(0)

    def shift(loads_LNE: Tensor) -> Tensor:
        p_LE, q_LE = loads_LNE[:, :split].sum(1), loads_LNE[:, split:].sum(1)
        return (p_LE / p_LE.sum(-1, True) - q_LE / q_LE.sum(-1, True)).abs().sum(-1) / 2

    mixed = [
        shift(every_LNE[:, torch.randperm(every_LNE.shape[1], generator=generator)])
        for _ in range(shuffles)
    ]
    return Compared(shift(every_LNE), torch.stack(mixed).mean(0))


def _check_alike(first: Trace, second: Trace) -> None:
    check_trace("first", first)
    check_trace("second", second)
    for name in ("num_experts", "k"):
        if getattr(first, name) != getattr(second, name):
            raise ValueError(
                f"second must have the {name} of first, {getattr(first, name)}, got "
                f"{getattr(second, name)}"
            )
    if len(first.layers) != len(second.layers):
        raise ValueError(
            f"second must have the layers of first, {len(first.layers)}, got {len(second.layers)}"
        )


def _block_loads(trace: Trace) -> Tensor:
    """The loads of each block of neighbouring tokens: float64 ``[L, N, E]``."""
    used_LTE = used(trace)
    whole = len(trace) // BLOCK
    if not whole:
        raise ValueError(f"each text must have at least {BLOCK} tokens, got {len(trace)}")
    used_LTE = used_LTE[:, : whole * BLOCK]
    return used_LTE.view(len(used_LTE), whole, BLOCK, -1).sum(2)
