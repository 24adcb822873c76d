"""Bad input is refused with the argument's name, the value that came and what was expected."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from moe_tutorial import (
    Router,
    combine,
    cosine_scores,
    dot_scores,
    entropy,
    gumbel_top_k,
    inclusion_probabilities,
    inclusion_probabilities_by_enumeration,
    keep,
    noisy_logits,
    plackett_luce_log_probability,
    renormalise,
    scatter_gates,
    sigmoid,
    softmax,
    softmax_over_chosen,
    top_k,
)
from tests.oracles import generator, normal, same

E = 4
ROWS = torch.zeros(3, E)
IDS = torch.tensor([[0, 1], [2, 3], [1, 0]])
GOOD = torch.full((3, E), 1 / E)
NAN_ROWS = torch.zeros(3, E).index_put((torch.tensor(1), torch.tensor(2)), torch.tensor(math.nan))
INF_ROWS = torch.zeros(3, E).index_put((torch.tensor(2), torch.tensor(0)), torch.tensor(-math.inf))

# Every argument that holds rows of floating-point numbers: its name, and a call with it.
ROW_ARGUMENTS: list[tuple[str, Callable[[Any], object]]] = [
    ("x_TD", lambda bad: dot_scores(bad, torch.ones(2, E))),
    ("centroids_ED", lambda bad: dot_scores(torch.ones(2, E), bad)),
    ("x_TD", lambda bad: cosine_scores(bad, torch.ones(2, E))),
    ("centroids_ED", lambda bad: cosine_scores(torch.ones(2, E), bad)),
    ("logits_TE", softmax),
    ("logits_TE", sigmoid),
    ("probabilities_TE", entropy),
    ("scores_TE", lambda bad: top_k(bad, 2)),
    ("logits_TE", lambda bad: softmax_over_chosen(bad, IDS)),
    ("probabilities_TE", lambda bad: keep(bad, IDS)),
    ("probabilities_TE", lambda bad: renormalise(bad, IDS)),
    ("logits_TE", lambda bad: gumbel_top_k(bad, 2)),
    ("logits_TE", lambda bad: noisy_logits(bad, ROWS)),
    ("noise_scores_TE", lambda bad: noisy_logits(ROWS, bad)),
    ("logits_TE", lambda bad: plackett_luce_log_probability(bad, IDS)),
    ("logits_TE", lambda bad: inclusion_probabilities(bad, 2)),
    ("logits_TE", lambda bad: inclusion_probabilities_by_enumeration(bad, 2)),
    ("gates_TK", lambda bad: combine(torch.ones(3, E, 2), bad)),
    ("x_TD", lambda bad: Router(E, 2, 1)(bad)),
]
NO_NUMBERS_LOOKED_AT: list[tuple[str, Callable[[Any], object]]] = [
    ("gates_TK", lambda bad: scatter_gates(bad, IDS, E))
]


@pytest.mark.parametrize(("name", "call"), ROW_ARGUMENTS + NO_NUMBERS_LOOKED_AT)
@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        ([[1.0, 2.0]], TypeError, "must be a torch.Tensor, got list"),
        (None, TypeError, "must be a torch.Tensor, got NoneType"),
        (ROWS.long(), TypeError, "must have a floating-point dtype, got torch.int64: .*float()"),
        (ROWS.bool(), TypeError, "must have a floating-point dtype, got torch.bool"),
        (
            ROWS.to(torch.complex64),
            TypeError,
            "must have a floating-point dtype, got torch.complex64",
        ),
        (ROWS[0], ValueError, r"must have at least 2 dimensions, got shape \(4,\)"),
        (ROWS[0, 0], ValueError, r"must have at least 2 dimensions, got shape \(\)"),
        (ROWS[:, :0], ValueError, r"must not be empty, got shape \(3, 0\)"),
    ],
)
def test_rows_must_be_floating_point_tensors(
    name: str, call: Callable[[Any], object], bad: object, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"{name} {message}"):
        call(bad)


@pytest.mark.parametrize(("name", "call"), ROW_ARGUMENTS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_rows_must_be_finite(name: str, call: Callable[[Any], object], dtype: torch.dtype) -> None:
    with pytest.raises(ValueError, match=rf"{name} must be finite, got nan at index \(1, 2\)"):
        call(NAN_ROWS.to(dtype))
    with pytest.raises(ValueError, match=rf"{name} must be finite, got -inf at index \(2, 0\)"):
        call(INF_ROWS.to(dtype))


@pytest.mark.parametrize(
    "call",
    [
        lambda k: top_k(ROWS, k),
        lambda k: gumbel_top_k(ROWS, k),
        lambda k: inclusion_probabilities(ROWS, k),
        lambda k: inclusion_probabilities_by_enumeration(ROWS, k),
        lambda k: Router(8, E, k),
    ],
)
@pytest.mark.parametrize(
    ("k", "error", "message"),
    [
        (0, ValueError, r"k must be (at least 1|between 1 and the number of experts \(4\)), got 0"),
        (
            -1,
            ValueError,
            r"k must be (at least 1|between 1 and the number of experts \(4\)), got -1",
        ),
        (5, ValueError, r"k must be between 1 and the number of experts \(4\), got 5"),
        (True, TypeError, "k must be an int, got True of type bool"),
        (2.0, TypeError, "k must be an int, got 2.0 of type float"),
        ("2", TypeError, "k must be an int, got '2' of type str"),
        (torch.tensor(2), TypeError, r"k must be an int, got tensor\(2\) of type Tensor"),
    ],
)
def test_k_must_be_an_int_from_1_to_the_number_of_experts(
    call: Callable[[Any], object], k: object, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call(k)


@pytest.mark.parametrize(
    "call",
    [
        lambda tau: softmax(ROWS, tau),
        lambda tau: softmax_over_chosen(ROWS, IDS, tau),
        lambda tau: gumbel_top_k(ROWS, 2, tau),
        lambda tau: plackett_luce_log_probability(ROWS, IDS, tau),
        lambda tau: inclusion_probabilities(ROWS, 2, tau),
        lambda tau: inclusion_probabilities_by_enumeration(ROWS, 2, tau),
    ],
)
@pytest.mark.parametrize(
    ("temperature", "error", "message"),
    [
        (0, ValueError, "temperature must be positive, got 0"),
        (-1.5, ValueError, "temperature must be positive, got -1.5"),
        (math.nan, ValueError, "temperature must be positive, got nan"),
        (-math.inf, ValueError, "temperature must be positive, got -inf"),
        (True, TypeError, "temperature must be a number.*got bool"),
        ("1", TypeError, "temperature must be a number or a tensor, got str"),
        (None, TypeError, "temperature must be a number or a tensor, got NoneType"),
        (torch.tensor(0.0), ValueError, "temperature must be positive everywhere, got 0.0"),
        (
            torch.tensor([[1.0], [-2.0], [1.0]]),
            ValueError,
            "temperature must be positive everywhere, got -2.0",
        ),
        (
            torch.tensor([[1.0], [1.0], [math.nan]]),
            ValueError,
            "temperature must be positive everywhere, got nan",
        ),
        (torch.tensor(1), TypeError, "temperature must have a floating-point dtype, got.*int64"),
        (torch.ones(3), ValueError, r"one per token .* \(3, 1\), got shape \(3,\)"),
        (torch.ones(2, 1), ValueError, r"one per token .* \(3, 1\), got shape \(2, 1\)"),
        # One temperature per expert would change the order of the experts.
        (torch.ones(E), ValueError, r"one per token .* \(3, 1\), got shape \(4,\)"),
        (torch.ones(3, E), ValueError, r"one per token .* \(3, 1\), got shape \(3, 4\)"),
        (torch.ones(2, 3, 1), ValueError, r"one per token .* \(3, 1\), got shape \(2, 3, 1\)"),
        (torch.ones(3, 1, device="meta"), ValueError, "got temperature on meta, logits_TE on cpu"),
    ],
)
def test_temperature_must_be_positive_and_one_per_token(
    call: Callable[[Any], object], temperature: object, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call(temperature)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("logits_TE", lambda ids: softmax_over_chosen(ROWS, ids)),
        ("probabilities_TE", lambda ids: keep(GOOD, ids)),
        ("probabilities_TE", lambda ids: renormalise(GOOD, ids)),
        ("logits_TE", lambda ids: plackett_luce_log_probability(ROWS, ids)),
    ],
)
@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        ([[0, 1]], TypeError, "experts_TK must hold int64 expert ids, got list"),
        (IDS.int(), TypeError, "experts_TK must hold int64 expert ids, got torch.int32"),
        (IDS.float(), TypeError, "experts_TK must hold int64 expert ids, got torch.float32"),
        (
            IDS[:2],
            ValueError,
            r"experts_TK must have one row per token.*\(3,\), got shape \(2, 2\)",
        ),
        (IDS[0], ValueError, r"experts_TK must have one row per token.*\(3,\), got shape \(2,\)"),
        (IDS[None], ValueError, r"experts_TK must have one row.*\(3,\), got shape \(1, 3, 2\)"),
        (IDS[:, :0], ValueError, "k must be between 1 and the number of experts.*got 0"),
        (IDS[:, [0, 1, 0, 1, 0]], ValueError, "k must be between 1 and.*got 5"),
        (IDS + 1, ValueError, "experts_TK must hold ids from 0 to 3, got 4"),
        (IDS - 1, ValueError, "experts_TK must hold ids from 0 to 3, got -1"),
        (IDS.to("meta"), ValueError, "one device, got experts_TK on meta, {name} on cpu"),
    ],
)
def test_expert_ids_must_fit_their_rows(
    name: str, call: Callable[[Any], object], ids: object, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message.format(name=name)):
        call(ids)


@pytest.mark.parametrize(
    ("call", "found"),
    [
        (lambda a, b: dot_scores(a, b), "x_TD on cpu, centroids_ED on meta"),
        (lambda a, b: cosine_scores(a, b), "x_TD on cpu, centroids_ED on meta"),
        (lambda a, b: noisy_logits(a, b), "logits_TE on cpu, noise_scores_TE on meta"),
        (lambda a, b: combine(a[..., None], b), "outputs_TKD on cpu, gates_TK on meta"),
        (lambda a, b: scatter_gates(a, b.long(), E), "gates_TK on cpu, experts_TK on meta"),
        (lambda a, b: Router(E, 3, 1).to(b.device)(a), "x_TD on cpu, centroids_ED on meta"),
    ],
)
def test_tensors_must_be_on_one_device(
    call: Callable[[Tensor, Tensor], object], found: str
) -> None:
    with pytest.raises(ValueError, match=f"all tensors must be on one device, got {found}"):
        call(ROWS, ROWS.to("meta"))


def test_noise_scores_must_have_the_shape_of_the_logits() -> None:
    message = r"noise_scores_TE must have the shape of logits_TE, \(3, 4\), got \(2, 4\)"
    with pytest.raises(ValueError, match=message):
        noisy_logits(ROWS, ROWS[:2])


@pytest.mark.parametrize(
    "call",
    [
        lambda rows, source: gumbel_top_k(rows, 2, 1.0, source),
        lambda rows, source: noisy_logits(rows, rows, source),
        lambda rows, source: Router(E, 3, 2, selection="sampled").to(rows.device)(rows, source),
        lambda rows, source: Router(E, 3, 2, selection="noisy_top_k").to(rows.device)(rows, source),
    ],
)
def test_the_generator_must_be_one_on_the_tokens_device(call: Callable[..., object]) -> None:
    call(ROWS, generator(0))
    with pytest.raises(TypeError, match=r"generator must be a torch\.Generator or None, got int"):
        call(ROWS, 0)
    message = "generator must be on the tokens' device, meta, got one on cpu: make it with.*'meta'"
    with pytest.raises(ValueError, match=message):
        call(ROWS.to("meta"), generator(0))
    if torch.cuda.is_available():
        with pytest.raises(ValueError, match=r"device, cuda:0, got one on cpu: make it with.*cuda"):
            call(ROWS.cuda(), generator(0))
        with pytest.raises(ValueError, match=r"device, cpu, got one on cuda.*make it with.*'cpu'"):
            call(ROWS, generator(0, "cuda"))


def test_extreme_but_finite_numbers_pass() -> None:
    largest = torch.finfo(torch.float32).max
    logits_TE = torch.tensor([[largest, 0.0, -largest]])
    same(softmax(logits_TE), [[1.0, 0.0, 0.0]])
    same(top_k(logits_TE, 3), [[0, 1, 2]])
    same(gumbel_top_k(logits_TE[:, :2], 2), [[0, 1]])
    same(dot_scores(normal(2, 3), 1e300 * torch.eye(3).double()), 1e300 * normal(2, 3))
