"""Overlap of two choices against Python's sets, and its chance level against an enumeration."""

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from moe_tutorial.uncertainty.stability import chance_jaccard, jaccard
from tests.oracles import generator, same


@given(st.integers(0, 9), st.integers(1, 7), st.integers(0, 2**31))
def test_the_overlap_is_that_of_sets(tokens: int, num_experts: int, seed: int) -> None:
    sizes = 1 + seed % num_experts, 1 + seed // 7 % num_experts
    one, other = (
        torch.rand(tokens, num_experts, generator=generator(seed + i)).argsort(-1)[:, :k]
        for i, k in enumerate(sizes)
    )
    expected = [
        len(set(a) & set(b)) / len(set(a) | set(b))
        for a, b in zip(one.tolist(), other.tolist(), strict=True)
    ]
    found = jaccard(one, other)
    same(found, torch.tensor(expected, dtype=torch.float64), atol=1e-15)
    same(jaccard(other, one), found)
    same(jaccard(one, one.flip(-1)), torch.ones(tokens).double())


@pytest.mark.parametrize(("num_experts", "k"), [(1, 1), (5, 1), (5, 2), (6, 3), (6, 6), (8, 4)])
def test_the_chance_level_is_the_mean_over_all_pairs(num_experts: int, k: int) -> None:
    sets = [set(it) for it in itertools.combinations(range(num_experts), k)]
    overlaps = [len(a & b) / len(a | b) for a in sets for b in sets]
    assert chance_jaccard(num_experts, k) == pytest.approx(sum(overlaps) / len(overlaps), 1e-12)


def test_the_chance_level_of_four_in_sixteen_is_not_the_quotient_of_means() -> None:
    assert round(chance_jaccard(16, 4), 3) == 0.158
    assert round(4 / (2 * 16 - 4), 3) == 0.143


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda ids: jaccard(ids.float(), ids), TypeError, "experts_TK must hold int64 expert ids"),
        (lambda ids: jaccard(ids, 3), TypeError, "other_TK must hold int64 expert ids, got int"),
        (lambda ids: jaccard(ids, ids[0]), ValueError, r"other_TK must have shape \[T, K\]"),
        (lambda ids: jaccard(ids, ids[:1]), ValueError, "other_TK must be for the tokens of exp"),
        (lambda ids: jaccard(ids, ids * 0), ValueError, "other_TK must name an expert once per"),
        (lambda ids: jaccard(ids, ids.to("meta")), ValueError, "one device"),
        (lambda ids: chance_jaccard(4, 5), ValueError, "k must be between 1 and the number of"),
        (lambda ids: chance_jaccard(4.0, 2), TypeError, "num_experts must be an int"),
    ],
)
def test_bad_input_is_refused_by_name(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(torch.tensor([[0, 1], [2, 1]]))
