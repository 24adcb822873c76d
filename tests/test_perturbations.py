"""Perturbations, matching and one layer at a time, against closed forms, scipy and other models."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from moe_tutorial import Attention, Block, Experts, LanguageModel, MoELayer, Router
from moe_tutorial.uncertainty.matching import best_assignment, match_experts
from moe_tutorial.uncertainty.one_layer import changed, moe_layers, noisy_input, switched_off
from moe_tutorial.uncertainty.perturbations import noisy_tokens, rounded, without_context
from moe_tutorial.uncertainty.stability import chance_jaccard, jaccard, shuffled_jaccard
from tests.oracles import generator, normal, same


def drawn_sets(tokens: int, num_experts: int, k: int, seed: int) -> Tensor:
    return torch.rand(tokens, num_experts, generator=generator(seed)).argsort(-1)[:, :k]


@pytest.mark.parametrize(("size", "length"), [("length", 0.3), ("coordinate", 0.3 * 400**0.5)])
def test_noise_has_the_length_that_its_convention_says(size: Any, length: float) -> None:
    x_TD = 5 * normal(300, 400)
    noise_TD = noisy_tokens(x_TD, 0.3, size, generator(1)) - x_TD
    mean = x_TD.norm(dim=-1).mean().item()
    assert noise_TD.norm(dim=-1).mean().item() == pytest.approx(length * mean, rel=0.01)
    assert noise_TD.mean(0).norm() < 0.1 * length * mean  # in no direction of its own


def test_noise_is_repeatable_and_none_changes_nothing(device: torch.device) -> None:
    x_TD = normal(2, 3, 4, dtype=torch.float32, device=device)
    once, again = (noisy_tokens(x_TD, 0.1, generator=generator(3, device)) for _ in range(2))
    same(once, again)
    assert not torch.equal(once, noisy_tokens(x_TD, 0.1, generator=generator(4, device)))
    same(noisy_tokens(x_TD, 0.0, generator=generator(3, device)), x_TD)


def test_rounding_is_what_the_narrow_dtype_holds() -> None:
    x = torch.tensor([1.0, 1.003, -257.0, 0.1], dtype=torch.float64)
    same(rounded(x, torch.bfloat16), [1.0, 1.0, -256.0, 0.10009765625])
    same(rounded(x, torch.float64), x)


def test_dropped_context_leaves_the_later_tokens_where_they_are() -> None:
    tokens_BS = torch.arange(1, 11).view(2, 5)
    same(without_context(tokens_BS, 2, 7), torch.tensor([[7, 7, 3, 4, 5], [7, 7, 8, 9, 10]]))
    same(without_context(tokens_BS, 0), tokens_BS)
    assert tokens_BS[0, 0] == 1  # the window itself is not changed


@given(st.integers(1, 9), st.integers(0, 2**31), st.sampled_from([1.0, 0.5]))
def test_the_best_assignment_is_that_of_scipy(size: int, seed: int, grain: float) -> None:
    gain_EE = normal(size, size, seed=seed)
    if grain < 1:
        gain_EE = (gain_EE / grain).round()  # with ties
    columns_E = best_assignment(gain_EE)
    assert sorted(columns_E.tolist()) == list(range(size))
    rows, columns = linear_sum_assignment(gain_EE.numpy(), maximize=True)
    found = gain_EE[torch.arange(size), columns_E].sum().item()
    assert found == pytest.approx(gain_EE.numpy()[rows, columns].sum(), abs=1e-12)


@given(st.integers(0, 2**31))
def test_renamed_experts_are_found_again(seed: int) -> None:
    experts_TK = drawn_sets(200, 8, 3, seed)
    order_E = torch.randperm(8, generator=generator(seed + 1))
    names_E = match_experts(experts_TK, order_E[experts_TK], 8)
    same(names_E[order_E[experts_TK]], experts_TK)


def test_two_strangers_overlap_by_chance_and_a_fitted_name_by_a_little_more() -> None:
    one, other = drawn_sets(4000, 16, 4, 0), drawn_sets(4000, 16, 4, 1)
    chance = chance_jaccard(16, 4)
    assert jaccard(one, other).mean().item() == pytest.approx(chance, abs=0.006)
    names_E = match_experts(one[:2000], other[:2000], 16)
    fitted = jaccard(one[:2000], names_E[other[:2000]]).mean().item()
    unseen = jaccard(one[2000:], names_E[other[2000:]]).mean().item()
    assert fitted > chance + 0.003
    assert unseen == pytest.approx(chance, abs=0.006)


def test_shuffling_gives_the_chance_level_of_these_loads() -> None:
    # Everybody wants expert 0: chance alone shares much, and equal loads would share little.
    others_TK = 1 + drawn_sets(3000, 15, 3, 2)
    experts_TK = torch.cat([torch.zeros(3000, 1, dtype=torch.int64), others_TK], -1)
    found = shuffled_jaccard(experts_TK, experts_TK, generator(0)).mean().item()
    shared = torch.tensor([[len({*a} & {*b}) for b in experts_TK[:200].tolist()]
                           for a in experts_TK[:200].tolist()]).double()  # fmt: skip
    off_diagonal = ~torch.eye(200, dtype=torch.bool)
    expected = (shared / (8 - shared))[off_diagonal].mean().item()
    assert found == pytest.approx(expected, abs=0.01)
    assert found > chance_jaccard(16, 4) + 0.1
    same(shuffled_jaccard(experts_TK.view(3, 1000, 4), experts_TK.view(3, 1000, 4), generator(0)),
         shuffled_jaccard(experts_TK, experts_TK, generator(0)).view(3, 1000))  # fmt: skip


def model_of(layers: int) -> LanguageModel:
    torch.manual_seed(0)
    return LanguageModel(
        [Block(Attention(8, 2), MoELayer(Router(8, 6, 2), Experts(6, 8, 5))) for _ in range(layers)]
    ).double()


def test_one_layer_samples_and_is_put_back() -> None:
    model, tokens_BS = model_of(3), torch.arange(40).view(2, 20)
    layers = moe_layers(model)
    assert layers == [block.layer for block in model.blocks]
    plain = model(tokens_BS)
    with changed(layers[1], selection="sampled", temperature=torch.inf):
        drawn = model(tokens_BS, generator(0))
    same(drawn.routings[0].experts_TK, plain.routings[0].experts_TK)
    assert not torch.equal(plain.routings[1].experts_TK, drawn.routings[1].experts_TK)
    same(model(tokens_BS).logits_BSV, plain.logits_BSV)
    assert layers[1].router.config == layers[0].router.config


def test_a_layer_that_is_off_adds_nothing() -> None:
    model, tokens_BS = model_of(2), torch.arange(12).view(1, 12)
    plain = model(tokens_BS).logits_BSV
    with switched_off(moe_layers(model)[0]):
        off = model(tokens_BS).logits_BSV
    experts = moe_layers(model)[0].experts
    kept = experts.out_EDF.detach().clone()
    torch.nn.init.zeros_(experts.out_EDF)
    same(model(tokens_BS).logits_BSV, off)
    with torch.no_grad():
        experts.out_EDF.copy_(kept)
    same(model(tokens_BS).logits_BSV, plain)
    assert not torch.allclose(off, plain)


def test_noise_reaches_one_layer_alone() -> None:
    model, tokens_BS = model_of(2), torch.arange(12).view(1, 12)
    plain = model(tokens_BS)
    with noisy_input(moe_layers(model)[1].router, 0.5, generator=generator(0)):
        noisy = model(tokens_BS)
    same(noisy.routings[0].logits_TE, plain.routings[0].logits_TE)
    assert not torch.allclose(noisy.routings[1].logits_TE, plain.routings[1].logits_TE)
    same(model(tokens_BS).logits_BSV, plain.logits_BSV)


def layer_of_two() -> MoELayer:
    return MoELayer(Router(3, 2, 1), Experts(2, 3, 4))


def enter(context: Any) -> None:
    with context:
        pass


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda x: noisy_tokens(x, -0.1),
            ValueError,
            "gamma must be finite and at least 0, got -0.",
        ),
        (lambda x: noisy_tokens(x, True), TypeError, "gamma must be a number"),
        (
            lambda x: noisy_tokens(x, 0.1, "both"),
            ValueError,
            "size must be one of 'length', 'coord",
        ),
        (lambda x: noisy_tokens(x * torch.nan, 0.1), ValueError, "x_TD must be finite"),
        (lambda x: noisy_tokens(x, 0.1, generator=3), TypeError, "generator must be a torch.Gen"),
        (lambda x: rounded(x, torch.int8), TypeError, "dtype must be a floating-point dtype"),
        (lambda x: rounded(x.long(), torch.float16), TypeError, "x must have a floating-point"),
        (lambda x: rounded(x * 1e9, torch.float16), ValueError, "x in torch.float16 must be fin"),
        (lambda x: without_context(x, 1), TypeError, "tokens_BS must hold int64 token ids"),
        (lambda x: without_context(x.long(), 3), ValueError, "dropped must be below the 3 tokens"),
        (lambda x: without_context(x.long()[0], 1), ValueError, "must have the shape"),
        (lambda x: best_assignment(x), ValueError, r"gain_EE must be square, got shape \(2, 3\)"),
        (lambda x: best_assignment(x[:, :2] * torch.inf), ValueError, "gain_EE must be finite"),
        (lambda x: match_experts(x.long(), x.long(), 3), ValueError, "name an expert once"),
        (lambda x: match_experts(x.long()[:, :1] + 3, x.long()[:, :1], 3), ValueError, "ids from"),
        (lambda x: moe_layers(torch.nn.Linear(2, 2)), ValueError, "at least one MoELayer"),
        (lambda x: moe_layers(3), TypeError, "model must be a Module"),
        (lambda x: enter(changed(layer_of_two(), k=3)), ValueError, "k must be between 1 and the"),
        (lambda x: enter(changed(3, k=2)), TypeError, "layer must be a MoELayer"),
        (lambda x: enter(switched_off(3)), TypeError, "layer must be a MoELayer"),
        (lambda x: enter(noisy_input(torch.nn.Tanh(), -1)), ValueError, "gamma must be finite"),
    ],
)
def test_bad_input_is_refused_by_name(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(torch.ones(2, 3))
