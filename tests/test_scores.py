"""Chapter 01's functions against sums written out in Python."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from moe_tutorial import cosine_scores, dot_scores, top_k
from tests.oracles import normal, same

Scores = Callable[[Tensor, Tensor], Tensor]


def test_dot_scores_are_sums_of_products() -> None:
    x_TD, centroids_ED = normal(5, 7), normal(4, 7, seed=1)
    expected = [
        [math.fsum(u * w for u, w in zip(x, centroid, strict=True)) for centroid in centroids_ED]
        for x in x_TD
    ]
    same(dot_scores(x_TD, centroids_ED), expected, atol=1e-14)


def test_dot_scores_by_hand(device: torch.device) -> None:
    x_TD = torch.tensor([[1.0, 2.0], [0.0, -3.0]], device=device)
    centroids_ED = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, -1.0]], device=device)
    same(dot_scores(x_TD, centroids_ED), [[1.0, 1.5, -2.0], [0.0, -1.5, 3.0]])


@pytest.mark.parametrize("scale", [1.0, 0.25, 30.0, torch.tensor([2.5], dtype=torch.float64)])
def test_cosine_scores_are_the_cosine_of_the_angle(scale: float | Tensor) -> None:
    x_TD, centroids_ED = normal(5, 7), normal(4, 7, seed=1)
    expected = [
        [
            float(scale)
            * math.fsum(u * w for u, w in zip(x, centroid, strict=True))
            / (math.hypot(*x) * math.hypot(*centroid))
            for centroid in centroids_ED.tolist()
        ]
        for x in x_TD.tolist()
    ]
    same(cosine_scores(x_TD, centroids_ED, scale), expected, atol=1e-14, rtol=1e-14)


def test_cosine_scores_by_hand(device: torch.device) -> None:
    x_TD = torch.tensor([[3.0, 4.0]], device=device)
    centroids_ED = torch.tensor([[6.0, 8.0], [-4.0, 3.0], [-3.0, -4.0], [2.0, 0.0]], device=device)
    same(cosine_scores(x_TD, centroids_ED, 10), [[10.0, 0.0, -10.0, 6.0]], atol=2e-6)


@given(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3), st.integers(0, 99))
def test_cosine_scores_ignore_lengths_and_dot_scores_do_not(a: float, b: float, seed: int) -> None:
    x_TD, centroids_ED = normal(3, 4, seed=seed), normal(5, 4, seed=seed + 100)
    same(cosine_scores(a * x_TD, b * centroids_ED), cosine_scores(x_TD, centroids_ED), atol=1e-14)
    same(
        dot_scores(a * x_TD, b * centroids_ED), a * b * dot_scores(x_TD, centroids_ED), rtol=1e-12,
        atol=1e-12 * a * b,
    )  # fmt: skip


@pytest.mark.parametrize("size", [1e-38, 1e-30, 1e30, 3e38])
def test_cosine_scores_survive_squares_that_overflow_or_vanish(size: float) -> None:
    x_TD = torch.tensor([[size, size], [size, 0.0]])
    same(cosine_scores(x_TD, x_TD), [[1.0, 0.5**0.5], [0.5**0.5, 1.0]], atol=2e-7)


def test_a_zero_vector_has_cosine_zero_and_a_finite_gradient() -> None:
    x_TD = torch.tensor([[0.0, 0.0], [1.0, 2.0]], requires_grad=True)
    centroids_ED = torch.tensor([[1.0, 0.0], [0.0, 0.0]], requires_grad=True)
    logits_TE = cosine_scores(x_TD, centroids_ED, 5.0)
    same(logits_TE[0], [0.0, 0.0])
    same(logits_TE[:, 1], [0.0, 0.0])
    logits_TE.sum().backward()
    assert x_TD.grad is not None
    assert centroids_ED.grad is not None
    assert torch.isfinite(x_TD.grad).all()
    assert torch.isfinite(centroids_ED.grad).all()


@given(st.permutations(range(5)), st.permutations(range(4)))
def test_scores_move_with_their_expert_and_their_token(
    experts: list[int], tokens: list[int]
) -> None:
    x_TD, centroids_ED = normal(4, 6), normal(5, 6, seed=1)
    for scores in (dot_scores, cosine_scores):
        moved_TE = scores(x_TD[tokens], centroids_ED[experts])
        same(moved_TE, scores(x_TD, centroids_ED)[tokens][:, experts], atol=1e-14)


def test_gradients_of_dot_scores() -> None:
    operands = normal(3, 4).requires_grad_(), normal(5, 4, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(dot_scores, operands)


@pytest.mark.parametrize("shape", [(), (1,), (1, 1, 1)])
def test_gradients_of_cosine_scores_and_their_scale(shape: tuple[int, ...]) -> None:
    scale = torch.full(shape, 1.7, dtype=torch.float64, requires_grad=True)
    operands = normal(3, 4).requires_grad_(), normal(5, 4, seed=1).requires_grad_(), scale
    assert torch.autograd.gradcheck(cosine_scores, operands)
    assert cosine_scores(*operands).shape == (3, 5)


DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.mark.parametrize("token_dtype", DTYPES)
@pytest.mark.parametrize("centroid_dtype", DTYPES)
@pytest.mark.parametrize("scores", [dot_scores, cosine_scores])
def test_scores_are_calculated_in_float32_at_least(
    scores: Scores, token_dtype: torch.dtype, centroid_dtype: torch.dtype
) -> None:
    x_TD, centroids_ED = normal(4, 64, dtype=token_dtype), normal(6, 64, dtype=centroid_dtype)
    logits_TE = scores(x_TD, centroids_ED)
    wide = torch.float64 in (token_dtype, centroid_dtype)
    assert logits_TE.dtype == (torch.float64 if wide else torch.float32)
    expected_TE = scores(x_TD.double(), centroids_ED.double())
    tolerance = 1e-13 if wide else 1e-5
    same(logits_TE.double(), expected_TE, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("scores", [dot_scores, cosine_scores])
def test_autocast_does_not_reach_the_scores(
    scores: Scores, dtype: torch.dtype, device: torch.device
) -> None:
    x_TD = normal(4, 64, dtype=dtype, device=device)
    centroids_ED = normal(6, 64, seed=1, dtype=dtype, device=device)
    without_TE = scores(x_TD, centroids_ED)
    with torch.autocast(device.type, torch.bfloat16):
        same(scores(x_TD, centroids_ED), without_TE)
        assert (x_TD.float() @ centroids_ED.float().T).dtype == torch.bfloat16  # autocast was on


def test_bfloat16_arithmetic_would_choose_another_expert() -> None:
    # The second logit is 1 + 2**-8, and the next bfloat16 number above 1 is 1 + 2**-7.
    x_TD = torch.tensor([[1.0, 2**-8]], dtype=torch.bfloat16)
    centroids_ED = torch.tensor([[1.0, 0.0], [1.0, 1.0]], dtype=torch.bfloat16)
    assert top_k(x_TD @ centroids_ED.T, 1).item() == 0
    assert top_k(dot_scores(x_TD, centroids_ED), 1).item() == 1


@pytest.mark.parametrize("scores", [dot_scores, cosine_scores])
@pytest.mark.parametrize(
    ("x_shape", "centroids_shape", "message"),
    [
        ((3, 4), (5, 6), r"x_TD and centroids_ED must have the same width D, got 4 and 6 \(shapes"),
        ((3, 4), (2, 5, 4), r"centroids_ED must have shape \[E, D\].*got \(2, 5, 4\)"),
        ((3, 4), (0, 4), r"centroids_ED must have shape \[E, D\] with E >= 1, got \(0, 4\)"),
        ((3, 4), (4,), r"centroids_ED must have at least 2 dimensions, got shape \(4,\)"),
        ((4,), (5, 4), r"x_TD must have at least 2 dimensions, got shape \(4,\)"),
        ((3, 0), (5, 0), r"last dimension of x_TD must not be empty, got shape \(3, 0\)"),
    ],
)
def test_scores_refuse_shapes_that_do_not_fit(
    scores: Scores,
    x_shape: tuple[int, ...],
    centroids_shape: tuple[int, ...],
    message: str,
) -> None:
    with pytest.raises(ValueError, match=message):
        scores(torch.ones(x_shape), torch.ones(centroids_shape))


@pytest.mark.parametrize(
    ("scale", "error", "message"),
    [
        (0.0, ValueError, "scale must be positive, got 0.0"),
        (-2, ValueError, "scale must be positive, got -2"),
        (math.nan, ValueError, "scale must be positive, got nan"),
        (math.inf, ValueError, "scale must be finite, got inf"),
        (True, TypeError, "scale must be a number.*got bool"),
        ("2", TypeError, "scale must be a number or a tensor, got str"),
        (torch.tensor(-1.0), ValueError, "scale must be positive everywhere, got -1.0"),
        (torch.tensor([math.nan]), ValueError, "scale must be positive everywhere, got nan"),
        (torch.tensor(math.inf), ValueError, "scale must be finite, got inf"),
        (torch.ones(2), ValueError, r"scale must have one element, got shape \(2,\)"),
        (torch.tensor(2), TypeError, "scale must have a floating-point dtype, got torch.int64"),
        (torch.ones(1, device="meta"), ValueError, "one device, got scale on meta, x_TD on cpu"),
    ],
)
def test_cosine_scores_refuse_a_bad_scale(
    scale: float | Tensor, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        cosine_scores(torch.ones(3, 4), torch.ones(5, 4), scale)


def test_a_product_that_overflows_is_refused() -> None:
    with pytest.raises(ValueError, match=r"product of x_TD and centroids_ED.* got inf at index"):
        dot_scores(torch.full((1, 2), 1e30), torch.full((3, 2), 1e30))
