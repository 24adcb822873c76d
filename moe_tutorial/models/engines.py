"""Files of engines that people run: llama.cpp's moe-trace and Megatron-Core's router tracer.

They hold ids and no gates. A damaged file is refused, with its line.                Chapter 12.
"""

import json
import os
import re
from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from moe_tutorial.models.traces import NO_EXPERT, Trace, check_full, from_ids, joined, repeated
from moe_tutorial.validation import check_k, check_size

_Block = tuple[str, Tensor, int]  # a layer's name, its ids [T, K], and the line where it ends


def read_llama_cpp(path: str | os.PathLike[str], k: int, num_experts: int) -> Trace:
    """Read what ``llama-moe-trace`` writes: one line ``layer,expert`` for each chosen expert.

    It is proposed in llama.cpp's pull request 28544. A pass goes through the layers in order; its
    lines are those of all its tokens in one layer, then in the next. The last layer only computes
    the tokens whose logits are asked for: here they are the last ones of the pass, and the others
    have no expert there.

    Args:
        path: of the file.
        k: experts per token, which the file does not say.
        num_experts: E, likewise.

    Returns:
        One sequence of tokens that are not known.

    Raises:
        ValueError: a line that is damaged, with its number; or ids that cannot be a choice: the
            program proposed first copied, for passes of several tokens, each expert once instead
            of the chosen ones.
    """
    check_size("num_experts", num_experts)
    check_k(k, num_experts)
    lines = _lines(path)
    rows = ((number, *_layer_and_expert(path, number, line, num_experts)) for number, line in lines)
    blocks: list[_Block] = []
    for layer, group in groupby(rows, key=lambda row: row[1]):
        block = list(group)
        last = block[-1][0]
        if len(block) % k:
            raise _damaged(path, last, f"layer {layer} has {len(block)} ids, no multiple of {k}")
        ids_TK = torch.tensor([row[2] for row in block]).view(-1, k)
        _check_different(path, ids_TK, last - len(block) + 1, k)
        blocks.append((f"layer {layer}", ids_TK, last))
    if not blocks:
        raise _damaged(path, 1, "there is no line")
    if _every_expert_in_turn(blocks, num_experts):
        raise ValueError(
            f"{os.fspath(path)} names every expert once, again and again: the program has copied "
            "all experts in their order instead of the chosen ones, as a first version did"
        )
    numbers = [int(name.split()[1]) for name, _, _ in blocks]
    starts = [0, *(i for i, (a, b) in enumerate(pairwise(numbers), 1) if b <= a), len(blocks)]
    passes = [blocks[start:end] for start, end in pairwise(starts)]
    return _from_passes(path, passes, num_experts, "llama.cpp")


def write_llama_cpp(trace: Trace, path: str | os.PathLike[str]) -> None:
    """Write a trace as one pass of ``llama-moe-trace``: lines ``layer,expert``, without gates.

    Raises:
        TypeError, ValueError: what is no trace, or one in which a token has no expert.
    """
    check_full(trace)
    numbers = _layer_numbers(trace)
    with Path(path).open("w", encoding="ascii", newline="\n") as file:
        for number, ids_TK in zip(numbers, trace.experts_LTK, strict=True):
            file.writelines(f"{number},{expert}\n" for expert in ids_TK.flatten().tolist())


def read_megatron(path: str | os.PathLike[str], num_experts: int) -> Trace:
    """Read what Megatron-Core's ``--moe-routing-trace-path`` writes: a JSON record a line.

    A record holds ``step``, ``block``, ``layer``, ``num_tokens``, ``topk`` and ``top_indices``,
    the ids of one layer in one step; layers of multi-token prediction also ``mtp_idx``. Ids stand
    in no order of gates.

    Args:
        path: of one rank's file.
        num_experts: E, which the file does not say.

    Returns:
        One sequence of tokens that are not known, step after step.

    Raises:
        ValueError: a line that is damaged, with its number.
    """
    check_size("num_experts", num_experts)
    passes: dict[int, list[_Block]] = {}
    for number, line in _lines(path):
        try:
            record = json.loads(line)
            step, name = int(record["step"]), _megatron_layer(record)
            ids = np.array(record["top_indices"])
            shape = (int(record["num_tokens"]), int(record["topk"]))
        except (KeyError, TypeError, ValueError) as error:
            raise _damaged(path, number, f"it is no record of a layer: {error!r}") from error
        if ids.shape != shape or not np.issubdtype(ids.dtype, np.integer):
            raise _damaged(path, number, f"top_indices must be {shape} integers, got {ids.shape}")
        if ids.size and (ids.min() < 0 or ids.max() >= num_experts):
            wrong = ids[(ids < 0) | (ids >= num_experts)][0]
            raise _damaged(path, number, f"ids must be from 0 to {num_experts - 1}, got {wrong}")
        ids_TK = torch.from_numpy(ids)
        _check_different(path, ids_TK, number, 0)
        if any(name == other for other, _, _ in passes.setdefault(step, [])):
            raise _damaged(path, number, f"step {step} has {name} twice")
        passes[step].append((name, ids_TK, number))
    if not passes:
        raise _damaged(path, 1, "there is no line")
    return _from_passes(path, [passes[step] for step in sorted(passes)], num_experts, "Megatron")


def write_megatron(trace: Trace, path: str | os.PathLike[str]) -> None:
    """Write a trace as one step of Megatron-Core's tracer, without gates.

    Raises:
        TypeError, ValueError: what is no trace, or one in which a token has no expert.
    """
    check_full(trace)
    with Path(path).open("w", encoding="ascii", newline="\n") as file:
        for number, ids_TK in zip(_layer_numbers(trace), trace.experts_LTK, strict=True):
            record = {
                "step": 0,
                "stage": "pre_dispatch",
                "block": "decoder",
                "layer": number,
                "rank": 0,
                "num_tokens": len(ids_TK),
                "topk": trace.k,
                "top_indices": ids_TK.tolist(),
            }
            file.write(json.dumps(record) + "\n")


def _lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, str]]:
    with Path(path).open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith("\n"):
                raise _damaged(path, number, "it breaks off")
            yield number, line


def _layer_and_expert(
    path: str | os.PathLike[str], number: int, line: str, num_experts: int
) -> tuple[int, int]:
    if not re.fullmatch(r"\d+,\d+\n", line):
        raise _damaged(path, number, f"it must read layer,expert, got {line.strip()[:40]!r}")
    layer, expert = map(int, line.split(","))
    if expert >= num_experts:
        raise _damaged(path, number, f"expert must be from 0 to {num_experts - 1}, got {expert}")
    return layer, expert


def _megatron_layer(record: dict[str, Any]) -> str:
    layer = f"{record['block']}.layers.{int(record['layer'])}"
    return f"mtp.{int(record['mtp_idx'])}.{layer}" if "mtp_idx" in record else layer


def _every_expert_in_turn(blocks: Sequence[_Block], num_experts: int) -> bool:
    """Whether all long blocks are permutations of all experts, one after another."""
    turns = []
    for _, ids_TK, _ in blocks:
        ids = ids_TK.flatten()
        whole = len(ids) // num_experts
        if whole >= 3:
            turns.append(ids[: whole * num_experts].view(whole, num_experts))
    every = torch.arange(num_experts)
    return bool(turns) and all(bool((turn.sort(-1).values == every).all()) for turn in turns)


def _from_passes(
    path: str | os.PathLike[str],
    passes: Sequence[Sequence[_Block]],
    num_experts: int,
    model: str,
) -> Trace:
    """One sequence out of passes through the same layers."""
    names = [name for name, _, _ in passes[0]]
    k = passes[0][0][1].shape[1]
    parts, done = [], 0
    for blocks in passes:
        ids = {name: ids_TK for name, ids_TK, _ in blocks}
        if list(ids) != names:
            raise _damaged(path, blocks[-1][2], f"a pass must have {names}, got {list(ids)}")
        length = max(map(len, ids.values()))
        ids_LTK = torch.full((len(names), length, k), NO_EXPERT)
        for place, (name, ids_TK, line) in enumerate(blocks):
            if ids_TK.shape[1] != k:
                raise _damaged(path, line, f"{name} must have {k} experts a token")
            if len(ids_TK) < length and (model != "llama.cpp" or place < len(names) - 1):
                raise _damaged(path, line, f"{name} must have {length} tokens, got {len(ids_TK)}")
            ids_LTK[place, length - len(ids_TK) :] = ids_TK
        parts.append(from_ids(ids_LTK, num_experts, names, model, first=done))
        done += length
    return joined(parts)


def _check_different(
    path: str | os.PathLike[str], ids_TK: Tensor, first: int, lines_per_token: int
) -> None:
    repeated_T = repeated(ids_TK)
    if bool(repeated_T.any()):
        token = int(repeated_T.nonzero()[0])
        why = f"a token must have different experts, got {ids_TK[token].tolist()}"
        raise _damaged(path, first + lines_per_token * token, why)


def _layer_numbers(trace: Trace) -> list[int]:
    """The number in each layer's name, or else its place."""
    found = [re.findall(r"\d+", name) for name in trace.layers]
    numbers = [int(it[-1]) if it else -1 for it in found]
    ascending = all(a < b for a, b in pairwise([-1, *numbers]))
    return numbers if ascending else list(range(len(numbers)))


def _damaged(path: str | os.PathLike[str], line: int, why: str) -> ValueError:
    return ValueError(f"{os.fspath(path)}, line {line}: {why}")
