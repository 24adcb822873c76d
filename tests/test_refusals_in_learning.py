"""What a wrong argument of the functions for training meets: its own name, and never a riddle."""

import dataclasses
import math
import random
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor

from moe_tutorial import (
    Experts,
    LimitedRouting,
    Routing,
    dispatch_kept,
    expected_drops,
    expert_capacity,
    expert_choice,
    expert_load,
    future_leak,
    gshard_loss,
    importance,
    inclusion_probabilities,
    limit_capacity,
    load_metrics,
    smooth_load,
    softmax,
    squared_variation,
    switch_loss,
    updated_bias,
    within_capacity,
    z_loss,
)
from moe_tutorial.layer.counting import (
    AttentionShape,
    FeedForwardShape,
    LatentAttentionShape,
    ModelShape,
    MoEShape,
    decoder_only,
)
from moe_tutorial.models.published import encoder_decoder
from tests.oracles import generator, normal, same

LOGITS = torch.zeros(3, 4)
IDS = torch.tensor([[0, 1], [1, 2], [2, 3]])
GATES = torch.full((3, 2), 0.5)
MASK = torch.tensor([True, True, False])
ROUTING = Routing(LOGITS, softmax(LOGITS), IDS, GATES)
LIMITED = limit_capacity(ROUTING, 1.0)
DENSE, ATTENTION = FeedForwardShape(4, 6), AttentionShape(4, 2, 2, 2)
EXPERTS = Experts(4, 8, 6)

# A good call of each function, from which the fuzzer takes one argument after another.
CALLS: list[tuple[Callable[..., object], dict[str, Any]]] = [
    (expert_load, {"experts_TK": IDS, "num_experts": 4, "mask_T": MASK}),
    (load_metrics, {"load_E": torch.tensor([1, 2])}),
    (squared_variation, {"values_E": torch.ones(3)}),
    (importance, {"gates_TK": GATES, "experts_TK": IDS, "num_experts": 4, "mask_T": MASK}),
    (
        smooth_load,
        {"logits_TE": LOGITS, "noisy_logits_TE": LOGITS, "noise_scores_TE": LOGITS, "k": 2},
    ),
    (switch_loss, {"probabilities_TE": softmax(LOGITS), "experts_TK": IDS, "mask_T": MASK}),
    (gshard_loss, {"probabilities_TE": softmax(LOGITS), "experts_TK": IDS, "mask_T": MASK}),
    (z_loss, {"logits_TE": LOGITS, "mask_T": MASK}),
    (updated_bias, {"bias_E": torch.zeros(2), "load_E": torch.ones(2), "rate": 0.1}),
    (expert_capacity, {"num_tokens": 8, "num_experts": 4, "k": 2, "capacity_factor": 1.0}),
    (
        within_capacity,
        {"experts_TK": IDS, "gates_TK": GATES, "num_experts": 4, "capacity": 2, "mask_T": MASK},
    ),
    (limit_capacity, {"routing": ROUTING, "capacity_factor": 1.0, "mask_T": MASK}),
    (dispatch_kept, {"x_TD": torch.zeros(3, 8), "routing": LIMITED, "experts": EXPERTS}),
    (expected_drops, {"inclusion_E": torch.full((4,), 0.5), "num_tokens": 8, "capacity": 2}),
    (expert_choice, {"logits_TE": LOGITS, "capacity": 2, "mask_T": MASK}),
    (future_leak, {"function": torch.sin, "x_SD": LOGITS, "generator": None}),
    (inclusion_probabilities, {"logits_TE": LOGITS, "k": 2, "temperature": 1.0}),
    (FeedForwardShape, {"model_width": 4, "hidden_width": 6, "gated": True, "bias": False}),
    (MoEShape, {"expert": DENSE, "num_experts": 4, "k": 2, "shared": DENSE}),
    (
        AttentionShape,
        {"model_width": 4, "num_heads": 2, "head_dim": 2, "key_value_heads": 2, "norms": "none"},
    ),
    (
        LatentAttentionShape,
        {
            "model_width": 4, "num_heads": 2, "query_rank": 2, "key_value_rank": 2,
            "plain_dim": 2, "rotary_dim": 2, "value_dim": 2,
        },
    ),
    (ModelShape, {"vocabulary": 9, "blocks": (ATTENTION, DENSE), "tied": False}),
    (decoder_only, {"vocabulary": 9, "attention": ATTENTION, "feed_forwards": (DENSE,)}),
    (
        encoder_decoder,
        {"vocabulary": 9, "attention": ATTENTION, "encoder": (DENSE,), "decoder": (DENSE,)},
    ),
]  # fmt: skip
HUGE = 10**400
BAD: list[Any] = [
    None, 3, -1, 0, 1.5, True, "word", b"x", HUGE, Fraction(1, 2), math.nan, math.inf,
    [1.0], {}, object(), Tensor, torch.sin, LOGITS, LOGITS[0], LOGITS[0, 0], LOGITS.T, IDS, IDS + 9,
    GATES, GATES / 0, MASK, ~MASK & MASK, torch.empty(0), torch.empty(3, 0), LOGITS.to("meta"),
    LOGITS.to(torch.complex64), ROUTING, LIMITED, EXPERTS, DENSE, ATTENTION, (DENSE, 3),
    generator(0),
]  # fmt: skip


@pytest.mark.parametrize(("function", "good"), CALLS)
def test_random_bad_calls_are_refused_by_name(
    function: Callable[..., object], good: dict[str, Any]
) -> None:
    function(**good)
    draw = random.Random(0)
    alone = [{name: value} for name in good for value in BAD]
    names = list(good)
    few = min(2, len(names))
    several = [{name: draw.choice(BAD) for name in draw.sample(names, few)} for _ in range(100)]
    # What an error names may be a number that follows from an argument, or a part of it.
    named = [*names, "logits_TE", "model_width", "k must", "all tensors", "blocks"]
    unclear = []
    for wrong in alone + several:
        if wrong.get("function") is EXPERTS or any(
            wrong.get(name) is HUGE for name in ("num_experts", "num_tokens")
        ):
            continue  # an error of the function's own, and sizes for which there is no memory
        try:
            function(**(good | wrong))
        except (TypeError, ValueError) as error:
            if not any(name in str(error) for name in named):
                unclear.append((wrong, error))
        except Exception as error:  # everything else is a riddle
            unclear.append((wrong, error))
    assert not unclear


NOT_TOGETHER = {
    "logits_TE": LOGITS[:2], "probabilities_TE": LOGITS[:, :3], "experts_TK": IDS[:, :1],
    "gates_TK": GATES[:2], "kept_TK": torch.ones(3, 1, dtype=torch.bool),
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_TOGETHER)
def test_a_record_whose_tensors_do_not_fit_is_refused(name: str) -> None:
    for wrong, error in ((NOT_TOGETHER[name], ValueError), (3, TypeError), (None, TypeError)):
        record = dataclasses.replace(LIMITED, **{name: wrong})
        with pytest.raises(error, match=rf"routing(\.{name}| must have the shape)"):
            dispatch_kept(torch.zeros(3, 8), record, EXPERTS)
        if name != "kept_TK":
            with pytest.raises(error, match=rf"routing(\.{name}| must have the shape)"):
                limit_capacity(dataclasses.replace(ROUTING, **{name: wrong}), 1.0)


def test_a_record_of_another_kind_is_refused() -> None:
    with pytest.raises(TypeError, match="routing must be a Routing, got Tensor"):
        limit_capacity(LOGITS, 1.0)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="routing must be a LimitedRouting, got Routing"):
        dispatch_kept(torch.zeros(3, 8), ROUTING, EXPERTS)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="function must be callable, got int"):
        future_leak(3, LOGITS)  # type: ignore[arg-type]


# --- draws, fractions and padding -------------------------------------------------------------


def test_a_layer_that_draws_and_mixes_no_tokens_leaks_nothing() -> None:
    def drawn(x_SD: Tensor) -> Tensor:
        return torch.nn.functional.dropout(x_SD, 0.5) + torch.rand(x_SD.shape)

    x_SD = normal(6, 4)
    torch.manual_seed(1)
    same(future_leak(drawn, x_SD, generator(0)), torch.zeros(6).double())
    following = torch.rand(1)
    torch.manual_seed(1)
    same(torch.rand(1), following)
    leaks = future_leak(lambda rows: drawn(rows) + rows.sum(0), x_SD, generator(0))
    assert (leaks[1:] > 1e-3).all()


def test_a_generator_inside_the_function_is_found() -> None:
    inside = generator(1)
    with pytest.raises(ValueError, match=r"function must give the same outputs .*seed"):
        future_leak(lambda x: x + torch.rand(x.shape, generator=inside), LOGITS)


@pytest.mark.parametrize(
    ("function", "error"),
    [(lambda x: 3, TypeError), (lambda x: x[:1], ValueError), (lambda x: x / 0, ValueError)],
)
def test_what_the_function_of_a_leak_returns_is_checked(
    function: Callable[[Tensor], Tensor], error: type[Exception]
) -> None:
    with pytest.raises(error, match="function"):
        future_leak(function, LOGITS)


def test_a_capacity_factor_that_is_a_fraction_is_exact() -> None:
    assert expert_capacity(3, 1, 1, Fraction(5, 3)) == 5
    assert expert_capacity(3, 1, 1, Fraction(1, 3)) == 1


@pytest.mark.parametrize("junk", [math.nan, math.inf])
def test_padding_of_capacity_and_expert_choice_may_hold_anything(junk: float) -> None:
    rows_TE = normal(3, 4)
    dirty_TE = rows_TE.where(MASK[:, None], junk).requires_grad_()
    limited = expert_choice(dirty_TE, 1, mask_T=MASK)
    same(limited.gates_TK[:2], expert_choice(rows_TE[:2], 1).gates_TK)
    (gradient_TE,) = torch.autograd.grad(limited.gates_TK.square().sum(), dirty_TE)
    assert gradient_TE.isfinite().all()
    gates_TK = GATES.where(MASK[:, None], junk)
    record = dataclasses.replace(ROUTING, gates_TK=gates_TK)
    kept = limit_capacity(record, 2.0, "gate", renormalise=True, mask_T=MASK)
    same(kept.gates_TK, torch.tensor([[0.5, 0.5], [0.5, 0.5], [0.0, 0.0]]))
    ids_TK = IDS.where(MASK[:, None], -1)
    assert not within_capacity(ids_TK, gates_TK, 4, 2, mask_T=MASK)[2].any()


def test_limited_records_are_limited_again() -> None:
    assert isinstance(limit_capacity(LIMITED, 1.0), LimitedRouting)
