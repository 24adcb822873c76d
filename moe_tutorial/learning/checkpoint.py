"""A checkpoint: one file from which training goes on as if it had never stopped.

file = one line that names the format, the SHA-256 of the rest, the rest.            Chapter 10.
"""

import hashlib
import io
import os
import pickle
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, is_dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from moe_tutorial.learning.training import History

_PROGRAM = b"moe_tutorial checkpoint, format "
_FORMAT = _PROGRAM + b"1\n"
_DIGEST = hashlib.sha256().digest_size
# What torch.compile, DistributedDataParallel, FSDP and activation checkpointing put into names.
_WRAPPERS = ("_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")


@dataclass
class Checkpoint:
    """All that the rest of a training run depends on.

    Attributes:
        model: its parameters and buffers; the names that a wrapper adds are left out of the file.
        optimizer: of these parameters.
        windows: the generator of the windows, on the CPU.
        draws: the generator of routers that draw, on the model's device.
        identity: what must be alike where training goes on, by name: numbers and words.
        history: what has happened so far.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    windows: torch.Generator
    draws: torch.Generator
    identity: dict[str, Any]
    history: "History"

    def save(self, path: Path) -> None:
        """Write the file, so that at any time either the old or the new one is there, whole.

        Raises:
            ValueError: a parameter or a buffer that is not finite; the file stays as it is.
        """
        check_weights(self.model)
        content = {
            "identity": self.identity,
            "history": asdict(self.history),
            "model": {_plain(name): it for name, it in self.model.state_dict().items()},
            "optimizer": self.optimizer.state_dict(),
            "windows": self.windows.get_state(),
            "draws": self.draws.get_state(),
        }
        stream = io.BytesIO()
        torch.save(content, stream)
        rest = stream.getvalue()
        scratch = _scratch(path)
        scratch.write_bytes(_FORMAT + hashlib.sha256(rest).digest() + rest)
        scratch.replace(path)

    def load(self, path: Path) -> None:
        """Take over what the file holds, or nothing of it.

        Raises:
            ValueError: a file that is no whole checkpoint, or of another run; nothing has changed.
        """
        content = read(path)
        check_identity(path, content["identity"], self.identity)
        # With equal names, shapes and dtypes, none of what follows can fail half-way.
        names = self.model.state_dict()
        self.model.load_state_dict({name: content["model"][_plain(name)] for name in names})
        self.optimizer.load_state_dict(content["optimizer"])
        self.windows.set_state(content["windows"])
        self.draws.set_state(content["draws"])
        self.history.losses[:] = content["history"]["losses"]
        self.history.seconds[:] = content["history"]["seconds"]


def read(path: Path) -> dict[str, Any]:
    """What a checkpoint holds, on the CPU: its ``"model"`` is a state dict, for instance.

    Raises:
        ValueError: a file that is empty, damaged, or not a checkpoint of this package's format.
    """
    written = path.read_bytes()
    if not written.startswith(_FORMAT):
        what = "is empty" if not written else "was not written by moe_tutorial"
        if written.startswith(_PROGRAM):
            number = written[len(_PROGRAM) :].split(b"\n")[0][:20].decode(errors="replace")
            what = f"has the format {number}, and this version reads format 1"
        raise ValueError(f"checkpoint {path} {what}: name another file, or move it away")
    digest, rest = written[len(_FORMAT) :][:_DIGEST], written[len(_FORMAT) + _DIGEST :]
    if hashlib.sha256(rest).digest() != digest:
        raise ValueError(
            f"checkpoint {path} is damaged, since its content does not have the digest that was "
            "written with it: go on from a copy, or move it away to start anew"
        )
    try:
        content: dict[str, Any] = torch.load(io.BytesIO(rest), "cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError) as error:
        raise ValueError(
            f"checkpoint {path} cannot be read by torch {torch.__version__}"
        ) from error
    return content


def checked_path(path: str | os.PathLike[str]) -> Path:
    """The path of a checkpoint, as something that a file can be written to.

    Raises:
        TypeError: what is no path.
        ValueError: a folder, or a place where no file can be written.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"checkpoint must be a path, got {path!r} of type {type(path).__name__}")
    file = Path(path)
    folder = False
    try:
        folder = file.is_dir()
        if not folder:
            _scratch(file).touch()
            _scratch(file).unlink()
    except (OSError, ValueError) as error:  # ValueError: a name with a byte 0
        raise ValueError(f"checkpoint must be a file that can be written, got {error}") from error
    if folder:
        raise ValueError(f"checkpoint must be a file, got the folder {str(file)!r}")
    return file


def check_one_process(model: nn.Module) -> None:
    """Refuse a model whose parameters are spread over processes: a file would hold some of them."""
    for name, value in model.named_parameters():
        if hasattr(value, "full_tensor"):
            raise ValueError(
                f"checkpoint must be None for a model that is spread over processes, as {name} is: "
                "save it with torch.distributed.checkpoint"
            )


def check_weights(model: nn.Module) -> None:
    """Refuse a model with a parameter or a buffer that is not finite."""
    for name, value in model.state_dict().items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ValueError(
                f"the weights must stay finite, got {_plain(name)} with one that is not"
            )


def describe(model: nn.Module) -> dict[str, str]:
    """Every module, parameter and buffer in words, without wrappers: what a model is made of."""
    found = {}
    for name, module in model.named_modules():
        # A wrapper and what it wraps have one name here, and the inner one comes later.
        found[_plain(name) or "model"] = _module(module)
    trained = {name for name, it in model.named_parameters() if it.requires_grad}
    parameters = {name for name, _ in model.named_parameters()}
    for name, value in model.state_dict().items():
        frozen = ", frozen" if name in parameters - trained else ""
        dtype = str(value.dtype).removeprefix("torch.")
        found[_plain(name)] = f"{dtype} {list(value.shape)}{frozen}"
    return found


def function_name(function: Callable[..., Any] | None) -> str | None:
    """What can be known of a function: the name it was defined by, and what a partial adds."""
    if isinstance(function, partial):
        words = [*map(_value, function.args)]
        words += [f"{name}={_value(value)}" for name, value in function.keywords.items()]
        return f"{function_name(function.func)}({', '.join(words)})"
    if function is None:
        return None
    return str(getattr(function, "__qualname__", type(function).__qualname__))


def _module(module: nn.Module) -> str:
    options = {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and name != "training"
    }
    words = [f"{name}={_value(it)}" for name, it in sorted(options.items()) if _is_plain(it)]
    return f"{type(module).__name__}({', '.join(words)})"


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str) or is_dataclass(value)


def _value(value: Any) -> str:
    # The default form of other objects holds their address, which the next process changes.
    return repr(value) if _is_plain(value) else type(value).__name__


def _plain(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def _scratch(path: Path) -> Path:
    return path.with_name(path.name + ".new")


def check_identity(path: Path, written: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Refuse a checkpoint of another run, and say in what it differs."""
    names = [name for name in {**here, **written} if written.get(name) != here.get(name)]
    if not names and list(written) != list(here):
        raise ValueError(
            f"checkpoint {path} was written with the model's parts in another order: build the "
            "model as it was built, or use another file"
        )
    if names:
        some = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        details = [f"{it} was {written.get(it)!r} and is {here.get(it)!r}" for it in names[:4]]
        raise ValueError(
            f"checkpoint {path} was written with another {some}: {'; '.join(details)}. Use the "
            "same, or another file"
        )
