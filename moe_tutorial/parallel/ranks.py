"""Ranks on one machine: small processes that talk over gloo, for lessons and tests.

run_ranks(function, 4) -> what the function returned on rank 0, 1, 2 and 3.         Chapter 14.
"""

import multiprocessing
import os
import pickle
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from moe_tutorial.validation import check_positive_number, check_size


class RankError(RuntimeError):
    """One rank or several did not return.

    Attributes:
        errors: for each rank that failed, and did not only lose the others, what happened to it.
    """

    def __init__(self, errors: dict[int, str]) -> None:
        super().__init__("; ".join(f"rank {rank}: {it}" for rank, it in errors.items()))
        self.errors = errors


def run_ranks(
    function: Callable[..., Any], ranks: int, *args: Any, time_out: float = 60.0
) -> list[Any]:
    """Run a function in several processes at once, which can talk to each other.

    Each process is a fork of this one, so a function of a notebook will do, and starting four takes
    a tenth of a second. Each computes on one thread. On several machines, or on GPUs, which a fork
    cannot use, ``torchrun`` takes the place of this function, and nothing else changes.

    Args:
        function: called as ``function(*args)``; ``torch.distributed`` is ready inside of it.
        ranks: W.
        args: see above; they are there already, so they need not be pickled.
        time_out: seconds after which every process is ended; a rank that waits for another one
            gives up after half of them, and can say so.

    Returns:
        What each rank returned, in order; it must be something that can be pickled.

    Raises:
        RankError: a rank that raised, was killed, or did not come back in time.
        NotImplementedError: a system without fork, such as Windows.
    """
    check_size("ranks", ranks)
    check_positive_number("time_out", time_out)
    if "fork" not in multiprocessing.get_all_start_methods():
        raise NotImplementedError(f"run_ranks needs fork, which {sys.platform} does not have")
    context = multiprocessing.get_context("fork")
    end = time.monotonic() + time_out
    with tempfile.TemporaryDirectory() as folder:
        meeting = Path(folder) / "meeting"
        pipes = [context.Pipe(duplex=False) for _ in range(ranks)]
        processes = [
            context.Process(
                target=_run, args=(function, args, rank, ranks, meeting, time_out, pipe[1])
            )
            for rank, pipe in enumerate(pipes)
        ]
        try:
            for process in processes:
                process.start()
            for _, theirs in pipes:
                theirs.close()
            return _collect([mine for mine, _ in pipes], processes, end)
        finally:
            for process in processes:
                if process.pid is not None:
                    process.kill()
                    process.join()
            for mine, _ in pipes:
                mine.close()


def _run(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    rank: int,
    ranks: int,
    meeting: Path,
    time_out: float,
    pipe: Connection,
) -> None:
    # The parent's threads are not there after a fork: whoever waited for them would wait for ever.
    torch.set_num_threads(1)
    if sys.platform == "linux":
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    try:
        dist.init_process_group(
            "gloo",
            init_method=meeting.as_uri(),
            rank=rank,
            world_size=ranks,
            timeout=timedelta(seconds=time_out / 2),
        )
        result = pickle.dumps((True, function(*args)))
        dist.barrier()  # nobody leaves while somebody still needs an answer
        dist.destroy_process_group()
    except BaseException as error:
        lost = isinstance(error, RuntimeError) and "gloo" in str(error)
        words = "".join(traceback.format_exception_only(error)).strip()
        result = pickle.dumps((False, (lost, words)))
    pipe.send_bytes(result)
    pipe.close()
    sys.stdout.flush()
    os._exit(0)  # without what the parent wants done at its own end


def _collect(pipes: list[Connection], processes: list[Any], end: float) -> list[Any]:
    results: dict[int, Any] = {}
    errors: dict[int, str] = {}
    lost: dict[int, str] = {}
    waiting = dict(zip(pipes, range(len(pipes)), strict=True))
    while waiting:
        # After a first failure, others get a moment to say what they saw.
        patience = max(0.0, end - time.monotonic())
        ready = wait(list(waiting), min(patience, 1.0) if errors or lost else patience)
        if not ready:
            lost |= dict.fromkeys(waiting.values(), "did not come back in time")
            break
        for pipe in ready:
            assert isinstance(pipe, Connection)
            rank = waiting.pop(pipe)
            try:
                good, value = pickle.loads(pipe.recv_bytes())
            except EOFError:
                processes[rank].join()
                errors[rank] = f"ended without a result, exit code {processes[rank].exitcode}"
                continue
            if good:
                results[rank] = value
            else:
                (lost if value[0] else errors)[rank] = value[1]
    if errors or lost:
        raise RankError(dict(sorted((errors or lost).items())))
    return [results[rank] for rank in range(len(pipes))]
