"""Clouds of centroids: coordinates that are dropped, and a Gaussian as wide as the loss is flat.

w_e' = m * w_e / (1 - p) (dropout);  W = W* + A Z B', Z ~ N(0, I) (Laplace).         Chapter 16.
"""

import math
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from moe_tutorial.validation import (
    check_finite,
    check_floating,
    check_generator,
    check_logits,
    check_positive_number,
    check_same_device,
)
from moe_tutorial.values import as_float, holds, values_are_visible


def dropped(x_TD: Tensor, rate: float, generator: torch.Generator | None = None) -> Tensor:
    r"""Set each coordinate of each token to 0 with probability p, and enlarge the others.

    .. math:: u'_{td} = \frac{m_{td}}{1 - p} u_{td}, \qquad P(m_{td} = 1) = 1 - p, \quad
              P(m_{td} = 0) = p

    ``nn.Dropout`` with a generator. Left on in evaluation, and before a router, it is a cloud of
    centroids: dropping a token's coordinate is dropping it from every centroid (Gal and
    Ghahramani 2016, section 3).

    Args:
        x_TD: tokens, ``[T, D]`` with any leading dimensions.
        rate: p, from 0 up to but not including 1.
        generator: the source of randomness, on the tokens' device; None takes torch's own.

    Returns:
        Shape and dtype of ``x_TD``.

    Raises:
        TypeError, ValueError: tokens that are not floating point, a rate outside [0, 1), or a
            generator elsewhere.
    """
    check_floating("x_TD", x_TD)
    check_rate(rate)
    check_generator(generator, x_TD)
    kept_TD = torch.empty_like(x_TD, dtype=torch.float32).uniform_(generator=generator) >= rate
    return x_TD * kept_TD / (1 - rate)


def check_rate(rate: Any) -> None:
    """Refuse a dropout rate outside [0, 1)."""
    if isinstance(rate, bool) or not isinstance(rate, Real):
        raise TypeError(f"rate must be a number, got {type(rate).__name__}")
    if not 0 <= as_float(rate) < 1:
        raise ValueError(f"rate must be at least 0 and below 1, got {rate}")


def laplace_covariances(
    x_TD: Tensor, gradient_TE: Tensor, prior_precision: float
) -> tuple[Tensor, Tensor]:
    r"""The curvature of a trained model's loss around its centroids, as two small covariances.

    .. math:: \operatorname{Cov}(w_{ei}, w_{fj}) = (\Sigma_E)_{ef} (\Sigma_D)_{ij}, \qquad
              \Sigma_D = (\sqrt T A + \sqrt\lambda I)^{-1}, \quad
              \Sigma_E = (\sqrt T G + \sqrt\lambda I)^{-1}, \qquad
              A = \tfrac1T \textstyle\sum_t u_t u_t^\top, \quad
              G = \tfrac1T \textstyle\sum_t g_t g_t^\top

    The Laplace approximation with a Kronecker-factored Fisher matrix (Ritter et al. 2018): the
    loss is nearly a parabola around its minimum, and the posterior as wide as that parabola
    is flat. Gradients reach logits through the gates alone, so the curvature knows nothing of
    choices that would change.

    Args:
        x_TD: u, tokens as the router saw them, ``[T, D]`` with any leading dimensions.
        gradient_TE: g, of the loss *summed* over the data, with labels drawn from the model's own
            predictions (with the true ones it would be the "empirical" Fisher matrix).
        prior_precision: lambda, one over the prior variance of a centroid's entry.

    Returns:
        covariance_EE and covariance_DD, float64.

    Raises:
        TypeError, ValueError: tensors that are not floating point and finite, for different
            tokens or none, or a precision that is not positive and finite.
    """
    check_logits("x_TD", x_TD)
    check_logits("gradient_TE", gradient_TE)
    check_same_device(x_TD=x_TD, gradient_TE=gradient_TE)
    check_positive_number("prior_precision", prior_precision)
    if math.isinf(as_float(prior_precision)):
        raise ValueError(f"prior_precision must be finite, got {prior_precision}")
    if x_TD.shape[:-1] != gradient_TE.shape[:-1] or x_TD.numel() == 0:
        raise ValueError(
            "gradient_TE must be for the tokens of x_TD, at least one, got shapes "
            f"{tuple(gradient_TE.shape)} and {tuple(x_TD.shape)}"
        )

    def covariance(rows: Tensor) -> Tensor:
        rows = rows.detach().flatten(0, -2).double()
        precision = rows.T @ rows / math.sqrt(len(rows))
        precision.diagonal().add_(math.sqrt(prior_precision))
        return torch.cholesky_inverse(torch.linalg.cholesky(precision))

    return covariance(gradient_TE), covariance(x_TD)


def centroid_variance(x_TD: Tensor, covariance_DD: Tensor) -> Tensor:
    r"""How wide a cloud of centroids is in the direction of each token.

    .. math:: v_t = u_t^\top \Sigma_D u_t

    The variance of a logit, apart from the expert's own factor: large for tokens that point where
    no training token did.

    Args:
        x_TD: tokens, ``[T, D]`` with any leading dimensions.
        covariance_DD: a covariance: symmetric, with no negative eigenvalue.

    Returns:
        variance_T: float64.

    Raises:
        TypeError, ValueError: tensors that are not floating point and finite or do not fit, or a
            matrix that is no covariance.
    """
    check_logits("x_TD", x_TD)
    check_covariance("covariance_DD", covariance_DD, x_TD.shape[-1])
    check_same_device(x_TD=x_TD, covariance_DD=covariance_DD)
    x_TD = x_TD.double()
    return ((x_TD @ covariance_DD.double()) * x_TD).sum(-1)


def check_covariance(name: str, covariance: Any, size: int) -> None:
    """Refuse a matrix that is no covariance of so many numbers."""
    check_floating(name, covariance)
    if covariance.shape != (size, size):
        raise ValueError(f"{name} must have shape {(size, size)}, got {tuple(covariance.shape)}")
    check_finite(name, covariance)
    if not values_are_visible(covariance):
        return
    tolerance = 1e-6 * covariance.detach().abs().max()
    if not holds((covariance - covariance.T).abs().max() <= tolerance, f"{name} is symmetric"):
        raise ValueError(f"{name} must be symmetric")
    least = torch.linalg.eigvalsh(covariance.detach().double()).min()
    if not holds(least >= -tolerance, f"{name} has no negative eigenvalue"):
        raise ValueError(f"{name} must have no negative eigenvalue, got {least.item():.4g}")
