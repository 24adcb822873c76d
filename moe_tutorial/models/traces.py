"""A trace: which experts every token of a text went to, in every layer, and with which gates.

ids [L, T, K] + gates [L, T, K] + what each token is and where it stands.            Chapter 12.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from moe_tutorial.routing.summary import Summary
from moe_tutorial.validation import check_kind, check_size

NO_EXPERT = -1
"""The id where a token has fewer than K experts, because one was skipped, dropped or not seen."""

PER_TOKEN = ("tokens_T", "positions_T", "sequences_T")
"""The fields of a trace that have one number for each token."""


@dataclass(frozen=True, eq=False, repr=False)
class Trace(Summary):
    """The routing of T tokens in L layers, on the CPU.

    Tokens of one sequence stand together, in their order.

    Attributes:
        experts_LTK: ids of the experts that took part, int8 or int16, in the model's own order;
            :data:`NO_EXPERT` where there was none.
        gates_LTK: the weights of their outputs as finally applied, in the model's dtype, 0 where
            there was no expert; None where only ids are known.
        tokens_T: int32 token ids, -1 where they are not known.
        positions_T: int32, a token's place in its sequence, padding not counted.
        sequences_T: int32, which sequence a token belongs to.
        num_experts: E, in each layer.
        layers: what each layer is called, such as ``"model.layers.3.mlp"``.
        model: what the model is called.
    """

    experts_LTK: Tensor
    gates_LTK: Tensor | None
    tokens_T: Tensor
    positions_T: Tensor
    sequences_T: Tensor
    num_experts: int
    layers: tuple[str, ...]
    model: str = ""

    def __post_init__(self) -> None:
        check_size("num_experts", self.num_experts)
        ids = self.experts_LTK
        if not isinstance(ids, Tensor) or ids.ndim != 3 or ids.is_floating_point():
            raise ValueError("experts_LTK must hold integers of shape [L, T, K]")
        if len(self.layers) != len(ids):
            raise ValueError(f"layers must name each of {len(ids)} layers, got {len(self.layers)}")
        for name in PER_TOKEN:
            if getattr(self, name).shape != ids.shape[1:2]:
                raise ValueError(
                    f"{name} must have the shape ({ids.shape[1]},), got "
                    f"{tuple(getattr(self, name).shape)}"
                )
        if self.gates_LTK is not None and self.gates_LTK.shape != ids.shape:
            raise ValueError(
                f"gates_LTK must have the shape {tuple(ids.shape)}, got "
                f"{tuple(self.gates_LTK.shape)}"
            )
        if ids.numel() and (int(ids.amin()) < NO_EXPERT or int(ids.amax()) >= self.num_experts):
            raise ValueError(
                f"experts_LTK must lie between 0 and {self.num_experts - 1}, or be {NO_EXPERT} for "
                f"none, got ids from {int(ids.amin())} to {int(ids.amax())}"
            )

    @property
    def k(self) -> int:
        """How many experts a token has at most."""
        return self.experts_LTK.shape[2]

    def __len__(self) -> int:
        return self.experts_LTK.shape[1]

    def cut(
        self, tokens: slice | Tensor = slice(None), layers: slice | Sequence[int] = slice(None)
    ) -> "Trace":
        """Some of the tokens, some of the layers.

        Args:
            tokens: a slice of them, a bool for each, or their places in an int64 tensor.
            layers: a slice of them, or their places in the trace.

        Returns:
            A trace of these alone; sequences keep their numbers.

        Raises:
            IndexError: a place beyond the trace.
        """
        chosen = range(len(self.layers))[layers] if isinstance(layers, slice) else list(layers)
        rows = torch.tensor(list(chosen), dtype=torch.int64, device="cpu")
        gates = self.gates_LTK
        return replace(
            self,
            experts_LTK=self.experts_LTK[rows][:, tokens],
            gates_LTK=None if gates is None else gates[rows][:, tokens],
            layers=tuple(self.layers[row] for row in chosen),
            **{name: getattr(self, name)[tokens] for name in PER_TOKEN},
        )

    def summary(self) -> dict[str, str]:
        """What a person wants to know of the trace, as ``print(trace)`` shows it."""
        sequences = len(set(self.sequences_T.tolist()))
        some = self.layers if len(self.layers) < 4 else (self.layers[0], "...", self.layers[-1])
        gates = "not known" if self.gates_LTK is None else str(self.gates_LTK.dtype)
        return {
            "model": self.model or "not known",
            "tokens": f"{len(self)} in {sequences} sequence{'s' if sequences != 1 else ''}",
            "experts": f"{self.k} of {self.num_experts}, in {len(self.layers)} layers",
            "layers": ", ".join(some),
            "gates": gates.removeprefix("torch."),
        }

    def _lines(self) -> dict[str, str]:
        return self.summary()


def id_dtype(num_experts: int) -> torch.dtype:
    """The smallest signed integers that hold the ids of so many experts, and -1."""
    return torch.int8 if num_experts <= 128 else torch.int16


def from_ids(
    ids_LTK: Tensor,
    num_experts: int,
    layers: Sequence[str],
    model: str = "",
    *,
    tokens_T: Tensor | None = None,
    sequence: int = 0,
    first: int = 0,
) -> Trace:
    """A trace of one sequence of which only ids are known.

    Args:
        ids_LTK: int64 ids, :data:`NO_EXPERT` where there is none.
        num_experts: E.
        layers: their names.
        model: its name.
        tokens_T: token ids, if they are known.
        sequence: its number.
        first: the position of its first token here.
    """
    length = ids_LTK.shape[1]
    return Trace(
        ids_LTK.to(id_dtype(num_experts)),
        None,
        torch.full((length,), -1).int() if tokens_T is None else tokens_T.int(),
        torch.arange(first, first + length).int(),
        torch.full((length,), sequence).int(),
        num_experts,
        tuple(layers),
        model,
    )


def repeated(ids_TK: Tensor) -> Tensor:
    """Which tokens have an expert twice: a bool for each."""
    return (ids_TK.sort(-1).values.diff(dim=-1) == 0).any(-1)


def check_full(trace: Any) -> None:
    """Refuse what is no trace, or one in which a token has fewer than K experts."""
    check_trace("trace", trace)
    if bool((trace.experts_LTK == NO_EXPERT).any()):
        raise ValueError("trace must have K experts for each token, got a token with fewer")


def joined(parts: Sequence[Trace]) -> Trace:
    """Several parts of one trace as one, every sequence's tokens together and in their order.

    Raises:
        ValueError: no part, or parts of different models.
    """
    if not parts:
        raise ValueError("parts must hold at least one trace, got none")
    first = parts[0]
    for part in parts:
        for name in ("layers", "num_experts", "k", "model"):
            if getattr(part, name) != getattr(first, name):
                raise ValueError(
                    f"parts must agree in {name}, got {getattr(first, name)!r} and "
                    f"{getattr(part, name)!r}"
                )
    sequences_T = torch.cat([part.sequences_T for part in parts])
    positions_T = torch.cat([part.positions_T for part in parts])
    place_T = sequences_T.long() * (1 << 32) + positions_T.long()
    if bool((place_T.diff() < 0).any()):
        order_T: Tensor | slice = place_T.argsort(stable=True)
    else:
        order_T = slice(None)  # nothing to sort: no copy
    gates = [part.gates_LTK for part in parts if part.gates_LTK is not None]
    if gates and len(gates) < len(parts):
        raise ValueError("parts must all have gates, or none of them, got some")
    whole = replace(
        first,
        experts_LTK=torch.cat([part.experts_LTK for part in parts], 1),
        gates_LTK=torch.cat(gates, 1) if gates else None,
        tokens_T=torch.cat([part.tokens_T for part in parts]),
        positions_T=positions_T,
        sequences_T=sequences_T,
    )
    return whole if isinstance(order_T, slice) else whole.cut(order_T)


def check_trace(name: str, trace: Any) -> None:
    """Refuse what is no trace, or one without a token."""
    check_kind(name, trace, Trace)
    if not len(trace):
        raise ValueError(f"{name} must hold at least one token, got none")
