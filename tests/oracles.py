"""Slow and plain ways to the same numbers, none of which calls the package."""

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence

import torch
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

ALPHA = 1e-6
"""How often a statistical test fails although the package is right, with an untried seed."""


def generator(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    return torch.Generator(device=device).manual_seed(seed)


def normal(
    *shape: int,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64).to(device, dtype)


def softmax_of(logits: Sequence[float], temperature: float = 1.0) -> list[float]:
    largest = max(logits)
    weights = [math.exp((logit - largest) / temperature) for logit in logits]
    return [weight / math.fsum(weights) for weight in weights]


def ordered_draws(
    logits: Sequence[float], k: int, temperature: float = 1.0
) -> dict[tuple[int, ...], float]:
    """Every ordered draw of k experts and its probability: each time a softmax of what is left."""
    draws: dict[tuple[int, ...], float] = {(): 1.0}
    for _ in range(k):
        longer = {}
        for drawn, probability in draws.items():
            left = [e for e in range(len(logits)) if e not in drawn]
            shares = softmax_of([logits[e] for e in left], temperature)
            for e, share in zip(left, shares, strict=True):
                longer[(*drawn, e)] = probability * share
        draws = longer
    return draws


def inclusion_of(logits: Sequence[float], k: int, temperature: float = 1.0) -> list[float]:
    draws = ordered_draws(logits, k, temperature)
    return [math.fsum(p for drawn, p in draws.items() if e in drawn) for e in range(len(logits))]


def count_draws(experts_TK: Tensor) -> Counter[tuple[int, ...]]:
    return Counter(tuple(drawn) for drawn in experts_TK.tolist())


def chi_square_p_value(experts_TK: Tensor, probability_of: dict[tuple[int, ...], float]) -> float:
    """How surprising these draws are if the ordered draws have the given probabilities."""
    counts = count_draws(experts_TK)
    # The chi-square distribution needs about ten draws a cell.
    common = [drawn for drawn, p in probability_of.items() if p * len(experts_TK) >= 10]
    rare = math.fsum(p for drawn, p in probability_of.items() if drawn not in common)
    observed = [counts[drawn] for drawn in common]
    p_value_of_rare = stats.binomtest(
        len(experts_TK) - sum(observed), len(experts_TK), rare, alternative="greater"
    ).pvalue
    if len(common) == 1:
        return float(p_value_of_rare)
    weights = [probability_of[drawn] for drawn in common]
    expected = [weight * sum(observed) / math.fsum(weights) for weight in weights]
    return float(min(1, 2 * min(p_value_of_rare, stats.chisquare(observed, expected).pvalue)))


def logits_rows(
    largest: float = 10.0, max_experts: int = 6, max_tokens: int = 3
) -> st.SearchStrategy[Tensor]:
    """Float64 logits ``[T, E]``, with ties more often than chance would bring them."""
    entry = st.one_of(
        st.floats(-largest, largest, allow_subnormal=False),
        st.sampled_from([-largest, -1.0, 0.0, 1.0, largest]),
    )
    return st.integers(1, max_experts).flatmap(
        lambda num_experts: st.lists(
            st.lists(entry, min_size=num_experts, max_size=num_experts),
            min_size=1,
            max_size=max_tokens,
        ).map(lambda rows: torch.tensor(rows, dtype=torch.float64))
    )


def same(actual: Tensor, expected: object, atol: float = 0.0, rtol: float = 0.0) -> None:
    """Equal shape and dtype too; exactly equal where no tolerance is given."""
    if not isinstance(expected, Tensor):
        expected = torch.tensor(expected, dtype=actual.dtype, device=actual.device)
    torch.testing.assert_close(actual, expected, atol=atol, rtol=rtol)


def sfc32(seeds: Sequence[int]) -> Iterator[float]:
    """Uniform numbers with 53 bits from Chris Doty-Humphrey's generator, as PractRand has it."""
    word = 2**32
    a, b, c = seeds
    bits = []
    for counter in itertools.count(1):
        following = (a + b + counter) % word
        a, b = b ^ (b >> 9), (c + (c << 3)) % word
        c = (((c << 21) | (c >> 11)) + following) % word
        if counter > 15:
            bits.append(following)
        if len(bits) == 2:
            yield ((bits[0] >> 5) * 2**26 + (bits[1] >> 6)) / 2**53
            bits = []
