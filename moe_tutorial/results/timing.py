"""Timing: the same work done in several ways, side by side, so that only ratios matter.

In each round every way runs once; the median over the rounds is compared.          Chapter 07.
"""

import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from moe_tutorial.results import stored
from moe_tutorial.validation import check_positive_number

STORE = "MOE_TUTORIAL_STORE"
"""The environment variable that names a JSON file for :func:`timings` to write into."""


def median_seconds(
    ways: Mapping[str, Callable[[], object]], seconds: float = 1.0
) -> dict[str, float]:
    """Run every way in turn, again and again, and return the median seconds of each.

    Taking turns lets a disturbance hit all ways alike. Absolute times mean little on a machine
    that does other things; quotients of two entries mean more.

    Args:
        ways: for each name, a function without arguments.
        seconds: how long to go on, after one round that warms up; at least five rounds are run.

    Returns:
        For each name the median seconds of one call.

    Raises:
        TypeError, ValueError: no ways, or seconds that are no positive and finite number.
    """
    if not ways:
        raise ValueError("ways must name at least one function, got none")
    check_positive_number("seconds", seconds)
    if seconds == math.inf:
        raise ValueError("seconds must be finite, got inf")
    for way in ways.values():
        way()
    rounds: dict[str, list[float]] = {name: [] for name in ways}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(rounds[next(iter(ways))]) < 5:
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            rounds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in rounds.items()}


def timings(
    name: str,
    ways: Mapping[str, Callable[[], object]],
    *,
    here: bool = False,
    seconds: float = 1.0,
) -> dict[str, float]:
    """Median seconds of each way: stored ones, or measured here and now.

    A page that is read without a kernel, and a notebook that is executed twice, must show the same
    numbers each time; so the default are the results that ``make timings`` stored.

    Args:
        name: of the comparison among the stored results.
        ways: as for :func:`median_seconds`.
        here: measure on this machine.
        seconds: as for :func:`median_seconds`.

    Returns:
        For each way the median seconds of one call.

    Raises:
        ValueError: nothing is stored under this name, or for other ways than these.
    """
    store = os.environ.get(STORE)
    if not here and not store:
        known = stored("timings")["seconds"].get(name, {})
        if list(known) != list(ways):
            raise ValueError(
                f"name {name!r} must be among the stored results for {list(ways)}, got "
                f"{list(known)}: pass here=True, or run make timings"
            )
        return dict(known)
    measured = median_seconds(ways, seconds)
    if store:
        path = Path(store)
        content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        content.setdefault("machine", _machine())
        content.setdefault("seconds", {})[name] = {
            k: float(f"{v:.3g}") for k, v in measured.items()
        }
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return measured


def stored_machine() -> str:
    """The machine that the stored results were measured on, in words; this one while measuring."""
    return _machine() if os.environ.get(STORE) else str(stored("timings")["machine"])


def _machine() -> str:
    threads = torch.get_num_threads()
    return (
        f"{platform.machine()} CPU with {torch.backends.cpu.get_cpu_capability()}, "
        f"{threads} thread{'s' if threads > 1 else ''}, "
        f"torch {torch.__version__.split('+')[0]}, float32"
    )
