"""Bad input is refused by name, so that the message says how to mend the call.

Every public function of the package calls these checks first. None of them changes a value.
"""

import math
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from moe_tutorial.values import (
    FEW,
    as_float,
    checks_itself,
    compute_dtype,
    holds,
    numbers_of,
    values_are_visible,
)

_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_floating(name: str, tensor: Any, *, rank: int = 2) -> None:
    """Refuse what is not a float tensor of 16, 32 or 64 bits with at least ``rank`` dimensions."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(tensor).__name__}")
    if tensor.dtype not in _DTYPES:
        raise TypeError(
            f"{name} must have a floating-point dtype, got {tensor.dtype}: convert it to one of "
            f"16, 32 or 64 bits, for example with {name}.float()"
        )
    if tensor.layout != torch.strided:
        raise TypeError(f"{name} must be a dense tensor, got {tensor.layout}: use .to_dense()")
    if tensor.ndim < rank:
        advice = ": a single token still needs its token dimension, for example x[None]"
        raise ValueError(
            f"{name} must have at least {rank} dimensions, got shape {tuple(tensor.shape)}"
            f"{'' if name.endswith('_ED') else advice}"
        )
    if tensor.ndim > 0 and tensor.size(-1) == 0:
        raise ValueError(
            f"the last dimension of {name} must not be empty, got shape {tuple(tensor.shape)}"
        )


def is_finite(name: str, tensor: Tensor) -> bool:
    """Whether there is neither NaN nor infinity, as far as the host can know without waiting."""
    if not values_are_visible(tensor) or tensor.numel() == 0:
        return True
    if checks_itself(tensor):
        return holds(torch.isfinite(tensor).all(), f"{name} must be finite")
    if tensor.numel() <= FEW:
        return math.isfinite(sum(numbers_of(tensor))) or bool(torch.isfinite(tensor).all())
    # A finite sum has finite terms; one that is not may also have overflowed.
    return math.isfinite(tensor.sum().item()) or bool(torch.isfinite(tensor).all())


def check_finite(name: str, tensor: Tensor) -> None:
    """Refuse NaN and infinity, and say where the first one is."""
    if not is_finite(name, tensor):
        where = tuple((~torch.isfinite(tensor)).nonzero()[0].tolist())
        raise ValueError(f"{name} must be finite, got {tensor[where].item()} at index {where}")


def check_same_device(**tensors: Tensor) -> None:
    """Refuse tensors on different devices."""
    if len({tensor.device for tensor in tensors.values()}) > 1:
        found = ", ".join(f"{name} on {tensor.device}" for name, tensor in tensors.items())
        raise ValueError(f"all tensors must be on one device, got {found}")


def check_logits(name: str, logits_TE: Any, *, rank: int = 2) -> None:
    """Refuse anything but finite floating-point rows, one entry per expert."""
    check_floating(name, logits_TE, rank=rank)
    check_finite(name, logits_TE)


def check_size(name: str, value: Any, *, least: int = 1) -> None:
    """Refuse a number of things that is not an integer of at least 1, or as many as given."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, got {value!r} of type {type(value).__name__}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")


def check_k(k: Any, num_experts: int) -> None:
    """Refuse a k that is not an integer between 1 and the number of experts."""
    if isinstance(k, bool) or not isinstance(k, int):
        raise TypeError(f"k must be an int, got {k!r} of type {type(k).__name__}")
    if not 1 <= k <= num_experts:
        raise ValueError(f"k must be between 1 and the number of experts ({num_experts}), got {k}")


def check_positive(name: str, value: Any) -> None:
    """Refuse a number, or a tensor with an entry, that is zero, negative or NaN."""
    if isinstance(value, Tensor):
        check_floating(name, value, rank=0)
        requirement = f"{name} must be positive everywhere"
        if values_are_visible(value) and not holds((value > 0).all(), requirement):
            worst = value[~(value > 0)].flatten()[0].item()
            raise ValueError(f"{requirement}, got {worst}")
    elif isinstance(value, Real):
        check_positive_number(name, value)
    else:
        raise TypeError(f"{name} must be a number or a tensor, got {type(value).__name__}")


def check_positive_number(name: str, value: Any) -> None:
    """Refuse what is no number, or a number that is zero, negative or NaN."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")
    if value <= 0 or value != value:  # NaN differs from itself
        raise ValueError(f"{name} must be positive, got {value}")
    if as_float(value) == 0:
        raise ValueError(f"{name} must be positive as a float, got a fraction that rounds to 0")


def check_scale(scale: Any) -> None:
    """Refuse a scale that is not one positive and finite number."""
    check_positive("scale", scale)
    if isinstance(scale, Tensor):
        check_finite("scale", scale)
        if scale.numel() != 1:
            raise ValueError(f"scale must have one element, got shape {tuple(scale.shape)}")
    elif math.isinf(as_float(scale)):
        raise ValueError(f"scale must be finite, got {as_float(scale)}")


def check_temperature(temperature: Any, logits_TE: Tensor) -> None:
    """Refuse a temperature that is not positive; infinity is allowed and means uniform."""
    check_positive("temperature", temperature)
    if not isinstance(temperature, Tensor):
        return
    check_same_device(temperature=temperature, logits_TE=logits_TE)
    # One entry per expert would break the shift by the row's maximum and the order of a draw.
    one_per_token = (*logits_TE.shape[:-1], 1)
    try:
        shape = torch.broadcast_shapes(temperature.shape, one_per_token)  # type: ignore[no-untyped-call]
    except RuntimeError:
        shape = None
    if shape != one_per_token:
        raise ValueError(
            "temperature must be one number, or one per token with a shape that broadcasts to "
            f"{one_per_token}, got shape {tuple(temperature.shape)}"
        )


def check_int64(name: str, ids: Any, what: str) -> None:
    """Refuse what is not a tensor of int64 ids; ``what`` says of which kind."""
    found = ids.dtype if isinstance(ids, Tensor) else type(ids).__name__
    if found != torch.int64:
        raise TypeError(f"{name} must hold int64 {what}, got {found}")


def check_id_range(name: str, ids: Tensor, count: int) -> None:
    """Refuse ids outside 0 .. count-1."""
    if not values_are_visible(ids) or ids.numel() == 0:
        return
    requirement = f"{name} must hold ids from 0 to {count - 1}"
    if checks_itself(ids):
        lowest, highest = torch.aminmax(ids)
        torch._assert_async((lowest >= 0) & (highest < count), requirement)
        return
    bounds = numbers_of(ids) if ids.numel() <= FEW else (it.item() for it in torch.aminmax(ids))
    for number in bounds:
        if not 0 <= number < count:
            raise ValueError(f"{requirement}, got {number}")


def check_same_shape(name: str, tensor: Tensor, other: str, reference: Tensor) -> None:
    """Refuse a tensor that has not the shape of the argument ``other``."""
    if tensor.shape != reference.shape:
        raise ValueError(
            f"{name} must have the shape of {other}, {tuple(reference.shape)}, "
            f"got {tuple(tensor.shape)}"
        )


def check_experts(experts_TK: Any, name: str, values_TE: Tensor) -> None:
    """Refuse expert ids that do not fit the rows they index, those of the argument ``name``."""
    check_int64("experts_TK", experts_TK, "expert ids")
    if experts_TK.ndim != values_TE.ndim or experts_TK.shape[:-1] != values_TE.shape[:-1]:
        raise ValueError(
            "experts_TK must have one row per token of shape "
            f"{tuple(values_TE.shape[:-1])}, got shape {tuple(experts_TK.shape)}"
        )
    check_same_device(**{"experts_TK": experts_TK, name: values_TE})
    check_k(experts_TK.shape[-1], values_TE.shape[-1])
    check_id_range("experts_TK", experts_TK, values_TE.shape[-1])


def check_sets(experts_TK: Any, num_experts: int, name: str = "experts_TK") -> None:
    """Refuse what does not name K different experts of E for each token."""
    check_int64(name, experts_TK, "expert ids")
    check_size("num_experts", num_experts)
    if experts_TK.ndim < 2:
        raise ValueError(
            f"{name} must have at least 2 dimensions, got shape {tuple(experts_TK.shape)}"
        )
    check_k(experts_TK.shape[-1], num_experts)
    check_id_range(name, experts_TK, num_experts)
    check_distinct(experts_TK, name)


def check_distinct(experts_TK: Tensor, name: str = "experts_TK") -> None:
    """Refuse a token that names an expert twice: S_t is a set."""
    if not values_are_visible(experts_TK) or experts_TK.shape[-1] < 2:
        return
    sorted_TK = experts_TK.sort(-1).values
    twice = sorted_TK[..., 1:] == sorted_TK[..., :-1]
    requirement = f"{name} must name an expert once per token"
    if not holds(~twice.any(), requirement):
        raise ValueError(f"{requirement}, got {sorted_TK[..., 1:][twice][0].item()} twice")


def check_probabilities(name: str, probabilities_TE: Any) -> None:
    """Refuse rows that are not distributions: a negative entry, or a sum that is not 1."""
    check_logits(name, probabilities_TE)
    if not values_are_visible(probabilities_TE) or probabilities_TE.numel() == 0:
        return
    lowest = probabilities_TE.min()
    if not holds(lowest >= 0, f"{name} must not be negative"):
        raise ValueError(f"{name} must not be negative, got {lowest.item()}")
    sums = probabilities_TE.to(compute_dtype(probabilities_TE)).sum(-1)
    furthest = (sums - 1).abs()
    # Rows may have been rounded in a narrower dtype before they came here.
    tolerance = max(1e-3, torch.finfo(probabilities_TE.dtype).eps ** 0.5)
    requirement = f"every row of {name} must sum to 1"
    if not holds(furthest.amax() <= tolerance, requirement):
        worst = sums.flatten()[furthest.argmax()].item()
        raise ValueError(f"{requirement}, got a row that sums to {worst:.6g}")


def check_generator(generator: Any, tensor: Tensor) -> None:
    """Refuse a generator that cannot draw on the tensor's device, or whose draw would be another.

    Activation checkpointing runs the forward again during the backward. It puts torch's own random
    numbers back first, but knows nothing of a generator, which would draw other experts.
    """
    if generator is None:
        return
    if not isinstance(generator, torch.Generator):
        raise TypeError(
            f"generator must be a torch.Generator or None, got {type(generator).__name__}"
        )
    same_kind = generator.device.type == tensor.device.type
    indices = {generator.device.index, tensor.device.index} - {None}
    if not same_kind or len(indices) > 1:
        raise ValueError(
            f"generator must be on the tokens' device, {tensor.device}, got one on "
            f"{generator.device}: make it with torch.Generator(device={tensor.device.type!r})"
        )
    if torch._C._current_graph_task_id() != -1:
        raise RuntimeError(
            "generator must be None where a forward is run again in the backward, as activation "
            "checkpointing does, since it would draw other numbers than in the forward: without "
            "one, torch's own are drawn, which torch.utils.checkpoint puts back"
        )


def check_tokens(name: str, tokens_BS: Any, vocabulary: int, weights: Tensor) -> None:
    """Refuse what is no batch of token ids, or ids that the weights have no row for."""
    check_int64(name, tokens_BS, "token ids")
    if tokens_BS.ndim != 2:
        raise ValueError(f"{name} must have the shape [B, S], got {tuple(tokens_BS.shape)}")
    if tokens_BS.device != weights.device:
        raise ValueError(
            f"{name} must be on the model's device, {weights.device}, got one on {tokens_BS.device}"
        )
    check_id_range(name, tokens_BS, vocabulary)


def check_kind(name: str, value: Any, kind: type) -> None:
    """Refuse what is no instance of a class."""
    if not isinstance(value, kind):
        article = "an" if kind.__name__[0] in "AEIO" else "a"
        raise TypeError(f"{name} must be {article} {kind.__name__}, got {type(value).__name__}")


def check_flag(name: str, value: Any) -> None:
    """Refuse what is neither True nor False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r}")


def check_choice(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    """Refuse a word that is not one of the allowed ones."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}")
