"""A few lines that say what a person wants to know of a record, as text and in a notebook."""

import html
from typing import Any

import torch
from torch import Tensor

from moe_tutorial.values import values_are_visible


class Summary:
    """A record that prints as its name and the lines of ``summary()``."""

    def summary(self) -> dict[str, str]:
        """Each line's name and what it says."""
        raise NotImplementedError

    def _lines(self) -> dict[str, str]:
        # A map over the tree of tensors may leave anything in their places, such as shapes.
        if all(isinstance(value, Tensor | Summary) for value in vars(self).values()):
            return self.summary()
        return {name: repr(value) for name, value in vars(self).items()}

    def __repr__(self) -> str:
        lines = [f"  {name}: {text}" for name, text in self._lines().items()]
        return "\n".join([type(self).__name__, *lines])

    def _repr_html_(self) -> str:
        cell = '<td style="text-align: left">'
        rows = "".join(
            f"<tr>{cell}{html.escape(name)}</td>{cell}{html.escape(text)}</td></tr>"
            for name, text in self._lines().items()
        )
        return f"<table><caption>{type(self).__name__}</caption><tbody>{rows}</tbody></table>"


def summary_of(
    experts_TK: Tensor, gates_TK: Tensor, num_experts: int, kept_TK: Tensor | None = None
) -> dict[str, str]:
    """What a routing decision says: of the whole, and of its first token.

    Args:
        experts_TK: ids of the chosen experts, ``[T, K]`` with any leading dimensions.
        gates_TK: their gates.
        num_experts: E.
        kept_TK: which assignments are carried out, or None for all.

    Returns:
        Some lines by their names; without values, as on the meta device, only the sizes.
    """
    *leading, k = experts_TK.shape
    tokens = experts_TK[..., 0].numel() if k else 0
    shape = f" ({' x '.join(map(str, leading))})" if len(leading) > 1 else ""
    lines = {"tokens": f"{tokens}{shape}, each to {k} of {num_experts} experts"}
    dtype = str(gates_TK.dtype).removeprefix("torch.")
    if tokens == 0 or not (values_are_visible(experts_TK) and values_are_visible(gates_TK)):
        return lines | {"gates": f"{dtype}, {gates_TK.device}"}
    load_E = torch.bincount(experts_TK.flatten(), minlength=num_experts).tolist()
    busiest, mean = max(load_E), tokens * k / num_experts
    lines["load"] = (
        f"{sum(n > 0 for n in load_E)} experts were chosen; expert {load_E.index(busiest)} most "
        f"often, {busiest} times ({busiest / mean:.2f} times the mean)"
    )
    mean_K = gates_TK.detach().double().flatten(0, -2).mean(0).tolist()
    lines["gates"] = f"{_few(f'{g:.2f}' for g in mean_K)} on average ({dtype}, {gates_TK.device})"
    experts, gates = (tensor.flatten(0, -2)[0].tolist() for tensor in (experts_TK, gates_TK))
    first = (f"{e} ({g:.2f})" for e, g in zip(experts, gates, strict=True))
    lines["first token"] = "experts " + _few(first)
    if kept_TK is not None:
        kept = int(kept_TK.sum())
        lines["kept"] = f"{kept} of {kept_TK.numel()} assignments ({kept / kept_TK.numel():.0%})"
    return lines


def _few(texts: Any, most: int = 8) -> str:
    """A list that stops after eight entries and says so."""
    texts = list(texts)
    return ", ".join(texts[:most]) + (f" and {len(texts) - most} more" if texts[most:] else "")
