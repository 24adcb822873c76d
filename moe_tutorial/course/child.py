"""What runs in the process of one answer: it gets inputs, and returns numbers or what went wrong.

Whatever the answer does to this process, it can say nothing but numbers, which others compare.
"""

import io
import math
import os
import pickle
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

import torch

from moe_tutorial.course.wire import LARGEST, from_line, pack, to_line, unpack
from moe_tutorial.exercises.attempt import Attempt, attempt, what_was_raised


def main() -> None:
    """Read one job, do it, write what came of it, and end."""
    asks, tells = _private_streams()
    job = pickle.loads(asks.read(int(asks.readline())))  # written by the parent alone
    most = _limit(job["seconds"], job["memory"])
    _say(tells, {"ready": most})
    found = _attempts(job, asks, tells)
    _say(tells, {"attempts": [_plain(it) for it in found]})
    os._exit(0)  # whatever waits at the end of a process does not matter here


def _private_streams() -> tuple[BinaryIO, BinaryIO]:
    """Input and output for the parent alone: what an answer prints or reads is nothing."""
    asks, tells = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nothing, stream)
    return asks, tells


def _limit(seconds: int, memory: int) -> float:
    """Limits beyond what Python and torch have needed so far; the seconds of computing in all.

    A process is ended later than they say, by a second or two: the system counts for its limit in
    another way than for its report, and where both disagree, an answer is to have had its time.
    """
    usage = resource.getrusage(resource.RUSAGE_SELF)
    in_all = usage.ru_utime + usage.ru_stime + seconds
    end = math.ceil(in_all) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (end, end))
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST, LARGEST))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    pages = Path("/proc/self/statm")
    if pages.exists():  # elsewhere nobody says how much is in use already
        used = int(pages.read_text().split()[0]) * resource.getpagesize()
        most = used + memory * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    return in_all


def _attempts(job: dict[str, Any], asks: BinaryIO, tells: BinaryIO) -> list[Attempt]:
    """One attempt for each case; all alike where the code does not get that far."""
    try:
        module = sys.modules["answer"] = ModuleType("answer")
        exec(compile(job["source"], "answer", "exec", dont_inherit=True), module.__dict__)
        answer: Any = module.__dict__[job["name"]]
    except BaseException as error:
        failure = f"could not be made, for the code around it {what_was_raised(error)}"
        return [Attempt(failure=failure)] * job["count"]
    if answer is None or answer is ...:
        return [Attempt(blank=True)] * job["count"]
    # Only now, and again for each answer, do inputs exist here.
    reader = _Reader(job["cases"], lambda number: _distant(number, asks, tells))
    return [attempt(answer, case, job["gradient"]) for case in reader.load()]


class _Reader(pickle.Unpickler):
    """Reads cases; a function among them stays with the parent, and is called there."""

    def __init__(self, written: bytes, function: Callable[[int], Callable[..., Any]]) -> None:
        super().__init__(io.BytesIO(written))
        self._function = function

    def persistent_load(self, number: int) -> Callable[..., Any]:
        return self._function(number)


def _distant(number: int, asks: BinaryIO, tells: BinaryIO) -> Callable[..., Any]:
    """A function that the parent computes."""

    def call(*arguments: Any, **named: Any) -> Any:
        _say(
            tells,
            {
                "call": number,
                "arguments": [pack(torch.as_tensor(it)) for it in arguments],
                "named": {name: pack(torch.as_tensor(it)) for name, it in named.items()},
            },
        )
        reply = from_line(asks.readline())
        if "raised" in reply:
            raise RuntimeError(reply["raised"])
        return unpack(reply["value"])

    return call


def _plain(found: Attempt) -> dict[str, Any]:
    return {
        "value": pack(found.value),
        "gradient": pack(found.gradient),
        "failure": found.failure,
        "blank": found.blank,
    }


def _say(tells: BinaryIO, message: dict[str, Any]) -> None:
    tells.write(to_line(message))
    tells.flush()


if __name__ == "__main__":
    sys.exit("this is started by python -m moe_tutorial.course mark, with a job")
