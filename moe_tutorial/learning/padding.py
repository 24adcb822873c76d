"""Padding: rows that hold no token. No number and no gradient depends on what stands in them.

A mask says which rows count; in all others something harmless takes the place of what is there,
so that a NaN cannot spread: even 0 times NaN, in a sum or in a gradient, is NaN.   Chapter 08.
"""

from typing import Any

import torch
from torch import Tensor

from moe_tutorial.validation import check_int64, check_same_device
from moe_tutorial.values import holds, values_are_visible


def check_mask(mask_T: Any, name: str, values_TX: Tensor) -> None:
    """Refuse a mask that is not one bool per row of the argument ``name``, or keeps no token."""
    if not isinstance(mask_T, Tensor) or mask_T.dtype != torch.bool:
        found = mask_T.dtype if isinstance(mask_T, Tensor) else type(mask_T).__name__
        raise TypeError(
            f"mask_T must be a bool tensor with True for the tokens that count, got {found}: "
            "convert an attention mask of ones and zeros with .bool()"
        )
    if mask_T.shape != values_TX.shape[:-1]:
        raise ValueError(
            f"mask_T must have one entry per token of {name}, shape "
            f"{tuple(values_TX.shape[:-1])}, got shape {tuple(mask_T.shape)}"
        )
    check_same_device(**{"mask_T": mask_T, name: values_TX})
    requirement = "mask_T must keep at least one token"
    if values_are_visible(mask_T) and not holds(mask_T.any(), requirement):
        raise ValueError(f"{requirement}, got {mask_T.numel()} entries, all False")


def filled(name: str, values_TX: Tensor, mask_T: Tensor | None, fill: float | Tensor = 0) -> Tensor:
    """The rows with ``fill`` in those of padding, before anybody looks at their numbers.

    Args:
        name: of the argument that the rows are.
        values_TX: rows, a tensor of at least one dimension.
        mask_T: False marks padding; None if there is none.
        fill: a number, or a row of the dtype of the others.

    Returns:
        values_TX: of the same shape and dtype. Padding gets a gradient of 0.

    Raises:
        TypeError, ValueError: as :func:`check_mask`.
    """
    if mask_T is None:
        return values_TX
    check_mask(mask_T, name, values_TX)
    return torch.where(mask_T.unsqueeze(-1), values_TX, fill)


def filled_experts(experts_TK: Tensor, mask_T: Tensor | None) -> Tensor:
    """The chosen experts, with 0 to K - 1 in the rows of padding: ids are to be in range."""
    check_int64("experts_TK", experts_TK, "expert ids")
    if mask_T is None or experts_TK.ndim == 0:
        return experts_TK
    ids_K = torch.arange(experts_TK.shape[-1], device=experts_TK.device)
    return filled("experts_TK", experts_TK, mask_T, ids_K)


def tokens_of(values_TX: Tensor, mask_T: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """The rows ``[N, X]`` to calculate with, and which of them count: None if all do.

    On a CPU the rows of padding are left out *before* anything is calculated. Then a result has
    the bits that it has where there never was padding, which zeros in a sum cannot promise, and
    not even a function of single numbers can: some of torch's kernels, softplus and sigmoid among
    them, take their numbers in groups and those at the end by themselves, with another last bit,
    so that a result depends on where in memory its number stood.

    Elsewhere the number of rows would have to be waited for, so they stay.
    """
    rows_NX = values_TX.flatten(0, -2)
    if mask_T is None:
        return rows_NX, None
    mask_N = mask_T.flatten()
    if mask_N.device.type == "cpu" and not torch.compiler.is_compiling():
        return rows_NX[mask_N], None
    return rows_NX, mask_N
