"""N-grams: the odds of the next byte from nothing but counts. A baseline for every language model.

p_n(b | c) = (count(c b) + d(c) p_{n-1}(b | c without its first byte)) / (count(c) + d(c)).
                                                                                     Chapter 10.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from moe_tutorial.learning.text import VOCABULARY, Batch, Text, fixed_windows
from moe_tutorial.validation import check_kind, check_size

LONGEST = 6
"""The longest context that fits, with the byte after it, into a signed number of 64 bits."""


@dataclass(frozen=True, eq=False)
class Order:
    """What came after each context of n bytes. Bytes are the digits of a number to the base 256.

    Attributes:
        strings_M: int64, every context with a byte that came after it, sorted.
        counts_M: int64, how often.
        contexts_C: int64, every context, sorted.
        totals_C: int64, how often it came.
        followers_C: int64, how many different bytes came after it.
    """

    strings_M: Tensor
    counts_M: Tensor
    contexts_C: Tensor
    totals_C: Tensor
    followers_C: Tensor


def count_table(text: Text, longest: int) -> tuple[Order, ...]:
    """Count what came after each context of 0, 1, ..., ``longest`` bytes.

    Args:
        text: where to count. Where a document ends, contexts go on into the next one; the byte 0
            between them tells.
        longest: at most 6.

    Returns:
        One record for each length, the shortest first.

    Raises:
        TypeError, ValueError: what is no text, or a length that is none or too long.
    """
    check_kind("text", text, Text)
    if longest != 0:
        check_size("longest", longest)
    if longest > LONGEST:
        raise ValueError(f"longest must be at most {LONGEST}, got {longest}")
    bytes_1N = text.bytes_N.long().cpu()[None]
    orders = []
    for n in range(longest + 1):
        if bytes_1N.shape[1] <= n:
            raise ValueError(f"text must hold more than {n} bytes, got {bytes_1N.shape[1]}")
        strings_M, counts_M = torch.unique(_strings(bytes_1N, n + 1), return_counts=True)
        contexts_C, which_M = torch.unique_consecutive(strings_M // VOCABULARY, return_inverse=True)
        followers_C = torch.bincount(which_M, minlength=len(contexts_C))
        totals_C = torch.zeros_like(followers_C).index_add_(0, which_M, counts_M)
        orders.append(Order(strings_M, counts_M, contexts_C, totals_C, followers_C))
    return tuple(orders)


def ngram_odds(table: tuple[Order, ...], batch: Batch) -> Tensor:
    r"""The probability that a table gives to each byte that really came.

    Witten-Bell smoothing, interpolated: what the context c of n bytes says, and what the shorter
    one says, the more so the more different bytes d(c) came after c.

    .. math:: p_n(b \mid c) = \frac{\text{count}(cb) + d(c) \, p_{n-1}(b \mid c')}
              {\text{count}(c) + d(c)}, \qquad p_{-1} = \frac{1}{256}

    (Witten and Bell 1991; Chen and Goodman 1999.) A context that never came leaves the shorter
    one's odds as they are. Of a window's start no more than the window is known, as to a model.

    Args:
        table: of :func:`count_table`.
        batch: windows of text; ``targets_BS`` must be the bytes after ``tokens_BS``.

    Returns:
        ``[B, S]``, float64, on the CPU.
    """
    check_kind("batch", batch, Batch)
    bytes_BS1 = torch.cat([batch.tokens_BS, batch.targets_BS[:, -1:]], dim=1).cpu()
    odds_BS = torch.full(batch.targets_BS.shape, 1 / VOCABULARY, dtype=torch.float64)
    for n, order in enumerate(table[: bytes_BS1.shape[1]]):
        first = max(n - 1, 0)  # the first target with n bytes before it in the window
        strings_BP = _strings(bytes_BS1, n + 1)[:, 1 if n == 0 else 0 :]
        contexts_BP = strings_BP // VOCABULARY
        count_BP = _looked_up(order.strings_M, order.counts_M, strings_BP)
        total_BP = _looked_up(order.contexts_C, order.totals_C, contexts_BP)
        followers_BP = _looked_up(order.contexts_C, order.followers_C, contexts_BP)
        shorter_BP = odds_BS[:, first:]
        longer_BP = (count_BP + followers_BP * shorter_BP) / (total_BP + followers_BP)
        odds_BS[:, first:] = torch.where(total_BP > 0, longer_BP, shorter_BP)
    return odds_BS


def mixture_odds(tables: Sequence[tuple[Order, ...]], batch: Batch) -> Tensor:
    r"""The probability of each byte that came, from several tables, none of which is known to fit.

    Each table is weighted by how well it has predicted the window so far (Bayes' rule, with tables
    that are equally likely at first): a mixture of experts whose gates nobody had to train.

    .. math:: p(b_s) = \sum_i w_{s,i} \, p_i(b_s), \qquad
              w_{s,i} = \operatorname{softmax}_i \sum_{r < s} \ln p_i(b_r)

    Args:
        tables: of :func:`count_table`, one for each domain, for instance.
        batch: windows of text, as for :func:`ngram_odds`.

    Returns:
        ``[B, S]``, float64, on the CPU.

    Raises:
        ValueError: no tables.
    """
    if not tables:
        raise ValueError("tables must hold at least one table, got none")
    odds_BSI = torch.stack([ngram_odds(table, batch) for table in tables], -1)
    seen_BSI = odds_BSI.log().cumsum(1).roll(1, 1)
    seen_BSI[:, 0] = 0
    return (seen_BSI.softmax(-1) * odds_BSI).sum(-1)


def evaluate_ngrams(
    tables: Sequence[tuple[Order, ...]], text: Text, windows: int, length: int
) -> dict[str, float]:
    """The mean surprise of :func:`mixture_odds` in each domain, on the windows of ``evaluate``.

    Args:
        tables: of :func:`count_table`; of one alone, its own surprise.
        text: what to predict.
        windows: how many, from each domain.
        length: S, the bytes in each.

    Returns:
        For each domain nats per byte.
    """
    return {
        domain: -mixture_odds(tables, batch).log().mean().item()
        for domain, batch in fixed_windows(text, windows, length)
    }


def _strings(bytes_BN: Tensor, n: int) -> Tensor:
    """Every string of n bytes in each row, as numbers ``[B, N - n + 1]``."""
    places = bytes_BN.shape[1] - n + 1
    strings_BP = bytes_BN[:, :places].clone()
    for i in range(1, n):
        strings_BP = strings_BP * VOCABULARY + bytes_BN[:, i : places + i]
    return strings_BP


def _looked_up(keys_M: Tensor, values_M: Tensor, wanted_BP: Tensor) -> Tensor:
    """The value of each wanted key, as float64; 0 where there is none."""
    places_BP = torch.searchsorted(keys_M, wanted_BP.contiguous()).clamp(max=len(keys_M) - 1)
    found_BP = keys_M[places_BP] == wanted_BP
    return torch.where(found_BP, values_M[places_BP], 0).double()
