"""Clouds of logits: what a draw is, and what it costs in KL.

l = mu + s z (mean field) or l = mu + L z (full covariance), z ~ N(0, I).            Chapter 16.
"""

from typing import Any

import torch
from torch import Tensor

from moe_tutorial.validation import (
    check_generator,
    check_logits,
    check_same_device,
    check_same_shape,
)
from moe_tutorial.values import compute_dtype, holds, values_are_visible


def mean_field_logits(
    mean_TE: Tensor, log_deviation_TE: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    r"""Draw logits that know nothing of one another, by the reparametrisation trick.

    .. math:: l_{te} = \mu_{te} + \sigma_{te} z_{te}, \qquad z_{te} \sim \mathcal N(0, 1)

    (Kingma and Welling 2014, section 2.4; for routers Li 2025.)

    Args:
        mean_TE: mu, ``[T, E]`` with any leading dimensions.
        log_deviation_TE: ln sigma, with the shape of the mean.
        generator: the source of randomness, on the mean's device; None takes torch's own.

    Returns:
        logits_TE: float32, or float64 if an input is; gradients flow into both inputs.

    Raises:
        TypeError, ValueError: tensors that are not floating point and finite, do not fit together,
            or a generator elsewhere.
    """
    _check_pair("mean_TE", mean_TE, "log_deviation_TE", log_deviation_TE)
    check_generator(generator, mean_TE)
    mean_TE = mean_TE.to(compute_dtype(mean_TE, log_deviation_TE))
    noise_TE = torch.empty_like(mean_TE).normal_(generator=generator)
    return mean_TE + log_deviation_TE.exp() * noise_TE


def mean_field_kl(shift_TE: Tensor, log_deviation_TE: Tensor) -> Tensor:
    r"""How far this cloud is from the prior, a unit cloud around the router's own logits.

    .. math:: \mathrm{KL}_t = \tfrac12 \sum_e \bigl( \sigma_{te}^2 + \delta_{te}^2 - 1
              - 2 \ln \sigma_{te} \bigr)

    in nats, summed over experts; 0 where the shift delta is 0 and sigma is 1, and positive
    elsewhere (Kingma and Welling 2014, appendix B). It never sees a label: a coefficient on it
    turns the clouds' width like a dial.

    Args:
        shift_TE: delta, how far the mean is from the router's own logits.
        log_deviation_TE: ln sigma, with the shape of the shift.

    Returns:
        kl_T: one number per token.

    Raises:
        TypeError, ValueError: tensors that are not floating point and finite, or do not fit.
    """
    _check_pair("shift_TE", shift_TE, "log_deviation_TE", log_deviation_TE)
    # expm1 keeps what is left of s^2 - 1 - ln s^2 near its zero.
    twice_TE = 2 * log_deviation_TE
    return (torch.expm1(twice_TE) - twice_TE + shift_TE.square()).sum(-1) / 2


def cholesky_factor(log_diagonal_TE: Tensor, below_TX: Tensor) -> Tensor:
    r"""A lower triangular matrix with a positive diagonal from numbers that may be anything.

    .. math:: L_{ee} = e^{d_e}, \qquad L_{ij} = b \text{ for } i > j \text{, row by row}

    Every covariance :math:`L L^\top` of full rank has exactly one such factor.

    Args:
        log_diagonal_TE: d, ``[T, E]`` with any leading dimensions.
        below_TX: the X = E (E - 1) / 2 entries below the diagonal, with the same ones.

    Returns:
        factor_TEE: ``[T, E, E]``.

    Raises:
        TypeError, ValueError: tensors that are not floating point and finite, or do not fit.
    """
    check_logits("log_diagonal_TE", log_diagonal_TE)
    num_experts = log_diagonal_TE.shape[-1]
    entries = num_experts * (num_experts - 1) // 2
    if entries:
        check_logits("below_TX", below_TX)
    expected = (*log_diagonal_TE.shape[:-1], entries)
    if below_TX.shape != expected:
        raise ValueError(f"below_TX must have shape {expected}, got {tuple(below_TX.shape)}")
    check_same_device(log_diagonal_TE=log_diagonal_TE, below_TX=below_TX)
    rows, columns = torch.tril_indices(num_experts, num_experts, -1, device=below_TX.device)
    entries_TX = log_diagonal_TE.new_zeros((*log_diagonal_TE.shape[:-1], num_experts**2))
    entries_TX = entries_TX.index_copy(-1, rows * num_experts + columns, below_TX.to(entries_TX))
    below_TEE = entries_TX.reshape(*log_diagonal_TE.shape, num_experts)
    return below_TEE + torch.diag_embed(log_diagonal_TE.exp())


def full_covariance_logits(
    mean_TE: Tensor, factor_TEE: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    r"""Draw logits that move together.

    .. math:: l_t = \mu_t + L_t z_t, \qquad z_t \sim \mathcal N(0, I), \qquad
              \operatorname{Cov}(l_t) = L_t L_t^\top

    Args:
        mean_TE: mu, ``[T, E]`` with any leading dimensions.
        factor_TEE: L, as :func:`cholesky_factor` makes it, or broadcastable to it.
        generator: the source of randomness, on the mean's device; None takes torch's own.

    Returns:
        logits_TE: float32, or float64 if an input is; gradients flow into both inputs.

    Raises:
        TypeError, ValueError: tensors that are not floating point and finite, a factor that is not
            lower triangular with a positive diagonal, shapes that do not fit, or a generator
            elsewhere.
    """
    check_logits("mean_TE", mean_TE)
    _check_factor(factor_TEE, mean_TE.shape[-1])
    check_same_device(mean_TE=mean_TE, factor_TEE=factor_TEE)
    check_generator(generator, mean_TE)
    dtype = compute_dtype(mean_TE, factor_TEE)
    noise_TE1 = torch.empty((*mean_TE.shape, 1), dtype=dtype, device=mean_TE.device)
    noise_TE1.normal_(generator=generator)
    return mean_TE.to(dtype) + (factor_TEE.to(dtype) @ noise_TE1).squeeze(-1)


def full_covariance_kl(shift_TE: Tensor, factor_TEE: Tensor) -> Tensor:
    r"""How far a cloud with any covariance is from the unit cloud around the router's own logits.

    .. math:: \mathrm{KL}_t = \tfrac12 \Bigl( \sum_{ij} L_{ij}^2 + \lVert \delta_t \rVert^2 - E
              - 2 \sum_e \ln L_{ee} \Bigr)

    in nats; 0 where the shift delta is 0 and L is the identity, and positive elsewhere. With a
    diagonal L it is :func:`mean_field_kl`.

    Args:
        shift_TE: delta, how far the mean is from the router's own logits.
        factor_TEE: L, as :func:`cholesky_factor` makes it.

    Returns:
        kl_T: one number per token.

    Raises:
        TypeError, ValueError: as for :func:`full_covariance_logits`.
    """
    check_logits("shift_TE", shift_TE)
    _check_factor(factor_TEE, shift_TE.shape[-1])
    diagonal_TE = factor_TEE.diagonal(dim1=-2, dim2=-1)
    below_TEE = factor_TEE.tril(-1)
    apart_T = mean_field_kl(shift_TE, diagonal_TE.log())
    return apart_T + below_TEE.square().sum((-2, -1)) / 2


def _check_pair(name: str, tensor: Any, other: str, reference: Any) -> None:
    check_logits(name, tensor)
    check_logits(other, reference)
    check_same_device(**{name: tensor, other: reference})
    check_same_shape(other, reference, name, tensor)


def _check_factor(factor_TEE: Any, num_experts: int) -> None:
    check_logits("factor_TEE", factor_TEE)
    if factor_TEE.shape[-2:] != (num_experts, num_experts):
        raise ValueError(
            f"factor_TEE must end in {num_experts} x {num_experts}, got {tuple(factor_TEE.shape)}"
        )
    if not values_are_visible(factor_TEE):
        return
    positive = (factor_TEE.diagonal(dim1=-2, dim2=-1) > 0).all()
    lower = (factor_TEE.triu(1) == 0).all()
    requirement = "factor_TEE must be lower triangular with a positive diagonal"
    if not holds(positive & lower, requirement):
        raise ValueError(f"{requirement}: use cholesky_factor, or torch.linalg.cholesky")
