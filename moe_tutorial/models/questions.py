"""What people ask of a trace: who is busy, who works together, what for. With chance beside it.

found_L against chance_L, layer by layer.                                            Chapter 12.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from moe_tutorial.learning.specialisation import mutual_information
from moe_tutorial.models.traces import NO_EXPERT, Trace, check_trace
from moe_tutorial.routing.selection import largest
from moe_tutorial.validation import check_flag, check_id_range, check_int64, check_k, check_size


@dataclass(frozen=True)
class Compared:
    """One number for each layer, beside the same number where there is nothing to find.

    Attributes:
        found_L: float64, what the trace gives.
        chance_L: float64, what chance gives; each function says how.
    """

    found_L: Tensor
    chance_L: Tensor


def loads(trace: Trace) -> Tensor:
    """How many tokens each expert served: int64 ``[L, E]``.

    Raises:
        TypeError, ValueError: what is no trace, or one without a token.
    """
    check_trace("trace", trace)
    return _counts(trace.experts_LTK, trace.num_experts)


def experts_needed(trace: Trace, shares: Sequence[float] = (0.5, 0.9, 0.99)) -> Compared:
    """How many experts, the busiest first, serve 50, 90 and 99 % of all assignments.

    Chance gives every assignment to any expert alike: even then the counts differ, so that fewer
    than 90 % of the experts serve 90 %.

    Args:
        trace: of any model.
        shares: of the assignments, each above 0 and at most 1.

    Returns:
        Numbers of experts ``[L, len(shares)]``, the mean of 100 draws for chance.

    Raises:
        TypeError, ValueError: what is no trace, or a share outside of 0 to 1.
    """
    counts_LE = loads(trace)
    for share in shares:
        if not 0 < share <= 1:
            raise ValueError(f"shares must be above 0 and at most 1, got {share}")
    draws = np.random.default_rng(0)
    even_E = np.full(trace.num_experts, 1 / trace.num_experts)
    chance = [
        _needed(torch.from_numpy(draws.multinomial(int(total), even_E, 100)), shares).mean(0)
        for total in counts_LE.sum(-1)
    ]
    return Compared(_needed(counts_LE, shares), torch.stack(chance))


def hot_set(trace: Trace, size: int) -> Tensor:
    """The busiest experts of each layer, those to keep in fast memory: bool ``[L, E]``.

    Args:
        trace: of a prompt, for instance.
        size: how many, in each layer.

    Raises:
        TypeError, ValueError: what is no trace, or a size that is not between 1 and E.
    """
    check_size("size", size)
    check_k(size, trace.num_experts)
    counts_LE = loads(trace)
    hot_LE = torch.zeros_like(counts_LE, dtype=torch.bool)
    return hot_LE.scatter(1, largest(counts_LE, size), True)


def served(hot_LE: Tensor, trace: Trace) -> Compared:
    """What share of the assignments finds its expert in a hot set.

    Chance is a set of as many experts that were drawn at random: size / E.

    Args:
        hot_LE: as :func:`hot_set` gives it, from this text or another one.
        trace: of the same model.

    Raises:
        TypeError, ValueError: what is no trace, or a set that is not bool ``[L, E]``.
    """
    counts_LE = loads(trace).double()
    if hot_LE.dtype != torch.bool or hot_LE.shape != counts_LE.shape:
        raise ValueError(
            f"hot_LE must be bool of shape {tuple(counts_LE.shape)}, got {hot_LE.dtype} "
            f"{tuple(hot_LE.shape)}"
        )
    share_L = (counts_LE * hot_LE).sum(-1) / counts_LE.sum(-1).clamp(min=1)
    return Compared(share_L, hot_LE.double().mean(-1))


def information(
    trace: Trace, labels_T: Tensor, num_labels: int, *, by_sequence: bool, shuffles: int = 20
) -> Compared:
    """What experts and labels, such as domains, languages or kinds, tell about each other, in nats.

    See :func:`~moe_tutorial.learning.specialisation.mutual_information`. Chance is the mean of the
    same after shuffles.

    Args:
        trace: of any model.
        labels_T: int64 ids from 0 to num_labels - 1.
        num_labels: how many there are.
        by_sequence: whether whole sequences exchange their labels, as they must where all tokens
            of a sequence have one, or single tokens.
        shuffles: how many, the same ones in every call.

    Raises:
        TypeError, ValueError: labels that do not fit, or a sequence with several labels where
            sequences are to be shuffled.
    """
    check_trace("trace", trace)
    check_size("num_labels", num_labels)
    check_size("shuffles", shuffles)
    check_flag("by_sequence", by_sequence)
    check_int64("labels_T", labels_T, "ids")
    check_id_range("labels_T", labels_T, num_labels)
    if labels_T.shape != trace.tokens_T.shape:
        raise ValueError(f"labels_T must have the shape ({len(trace)},), got {labels_T.shape}")
    sequence_T = trace.sequences_T.unique(return_inverse=True)[1]  # type: ignore[no-untyped-call]
    units_T = sequence_T if by_sequence else torch.arange(len(trace))
    label_U = torch.empty(int(units_T.max()) + 1, dtype=torch.int64).scatter(0, units_T, labels_T)
    if not torch.equal(label_U[units_T], labels_T):
        raise ValueError("labels_T must be the same for a whole sequence with by_sequence=True")
    generator = torch.Generator("cpu").manual_seed(0)
    orders = [torch.randperm(len(label_U), generator=generator) for _ in range(shuffles)]

    def told(labels_T: Tensor) -> Tensor:
        pairs = labels_T[:, None] * trace.num_experts + trace.experts_LTK.long()
        pairs = pairs.where(trace.experts_LTK != NO_EXPERT, NO_EXPERT)
        counts = _counts(pairs, num_labels * trace.num_experts)
        return mutual_information(counts.view(len(counts), num_labels, trace.num_experts))

    shuffled = torch.stack([told(label_U[order][units_T]) for order in orders])
    return Compared(told(labels_T), shuffled.mean(0))


def together(trace: Trace) -> tuple[Tensor, Tensor]:
    r"""How often two experts serve the same token, and how often chance would bring them together.

    .. math:: \text{chance}_{ef} \propto n_e n_f

    Returns:
        The counts and what chance gives, both float64 ``[L, E, E]``, symmetric, with zeros in the
        diagonal and the same sums.

    Raises:
        TypeError, ValueError: what is no trace, or one without a token.
    """
    counts_LE = loads(trace).double()
    used_LTE = used(trace)
    pairs_LEE = used_LTE.transpose(1, 2) @ used_LTE
    chance_LEE = counts_LE[:, :, None] * counts_LE[:, None, :]
    other_EE = 1 - torch.eye(trace.num_experts, dtype=torch.float64)
    pairs_LEE, chance_LEE = pairs_LEE * other_EE, chance_LEE * other_EE
    scale_L11 = pairs_LEE.sum((1, 2), keepdim=True) / chance_LEE.sum((1, 2), keepdim=True)
    return pairs_LEE, chance_LEE * scale_L11.nan_to_num()


def favourite_tokens(trace: Trace, most: int) -> list[list[list[int]]]:
    r"""The tokens that an expert gets more often than chance would give them, most telling first.

    .. math:: n_{te} \ln \frac{n_{te} \, n}{n_t \, n_e}

    ranks them, so that neither rare tokens nor common ones stand first by that alone.

    Args:
        trace: one whose token ids are known.
        most: how many for each expert; fewer where no more are above chance.

    Returns:
        For each layer and each expert its token ids.

    Raises:
        TypeError, ValueError: what is no trace, or a token without an id.
    """
    check_trace("trace", trace)
    check_size("most", most)
    if bool((trace.tokens_T < 0).any()):
        raise ValueError("trace must know its token ids, got a token without one")
    vocabulary, place_T = trace.tokens_T.unique(return_inverse=True)  # type: ignore[no-untyped-call]
    found = []
    for used_TE in used(trace):
        counts_VE = torch.zeros(len(vocabulary), trace.num_experts, dtype=torch.float64)
        counts_VE.index_add_(0, place_T, used_TE)
        even_VE = counts_VE.sum(1, True) * counts_VE.sum(0) / counts_VE.sum().clamp(min=1)
        score_VE = torch.where(counts_VE > 0, counts_VE * (counts_VE / even_VE).log(), 0)
        best_EV = score_VE.sort(dim=0, descending=True, stable=True).indices.T[:, :most]
        found.append(
            [
                [int(vocabulary[v]) for v in row if score_VE[v, expert] > 0]
                for expert, row in enumerate(best_EV.tolist())
            ]
        )
    return found


def used(trace: Trace) -> Tensor:
    """Which experts each token uses: float64 ``[L, T, E]``, 1 for these and 0 for the others."""
    ids = trace.experts_LTK.long()
    ids = ids.where(ids != NO_EXPERT, trace.num_experts)  # a column more, for none
    used = torch.zeros(*ids.shape[:2], trace.num_experts + 1, dtype=torch.float64)
    return used.scatter(-1, ids, 1)[..., :-1]


def _counts(ids: Tensor, size: int) -> Tensor:
    """How often each id is among those of a layer, :data:`NO_EXPERT` left out: ``[L, size]``."""
    rows = [torch.bincount(row[row != NO_EXPERT].long(), minlength=size) for row in ids.flatten(1)]
    return torch.stack(rows)


def _needed(counts_NE: Tensor, shares: Sequence[float]) -> Tensor:
    served_NE = counts_NE.sort(-1, descending=True).values.double().cumsum(-1)
    wanted_NS = torch.tensor(shares, dtype=torch.float64) * served_NE[:, -1:]
    # A share of the whole is compared with sums of counts: half an assignment is no shortfall.
    return (served_NE[:, None] < wanted_NS[..., None] - 0.5e-6).sum(-1).double() + 1
