"""A trace: which experts every token of a text went to, in every layer, and with which gates.

ids [L, T, K] + gates [L, T, K] + what each token is and where it stands.            Chapter 12.
"""

import io
import json
import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from moe_tutorial.routing.summary import Summary
from moe_tutorial.validation import check_kind, check_size

NO_EXPERT = -1
"""The id where a token has fewer than K experts: it was skipped, dropped, or not recorded."""

_FORMAT = "moe_tutorial trace, format 1"
_GATES = {it: getattr(torch, it) for it in ("float16", "bfloat16", "float32", "float64")}
_PER_TOKEN = ("tokens_T", "positions_T", "sequences_T")


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
        for name in _PER_TOKEN:
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
        if ids.numel() and not (
            NO_EXPERT <= int(ids.amin()) and int(ids.amax()) < self.num_experts
        ):
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
            **{name: getattr(self, name)[tokens] for name in _PER_TOKEN},
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a file that :func:`load` reads, the same bytes for the same trace."""
        with TraceWriter(path) as writer:
            writer.add(self)

    def summary(self) -> dict[str, str]:
        """What a person wants to know of the trace, as ``print(trace)`` shows it."""
        sequences = len(self.sequences_T.unique())
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


class TraceWriter:
    """A file that grows part by part, so that no more than one part is ever in memory.

    It is a NumPy archive: numbered arrays, and a header that says what they are. Until it is
    closed it has another name, so that a file with the right name is whole.

    Args:
        path: where the file will be.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._scratch = self.path.with_name(self.path.name + ".new")
        self._archive: zipfile.ZipFile | None = None
        self._parts = 0
        self._header: dict[str, Any] = {}

    def __enter__(self) -> "TraceWriter":
        self._archive = zipfile.ZipFile(self._scratch, "w", zipfile.ZIP_DEFLATED, compresslevel=1)
        return self

    def add(self, part: Trace) -> None:
        """Write the next tokens.

        Raises:
            ValueError: a part of another model than the first one.
        """
        assert self._archive is not None
        header = {
            "format": _FORMAT,
            "model": part.model,
            "layers": list(part.layers),
            "num_experts": part.num_experts,
            "gates": None if part.gates_LTK is None else str(part.gates_LTK.dtype)[6:],
        }
        if self._header and header != self._header:
            raise ValueError("part must be of the same model as the parts before it")
        self._header = header
        gates = part.gates_LTK
        if gates is not None and gates.dtype == torch.bfloat16:
            gates = gates.view(torch.int16)  # NumPy has no bfloat16
        arrays = {"experts_LTK": part.experts_LTK, "gates_LTK": gates}
        arrays |= {name: getattr(part, name) for name in _PER_TOKEN}
        for name, tensor in arrays.items():
            if tensor is not None:
                stream = io.BytesIO()
                np.save(stream, tensor.contiguous().numpy(), allow_pickle=False)
                self._write(f"{name}_{self._parts}.npy", stream.getvalue())
        self._parts += 1

    def __exit__(self, error: object, *_: object) -> None:
        assert self._archive is not None
        if error is None:
            header = json.dumps(self._header | {"parts": self._parts}, sort_keys=True)
            self._write("header.json", header.encode())
        self._archive.close()
        if error is None:
            self._scratch.replace(self.path)
        else:
            self._scratch.unlink()

    def _write(self, name: str, content: bytes) -> None:
        assert self._archive is not None
        # One date for all, so that the same trace gives the same bytes.
        entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
        entry.compress_type = zipfile.ZIP_DEFLATED
        self._archive.writestr(entry, content, compresslevel=1)


def load(path: str | os.PathLike[str]) -> Trace:
    """Read a whole trace into memory.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file that is damaged, or no trace.
    """
    return joined(list(load_parts(path)))


def load_parts(path: str | os.PathLike[str]) -> Iterator[Trace]:
    """Read a trace part by part, in the order in which the parts were recorded.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file that is damaged, or no trace.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            header = json.loads(archive.read("header.json"))
            if header.get("format") != _FORMAT:
                raise ValueError(f"its format is {header.get('format')!r} and not {_FORMAT!r}")
            for part in range(header["parts"]):
                yield _read_part(archive, header, part)
    except (zipfile.BadZipFile, zlib.error, KeyError, TypeError, EOFError, ValueError) as error:
        raise ValueError(f"{os.fspath(path)} is damaged, or no trace: {error}") from error


def _read_part(archive: zipfile.ZipFile, header: Mapping[str, Any], part: int) -> Trace:
    def tensor(name: str) -> Tensor:
        content = io.BytesIO(archive.read(f"{name}_{part}.npy"))
        return torch.from_numpy(np.load(content, allow_pickle=False))

    gates = None
    if header["gates"] is not None:
        gates = tensor("gates_LTK").view(_GATES[header["gates"]])
    return Trace(
        tensor("experts_LTK"),
        gates,
        *(tensor(name) for name in _PER_TOKEN),
        num_experts=header["num_experts"],
        layers=tuple(header["layers"]),
        model=header["model"],
    )


def check_trace(name: str, trace: Any) -> None:
    """Refuse what is no trace, or one without a token."""
    check_kind(name, trace, Trace)
    if not len(trace):
        raise ValueError(f"{name} must hold at least one token, got none")
