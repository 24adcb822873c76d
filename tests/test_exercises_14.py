"""Answers to chapter 14's exercises as readers write them: right in any style, wrong in many."""

from collections.abc import Callable
from typing import Any

import torch

from moe_tutorial import switch_loss
from moe_tutorial.exercises import EXERCISES
from moe_tutorial.parallel.scaling import bytes_across, rows_sent

Answer = Callable[..., Any]


def splits_in_loops(load: torch.Tensor, rank: int) -> list[list[int]]:
    W, E = load.shape
    sent, received = [0] * W, [0] * W
    for e in range(E):
        sent[e // (E // W)] += int(load[rank, e])
    for e in range(rank * E // W, (rank + 1) * E // W):
        for source in range(W):
            received[source] += int(load[source, e])
    return [sent, received]


def splits_by_reduceat(load: torch.Tensor, rank: int) -> Any:
    rows = load.unflatten(1, (len(load), -1)).sum(2)
    return rows[rank], rows[:, rank]


def splits_by_matrix(load: torch.Tensor, rank: int) -> torch.Tensor:
    W, E = load.shape
    where = torch.eye(W).repeat_interleave(E // W, 0)
    rows = (load.float() @ where).long()
    return torch.stack((rows[rank], rows.T[rank]))


def share_in_loops(p: torch.Tensor, load: torch.Tensor, tokens: int) -> Any:
    E, k, total = len(load), load.sum() / tokens, 0.0
    for e in range(E):
        total = total + load[e] / (tokens * k) * p[:, e].sum() / tokens
    return E * total


def share_as_vectors(p: torch.Tensor, load: torch.Tensor, tokens: int) -> torch.Tensor:
    return (p @ (load / load.sum()).to(p.dtype)).sum() * p.shape[1] / tokens


def share_of_means(p: torch.Tensor, load: torch.Tensor, tokens: int) -> torch.Tensor:
    return (p.mean(0) * load.double() / load.double().mean()).sum() * len(p) / tokens


def bytes_in_loops(experts: Any, E: int, nodes: int, mine: int, row: float) -> float:
    total = 0.0
    for ids in experts:
        seen = set()
        for expert in ids:
            node = int(expert) // (E // nodes)
            if node != mine and node not in seen:
                seen.add(node)
                total += row
    return total


def bytes_by_node(experts: Any, E: int, nodes: int, mine: int, row: float) -> torch.Tensor:
    at = torch.div(experts, E // nodes, rounding_mode="floor")
    others = [node for node in range(nodes) if node != mine]
    return torch.stack([(at == node).any(1) for node in others]).sum() * row


def bytes_by_one_hot(experts: Any, E: int, nodes: int, mine: int, row: float) -> Any:
    used = torch.nn.functional.one_hot(experts, E).sum(1).view(-1, nodes, E // nodes).amax(-1)
    used[:, mine] = 0
    return used.sum().item() * row


def factors_by_cases(ranks: int, copies: int, loss: str, reduction: str) -> tuple[float, float]:
    if loss == "share":
        return (1, 1) if reduction == "sum" else (1 / ranks, 1 / copies)
    return (ranks, ranks) if reduction == "sum" else (1, ranks / copies)


def factors_by_steps(ranks: int, copies: int, loss: str, reduction: str) -> torch.Tensor:
    found = torch.ones(2)
    if loss == "mean":
        found *= ranks
    if reduction == "mean":
        found /= torch.tensor([ranks, copies])
    return found


RIGHT: dict[str, tuple[Answer, ...]] = {
    "14.1": (splits_in_loops, splits_by_reduceat, splits_by_matrix),
    "14.2": (share_in_loops, share_as_vectors, share_of_means),
    "14.3": (bytes_in_loops, bytes_by_node, bytes_by_one_hot),
    "14.4": (
        factors_by_cases,
        factors_by_steps,
        lambda W, C, loss, reduction: [
            W ** (loss == "mean") / size ** (reduction == "mean") for size in (W, C)
        ],
    ),
}

WRONG: dict[str, tuple[tuple[Answer, str], ...]] = {
    "14.1": (
        (lambda load, rank: splits_by_reduceat(load, rank)[::-1], "exchanged"),
        (lambda load, rank: [splits_in_loops(load, rank)[0]] * 2, "others have other tokens"),
        (lambda load, rank: [splits_in_loops(load, rank)[1]] * 2, "expected"),
        (
            lambda load, rank: (
                torch.stack([part.sum() for part in load[rank].view(-1, len(load)).T]),
                load[:, rank :: len(load)].sum(1),
            ),
            "like cards",
        ),
        (
            lambda load, rank: [
                [n * (i != rank) for i, n in enumerate(row)] for row in splits_in_loops(load, rank)
            ],
            "take part, too",
        ),
        (lambda load, rank: load[rank], "expected"),
    ),
    "14.2": (
        (lambda p, load, tokens: share_as_vectors(p, load, len(p)), "own tokens"),
        (lambda p, load, tokens: share_as_vectors(p, load, tokens) / len(load), "factor E"),
        (lambda p, load, tokens: len(load) * (p.sum(0) * load).sum() / tokens**2, "sum to K"),
        (lambda p, load, tokens: len(load) * (p.sum(0) / tokens * load).sum(), "these are loads"),
        (lambda p, load, tokens: share_in_loops(p.detach(), load, tokens), "gradient"),
        (lambda p, load, tokens: share_as_vectors(p, load, tokens) * tokens, "summed"),
    ),
    "14.3": (
        (
            lambda experts, E, nodes, mine, row: (
                sum(int(e) * nodes // E != mine for e in experts.flatten()) * row
            ),
            "for each expert",
        ),
        (
            lambda experts, E, nodes, mine, row: (
                sum(len(set(ids)) for ids in (experts * nodes // E).tolist()) * row
            ),
            "cross nothing",
        ),
        (
            lambda experts, E, nodes, mine, row: (
                sum(set(ids) != {mine} for ids in (experts * nodes // E).tolist()) * row
            ),
            "tokens that leave",
        ),
        (
            lambda experts, E, nodes, mine, row: (
                sum(len(set(ids)) - 1 for ids in (experts * nodes // E).tolist()) * row
            ),
            "not every token",
        ),
        (lambda *case: bytes_in_loops(*case[:4], 1.0), "has row_bytes bytes"),
        (lambda *case: 2 * bytes_in_loops(*case), "expected"),
    ),
    "14.4": (
        (lambda W, C, loss, reduction: [1, 1], "not every recipe"),
        (lambda *recipe: [factors_by_cases(*recipe)[0]] * 2, "another matter"),
        (lambda *recipe: factors_by_cases(*recipe)[::-1], "exchanged"),
        (lambda *recipe: [1 / it for it in factors_by_cases(*recipe)], "upside down"),
        (lambda W, C, *recipe: factors_by_cases(W, W // C, *recipe), "of which there are C"),
        (lambda *recipe: [2 * it for it in factors_by_cases(*recipe)], "expected"),
    ),
}


def test_the_references_agree_with_the_package() -> None:
    experts = torch.rand(2, 5, 6, generator=torch.Generator().manual_seed(0)).topk(2).indices
    load = torch.stack([torch.bincount(it.flatten(), minlength=6) for it in experts])
    rows = rows_sent(experts, 6)
    for rank in range(2):
        found = EXERCISES["14.1"].reference(load, rank)
        assert torch.equal(found, torch.stack([rows[rank], rows[:, rank]]))
    logits = torch.randn(7, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    p, chosen = logits.softmax(-1), logits.topk(2).indices
    load = torch.bincount(chosen.flatten(), minlength=6)
    shares = [EXERCISES["14.2"].reference(part, load, 7) for part in p.split([3, 0, 4])]
    assert torch.allclose(sum(shares), switch_loss(p, chosen))
    for case in EXERCISES["14.3"].inputs(torch.Generator().manual_seed(3)):
        assert EXERCISES["14.3"].reference(*case) == bytes_across(*case, once=True)
