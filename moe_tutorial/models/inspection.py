"""Looking inside: record the routing of every MoE layer of a model while it runs.

with trace(model) as recording: model(...)   ->   recording.trace()                  Chapter 12.
"""

import inspect
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from moe_tutorial.layer.moe import MoELayer
from moe_tutorial.models.moe_layers import Layer, moe_layers
from moe_tutorial.models.trace_files import TraceWriter, load
from moe_tutorial.models.traces import NO_EXPERT, Trace, id_dtype, joined
from moe_tutorial.routing.decision import LimitedRouting

PART = 65536
"""How many tokens stay in memory while a file is written."""


@contextmanager
def trace(
    model: nn.Module,
    *,
    layers: Sequence[int] | None = None,
    file: str | os.PathLike[str] | None = None,
) -> Iterator["Recording"]:
    """Record the routing of a model's MoE layers while it runs inside the ``with`` block.

    .. code-block:: python

        with trace(model) as recording:
            model.generate(**tokenizer("Once upon a time", return_tensors="pt"))
        recording.trace()

    What the model returns stays the same to the bit. Forward passes, ``generate``, padded batches
    and training with gradient checkpointing can be recorded; what checkpointing computes again in
    the backward is not recorded twice. Padding, where ``attention_mask`` is 0, is left out. A
    forward pass that goes on from a cache continues the sequences of the one before it; any other
    begins new ones. Beams change places between the steps of a beam search, so a row is then not
    one sequence. When some sequences of ``generate`` are at their end before others, what it feeds
    them until the last one ends is recorded, too. Caches of fixed size, as
    ``cache_implementation="static"`` has them, hide the padding and are refused.

    Args:
        model: of this book, or of transformers; see ``moe_layers``. It is this module itself
            that has to be called, or its ``generate``.
        layers: the places, among all MoE layers, of those to record; None for all.
        file: where to write what is recorded while it goes on, so that memory is bounded, however
            many tokens there are.

    Yields:
        The recording, which gives the trace.

    Raises:
        TypeError, ValueError: as ``moe_layers``; layers that have different numbers of experts
            or of experts per token, or that did not run; an ``attention_mask`` that is not
            ``[B, S]``.
    """
    everything = moe_layers(model)
    chosen = everything if layers is None else [everything[place] for place in layers]
    if len({layer.num_experts for layer in chosen}) != 1:
        raise ValueError(
            "layers must have the same number of experts, got "
            + ", ".join(f"{place}: {it.num_experts}" for place, it in enumerate(everything))
            + "; pass the places of some of them"
        )
    handles = []
    with nullcontext() if file is None else TraceWriter(file) as writer:
        recording = Recording(type(model).__name__, chosen, writer, file)
        try:
            for place, layer in enumerate(chosen):
                handles.append(recording.watch(place, layer.module))
            handles.append(model.register_forward_pre_hook(recording.begin, with_kwargs=True))
            handles.append(model.register_forward_hook(recording.end, always_call=True))
            yield recording
            recording.flush()
        finally:
            for handle in handles:
                handle.remove()


@dataclass
class Recording:
    """What is being recorded; see :func:`trace`."""

    model: str
    layers: list[Layer]
    writer: TraceWriter | None
    file: str | os.PathLike[str] | None
    _steps: list[tuple[Tensor, ...]] = field(default_factory=list)
    _waiting: int = 0  # tokens in them
    _seen: dict[int, tuple[Tensor, Tensor]] | None = None  # by layer, in the pass that runs now
    _inputs: tuple[Tensor, Tensor, Tensor, Tensor | None] | None = None
    _sequences: int = 0  # begun so far
    _last: tuple[int, int] = (0, 0)  # how many sequences there were, and tokens in each

    def trace(self) -> Trace:
        """All that was recorded.

        Raises:
            ValueError: no forward pass of the model was seen.
        """
        if self.file is not None:
            return load(self.file)
        if not self._steps:
            raise ValueError(
                f"nothing was recorded: inside the with block, call the {self.model} that was given"
            )
        return joined([self._part(self._steps)])

    def watch(self, place: int, module: nn.Module) -> Any:
        """Put a hook where ids and gates are final."""
        dtype = id_dtype(self.layers[place].num_experts)

        def see(experts_TK: Tensor, gates_TK: Tensor) -> None:
            if self._seen is None:  # outside of the model's own pass: a backward computes again
                return
            if place in self._seen:
                raise ValueError(f"{self.layers[place].name} must run once in a pass, it ran twice")
            self._seen[place] = (experts_TK.detach().to(dtype), gates_TK.detach().clone())

        def experts(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            see(inputs[1], inputs[2])

        def layer(_: nn.Module, __: tuple[Any, ...], output: Any) -> None:
            routing = output.routing
            ids = routing.experts_TK
            if isinstance(routing, LimitedRouting):
                ids = ids.masked_fill(~routing.kept_TK, NO_EXPERT)
            see(ids.flatten(0, -2), routing.gates_TK.flatten(0, -2))

        if isinstance(module, MoELayer):
            return module.register_forward_hook(layer)
        return module.register_forward_pre_hook(experts)

    def begin(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before a pass: which tokens it is about."""
        names = [*inspect.signature(type(model).forward).parameters][1:] if args else ()
        named = dict(zip(names, args, strict=False)) | kwargs
        ids = named.get("input_ids")
        if ids is None:
            ids = named.get("inputs_embeds")
        if ids is None:
            ids = next((it for it in named.values() if isinstance(it, Tensor)), None)
        if ids is None:
            raise ValueError(f"{self.model} must be called with token ids, got {list(named)}")
        if ids.is_floating_point():  # embeddings: nobody knows of which tokens
            ids = torch.full(ids.shape[:-1], -1, device=ids.device)
        ids = ids.reshape(-1, ids.shape[-1])
        self._inputs = self._placed(ids, named)
        self._seen = {}

    def _placed(
        self, ids_BS: Tensor, named: dict[str, Any]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Tokens, positions, sequences, and which of them are no padding, on the CPU."""
        rows, length = ids_BS.shape
        cache = named.get("past_key_values")
        past = 0 if cache is None else int(cache.get_seq_length())
        if past == 0 or (rows, past) != self._last:
            self._sequences += rows
        self._last = (rows, past + length)
        begun, int32 = self._sequences - rows, torch.int32
        # Few and cheap operations, since in generate there is a pass for each token.
        positions_T = torch.arange(past, past + length, dtype=int32).repeat(rows)
        sequences_T = torch.arange(begun * length, (begun + rows) * length, dtype=int32) // length
        real_T = None
        mask = named.get("attention_mask")
        if mask is not None:
            if not isinstance(mask, Tensor) or mask.shape != (rows, past + length):
                got = tuple(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
                raise ValueError(
                    "attention_mask must have the shape [B, S] of the tokens so far, "
                    f"({rows}, {past + length}), got {got}: pass the tokenizer's mask, and no "
                    "cache_implementation, which makes masks of its own"
                )
            if not bool(mask.all()):
                all_BS = mask.cpu() != 0
                positions_T = (all_BS.cumsum(1)[:, past:] - 1).flatten().int()
                real_T = all_BS[:, past:].flatten()
        return ids_BS.flatten().cpu().int(), positions_T, sequences_T, real_T

    def end(self, _: nn.Module, __: tuple[Any, ...], output: Any) -> None:
        """After a pass, one that failed included, of which nothing is kept."""
        seen, self._seen = self._seen, None
        if output is None or seen is None or self._inputs is None:
            return
        if len(seen) < len(self.layers):
            missing = [it.name for place, it in enumerate(self.layers) if place not in seen]
            raise ValueError(
                f"layers must all run, {', '.join(missing)} did not: pass the places of the others"
            )
        shapes = {ids.shape for ids, _ in seen.values()}
        tokens_T, positions_T, sequences_T, real_T = self._inputs
        if len(shapes) > 1 or next(iter(shapes))[0] != len(tokens_T):
            raise ValueError(
                f"layers must route each of {len(tokens_T)} tokens to K experts, the shapes of "
                f"their ids are {sorted(map(tuple, shapes))}: pass the places of some layers"
            )
        ordered = [seen[place] for place in range(len(self.layers))]
        ids, gates = (torch.stack(parts).cpu() for parts in zip(*ordered, strict=True))
        if real_T is not None:
            ids, gates = ids[:, real_T], gates[:, real_T]
            tokens_T, positions_T, sequences_T = (
                it[real_T] for it in (tokens_T, positions_T, sequences_T)
            )
        step = (ids, gates, tokens_T, positions_T, sequences_T)
        self._steps.append(step)
        self._waiting += len(tokens_T)
        if self.writer is not None and self._waiting >= PART:
            self.flush()

    def flush(self) -> None:
        """Write what is in memory, if it goes to a file."""
        if self.writer is not None and self._steps:
            self.writer.add(self._part(self._steps))
            self._steps, self._waiting = [], 0

    def _part(self, steps: Sequence[tuple[Tensor, ...]]) -> Trace:
        ids, gates = (torch.cat([step[i] for step in steps], 1) for i in range(2))
        tokens_T, positions_T, sequences_T = (
            torch.cat([step[i] for step in steps]) for i in range(2, 5)
        )
        for place, layer in enumerate(self.layers):
            if layer.scale != 1:
                gates[place] *= layer.scale
            if layer.zero_means_none:
                ids[place][gates[place] == 0] = NO_EXPERT
        gates = gates.masked_fill(ids == NO_EXPERT, 0)
        names = tuple(layer.name for layer in self.layers)
        num_experts = self.layers[0].num_experts
        return Trace(ids, gates, tokens_T, positions_T, sequences_T, num_experts, names, self.model)
