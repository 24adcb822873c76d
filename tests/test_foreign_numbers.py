"""Numbers of other kinds, and of sizes at which a sum, a square or a float no longer holds them."""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor, nn

from moe_tutorial import (
    Experts,
    Router,
    cosine_scores,
    dispatch,
    future_leak,
    gumbel_top_k,
    limit_capacity,
    load_metrics,
    noisy_logits,
    softmax,
    squared_variation,
)
from moe_tutorial.learning.clusters import train_layer
from moe_tutorial.learning.specialisation import byte_kinds, mutual_information, specialisation
from moe_tutorial.learning.text import corpus, draw_batch
from moe_tutorial.routing.decision import RouterConfig, route
from moe_tutorial.routing.inclusion import inclusion_probabilities
from tests.oracles import generator, normal, same

LOGITS = normal(3, 4)
IDS = torch.zeros(2, 3, 1, dtype=torch.int64)
LABELS = torch.zeros(2, 3, dtype=torch.int64)
HUGE = 10**400
TINY = Fraction(1, HUGE)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("probability", ["softmax", "sigmoid"])
@pytest.mark.parametrize("renormalise", [True, False])
def test_a_decision_from_narrow_logits_is_made_in_float32(
    dtype: torch.dtype, probability: Any, renormalise: bool
) -> None:
    config = RouterConfig(2, probability, renormalise=renormalise)
    narrow = LOGITS.to(dtype)
    found, expected = route(narrow, config), route(narrow.float(), config)
    for name in ("logits_TE", "probabilities_TE", "experts_TK", "gates_TK"):
        same(getattr(found, name), getattr(expected, name))


@pytest.mark.parametrize("temperature", [HUGE, Fraction(HUGE)], ids=["int", "fraction"])
def test_a_temperature_too_large_for_a_float_is_infinite(temperature: Any) -> None:
    same(softmax(LOGITS, temperature), torch.full_like(LOGITS, 0.25))
    same(
        gumbel_top_k(LOGITS, 2, temperature, generator(0)),
        gumbel_top_k(LOGITS, 2, math.inf, generator(0)),
    )
    chance_TE = inclusion_probabilities(LOGITS, 2, temperature)
    torch.testing.assert_close(chance_TE, torch.full_like(chance_TE, 0.5))
    assert RouterConfig(2, temperature=temperature).temperature == math.inf


@pytest.mark.parametrize("scale", [Fraction(1, 2), numpy.float64(0.5), numpy.float32(0.5)])
def test_a_scale_may_be_any_kind_of_number(scale: Any) -> None:
    centroids_ED = normal(4, 5)
    found = cosine_scores(normal(3, 5), centroids_ED, scale)
    same(found, cosine_scores(normal(3, 5), centroids_ED, 0.5))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: RouterConfig(2, temperature=TINY), ValueError, "temperature must be positive"),  # type: ignore[arg-type]
        (lambda: softmax(LOGITS, TINY), ValueError, "temperature must be positive"),  # type: ignore[arg-type]
        (lambda: cosine_scores(LOGITS, LOGITS, HUGE), ValueError, "scale must be finite"),
        (lambda: Router(4, 4, 2, scores="cosine", scale=TINY), ValueError, "scale must be pos"),  # type: ignore[arg-type]
        (lambda: train_layer(0, 1, switch=HUGE), ValueError, "switch must be finite"),
        (lambda: train_layer(0, 1, z=-HUGE), ValueError, "z must be finite"),
        (lambda: corpus({"a": ["b", "c"]}, HUGE), ValueError, "validation_share must be between"),
        (
            lambda: noisy_logits(torch.zeros(99, 4), torch.full((99, 4), 3e38), generator(0)),
            ValueError,
            "logits_TE with noise, too large",
        ),
        (lambda: softmax(LOGITS.to_sparse()), TypeError, "logits_TE must be a dense tensor"),
        (
            lambda: dispatch(LOGITS, torch.tensor(0), LOGITS[:, :1], Experts(2, 4, 4)),
            ValueError,
            r"experts_TK must have shape \(3, 1\)",
        ),
        (lambda: byte_kinds(3), TypeError, "tokens_BS must hold int64 bytes, got int"),  # type: ignore[arg-type]
        (lambda: byte_kinds(torch.tensor([-1])), ValueError, "tokens_BS .* 0 to 255, got -1"),
        (lambda: byte_kinds(torch.tensor([256])), ValueError, "tokens_BS .* 0 to 255, got 256"),
        (
            lambda: mutual_information(torch.tensor([[math.inf, 1.0], [1.0, 1.0]])),
            ValueError,
            "counts_LE must be finite, got inf",
        ),
        (
            lambda: specialisation(LABELS.float(), IDS, 2, 4, windows=True),
            TypeError,
            "labels_BS must hold int64",
        ),
        (
            lambda: specialisation(LABELS, IDS.float(), 2, 4, windows=True),
            TypeError,
            "experts_BSK must hold int64",
        ),
        (
            lambda: specialisation(LABELS, IDS, 2, 4, windows="no"),  # type: ignore[arg-type]
            TypeError,
            "windows must be True or False",
        ),
        (
            lambda: limit_capacity(route(LOGITS, RouterConfig(2)), 1.0, renormalise="no"),  # type: ignore[arg-type]
            TypeError,
            "renormalise must be True or False",
        ),
        (lambda: draw_batch(3, 1, 1), TypeError, "text must be a Text, got int"),  # type: ignore[arg-type]
    ],
)
def test_it_is_refused_by_its_name(
    call: Callable[[], object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        call()


@pytest.mark.parametrize("size", [1e-45, 1e-30, 1.0, 1e30, 3e38])
def test_evenness_does_not_hang_on_the_size_of_a_load(size: float) -> None:
    even, collapsed = torch.tensor([size, size]), torch.tensor([size, 0.0, 0.0, 0.0])
    assert squared_variation(even) == 0
    assert squared_variation(collapsed) == 3
    found = load_metrics(collapsed)
    assert found.max_over_mean == found.fraction_E.sum() * 4 == 4
    assert load_metrics(even).effective_experts == pytest.approx(2)
    assert found.coefficient_of_variation.dtype == torch.float32


@pytest.mark.parametrize(
    "sequence_SD",
    [torch.full((3, 4), 3e2).half(), torch.full((3, 4), 1e25), torch.full((3, 4), 1e-25)],
)
def test_a_leak_is_found_where_squares_do_not_fit(sequence_SD: Tensor) -> None:
    leak_S = future_leak(lambda x_SD: x_SD.flip(0), sequence_SD, generator(0))
    assert leak_S[2] > sequence_SD[0, 0] / 10
    same(future_leak(torch.clone, sequence_SD, generator(0)), torch.zeros_like(leak_S))


def test_a_router_without_values_prints() -> None:
    scale = nn.Parameter(torch.ones(1))
    assert "scale=1," in repr(Router(4, 3, 2, scores="cosine", scale=scale))
    assert "scale=learned," in repr(Router(4, 3, 2, scores="cosine", scale=scale).to("meta"))


def test_a_record_of_other_things_than_tensors_prints() -> None:
    shapes = torch.utils._pytree.tree_map(lambda it: it.shape, route(LOGITS, RouterConfig(2)))
    assert "gates_TK: torch.Size([3, 2])" in repr(shapes)
    assert "torch.Size([3, 2])" in shapes._repr_html_()
