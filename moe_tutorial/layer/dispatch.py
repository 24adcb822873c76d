"""Dispatch: every token to its experts and back, in few and large matrix products.

Sort the assignments by expert, run each expert on one contiguous block, undo the sort, and sum
the K rows of each token in a fixed order.                                          Chapter 07.
"""

import contextlib
import functools
import math
from typing import Any, Literal

import torch
from torch import Tensor

from moe_tutorial.layer.assignments import sort_assignments
from moe_tutorial.layer.backward import step_by_step
from moe_tutorial.layer.feed_forward import ExpertWeights, first_width
from moe_tutorial.layer.grouped import Grouped
from moe_tutorial.layer.loop import Loop
from moe_tutorial.layer.memory import FEW_ROWS, LARGE
from moe_tutorial.validation import (
    check_choice,
    check_finite,
    check_floating,
    check_id_range,
    check_int64,
    check_same_device,
)
from moe_tutorial.values import as_dtype, compute_dtype

Method = Literal["loop", "grouped"]


def dispatch(
    x_TD: Tensor,
    experts_TK: Tensor,
    gates_TK: Tensor,
    experts: Any,
    *,
    method: Method | None = None,
) -> Tensor:
    r"""Run each token's chosen experts and add up their outputs, weighted by the gates.

    .. math:: y_t = \sum_{i=1}^{K} g_{ti} \, f_{e_{ti}}(u_t), \qquad
              f_e(u) = \operatorname{act}(u {W^{in}_e}^\top + b^{in}_e) \, {W^{out}_e}^\top
              + b^{out}_e

    Two methods give the same sums. ``"loop"`` takes one expert after another and never holds more
    than one expert's rows of outputs; it works everywhere. ``"grouped"`` calls
    ``torch.nn.functional.grouped_mm`` (torch 2.10 and newer), which has no loop in Python and, on
    a GPU, no wait for the number of rows; it has no float64 and no biases here.

    :func:`chosen_method` picks one. Each adds a token's K rows in one fixed order, so two runs
    give the same bits; the loop does on a GPU if no token names an expert twice, as no router
    here does. Sums run in float32 at least. Frozen weights cost no gradient. The gradients can be
    differentiated again, and ``torch.func`` transforms and the meta device are served by the plain
    steps of :mod:`moe_tutorial.layer.assignments`. Under ``torch.compile`` the call is left out of
    the graph, which leaves one graph before it and one after it.

    Args:
        x_TD: tokens, ``[T, D]`` with any leading dimensions.
        experts_TK: int64 ids of the chosen experts, ``[T, K]``; an id named twice counts twice.
        gates_TK: ``[T, K]``.
        experts: an :class:`~moe_tutorial.layer.experts.Experts` module, or
            :class:`~moe_tutorial.layer.feed_forward.ExpertWeights`.
        method: ``"loop"``, ``"grouped"``, or None for the rule.

    Returns:
        y_TD: shape and dtype of ``x_TD``; under autocast, in its dtype, but float64 stays.

    Raises:
        TypeError: a tensor of the wrong dtype, or experts that are none.
        ValueError: shapes that do not fit, ids out of range, gates that are not finite,
            two devices, or a method that cannot serve this call.
        RuntimeError: under ``torch.vmap`` or ``torch.export``, which know no sizes that depend on
            values.
    """
    weights = getattr(experts, "weights", experts)
    if not isinstance(weights, ExpertWeights):
        raise TypeError(
            f"experts must be an Experts module or ExpertWeights, got {type(experts).__name__}"
        )
    if getattr(torch.compiler, "is_exporting", lambda: False)():
        raise RuntimeError(
            "dispatch cannot be captured by torch.export, since how many rows an expert has "
            "depends on values: export the router, and run the experts outside of the graph"
        )
    run = _outside_a_graph if torch.compiler.is_compiling() else _dispatch
    y_TD: Tensor = run(x_TD, experts_TK, gates_TK, weights, method)
    return y_TD


def chosen_method(x_TD: Tensor, experts_TK: Tensor, weights: ExpertWeights) -> Method:
    """The rule: grouped on a GPU that has a kernel for it, and on a CPU for small blocks.

    On a CPU both do the same products one after another. A loop in Python costs some microseconds
    for each expert, which matters while blocks have fewer than 128 rows; above, what matters is
    memory, of which the loop needs less.
    """
    if not _can_group(x_TD, weights):
        return "loop"
    if x_TD.is_cuda:
        has_kernel = torch.cuda.get_device_capability(x_TD.device)[0] in (9, 10)
        return "grouped" if has_kernel and x_TD.dtype == torch.bfloat16 else "loop"
    return "grouped" if experts_TK.numel() < FEW_ROWS * len(weights.in_EHD) else "loop"


def autograd_serves(x_TD: Tensor, weights: ExpertWeights) -> bool:
    """Whether torch's derivative of the grouped method is to be preferred to ours.

    It has no Python in it, which counts on a CPU while weights are small. But it writes the zeros
    of idle experts, finds large gradients no cheap memory, and sums in the dtype of the rows.
    """
    return (
        x_TD.is_cpu
        and x_TD.dtype == torch.float32
        and max(weights.in_EHD.nbytes, weights.out_EDF.nbytes) < LARGE
    )


def _can_group(x_TD: Tensor, weights: ExpertWeights) -> bool:
    common = math.gcd(*weights.in_EHD.shape[1:], *weights.out_EDF.shape[1:])
    return (
        weights.in_bias_EH is None
        and x_TD.dtype in (torch.float32, torch.bfloat16, torch.float16)
        and common * x_TD.element_size() % 16 == 0
        and hasattr(torch.nn.functional, "grouped_mm")
    )


def _dispatch(
    x_TD: Tensor,
    experts_TK: Tensor,
    gates_TK: Tensor,
    weights: ExpertWeights,
    method: Method | None,
) -> Tensor:
    _check(x_TD, experts_TK, gates_TK, weights)
    device = "cpu" if x_TD.is_meta else x_TD.device.type
    autocast = torch.is_autocast_enabled(device)
    # As nn.Linear does, autocast leaves float64 alone.
    narrow = autocast and x_TD.dtype != torch.float64
    dtype = torch.get_autocast_dtype(device) if narrow else x_TD.dtype
    flat_TD, flat_gates_TK = x_TD.flatten(0, -2), gates_TK.flatten(0, -2)
    flat_TD, flat_gates_TK = as_dtype(dtype, flat_TD), as_dtype(compute_dtype(x_TD), flat_gates_TK)
    flat_experts_TK = experts_TK.flatten(0, -2)
    first, second, activation, *biases = weights
    biases = [it if it is None else as_dtype(dtype, it) for it in biases]
    weights = ExpertWeights(as_dtype(dtype, first), as_dtype(dtype, second), activation, *biases)
    if method is None:
        method = chosen_method(flat_TD, flat_experts_TK, weights)
    elif method == "grouped" and not _can_group(flat_TD, weights):
        raise ValueError(
            "method='grouped' needs torch.nn.functional.grouped_mm, no biases, and float32, "
            f"bfloat16 or float16 rows of a multiple of 16 bytes, got {flat_TD.dtype} with widths "
            f"{tuple(weights.in_EHD.shape[1:])} and {tuple(weights.out_EDF.shape[1:])}"
        )
    else:
        check_choice("method", method, ("loop", "grouped"))
    with torch.autocast(device, enabled=False) if autocast else contextlib.nullcontext():
        y_TD = _run(flat_TD, flat_experts_TK, flat_gates_TK, weights, method)
    # Nobody else has y_TD. An ordinary view would keep others from changing the result in place.
    return torch.ops.aten._unsafe_view(y_TD, x_TD.shape)  # type: ignore[no-any-return]


# The loop asks for the number of rows, and grouped_mm in float32 has no compiled form.
_outside_a_graph: Any = torch.compiler.disable(_dispatch)  # type: ignore[no-untyped-call]


def _run(
    x_TD: Tensor, experts_TK: Tensor, gates_TK: Tensor, weights: ExpertWeights, method: Method
) -> Tensor:
    first, second, activation, *biases = weights
    arguments = (x_TD, gates_TK, experts_TK, activation, first, second, *biases)
    # Both methods write into memory of their own, which transforms cannot follow.
    transformed = torch._C._are_functorch_transforms_active()
    if transformed or x_TD.is_meta:
        _refuse_vmap(arguments)
        assignments = sort_assignments(experts_TK, len(first))
        return step_by_step(x_TD, gates_TK, assignments, weights)
    function = Loop if method == "loop" else Grouped
    wanted = torch.is_grad_enabled() and any(
        isinstance(it, Tensor) and it.requires_grad for it in arguments
    )
    own_backward = wanted and not (method == "grouped" and autograd_serves(x_TD, weights))
    # With no backward of its own, the Function's forward alone saves memory and time.
    run: Any = function.apply if own_backward else functools.partial(function.forward, None)
    y_TD: Tensor = run(*arguments)
    return y_TD


def _refuse_vmap(arguments: tuple[Any, ...]) -> None:
    if any(isinstance(it, Tensor) and torch._C._functorch.is_batchedtensor(it) for it in arguments):
        raise RuntimeError(
            "dispatch does not run under torch.vmap, since how many rows an expert has depends on "
            "values: give a batch as leading dimensions of x_TD instead"
        )


def _check(x_TD: Tensor, experts_TK: Tensor, gates_TK: Tensor, weights: ExpertWeights) -> None:
    in_EHD, out_EDF, activation, in_bias_EH, out_bias_ED = weights
    check_choice("activation", activation, ("gelu", "swiglu"))
    check_floating("x_TD", x_TD)
    check_floating("gates_TK", gates_TK)
    check_floating("in_EHD", in_EHD, rank=3)
    check_floating("out_EDF", out_EDF, rank=3)
    check_int64("experts_TK", experts_TK, "expert ids")
    num_experts, model_width, hidden_width = out_EDF.shape
    width = first_width(hidden_width, activation)
    tokens, k = x_TD.shape[:-1], (experts_TK if experts_TK.ndim else gates_TK).shape[-1]
    tensors = {"in_EHD": in_EHD, "x_TD": x_TD, "experts_TK": experts_TK, "gates_TK": gates_TK}
    shapes = [(num_experts, width, model_width), (*tokens, model_width), (*tokens, k), (*tokens, k)]
    if in_bias_EH is not None and out_bias_ED is not None:
        check_floating("in_bias_EH", in_bias_EH)
        check_floating("out_bias_ED", out_bias_ED)
        tensors |= {"in_bias_EH": in_bias_EH, "out_bias_ED": out_bias_ED}
        shapes += [(num_experts, width), (num_experts, model_width)]
    elif in_bias_EH is not None or out_bias_ED is not None:
        raise ValueError("in_bias_EH and out_bias_ED must both be given, or neither")
    for (name, tensor), shape in zip(tensors.items(), shapes, strict=True):
        if tensor.shape != shape:
            raise ValueError(
                f"{name} must have shape {shape} to fit out_EDF {tuple(out_EDF.shape)} and "
                f"activation {activation!r}, got {tuple(tensor.shape)}"
            )
    check_same_device(**tensors, out_EDF=out_EDF)
    check_finite("gates_TK", gates_TK)
    check_id_range("experts_TK", experts_TK, num_experts)
