"""One answer in a process of its own: without our answers, without a network, with limits.

It gets inputs and returns numbers. To compare them is not its business, so that nothing it changes
in its own process can make a wrong number right.
"""

import contextlib
import io
import math
import os
import pickle
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any

import torch

import moe_tutorial
from moe_tutorial.course.wire import LARGEST, MessageError, from_line, pack, to_line, unpack
from moe_tutorial.exercises.attempt import MOST_NUMBERS, Attempt
from moe_tutorial.exercises.grader import Inputs

START = 300.0  # seconds that Python and torch may take to start on a busy machine
PATIENCE = 6  # seconds by the clock for each second of computing: others compute, too
MOST_CALLS = 1000  # of functions among the inputs
MOST_IN_A_CALL = 4096  # numbers in one of its arguments
# Of two folders the package in an answer's process has no more than this: no reference, no mistake.
KEPT = {
    "exercises": {"attempt.py", "surroundings.py"},
    "course": {"__init__.py", "child.py", "wire.py"},
}

# From the best that a system may allow to the least. The first hides other processes, too.
WAYS = (
    ("unshare", "-rnpf", "--mount-proc", "--kill-child"),
    ("unshare", "-rn"),
    (),
)


@dataclass(frozen=True)
class Limits:
    """What one answer may take.

    Attributes:
        seconds: of computing; by the clock it may take PATIENCE times as long.
        memory: in MiB, beyond what Python and torch take themselves.
    """

    seconds: int
    memory: int


@contextlib.contextmanager
def package_without_answers() -> Iterator[Path]:
    """A folder with a copy of this package in which no exercise's reference can be found."""
    source = Path(moe_tutorial.__file__).parent
    with tempfile.TemporaryDirectory(prefix="course-", ignore_cleanup_errors=True) as folder:
        copy = Path(folder) / source.name
        shutil.copytree(source, copy, ignore=_left_out)
        (copy / "exercises" / "__init__.py").write_text('"""No answers here."""\n', "utf-8")
        yield Path(folder)


def _left_out(folder: str, names: list[str]) -> set[str]:
    kept = KEPT.get(Path(folder).name)
    return set() if kept is None else set(names) - kept


@cache
def way_to_separate() -> tuple[str, ...]:
    """The strictest of WAYS that this system allows."""
    for way in WAYS[:-1]:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            if subprocess.run([*way, "true"], capture_output=True, timeout=60).returncode == 0:
                return way
    return WAYS[-1]


def try_elsewhere(
    source: str,
    name: str,
    cases: Sequence[Inputs],
    limits: Limits,
    package: Path,
    *,
    gradient: bool = False,
) -> list[Attempt]:
    """Call an answer with each case, in a new process.

    Args:
        source: the code that makes the answer.
        name: of the function.
        cases: what to call it with. A function among the arguments stays here: it is called with
            the numbers that the answer hands it.
        limits: what it may take.
        package: the folder that :func:`package_without_answers` made.
        gradient: whether to ask for gradients.

    Returns:
        One attempt for each case, with numbers in memory of our own. An answer that is stopped, or
        ends its process, failed in all of them.
    """
    functions = {id(it): it for case in cases for it in case if isinstance(it, FunctionType)}
    job = pickle.dumps(
        {
            "source": source,
            "name": name,
            "cases": _written(cases, list(functions)),
            "count": len(cases),
            "gradient": gradient,
            "seconds": limits.seconds,
            "memory": limits.memory,
        }
    )
    found: list[Attempt] = []
    with tempfile.TemporaryDirectory(prefix="answer-", ignore_cleanup_errors=True) as folder:
        process = subprocess.Popen(
            [*way_to_separate(), sys.executable, "-I", "-c", _START, str(package)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env=_surroundings(folder),
            start_new_session=True,
        )
        try:
            failure = _listen(process, job, list(functions.values()), limits, found)
        finally:
            _end(process)
    if not failure and len(found) == len(cases):
        return found
    return [Attempt(failure=failure or "returned something that is no list of numbers")] * len(
        cases
    )


_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from moe_tutorial.course.child import main; main()"
)


def _surroundings(folder: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    own = dict.fromkeys(("HOME", "TMPDIR", "MPLCONFIGDIR"), folder)
    return kept | own | {"OMP_NUM_THREADS": "1", "LANG": "C.UTF-8"}


def _written(cases: Sequence[Inputs], functions: list[int]) -> bytes:
    class Writer(pickle.Pickler):
        def persistent_id(self, value: Any) -> int | None:
            return functions.index(id(value)) if id(value) in functions else None

    written = io.BytesIO()
    Writer(written).dump(cases)
    return written.getvalue()


def _listen(
    process: "subprocess.Popen[bytes]",
    job: bytes,
    functions: Sequence[Callable[..., Any]],
    limits: Limits,
    found: list[Attempt],
) -> str:
    """Follow the process until it has said everything; what went wrong, or nothing."""
    assert process.stdin is not None
    assert process.stdout is not None
    lines = _lines(process.stdout.fileno())
    next(lines)
    calls, asks, most = 0, process.stdin.fileno(), math.inf
    try:
        process.stdin.write(b"%d\n%b" % (len(job), job))
        process.stdin.flush()
        os.set_blocking(asks, False)  # from here on nobody may make us wait
        end = time.monotonic() + START
        while True:
            message = from_line(lines.send(end))
            if "ready" in message and most == math.inf:
                most = message["ready"]
                end = min(end, time.monotonic() + PATIENCE * limits.seconds + 1)
            elif "call" in message and calls < MOST_CALLS:
                calls += 1
                reply = to_line(_called(functions, message))
                if os.write(asks, reply) < len(reply):
                    return "did not read what the functions that it was given return"
            elif "attempts" in message:
                found.extend(_attempt(it) for it in message["attempts"])
                return ""
            else:
                return "called the functions that it was given too often"
    except TimeoutError:
        return f"was stopped: it was not done after {PATIENCE * limits.seconds} seconds"
    except BlockingIOError:
        return "did not read what the functions that it was given return"
    except (EOFError, BrokenPipeError):
        used = _computed_until_its_end(process)
        if used is None:
            return "closed the way on which its results would have come"
        if used > most:
            return f"was stopped: it computed for more than {limits.seconds} seconds"
        return f"ended its process before it returned (status {process.returncode})"
    except (MessageError, KeyError, TypeError, ValueError, AttributeError):
        return "returned something that is no list of numbers"


def _computed_until_its_end(process: "subprocess.Popen[bytes]") -> float | None:
    """Seconds of computing that a process took in all; None where it goes on.

    Its status would not do: unshare ends with 1 where a signal ended what it started.
    """
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found, status, used = os.wait4(process.pid, os.WNOHANG)
        if found:
            process.returncode = os.waitstatus_to_exitcode(status)
            return used.ru_utime + used.ru_stime
        time.sleep(0.01)
    return None


def _lines(stream: int) -> Generator[bytes, float, None]:
    """Lines of a stream; each is asked for with the moment until which to wait for it."""
    buffer = b""
    end: float = yield b""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while True:
            line, found, rest = buffer.partition(b"\n")
            if found:
                buffer = rest
                end = yield line
                continue
            if not selector.select(max(0.0, end - time.monotonic())):
                raise TimeoutError
            more = os.read(stream, 2**20)
            if not more:
                raise EOFError
            buffer += more
            if len(buffer) > 2 * LARGEST:
                raise MessageError("a message is too long")


def _called(functions: Sequence[Callable[..., Any]], message: dict[str, Any]) -> dict[str, Any]:
    """Call one of our functions with numbers that came from the answer."""
    arguments = [unpack(it) for it in message["arguments"]]
    named = {str(name): unpack(it) for name, it in message["named"].items()}
    for it in (*arguments, *named.values()):
        if it is None or it.numel() > MOST_IN_A_CALL:
            return {"raised": f"give this function tensors of at most {MOST_IN_A_CALL} numbers"}
    try:
        value = functions[message["call"]](*arguments, **named)
        return {"value": pack(torch.as_tensor(value))}
    except Exception as error:
        return {"raised": f"{type(error).__name__}: {error}"[:300]}


def _attempt(plain: dict[str, Any]) -> Attempt:
    value, gradient = unpack(plain["value"]), unpack(plain["gradient"])
    for it in (value, gradient):
        if it is not None and it.numel() > MOST_NUMBERS:
            raise MessageError("too many numbers")
    failure = " ".join(str(plain["failure"]).split())[:400]
    return Attempt(value, gradient, failure, plain["blank"] is True)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End the process and its group; what left the group ends with the namespace."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()
