"""A checkpoint of many devices: each writes what it holds, any number of them can read it.

folder/step_100 = pieces of tensors + about.json, complete as soon as it has its name. Chapter 14.
"""

import json
import shutil
import warnings
from inspect import signature
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

_ABOUT = "about.json"


def save_checkpoint(
    folder: Path,
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    about: dict[str, Any],
) -> None:
    """Write a checkpoint and remove the ones before it; all ranks call this together.

    Only when every rank has written its share does the checkpoint get its name: whenever the
    ranks are stopped, the newest one with a name is whole. The folder must be one that all
    machines share.

    Args:
        folder: holds the checkpoints of one run.
        step: how many steps have been taken.
        model: spread or not.
        optimizer: of its parameters.
        about: what else is to be kept, as JSON has it; rank 0's is written.
    """
    scratch = folder / "unfinished"
    if dist.get_rank() == 0:
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
    dist.barrier()
    weights, state = get_state_dict(model, optimizer)
    save({"model": weights, "optimizer": state}, checkpoint_id=scratch)
    if dist.get_rank() == 0:
        (scratch / _ABOUT).write_text(json.dumps(about), encoding="utf-8")
        before = _steps(folder)
        scratch.rename(folder / f"step_{step}")
        for old in before.values():
            shutil.rmtree(old)
    dist.barrier()


def load_checkpoint(
    folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer | None = None
) -> None:
    """Take over the newest checkpoint, written by any number of ranks; all ranks call this.

    A ``DTensor`` knows which piece of the whole it is, so each rank reads just the pieces that it
    needs now. A plain tensor does not: a rank's own experts as a plain parameter would be saved
    once, by one rank, under a name that all ranks share.

    Args:
        folder: what :func:`save_checkpoint` wrote to.
        model: of the same parts; changed.
        optimizer: of its parameters; changed. None for the model alone.

    Raises:
        FileNotFoundError: a folder without a checkpoint.
    """
    newest = _newest(folder)
    # Tensors are filled where they are; other things are put into these dictionaries.
    if optimizer is None:
        weights = model.state_dict()
        load({"model": weights}, checkpoint_id=newest)
    else:
        weights, state = get_state_dict(model, optimizer)
        load({"model": weights, "optimizer": state}, checkpoint_id=newest)
        set_state_dict(model, optimizer, model_state_dict=weights, optim_state_dict=state)


def read_about(folder: Path) -> dict[str, Any] | None:
    """What was written beside the tensors of the newest checkpoint, None if there is none."""
    if not _steps(folder):
        return None
    about: dict[str, Any] = json.loads((_newest(folder) / _ABOUT).read_text(encoding="utf-8"))
    return about


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The whole model of the newest checkpoint, in one process that knows of no other ones.

    Args:
        folder: what :func:`save_checkpoint` wrote to.

    Returns:
        A state dict on the CPU, which a model that was never spread can load.

    Raises:
        FileNotFoundError: a folder without a checkpoint.
    """
    newest = _newest(folder)
    found = FileSystemReader(newest).read_metadata().state_dict_metadata
    weights = {
        name: torch.empty(it.size, dtype=it.properties.dtype)
        for name, it in found.items()
        if name.startswith("model.") and isinstance(it, TensorStorageMetadata)
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns that there are no other processes
        # Before torch 2.8 it finds out by itself whether there are other processes.
        alone = {"no_dist": True} if "no_dist" in signature(load).parameters else {}
        load(weights, checkpoint_id=newest, **alone)
    return {name.removeprefix("model."): it for name, it in weights.items()}


def _steps(folder: Path) -> dict[int, Path]:
    return {int(it.name.removeprefix("step_")): it for it in folder.glob("step_*")}


def _newest(folder: Path) -> Path:
    steps = _steps(folder)
    if not steps:
        raise FileNotFoundError(f"folder must hold a checkpoint, got {folder} without one")
    return steps[max(steps)]
