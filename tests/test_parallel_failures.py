"""What goes wrong between devices ends in words, on all of them, in time."""

import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh

from moe_tutorial.learning.training import evaluate
from moe_tutorial.parallel.agreement import check_agreement
from moe_tutorial.parallel.exchange import dispatch_parallel
from moe_tutorial.parallel.ranks import RankError, run_ranks
from moe_tutorial.parallel.saving import read_weights
from moe_tutorial.parallel.spread import spread_experts
from tests.parallel_cases import TEXTS, TIME_OUT, layer, mesh_of, model


def errors(function: Any, *args: Any) -> list[str]:
    with pytest.raises((ValueError, TypeError)) as error:
        function(*args)
    return [str(error.value)]


def refusals() -> list[str]:
    rank, ranks = dist.get_rank(), dist.get_world_size()
    found = errors(spread_experts, model(experts=6), mesh_of(1))
    found += errors(spread_experts, torch.nn.Linear(2, 2), mesh_of(1))
    names = ("data", "experts")
    odd = init_device_mesh("cpu", (1, ranks), mesh_dim_names=names)
    found += errors(spread_experts, model(), odd)
    found += errors(spread_experts, model(), None)
    # What differs on one rank, before and after experts are spread.
    for kind in range(5):
        mine = model(
            k=1 if kind == 0 and rank == 1 else 2,
            seed=int(kind == 1 and rank == 2),
            experts=8 if kind == 2 and rank == 3 else 4,
        )
        if kind == 3 and rank == 1:
            mine = mine.float()
        if kind == 4:
            if rank == 3:
                with torch.no_grad():
                    mine.blocks[1].layer.experts.in_EHD[1, 0, 0] += 1e-9
            spread_experts(mine, mesh_of(2))  # ranks 1 and 3 hold experts 2 and 3: no difference
            check_agreement(mine)
            continue
        found += errors(check_agreement, mine)
    check_agreement(model(), {"settings": 3})
    found += errors(check_agreement, model(), {"settings": rank // 3})
    found += errors(check_agreement, model(), {"only": 1} if rank == 2 else {})
    # A copy that differs.
    mine = model(seed=int(rank > 1))
    for block in mine.blocks:
        block.layer.router.load_state_dict(model().blocks[0].layer.router.state_dict())
    spread_experts(mine, mesh_of(2))
    found += errors(check_agreement, mine.blocks[0].layer.experts)
    return found


WORDS = [
    r"divisible by the ranks that share them, got 6 experts in blocks\.0\.layer on 4 ranks: use "
    r"one of \[1, 2, 3, 6\] ranks",
    "at least one MoELayer",
    r"dimensions \('experts',\) or \('copies', 'experts'\), got \('data', 'experts'\)",
    "mesh must be a DeviceMesh, got NoneType",
    r"same blocks\.0\.layer\.router, got .*k=2.* on rank 0 and .*k=1.* on rank 1",
    r"same value of embedding\.weight, got 'sum .*' on rank 0 and 'sum .*' on rank 2",
    r"same blocks\.0\.layer\.router, got .*num_experts=4.* on rank 0 .*num_experts=8.* on rank 3",
    r"same embedding\.weight, got 'float64 .*' on rank 0 and 'float32 .*' on rank 1",
    "same settings, got 0 on rank 0 and 1 on rank 3",
    "same parts, got only on rank 2 and none on rank 0",
    r"same value of in_EHD\[0\], got .* on rank 0 and .* on rank 2",
]


def test_wrong_models_are_refused_by_all_ranks_in_the_same_words() -> None:
    first, *others = run_ranks(refusals, 4, time_out=TIME_OUT)
    assert all(it == first for it in others)
    assert len(first) == len(WORDS)
    for message, pattern in zip(first, WORDS, strict=True):
        assert re.search(pattern, message), message


def alone(what: str, folder: Path) -> None:
    """On one rank something happens that the others do not share."""
    if what == "evaluation":
        mine = model()
        spread_experts(mine, mesh_of(1))
        if dist.get_rank() == 0:
            evaluate(mine, TEXTS.validation, 1, 4)
        time.sleep(20)  # the others are busy with something else, for longer than the time-out
    if dist.get_rank() == 1:
        if what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "exit":
            raise SystemExit(3)
        if what == "raise":
            read_weights(folder)
        if what == "sleep":
            time.sleep(30)
    dist.barrier()


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("kill", r"^rank 1: ended without a result, exit code -9$"),
        ("exit", r"^rank 1: SystemExit: 3$"),
        ("raise", r"^rank 1: FileNotFoundError: folder must hold a checkpoint"),
        ("sleep", r"^rank 0: .*[Tt]imed out"),
        ("evaluation", r"rank 0: .*[Tt]imed out"),
    ],
)
def test_one_rank_alone_ends_all_in_time_and_is_named_where_it_is_known(
    what: str, words: str, tmp_path: Path
) -> None:
    start = time.monotonic()
    with pytest.raises(RankError, match=words):
        run_ranks(alone, 2, what, tmp_path, time_out=3.0)
    assert time.monotonic() - start < 6


def late() -> None:
    time.sleep(30)


def test_ranks_that_never_come_back_are_ended() -> None:
    with pytest.raises(RankError, match="rank 0: did not come back in time; rank 1: did not"):
        run_ranks(late, 2, time_out=0.5)


def bad_calls() -> list[str]:
    spread = layer()
    spread_experts(spread, mesh_of(1))
    local, x_TD = spread.experts.local, torch.ones(3, 12, dtype=torch.float64)
    ids_TK, gates_TK = torch.zeros(3, 2, dtype=torch.int64), torch.ones(3, 2)
    found = errors(dispatch_parallel, x_TD, ids_TK, gates_TK, spread.experts)
    found += errors(dispatch_parallel, x_TD, ids_TK + 8, gates_TK, local)
    found += errors(dispatch_parallel, x_TD, ids_TK.int(), gates_TK, local)
    found += errors(dispatch_parallel, x_TD, ids_TK, gates_TK[:, :1], local)
    found += errors(dispatch_parallel, x_TD[:2], ids_TK, gates_TK, local)
    return found


def test_bad_calls_are_refused_by_name() -> None:
    patterns = [
        "local must be an ExpertWeights, got SpreadExperts",
        "experts_TK must hold ids from 0 to 7, got 8",
        "experts_TK must hold int64 expert ids",
        "gates_TK must have the shape of experts_TK",
        "x_TD",
    ]
    for found in run_ranks(bad_calls, 2, time_out=TIME_OUT):
        for message, pattern in zip(found, patterns, strict=True):
            assert re.search(pattern, message), message


@pytest.mark.parametrize(("ranks", "time_out"), [(0, 1.0), (2.0, 1.0), (2, 0.0), (2, "1")])
def test_numbers_of_ranks_and_seconds_must_make_sense(ranks: Any, time_out: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"ranks|time_out"):
        run_ranks(late, ranks, time_out=time_out)
