"""What vLLM returns of its routing: an array of ids for each request, without gates.

routed_experts [tokens, layers, K]                                                   Chapter 12.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from moe_tutorial.models.traces import Trace, check_full, from_ids, joined, repeated
from moe_tutorial.validation import check_size


def from_vllm(
    routed_experts: Sequence[npt.NDArray[Any]],
    num_experts: int,
    tokens: Sequence[Sequence[int]] | None = None,
) -> Trace:
    """Take over what vLLM returns as ``routed_experts`` with ``enable_return_routed_experts``.

    Args:
        routed_experts: one array ``[tokens, layers, K]`` for each request. It has a place for
            every layer, filled with zeros where a layer is dense; these are left out.
        num_experts: E, which the arrays do not say.
        tokens: the token ids of each request, as many as its array has rows.

    Returns:
        A sequence for each request.

    Raises:
        TypeError, ValueError: no array of integers, a token that has an expert twice or one beyond
            E, or arrays that differ in layers.
    """
    check_size("num_experts", num_experts)
    parts, dense = [], None
    for request, array in enumerate(routed_experts):
        name = f"routed_experts[{request}]"
        if not isinstance(array, np.ndarray) or not np.issubdtype(array.dtype, np.integer):
            raise TypeError(f"{name} must be a NumPy array of integers, got {array!r:.60}")
        if array.ndim != 3 or 0 in array.shape:
            raise ValueError(f"{name} must have the shape [tokens, layers, K], got {array.shape}")
        if dense is None:
            dense = (array == 0).all((0, 2)) & (array.shape[2] > 1)
        if len(dense) != array.shape[1]:
            raise ValueError(f"{name} must have {len(dense)} layers, got {array.shape[1]}")
        places = np.flatnonzero(~dense)
        ids_LTK = torch.from_numpy(array[:, places].transpose(1, 0, 2).astype(np.int64))
        for place, ids_TK in zip(places, ids_LTK, strict=True):
            bad_T = ((ids_TK < 0) | (ids_TK >= num_experts)).any(-1) | repeated(ids_TK)
            if bool(bad_T.any()):
                token = int(bad_T.nonzero()[0])
                raise ValueError(
                    f"{name} must hold different ids from 0 to {num_experts - 1} for each token, "
                    f"got {ids_TK[token].tolist()} for token {token} in layer {place}"
                )
        length = ids_LTK.shape[1]
        known = torch.full((length,), -1) if tokens is None else torch.tensor(tokens[request])
        if known.shape != (length,):
            raise ValueError(f"tokens[{request}] must be {length} ids, got {tuple(known.shape)}")
        names = [f"layer {place}" for place in places]
        parts.append(
            from_ids(ids_LTK, num_experts, names, "vLLM", tokens_T=known, sequence=request)
        )
    return joined(parts)


def to_vllm(trace: Trace) -> list[npt.NDArray[Any]]:
    """A trace as vLLM would return it: for each sequence the ids, ``[tokens, layers, K]``.

    Raises:
        TypeError, ValueError: what is no trace, or one in which a token has no expert.
    """
    check_full(trace)
    dtype = np.uint8 if trace.num_experts <= 256 else np.uint16
    ids_TLK = trace.experts_LTK.transpose(0, 1).numpy().astype(dtype)
    ends = np.flatnonzero(np.diff(trace.sequences_T.numpy())) + 1
    return np.split(ids_TLK, ends)
