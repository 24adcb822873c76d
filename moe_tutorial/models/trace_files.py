"""Traces in files: written part by part, the same bytes for the same trace, refused if damaged.

file = NumPy's archive of numbered arrays, and a header that says what they are.     Chapter 12.
"""

import io
import json
import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from moe_tutorial.models.traces import PER_TOKEN, Trace, joined
from moe_tutorial.validation import check_kind

if TYPE_CHECKING:  # Python 3.10 does not have it
    from typing import Self

_FORMAT = "moe_tutorial trace, format 1"
_GATES = {it: getattr(torch, it) for it in ("float16", "bfloat16", "float32", "float64")}


def save(trace: Trace, path: str | os.PathLike[str]) -> None:
    """Write a trace; the same one gives the same bytes.

    Raises:
        TypeError: what is no trace.
    """
    check_kind("trace", trace, Trace)
    with TraceWriter(path) as writer:
        writer.add(trace)


class TraceWriter:
    """A file that grows part by part, so that no more than one part is ever in memory.

    Until it is closed it has another name, so that a file with the right name is whole.

    Args:
        path: where the file will be.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._scratch = self.path.with_name(self.path.name + ".new")
        self._archive: zipfile.ZipFile | None = None
        self._parts = 0
        self._header: dict[str, Any] = {}

    def __enter__(self) -> "Self":
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
        arrays |= {name: getattr(part, name) for name in PER_TOKEN}
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
        tensor("tokens_T"),
        tensor("positions_T"),
        tensor("sequences_T"),
        num_experts=header["num_experts"],
        layers=tuple(header["layers"]),
        model=header["model"],
    )
