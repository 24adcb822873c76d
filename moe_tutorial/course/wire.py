"""Numbers between two processes that do not trust each other: JSON, and no pickle.

A tensor is its dtype, its shape and its bytes; whoever reads it checks all three.
"""

import base64
import json
import math
from typing import Any

import torch
from torch import Tensor

LARGEST = 32 * 2**20
"""How many bytes one message may have."""

_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
        *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
    )
}


class MessageError(ValueError):
    """A message that is none of ours."""


def pack(tensor: Tensor | None) -> dict[str, Any] | None:
    """A dense tensor on the CPU, of a plain dtype, as what JSON can hold; None stays None."""
    if tensor is None:
        return None
    flat = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
    return {
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "shape": list(tensor.shape),
        "bytes": base64.b64encode(flat.numpy().tobytes()).decode(),
    }


def unpack(packed: Any) -> Tensor | None:
    """What :func:`pack` packed, in memory of its own.

    Raises:
        MessageError: anything else.
    """
    if packed is None:
        return None
    try:
        dtype, shape = _DTYPES[packed["dtype"]], packed["shape"]
        raw = base64.b64decode(packed["bytes"], validate=True)
        if not all(type(size) is int and size >= 0 for size in shape) or len(shape) > 64:
            raise MessageError("a shape has sizes of at least 0")
        if math.prod(shape) * dtype.itemsize != len(raw):
            raise MessageError("the bytes do not fit the shape")
    except (KeyError, TypeError, ValueError) as error:
        raise MessageError(f"this is no tensor: {error}") from error
    if not raw:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(bytearray(raw), dtype=dtype).reshape(shape)


def to_line(message: dict[str, Any]) -> bytes:
    """One message as one line."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def from_line(line: bytes) -> dict[str, Any]:
    """The message in a line.

    Raises:
        MessageError: the line holds none.
    """
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise MessageError("this is no message") from error
    if not isinstance(message, dict):
        raise MessageError("this is no message")
    return message
