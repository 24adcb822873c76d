"""What every function promises alike: leading dimensions, zero tokens, dtypes, meta tensors."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import moe_tutorial
from moe_tutorial import (
    Router,
    RouterConfig,
    Routing,
    combine,
    cosine_scores,
    dot_scores,
    entropy,
    expected_drops,
    expert_choice,
    gumbel_top_k,
    inclusion_probabilities,
    inclusion_probabilities_by_enumeration,
    keep,
    limit_capacity,
    noisy_logits,
    plackett_luce_log_probability,
    renormalise,
    route,
    scatter_gates,
    sigmoid,
    softmax,
    softmax_over_chosen,
    top_k,
    within_capacity,
)
from tests.oracles import generator, normal, same

E, K = 5, 3


def like(rows: Tensor, *shape: int, seed: int) -> Tensor:
    return normal(*shape, seed=seed, dtype=rows.dtype, device=rows.device)


def random_numbers_for(rows: Tensor) -> torch.Generator | None:
    return None if rows.is_meta else generator(5, rows.device)


def routed(rows: Tensor) -> Routing:
    torch.manual_seed(0)
    router = Router(E, 4, 2).to(rows.device, rows.dtype)
    routing: Routing = router(rows)
    return routing


# Each call takes rows of width E, and its result has one entry or one row per row.
CALLS: dict[str, Callable[[Tensor], Tensor]] = {
    "dot_scores": lambda x: dot_scores(x, like(x, 4, E, seed=1)),
    "cosine_scores": lambda x: cosine_scores(x, like(x, 4, E, seed=1), 2.0),
    "softmax": lambda x: softmax(x, 0.5),
    "sigmoid": sigmoid,
    "entropy": lambda x: entropy(softmax(x)),
    "top_k": lambda x: top_k(x, K),
    "softmax_over_chosen": lambda x: softmax_over_chosen(x, top_k(x, K)),
    "keep": lambda x: keep(softmax(x), top_k(x, K)),
    "route": lambda x: route(x, RouterConfig(K)).gates_TK,
    "renormalise": lambda x: renormalise(softmax(x), top_k(x, K)),
    "gumbel_top_k": lambda x: gumbel_top_k(x, K, 2.0, random_numbers_for(x)),
    "noisy_logits": lambda x: noisy_logits(x, x, random_numbers_for(x)),
    "plackett_luce_log_probability": lambda x: plackett_luce_log_probability(x, top_k(x, K)),
    "inclusion_probabilities": lambda x: inclusion_probabilities(x, K),
    "inclusion_probabilities_by_enumeration": (
        lambda x: inclusion_probabilities_by_enumeration(x, K)
    ),
    "combine": lambda x: combine(x[..., None] * like(x, E, 2, seed=2), x),
    "scatter_gates": lambda x: scatter_gates(x[..., :K], top_k(x, K), E),
    "Router": lambda x: routed(x).gates_TK,
    "within_capacity": lambda x: within_capacity(top_k(x, K), x[..., :K], E, 2, "gate"),
    "limit_capacity": lambda x: limit_capacity(routed(x), 0.5).gates_TK,
    "expert_choice": lambda x: expert_choice(x, 2).gates_TK,
    "expected_drops": lambda x: expected_drops(softmax(x), 20, 3),
}
every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())


def test_no_public_function_is_left_out() -> None:
    layer = {
        "Attention", "Block", "ExpertWeights", "Experts", "FeedForward", "MoELayer", "MoEOutput",
        "dispatch",
    }  # fmt: skip
    # These have tests of their own: records, numbers of a batch, a model, functions of layers.
    elsewhere = {
        "Groups", "Trace", "limit_to_groups", "sqrt_softplus", "trace",
        "LanguageModel", "LimitedRouting", "LoadMetrics", "Prediction", "RouterConfig",
        "dispatch_kept",
        "expert_capacity", "expert_load", "future_leak", "gshard_loss", "importance",
        "load_metrics", "smooth_load", "squared_variation", "switch_loss", "updated_bias",
        "z_loss",
    }  # fmt: skip
    assert set(CALLS) | {"Routing"} | layer | elsewhere == set(moe_tutorial.__all__)


@every_call
def test_leading_dimensions_are_flattened_tokens(
    call: Callable[[Tensor], Tensor], device: torch.device
) -> None:
    x_BSE = normal(2, 3, E, dtype=torch.float32, device=device)
    by_token = call(x_BSE.flatten(0, 1))
    same(call(x_BSE), by_token.unflatten(0, (2, 3)), atol=1e-6)
    same(call(x_BSE[:, None]), by_token.unflatten(0, (2, 1, 3)), atol=1e-6)


@every_call
@pytest.mark.parametrize("shape", [(0,), (2, 0), (0, 3)])
def test_zero_tokens_give_zero_rows(
    call: Callable[[Tensor], Tensor], shape: tuple[int, ...], device: torch.device
) -> None:
    one_row = call(normal(1, E, dtype=torch.float32, device=device))
    no_rows = call(torch.ones(*shape, E, device=device))
    assert no_rows.shape == (*shape, *one_row.shape[1:])
    assert no_rows.dtype == one_row.dtype
    assert no_rows.device == one_row.device


@every_call
def test_memory_layout_does_not_matter(
    call: Callable[[Tensor], Tensor], device: torch.device
) -> None:
    x_TE = normal(4, E, dtype=torch.float32, device=device)
    transposed = x_TE.T.contiguous().T
    strided = torch.stack([x_TE, -x_TE], -1)[..., 0]
    assert not transposed.is_contiguous()
    assert not strided.is_contiguous()
    same(call(transposed), call(x_TE), atol=1e-6)
    same(call(strided), call(x_TE), atol=1e-6)


@every_call
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_results_are_float32_at_least(call: Callable[[Tensor], Tensor], dtype: torch.dtype) -> None:
    result = call(normal(3, E, dtype=dtype))
    if call in (CALLS["top_k"], CALLS["gumbel_top_k"]):
        assert result.dtype == torch.int64
    elif call is CALLS["within_capacity"]:
        assert result.dtype == torch.bool
    elif call in (CALLS["combine"], CALLS["scatter_gates"]):
        assert result.dtype == dtype
    else:
        assert result.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


@every_call
def test_inputs_stay_as_they_were(call: Callable[[Tensor], Tensor]) -> None:
    x_TE = normal(3, E)
    call(x_TE)
    same(x_TE, normal(3, E))


@every_call
def test_autocast_changes_nothing(call: Callable[[Tensor], Tensor], device: torch.device) -> None:
    x_TE = normal(3, E, dtype=torch.float32, device=device)
    without = call(x_TE)
    with torch.autocast(device.type, torch.bfloat16):
        same(call(x_TE), without)


@every_call
def test_meta_tensors_give_shapes_without_numbers(call: Callable[[Tensor], Tensor]) -> None:
    real = call(normal(3, E, dtype=torch.float32))
    meta = call(torch.empty(3, E, device="meta"))
    assert meta.is_meta
    assert (meta.shape, meta.dtype) == (real.shape, real.dtype)
