"""What looks right on many devices and is not: each trap is shown to be one."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp

from moe_tutorial import MoELayer, expert_load, switch_loss, updated_bias
from moe_tutorial.layer.assignments import gather_rows, run_blocks, sort_assignments, sum_rows
from moe_tutorial.learning.settings import Settings
from moe_tutorial.learning.text import draw_batch
from moe_tutorial.learning.training import adamw, cross_entropy
from moe_tutorial.parallel.balancing import global_switch_loss, total_load
from moe_tutorial.parallel.exchange import all_to_all
from moe_tutorial.parallel.gradients import local_part, reduce_gradients
from moe_tutorial.parallel.ranks import run_ranks
from moe_tutorial.parallel.spread import SpreadExperts, spread_experts
from tests.parallel_cases import TEXTS, TIME_OUT, mesh_of, model

RANKS = 4
SETTINGS = Settings(8, batch_size=8, length=12, warm_up=2)


def spread_parameters(trained: torch.nn.Module) -> list[torch.nn.Parameter]:
    return [p for it in trained.modules() if isinstance(it, SpreadExperts) for p in it.parameters()]


def trained_with(mistake: str) -> tuple[list[float], float]:
    """Loss curve, and by what factor the first step's expert gradients are too large."""
    trained, mesh = model(experts=8), mesh_of(1)
    spread_experts(trained, mesh)
    optimizer, windows = adamw(trained, SETTINGS), torch.Generator().manual_seed(0)
    losses, factors = [], []
    rank, ranks, tokens = dist.get_rank(), dist.get_world_size(), 8 * 12
    for _ in range(SETTINGS.steps):
        batch = draw_batch(TEXTS.training, 8, 12, windows).part(
            slice(8 // ranks * rank, 8 // ranks * (rank + 1))
        )
        loss = cross_entropy(trained(batch.tokens_BS), batch).sum() / tokens
        total = loss.detach().clone()
        dist.all_reduce(total)
        losses.append(total.item())
        optimizer.zero_grad()
        (loss * ranks if mistake == "mean" else loss).backward()
        right = local_part(spread_parameters(trained)[0].grad).clone()
        if mistake == "mean":  # what DistributedDataParallel does: a loss of its own, then the mean
            right /= ranks
            spread = {id(it) for it in spread_parameters(trained)}
            for it in trained.parameters():
                if id(it) not in spread:
                    dist.all_reduce(it.grad)
                    it.grad /= ranks
        else:
            reduce_gradients(trained, mesh)
        factors.append(
            (local_part(spread_parameters(trained)[0].grad).norm() / right.norm()).item()
        )
        optimizer.step()
    return losses, factors[0]


def curves() -> Any:
    return trained_with(""), trained_with("mean")


def test_a_loss_curve_hides_expert_gradients_that_are_too_large_by_the_number_of_ranks() -> None:
    (right, one), (wrong, factor) = run_ranks(curves, 2, time_out=TIME_OUT)[0]
    assert one == pytest.approx(1)
    assert factor == pytest.approx(2)  # a mean of dense gradients is right, of these it is not
    assert wrong[-1] < wrong[0] - 0.1  # it falls ...
    assert wrong == pytest.approx(right, abs=0.01)  # ... as it should: AdamW divides factors away


def sealed() -> list[Any]:
    """An exchange by torch.distributed alone moves rows, and no gradient."""
    rank = dist.get_rank()
    weight = torch.nn.Parameter(torch.ones(()))
    rows = weight * torch.arange(4.0)
    arrived = torch.empty(4)
    with torch.no_grad():
        dist.all_to_all_single(arrived, rows.detach())
    seen = [arrived.requires_grad]
    dist.all_to_all_single(arrived, rows)
    head = torch.nn.Parameter(torch.ones(()))
    (head * arrived).sum().backward()
    seen += [weight.grad is None, head.grad is not None]
    all_to_all(weight * torch.arange(4.0), [1] * 4, [1] * 4).sum().backward()
    return [*seen, weight.grad.item(), arrived.tolist() == [float(rank)] * 4]


def test_the_exchange_of_torch_distributed_has_no_gradient_and_says_nothing() -> None:
    for seen in run_ranks(sealed, RANKS, time_out=TIME_OUT):
        assert seen == [False, True, True, 6.0, True]


def balances() -> Any:
    """Ranks that read different texts: what balancing one's own tokens does to the router."""
    torch.manual_seed(dist.get_rank())
    x_TD = torch.randn(50, 8, dtype=torch.float64) / 4 + torch.randn(8, dtype=torch.float64)
    router = model(experts=8).blocks[0].layer.router
    found = []
    for own in (False, True):
        router.zero_grad()
        routing = router(x_TD)
        own_loss = switch_loss(routing.probabilities_TE, routing.experts_TK) / RANKS
        (own_loss if own else global_switch_loss(routing)).backward()
        dist.all_reduce(router.centroids_ED.grad)
        found.append(router.centroids_ED.grad.flatten().clone())
    cosine = torch.nn.functional.cosine_similarity(found[0], found[1], dim=0).item()
    # A bias that follows one's own load, for fifty steps.
    bias_E, shared_E = torch.zeros(8), torch.zeros(8)
    for _ in range(50):
        bias_E = updated_bias(bias_E, expert_load(routing.experts_TK, 8), 0.01)
        shared_E = updated_bias(shared_E, total_load(routing), 0.01)
    everyone = [torch.empty(8) for _ in range(RANKS)]
    dist.all_gather(everyone, bias_E)
    others = [torch.empty(8) for _ in range(RANKS)]
    dist.all_gather(others, shared_E)
    probe = torch.randn(500, 8, generator=torch.Generator().manual_seed(9)).softmax(-1)
    chosen = [(probe + it).topk(2).indices.sort().values for it in everyone]
    differ = (chosen[0] != chosen[1]).any(-1).double().mean().item()
    return cosine, differ, all(torch.equal(others[0], it) for it in others)


def test_balancing_ones_own_tokens_is_another_loss_and_makes_another_model() -> None:
    for cosine, differ, alike in run_ranks(balances, RANKS, time_out=TIME_OUT):
        assert cosine < 0.9
        assert differ > 0.5
        assert alike


def plain_tensors(folder: Path) -> bool:
    """Save a rank's own experts as what they look like, a parameter; load on fewer ranks."""
    rank, ranks = dist.get_rank(), dist.get_world_size()
    here = 8 // ranks
    mine = torch.arange(8.0)[rank * here : (rank + 1) * here].clone()
    state = {"experts": mine}
    if ranks == 4:
        dcp.save(state, checkpoint_id=folder)
        return True
    state = {"experts": torch.full((2,), -1.0)}
    dcp.load(state, checkpoint_id=folder)
    return torch.equal(state["experts"], torch.tensor([0.0, 1.0]))


def test_plain_tensors_come_back_as_one_ranks_experts_on_every_rank(tmp_path: Path) -> None:
    run_ranks(plain_tensors, 4, tmp_path, time_out=TIME_OUT)
    # Both ranks get rank 0's experts, though four experts each would be theirs; nothing raises.
    assert run_ranks(plain_tensors, 2, tmp_path, time_out=TIME_OUT) == [True, True]


def ungrouped(layer: MoELayer, x_TD: torch.Tensor) -> torch.Tensor:
    """An exchange that runs each arriving row in the order of ranks, as if that were by expert."""
    routing, experts = layer.router(x_TD), layer.experts
    assert isinstance(experts, SpreadExperts)
    ranks, here = dist.get_world_size(), len(experts.local.in_EHD)
    rows = sort_assignments(routing.experts_TK, ranks * here)
    load_E = rows.ends_E.diff(prepend=rows.ends_E.new_zeros(1))
    arriving_WM = all_to_all(load_E, [here] * ranks, [here] * ranks).view(ranks, here)
    sent, received = load_E.view(ranks, here).sum(1).tolist(), arriving_WM.sum(1).tolist()
    rows_AD = all_to_all(gather_rows(x_TD, rows), sent, received)
    ends_M = arriving_WM.sum(0).cumsum(0)
    back_RD = all_to_all(run_blocks(rows_AD, ends_M, experts.local), received, sent)
    return sum_rows(back_RD, rows, routing.gates_TK)


def wrong_order(experts: int) -> float:
    torch.manual_seed(0)
    layer = model(experts=experts).blocks[0].layer
    spread_experts(layer, mesh_of(1))
    x_TD = torch.randn(20, 8, dtype=torch.float64)
    with torch.no_grad():
        return (ungrouped(layer, x_TD) - layer(x_TD).y_TD).abs().max().item()


def test_one_expert_a_rank_does_not_show_that_rows_are_in_the_order_of_ranks() -> None:
    def both() -> tuple[float, float]:
        return wrong_order(2), wrong_order(4)

    for one_each, two_each in run_ranks(both, 2, time_out=TIME_OUT):
        assert one_each < 1e-14
        assert two_each > 1e-3
