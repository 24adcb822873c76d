"""What is asked of a trace: known answers of made-up traces, and nothing found where nothing is."""

from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from moe_tutorial.learning.specialisation import specialisation
from moe_tutorial.models.drift import load_shift, overlap
from moe_tutorial.models.guesses import next_layer, predictability, token_dependence
from moe_tutorial.models.questions import (
    experts_needed,
    favourite_tokens,
    hot_set,
    information,
    loads,
    served,
    together,
)
from moe_tutorial.models.traces import NO_EXPERT, Trace, from_ids, id_dtype
from tests.oracles import generator, same


def random_trace(
    layers: int = 2, tokens: int = 4000, k: int = 2, num_experts: int = 8, seed: int = 0
) -> Trace:
    """Experts that hang on nothing, in sequences of 50 tokens."""
    source = generator(seed)
    ids = torch.rand(layers, tokens, num_experts, generator=source).argsort(-1)[..., :k]
    numbers = torch.arange(tokens)
    names = [f"layer {place}" for place in range(layers)]
    return replace(
        from_ids(ids, num_experts, names),
        tokens_T=torch.randint(20, (tokens,), generator=source).int(),
        positions_T=(numbers % 50).int(),
        sequences_T=(numbers // 50).int(),
    )


def with_ids(trace: Trace, ids: Tensor) -> Trace:
    return replace(trace, experts_LTK=ids.to(id_dtype(trace.num_experts)))


def test_loads_leave_out_what_has_no_expert() -> None:
    ids = torch.tensor([[[0, 1], [1, NO_EXPERT], [2, 1]]])
    assert loads(from_ids(ids, 4, ["one"])).tolist() == [[1, 3, 1, 0]]


def test_experts_needed_of_known_loads() -> None:
    # 50, 30, 15, 5 assignments of 100: the busiest serves half, three serve 95 %.
    ids = torch.tensor([2] * 50 + [0] * 30 + [3] * 15 + [1] * 5)[None, :, None]
    found = experts_needed(from_ids(ids, 6, ["one"]), (0.5, 0.8, 0.95, 0.96, 1.0))
    assert found.found_L.tolist() == [[1, 2, 3, 4, 4]]
    assert found.chance_L[0, 4] == 6  # of 100 even draws, none leaves one of six experts out


def test_even_loads_need_as_many_experts_as_chance() -> None:
    found = experts_needed(random_trace(num_experts=16))
    torch.testing.assert_close(found.found_L, found.chance_L, atol=1.0, rtol=0)


def test_a_hot_set_serves_its_share() -> None:
    trace = with_ids(random_trace(), torch.tensor([3, 5]).expand(2, 4000, 2))
    hot_LE = hot_set(trace, 2)
    assert hot_LE.nonzero()[:, 1].tolist() == [3, 5, 3, 5]
    assert served(hot_LE, trace).found_L.tolist() == [1, 1]
    even = served(hot_LE, random_trace(seed=1))
    assert even.chance_L.tolist() == [0.25, 0.25]
    torch.testing.assert_close(even.found_L, even.chance_L, atol=0.02, rtol=0)


def test_what_hangs_on_the_token_is_guessed_from_it() -> None:
    trace = random_trace(layers=1)
    table_VK = torch.rand(20, 8, generator=generator(3)).argsort(-1)[:, :2]
    known = with_ids(trace, table_VK[trace.tokens_T.long()][None])
    found = token_dependence(known)
    assert found.found_L.item() > 0.999
    assert found.chance_L.item() < 0.5


def test_what_hangs_on_the_token_before_is_guessed_from_both() -> None:
    trace = random_trace(layers=1, tokens=20000)
    tokens_T = trace.tokens_T.long()
    before_T = tokens_T.roll(1)
    ids_T = (tokens_T + before_T) % 8
    known = replace(with_ids(trace, ids_T[None, :, None]), gates_LTK=None)
    assert token_dependence(known).found_L.item() < 0.25
    pairs = predictability(known, (tokens_T * 20 + before_T)[:, None])
    assert pairs.found_L.item() > 0.99


def test_the_layer_before_tells_all_or_nothing() -> None:
    trace = random_trace()
    copied = with_ids(trace, torch.stack([trace.experts_LTK[0], 7 - trace.experts_LTK[0].long()]))
    assert next_layer(copied).found_L.item() > 0.99
    nothing = next_layer(trace)
    torch.testing.assert_close(nothing.found_L, nothing.chance_L, atol=0.02, rtol=0)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000))
def test_nothing_is_found_where_nothing_is(seed: int) -> None:
    trace = random_trace(layers=1, tokens=3000, seed=seed)
    found = token_dependence(trace)
    assert abs(found.found_L - found.chance_L).item() < 0.03
    labels_T = (trace.sequences_T.long() * 7 + seed) % 3
    told = information(trace, labels_T, 3, by_sequence=True)
    assert abs(told.found_L - told.chance_L).item() < 0.003
    half = trace.sequences_T < 30
    shift = load_shift(trace.cut(half), trace.cut(~half))
    assert abs(shift.found_L - shift.chance_L).item() < 0.03


def test_guesses_come_from_the_other_half() -> None:
    """A label of its own for each token tells nothing, however often its own answer was seen."""
    trace = random_trace(layers=1)
    found = predictability(trace, torch.arange(len(trace))[:, None])
    assert found.found_L.item() == pytest.approx(found.chance_L.item())


def test_information_is_that_of_the_chapter_before() -> None:
    trace = random_trace()
    labels_T = (trace.sequences_T % 4).long()
    ids = trace.experts_LTK.long()
    ids[1, :, 0] = labels_T  # the second layer knows
    ids[1, :, 1] = labels_T + 4
    known = with_ids(trace, ids)
    found = information(known, labels_T, 4, by_sequence=True)
    for place in range(2):
        expected = specialisation(
            labels_T.view(80, 50), ids[place].view(80, 50, 2), 4, 8, windows=True
        )
        assert found.found_L[place].item() == pytest.approx(expected.information)
        assert found.chance_L[place].item() == pytest.approx(expected.shuffled, abs=2e-3)
    assert found.found_L[1].item() == pytest.approx(torch.tensor(4.0).log().item(), abs=1e-3)
    by_token = information(known, labels_T, 4, by_sequence=False)
    assert by_token.chance_L[1] < found.chance_L[1]


def test_experts_that_work_together() -> None:
    trace = random_trace(layers=1)
    pairs_LEE, chance_LEE = together(trace)
    for e, f in combinations(range(8), 2):
        both = (trace.experts_LTK[0] == e).any(-1) & (trace.experts_LTK[0] == f).any(-1)
        assert pairs_LEE[0, e, f] == pairs_LEE[0, f, e] == both.sum()
    assert pairs_LEE.sum() == pytest.approx(chance_LEE.sum())
    assert (pairs_LEE / chance_LEE - 1).abs().nan_to_num().max() < 0.4
    couples = torch.tensor([[0, 1], [2, 3]])[torch.arange(4000) % 2]
    pairs_LEE, chance_LEE = together(with_ids(trace, couples[None]))
    assert (pairs_LEE / chance_LEE)[0, 0, 1] == pytest.approx(3)  # one of three partners, always


def test_overlap_of_a_trace_with_itself_and_with_another() -> None:
    first = random_trace()
    same(overlap(first, first).found_L, torch.ones(2, dtype=torch.float64))
    other = with_ids(first, random_trace(seed=5).experts_LTK)
    found = overlap(first, other)
    torch.testing.assert_close(found.found_L, found.chance_L, atol=0.02, rtol=0)
    torch.testing.assert_close(found.chance_L, torch.full((2,), 0.25).double(), atol=0.01, rtol=0)


def test_loads_of_two_texts_apart() -> None:
    trace = random_trace(layers=1)
    first = with_ids(trace, trace.experts_LTK.long() % 4)
    second = with_ids(trace, trace.experts_LTK.long() % 4 + 4)
    assert load_shift(first, second).found_L.item() == 1
    assert load_shift(first, first).found_L.item() == 0


def test_favourite_tokens() -> None:
    trace = random_trace(layers=1, k=1)
    tokens_T = trace.tokens_T.long()
    known = with_ids(trace, torch.where(tokens_T < 6, tokens_T // 2, 7)[None, :, None])
    favourites = favourite_tokens(known, 3)[0]
    assert [sorted(it) for it in favourites[:4]] == [[0, 1], [2, 3], [4, 5], []]
    assert len(favourites[7]) == 3
    assert min(favourites[7]) >= 6


def nameless(trace: Trace) -> Trace:
    """The same without its tokens."""
    return from_ids(trace.experts_LTK.long(), trace.num_experts, trace.layers)


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda t: loads(3), "trace must be a Trace, got int"),
        (lambda t: loads(t.cut(slice(0, 0))), "trace must hold at least one token"),
        (lambda t: experts_needed(t, (0.0,)), "shares must be above 0 and at most 1, got 0"),
        (lambda t: hot_set(t, 9), "between 1 and the number of experts"),
        (lambda t: served(torch.ones(2, 8), t), "hot_LE must be bool of shape"),
        (lambda t: predictability(t, torch.zeros(3, 1).long()), r"labels_TM must be \[4000, M\]"),
        (lambda t: next_layer(t.cut(layers=[0])), "at least two layers"),
        (lambda t: token_dependence(nameless(t)), "know its token ids"),
        (lambda t: favourite_tokens(nameless(t), 3), "know its token"),
        (lambda t: information(t, t.tokens_T.long(), 20, by_sequence=True), "for a whole sequence"),
        (lambda t: information(t, t.tokens_T[:9].long(), 20, by_sequence=False), r"\(4000,\)"),
        (lambda t: overlap(t, t.cut(slice(0, 9))), "the same tokens as first"),
        (lambda t: load_shift(t, t.cut(layers=[0])), "layers of first, 2, got 1"),
        (lambda t: load_shift(t, t.cut(slice(0, 9))), "at least 16 tokens, got 9"),
    ],
)  # fmt: skip
def test_questions_that_make_no_sense(ask: Any, words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        ask(random_trace())
