"""How to measure: interleaved rounds, paired ratios, the peak of extra memory.

Everything to be compared runs in one process and takes turns, in a new order every round, so that
a busy minute of the machine slows all of them alike and a ratio within one round stays fair.
"""

import ctypes
import gc
import importlib.metadata
import json
import os
import platform
import random
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

Samples = dict[int, float]
"""Seconds per call, by round; a slow implementation sits rounds out."""

SLOW = 4
"""What takes this many times as long as the anchors does not take part in every round."""

SYNCHRONISATIONS = {
    "aten::_local_scalar_dense",
    "aten::item",
    "aten::nonzero",
    "cudaDeviceSynchronize",
    "cudaEventSynchronize",
    "cudaMemcpy",
    "cudaStreamSynchronize",
}


@dataclass(frozen=True)
class Run:
    """What is timed.

    Attributes:
        call: the work.
        reset: puts everything back as it was before the work, outside the clock.
    """

    call: Callable[[], object]
    reset: Callable[[], None] = lambda: None


def interleave(
    runs: Mapping[str, Run],
    anchors: Collection[str],
    *,
    seconds: float,
    rounds: int,
    device: torch.device,
) -> dict[str, Samples]:
    """Time all runs in turns.

    Args:
        runs: what to time, by name.
        anchors: names that take part in every round, so that every sample has its pair.
        seconds: about how long to go on.
        rounds: how many rounds at least.
        device: where the work happens.

    Returns:
        Seconds per call of every name, by round. Every name has a sample in round 0.
    """
    estimates = {name: _estimate(run, seconds, device) for name, run in runs.items()}
    # A sample of a microsecond's work would be the clock's; a GPU's queue needs a while to fill.
    shortest = 0.02 if device.type == "cuda" else 0.002
    calls = {name: max(1, min(50, int(shortest / t))) for name, t in estimates.items()}
    patience = SLOW * max(estimates[name] * calls[name] for name in anchors)
    share = {name: min(1.0, patience / (estimates[name] * calls[name])) for name in runs}
    one_round = sum(estimates[name] * calls[name] * share[name] for name in runs)
    at_least, rounds = rounds, max(rounds, int(seconds / one_round))
    for name in runs:
        if estimates[name] <= seconds:  # few samples of a slow peer, but not one alone
            share[name] = max(share[name], at_least / rounds)

    order = list(runs)
    shuffle = random.Random(0).shuffle
    samples: dict[str, Samples] = {name: {} for name in runs}
    gc.disable()
    try:
        for i in range(rounds):
            shuffle(order)  # so that nobody always inherits the same neighbour's caches
            for name in order:
                if i == 0 or int(i * share[name]) > int((i - 1) * share[name]):
                    samples[name][i] = _seconds_per_call(runs[name], calls[name], device)
    finally:
        gc.enable()
    return samples


def _estimate(run: Run, seconds: float, device: torch.device) -> float:
    # The first call warms up; what takes too long to be called for nothing is taken at its word.
    first = _seconds_per_call(run, 1, device)
    if first > max(seconds, 0.1):
        return first
    return min(_seconds_per_call(run, 1, device) for _ in range(3))


def _seconds_per_call(run: Run, calls: int, device: torch.device) -> float:
    if device.type == "cuda":
        # One pair of events around all calls: the host may run ahead, as it does in training.
        begin: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        end: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        torch.cuda.synchronize(device)
        begin.record()
        for _ in range(calls):
            run.call()
            run.reset()
        end.record()
        torch.cuda.synchronize(device)
        return float(begin.elapsed_time(end)) / 1000 / calls
    # As in a loop that runs nothing else: caches and memory are not those of who ran before.
    run.call()
    run.reset()
    total = 0.0
    for _ in range(calls):
        start = time.perf_counter()
        result = run.call()
        total += time.perf_counter() - start
        del result  # to give its memory back is nobody's work
        run.reset()
    return total / calls


def paired_ratio(samples: Samples, reference: Samples) -> float:
    """The median over the rounds that both took part in of one time over the other."""
    return statistics.median(samples[i] / reference[i] for i in samples if i in reference)


def peak_extra_bytes(run: Run, device: torch.device) -> int:
    """The most memory that torch holds during a call, above what it held before.

    On a CPU it is added up from the profiler's record of every allocation, which does not see the
    scratch space inside a matmul library.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        run.call()
        torch.cuda.synchronize(device)
        peak = torch.cuda.max_memory_allocated(device) - before
        run.reset()
        return peak
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        result = run.call()
        del result
        run.reset()  # inside, so that the profiler sees every allocation's end
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        trace = json.loads(path.read_text(encoding="utf-8"))
    changes = [
        (event["ts"], event["args"]["Bytes"])
        for event in trace["traceEvents"]
        if event["name"] == "[memory]"
    ]
    held = highest = 0
    for _, change in sorted(changes, key=lambda change: change[0]):
        held += change
        highest = max(highest, held)
    return highest


def peak_resident_bytes(run: Run) -> int | None:
    """The most memory that a call makes the system give to this process; None off Linux.

    What is asked for and never touched does not count; what a matmul library or the C library
    takes for itself does.
    """
    own = Path("/proc/self")
    c_library = ctypes.CDLL(None) if (own / "clear_refs").exists() else None
    if c_library is None or not hasattr(c_library, "malloc_trim"):
        return None

    def resident(field: str) -> int:
        text = (own / "status").read_text(encoding="utf-8")
        return 1024 * int(text.split(field)[1].split()[0])

    gc.collect()  # what is given back later would hide part of the peak
    peaks = []
    for _ in range(3):
        c_library.malloc_trim(0)  # or memory that was used before would come for nothing
        (own / "clear_refs").write_text("5", encoding="utf-8")  # forgets the peak so far
        before = resident("VmRSS:")
        run.call()
        peaks.append(resident("VmHWM:") - before)
        run.reset()
    return statistics.median(peaks)


def host_synchronisations(call: Callable[[], object]) -> list[str]:
    """Where a call on a GPU makes the host wait: names of events that the profiler saw."""
    call()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        with record_function("measured"):
            call()
        torch.cuda.synchronize()
    on_host = [e for e in profiler.events() if str(e.device_type) == "DeviceType.CPU"]
    span = next(event for event in on_host if event.name == "measured").time_range
    return sorted(
        {
            event.name
            for event in on_host
            if event.name in SYNCHRONISATIONS and span.start <= event.time_range.start <= span.end
        }
    )


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of one large square matmul: the median of seven."""
    size = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    run = Run(lambda: a @ b)
    _seconds_per_call(run, 2, device)
    calls = 10 if device.type == "cuda" else 1
    return 2 * size**3 / statistics.median(_seconds_per_call(run, calls, device) for _ in range(7))


def environment(device: torch.device, packages: Collection[str] = ()) -> dict[str, dict[str, Any]]:
    """The hardware and the versions, for the record."""
    hardware: dict[str, Any] = {
        "device": device.type,
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        # With 1, torch asks Linux for huge pages, which makes large fresh tensors much cheaper.
        "THP_MEM_ALLOC_ENABLE": os.environ.get("THP_MEM_ALLOC_ENABLE", "0"),
        # tcmalloc, say, which keeps memory that the C library would give back to the system.
        "preloaded": [
            Path(it).name for it in re.findall("[^: ]+", os.environ.get("LD_PRELOAD", ""))
        ],
    }
    if device.type == "cuda":
        hardware["gpu"] = torch.cuda.get_device_name(device)
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        **{name: installed(name) for name in packages},
    }
    if device.type == "cuda":
        versions["cuda"] = torch.version.cuda
    return {"hardware": hardware, "versions": versions}


def installed(package: str) -> str | None:
    """A package's version, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def table(rows: list[list[str]]) -> str:
    """Rows, the first a heading, as a Markdown table with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)
