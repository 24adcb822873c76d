"""Similarity scores: how well does each expert's centroid match this token?

l_t = u_t W_EC, one dot product per expert.                                         Chapter 01.
"""

import torch
from torch import Tensor, nn

from moe_tutorial.validation import (
    check_finite,
    check_floating,
    check_same_device,
    check_scale,
    is_finite,
)
from moe_tutorial.values import as_dtype, as_float, compute_dtype


def dot_scores(x_TD: Tensor, centroids_ED: Tensor) -> Tensor:
    r"""Score every expert by the dot product of the token with the expert's centroid.

    .. math:: l_{te} = \sum_d u_{td} \, w_{ed}

    This is the router of Shazeer et al. (2017, equation 2 with no noise). It is calculated in
    float32 at least, also under ``torch.autocast``: with a router in bfloat16, Fedus et al. (2021,
    section 2.4) saw training diverge. Only ``torch.set_float32_matmul_precision``, if you have
    lowered it, still applies.

    Args:
        x_TD: tokens, ``[T, D]`` or with more leading dimensions ``[B, S, D]``, floating point.
        centroids_ED: one centroid per expert, ``[E, D]``, as ``nn.Linear`` stores its weight.

    Returns:
        logits_TE: ``[T, E]`` (leading dimensions kept), float32, or float64 if an input is.

    Raises:
        TypeError: an argument is not a floating-point tensor.
        ValueError: wrong rank or width, a value that is not finite, a product that overflows, or
            two devices.
    """
    _check_operands(x_TD, centroids_ED)
    logits_TE = dots(x_TD, centroids_ED)
    _check_product(logits_TE, x_TD, centroids_ED)
    return logits_TE


def dots(x_TD: Tensor, centroids_ED: Tensor) -> Tensor:
    """:func:`dot_scores` of arguments that were checked."""
    dtype = compute_dtype(x_TD, centroids_ED)
    x_TD, centroids_ED = as_dtype(dtype, x_TD), as_dtype(dtype, centroids_ED)
    # The meta device knows no autocast, and has no numbers to keep precise.
    device = "cpu" if x_TD.is_meta else x_TD.device.type
    if not torch.is_autocast_enabled(device):
        return nn.functional.linear(x_TD, centroids_ED)
    with torch.autocast(device, enabled=False):
        return nn.functional.linear(x_TD, centroids_ED)


def cosine_scores(x_TD: Tensor, centroids_ED: Tensor, scale: float | Tensor = 1.0) -> Tensor:
    r"""Score every expert by the angle between the token and the expert's centroid.

    .. math:: l_{te} = \text{scale} \cdot \frac{u_t \cdot w_e}{\lVert u_t \rVert \lVert w_e \rVert}

    The lengths no longer matter, so without the scale every logit lies in [-1, 1] and a softmax
    over them stays close to uniform. Chi et al. (2022, "On the Representation Collapse of Sparse
    Mixture of Experts") learn the scale. A zero vector has no direction: its scores are 0.

    Args:
        x_TD: tokens, ``[T, D]`` or ``[B, S, D]``, floating point.
        centroids_ED: one centroid per expert, ``[E, D]``.
        scale: a positive number, or a tensor with one element (a learned scale).

    Returns:
        logits_TE: ``[T, E]`` (leading dimensions kept), float32, or float64 if an input is.

    Raises:
        TypeError: an argument is not a floating-point tensor, or scale is not a number.
        ValueError: as for :func:`dot_scores`, or a scale that is not positive and finite.
    """
    _check_operands(x_TD, centroids_ED)
    check_scale(scale)
    if isinstance(scale, Tensor):
        check_same_device(scale=scale, x_TD=x_TD)
        scale = scale.reshape(())
    else:
        scale = as_float(scale)
    dtype = compute_dtype(x_TD, centroids_ED)
    directions = (_direction(as_dtype(dtype, vectors)) for vectors in (x_TD, centroids_ED))
    logits_TE = scale * dots(*directions)
    _check_product(logits_TE, x_TD, centroids_ED)
    return logits_TE


def _direction(vectors: Tensor) -> Tensor:
    # Dividing by the largest entry first keeps the squares inside the norm from overflowing.
    largest = vectors.detach().abs().amax(-1, keepdim=True)
    vectors = vectors / torch.where(largest > 0, largest, 1)
    length = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors / torch.where(length > 0, length, 1)


def _check_operands(x_TD: Tensor, centroids_ED: Tensor) -> None:
    check_floating("x_TD", x_TD)
    check_floating("centroids_ED", centroids_ED)
    if centroids_ED.ndim != 2 or len(centroids_ED) == 0:
        raise ValueError(
            f"centroids_ED must have shape [E, D] with E >= 1, got {tuple(centroids_ED.shape)}"
        )
    if x_TD.size(-1) != centroids_ED.size(1):
        raise ValueError(
            f"x_TD and centroids_ED must have the same width D, got {x_TD.shape[-1]} and "
            f"{centroids_ED.shape[-1]} (shapes {tuple(x_TD.shape)} and {tuple(centroids_ED.shape)})"
        )
    if x_TD.device != centroids_ED.device:
        check_same_device(x_TD=x_TD, centroids_ED=centroids_ED)


def _check_product(logits_TE: Tensor, x_TD: Tensor, centroids_ED: Tensor) -> None:
    # A number that is not finite makes each of its products not finite, so one look at the few
    # logits is a look at both factors, too. Only what is wrong is looked for in them.
    product = "the product of x_TD and centroids_ED, too long for its dtype,"
    if not is_finite(product, logits_TE):
        check_finite("x_TD", x_TD)
        check_finite("centroids_ED", centroids_ED)
        check_finite(product, logits_TE)
    elif logits_TE.numel() == 0:
        check_finite("centroids_ED", centroids_ED)
