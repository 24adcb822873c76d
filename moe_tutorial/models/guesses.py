"""Guessing experts: from the token id alone, from the layer before, or from anything known.

p(e | label) from one half of the text, guesses in the other.                        Chapter 12.
"""

import torch
from torch import Tensor

from moe_tutorial.models.questions import Compared, used
from moe_tutorial.models.traces import Trace, check_trace
from moe_tutorial.routing.selection import largest
from moe_tutorial.validation import check_int64


def predictability(trace: Trace, labels_TM: Tensor) -> Compared:
    r"""How many of a token's experts can be guessed from what is known of the token.

    .. math:: p(e \mid l) = \frac{n_{le} + p(e)}{n_l + 1}, \qquad
              \text{guess} = \operatorname{top\text{-}k}_e \sum_m p(e \mid l_m)

    Counts come from one half of the sequences and guesses are made in the other, then the reverse;
    of a single sequence, from the halves of the text. Chance guesses the K busiest experts.

    Args:
        trace: of any model.
        labels_TM: int64 ``[T, M]``, M things that are known of each token, each an id of 0 or
            more: its token id, say, or its experts in another layer. -1 where there is nothing.

    Returns:
        The share of assignments that were guessed.

    Raises:
        TypeError, ValueError: what is no trace, or labels that are not int64 ``[T, M]``.
    """
    check_trace("trace", trace)
    check_int64("labels_TM", labels_TM, "ids")
    if labels_TM.ndim != 2 or len(labels_TM) != len(trace):
        raise ValueError(f"labels_TM must be [{len(trace)}, M], got {tuple(labels_TM.shape)}")
    return _compared([_guessed(trace, place, labels_TM) for place in range(len(trace.layers))])


def token_dependence(trace: Trace) -> Compared:
    """How many of a token's experts can be guessed from its token id alone, without any context.

    Xue et al. (2024, abstract) found that the experts of OpenMoE hang mostly on the token id.
    See :func:`predictability`.

    Raises:
        TypeError, ValueError: what is no trace, or one whose token ids are not known.
    """
    check_trace("trace", trace)
    if bool((trace.tokens_T < 0).any()):
        raise ValueError("trace must know its token ids, got a token without one")
    return predictability(trace, trace.tokens_T.long()[:, None])


def next_layer(trace: Trace) -> Compared:
    """How many of a token's experts can be guessed from its experts in the layer before.

    It is what decides whether weights can be fetched ahead. See :func:`predictability`; the first
    layer has none before it, so there are L - 1 numbers.

    Raises:
        TypeError, ValueError: what is no trace, or one of a single layer.
    """
    check_trace("trace", trace)
    if len(trace.layers) < 2:
        raise ValueError("trace must have at least two layers, got one")
    ids = trace.experts_LTK.long()
    return _compared([_guessed(trace, place, ids[place - 1]) for place in range(1, len(ids))])


def _guessed(trace: Trace, place: int, labels_TM: Tensor) -> tuple[float, float]:
    """What share of one layer's assignments is guessed with labels, and without."""
    sequence_T = trace.sequences_T.unique(return_inverse=True)[1]  # type: ignore[no-untyped-call]
    half_T = sequence_T % 2 == 1
    if not bool(half_T.any()):
        half_T = torch.arange(len(trace)) >= len(trace) // 2
    used_TE = used(trace.cut(layers=[place]))[0]
    none = int(labels_TM.max()) + 1
    labels_TM = labels_TM.where(labels_TM >= 0, none)
    hits = torch.zeros(2, dtype=torch.float64)
    for learn_T in (half_T, ~half_T):
        share_E = used_TE[learn_T].sum(0) / max(1, int(learn_T.sum()))
        counts_VE = torch.zeros(none + 1, trace.num_experts, dtype=torch.float64)
        seen_V = torch.zeros(none + 1, 1, dtype=torch.float64)
        for labels_T in labels_TM[learn_T].unbind(1):
            counts_VE.index_add_(0, labels_T, used_TE[learn_T])
            seen_V.index_add_(0, labels_T, torch.ones(len(labels_T), 1, dtype=torch.float64))
        table_VE = (counts_VE + share_E) / (seen_V + 1)
        score_TE = table_VE[labels_TM[~learn_T]].sum(1)
        for guess, score in enumerate((score_TE, share_E.expand_as(score_TE))):
            best_TK = largest(score, trace.k)
            hits[guess] += used_TE[~learn_T].gather(1, best_TK).sum()
    found, chance = (hits / used_TE.sum().clamp(min=1)).tolist()
    return found, chance


def _compared(hits: list[tuple[float, float]]) -> Compared:
    found_L, chance_L = torch.tensor(hits, dtype=torch.float64).unbind(1)
    return Compared(found_L, chance_L)
