"""A layer on 1, 2 and 4 ranks, and on 2 x 2, is the layer in one process, to 1e-12."""

from functools import cache
from typing import Any

import pytest
import torch
import torch.distributed as dist

from moe_tutorial.parallel.balancing import global_switch_loss, total_load
from moe_tutorial.parallel.exchange import all_to_all
from moe_tutorial.parallel.gradients import clip_gradients, reduce_gradients
from moe_tutorial.parallel.ranks import run_ranks
from moe_tutorial.parallel.spread import SpreadExperts, spread_experts
from tests.parallel_cases import (
    CASES,
    EXPERTS,
    TIME_OUT,
    furthest,
    gradients,
    layer,
    mesh_of,
    my_slice,
    tokens,
)

MESHES = [(1, 1), (2, 1), (4, 1), (4, 2)]  # ranks, copies
LARGEST = 0.01  # every gradient here is longer


def objective(output: Any, weights_TD: torch.Tensor) -> torch.Tensor:
    """A loss whose shares on ranks add up, with a gradient for gates, too."""
    total: torch.Tensor = (output.y_TD * weights_TD).sum() + output.y_TD.square().sum()
    return total


@cache
def alone(case: str) -> tuple[torch.Tensor, dict[str, torch.Tensor], torch.Tensor, float]:
    """In one process: output, gradients, the tokens' gradient, the gradient's norm."""
    one = CASES[case][0]()
    x_TD, weights_TD = tokens(case)
    x_TD.requires_grad_()
    output = one(x_TD)
    objective(output, weights_TD).backward()
    found = {name: it.clone() for name, it in gradients(one).items()}
    assert x_TD.grad is not None
    norm = torch.nn.utils.clip_grad_norm_(one.parameters(), LARGEST)
    return output.y_TD.detach(), found, x_TD.grad, norm.item()


def every_case(copies: int) -> dict[str, tuple[float, ...]]:
    found = {}
    for case, (make, _) in CASES.items():
        y_TD, wanted, grad_TD, norm = alone(case)
        spread = make()
        mesh = mesh_of(copies)
        spread_experts(spread, mesh)
        mine = my_slice(case)
        x_TD, weights_TD = (it[mine] for it in tokens(case))
        x_TD.requires_grad_()
        output = spread(x_TD)
        objective(output, weights_TD).backward()
        reduce_gradients(spread, mesh)
        assert x_TD.grad is not None
        differences = [
            furthest({"y": output.y_TD.detach()}, {"y": y_TD[mine]}) if len(x_TD) else 0.0,
            furthest({"x": x_TD.grad}, {"x": grad_TD[mine]}) if len(x_TD) else 0.0,
            furthest(gradients(spread), wanted),
        ]
        seen = clip_gradients(spread, LARGEST)
        clipped = sum(it.square().sum() for it in gradients(spread).values()) ** 0.5
        found[case] = (*differences, abs(seen - norm), float(clipped) if norm else LARGEST)
    return found


@pytest.fixture(scope="module", params=MESHES, ids=lambda it: f"{it[0]} ranks, {it[1]} copies")
def compared(request: pytest.FixtureRequest) -> list[dict[str, tuple[float, ...]]]:
    for case in CASES:
        alone(case)
    ranks, copies = request.param
    return run_ranks(every_case, ranks, copies, time_out=TIME_OUT)


@pytest.mark.parametrize("case", CASES)
def test_outputs_gradients_and_norms_are_those_of_one_process(
    compared: list[dict[str, tuple[float, ...]]], case: str
) -> None:
    for found in compared:
        *differences, clipped = found[case]
        assert max(differences) < 1e-12
        assert clipped == pytest.approx(LARGEST, rel=1e-3)


def pieces() -> list[Any]:
    """Small questions to four ranks, in one go."""
    rank = dist.get_rank()
    found: list[Any] = []
    # What goes where: rank r sends s + 1 rows to rank s.
    sent = [1, 2, 3, 4]
    rows_RD = (torch.arange(10.0) + 100 * rank).double()[:, None].requires_grad_()
    rows_AD = all_to_all(rows_RD, sent, [rank + 1] * 4)
    found.append(rows_AD.flatten().tolist())
    # Its derivative, and the derivative of that.
    (first,) = torch.autograd.grad(rows_AD.pow(3).sum(), rows_RD, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), rows_RD)
    found.append(
        bool(torch.allclose(first, 3 * rows_RD**2) and torch.allclose(second, 6 * rows_RD))
    )
    for wrong in ([1, 2, 3], [1, 2, 3, 5]):
        with pytest.raises(ValueError, match=r"sent must (hold one number|add up)"):
            all_to_all(rows_RD, wrong, [rank + 1] * 4)
    # What a spread layer is.
    spread = layer()
    spread_experts(spread, mesh_of(2))
    experts = spread.experts
    assert isinstance(experts, SpreadExperts)
    found.append((experts.in_EHD.shape[0], len(experts.local.in_EHD), repr(experts)))
    # In a narrower dtype, under autocast, and without gradients.
    x_TD = torch.randn(5, 12, generator=torch.Generator().manual_seed(rank))
    half = layer().to(torch.bfloat16)
    spread_experts(half, mesh_of(1))
    with torch.no_grad():
        found.append(half(x_TD.bfloat16()).y_TD.dtype)
        with torch.autocast("cpu"):
            found.append(layer().float().experts(x_TD, *routed(x_TD)).dtype)
            single = layer().float()
            spread_experts(single, mesh_of(1))
            found.append(single.experts(x_TD, *routed(x_TD)).dtype)
    # The balance of all tokens: rank r has r of them.
    routing = layer().router(x_TD.double()[:rank])
    share = global_switch_loss(routing)
    dist.all_reduce(share)
    found.append((share.item(), total_load(routing).tolist()))
    return found


def routed(x_TD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    routing = layer().float().router(x_TD)
    return routing.experts_TK, routing.gates_TK


@pytest.fixture(scope="module")
def answers() -> list[list[Any]]:
    return run_ranks(pieces, 4, time_out=TIME_OUT)


def test_rows_arrive_by_rank_and_have_gradients_of_any_order(answers: list[list[Any]]) -> None:
    places = [0, 1, 3, 6]
    for rank, (rows, differentiable, *_) in enumerate(answers):
        assert rows == [100.0 * r + places[rank] + i for r in range(4) for i in range(rank + 1)]
        assert differentiable


def test_spread_experts_have_the_shape_of_all_and_the_memory_of_some(
    answers: list[list[Any]],
) -> None:
    for answer in answers:
        whole, here, words = answer[2]
        assert (whole, here) == (EXPERTS, EXPERTS // 2)
        assert f"num_experts={EXPERTS}" in words


def test_dtypes_are_those_of_dispatch(answers: list[list[Any]]) -> None:
    for answer in answers:
        assert answer[3] == torch.bfloat16
        assert answer[4] == answer[5]


def test_shares_of_the_balance_loss_add_up_to_that_of_all_tokens(answers: list[list[Any]]) -> None:
    from moe_tutorial import expert_load, switch_loss

    drawn = [torch.randn(5, 12, generator=torch.Generator().manual_seed(r))[:r] for r in range(4)]
    routing = layer().router(torch.cat(drawn).double())
    wanted = switch_loss(routing.probabilities_TE, routing.experts_TK).item()
    load = expert_load(routing.experts_TK, EXPERTS).tolist()
    for answer in answers:
        share, counted = answer[6]
        assert share == pytest.approx(wanted, abs=1e-14)
        assert counted == load
