"""Combination: the chosen experts' outputs become one vector again.

y_t = sum over e in S_t of g_te f_e(u_t).                                           Chapter 05.
"""

from torch import Tensor

from moe_tutorial.validation import (
    check_finite,
    check_floating,
    check_same_device,
    check_same_shape,
    check_sets,
)
from moe_tutorial.values import compute_dtype


def combine(outputs_TKD: Tensor, gates_TK: Tensor) -> Tensor:
    r"""Add up the chosen experts' outputs, each weighted by its gate.

    .. math:: y_t = \sum_{i=1}^{K} g_{ti} \, o_{ti}

    The sum runs in float32 at least, and only its result is rounded to the outputs' dtype.

    Args:
        outputs_TKD: what the chosen experts returned, ``[T, K, D]`` with any leading dimensions,
            in the order of the gates.
        gates_TK: ``[T, K]``, floating point; any finite numbers.

    Returns:
        y_TD: ``[T, D]``, dtype of ``outputs_TKD``.

    Raises:
        TypeError: an argument is not a floating-point tensor.
        ValueError: shapes that do not fit, gates that are not finite, or two devices.
    """
    check_floating("outputs_TKD", outputs_TKD, rank=3)
    check_floating("gates_TK", gates_TK)
    if outputs_TKD.shape[:-1] != gates_TK.shape:
        raise ValueError(
            f"outputs_TKD must have shape [T, K, D] with [T, K] = {tuple(gates_TK.shape)} as in "
            f"gates_TK, got {tuple(outputs_TKD.shape)}"
        )
    check_same_device(outputs_TKD=outputs_TKD, gates_TK=gates_TK)
    check_finite("gates_TK", gates_TK)
    return weighted_sum(outputs_TKD, gates_TK)


def weighted_sum(outputs_TKD: Tensor, gates_TK: Tensor) -> Tensor:
    """:func:`combine` of arguments that were checked."""
    dtype = compute_dtype(outputs_TKD, gates_TK)
    weighted_TKD = gates_TK.to(dtype).unsqueeze(-1) * outputs_TKD.to(dtype)
    return weighted_TKD.sum(-2).to(outputs_TKD.dtype)


def scatter_gates(gates_TK: Tensor, experts_TK: Tensor, num_experts: int) -> Tensor:
    r"""Write the K gates into a row of E numbers that is zero outside the chosen set.

    .. math:: g_{te} = 0 \quad \text{for } e \notin S_t

    With it the weighted sum runs over all experts, :math:`y_t = \sum_{e=1}^{E} g_{te} f_e(u_t)`,
    which is how papers write it (Shazeer et al. 2017, equation 1).

    Args:
        gates_TK: ``[T, K]`` with any leading dimensions, floating point.
        experts_TK: int64 ids of the chosen experts, ``[T, K]``, no id twice in a row.
        num_experts: E.

    Returns:
        gates_TE: ``[T, E]``, dtype of ``gates_TK``.

    Raises:
        TypeError: gates_TK is not floating point, or experts_TK does not hold int64 ids.
        ValueError: shapes that differ, ids out of range or named twice, k above num_experts, or
            two devices.
    """
    check_floating("gates_TK", gates_TK)
    check_sets(experts_TK, num_experts)
    check_same_shape("experts_TK", experts_TK, "gates_TK", gates_TK)
    check_same_device(gates_TK=gates_TK, experts_TK=experts_TK)
    gates_TE = gates_TK.new_zeros(*gates_TK.shape[:-1], num_experts)
    return gates_TE.scatter(-1, experts_TK, gates_TK)
