"""Answers to chapter 09's exercises as readers write them: right in any style, wrong in many."""

import math
from collections.abc import Callable
from typing import Any

import torch
from scipy import stats
from transformers import SwitchTransformersConfig
from transformers.models.switch_transformers.modeling_switch_transformers import (
    SwitchTransformersTop1Router,
)

from moe_tutorial.exercises import EXERCISES

Answer = Callable[..., Any]
one_hot = torch.nn.functional.one_hot


def counted_in_a_loop(chosen: torch.Tensor, E: int, C: int) -> torch.Tensor:
    drops = torch.zeros(E)
    for e in chosen.flatten().tolist():
        drops[e] += 1
    return torch.relu(drops - C)


def served_in_a_loop(chosen: torch.Tensor, gates: torch.Tensor, E: int, C: int) -> torch.Tensor:
    room, kept = [C] * E, torch.zeros(chosen.shape)
    pairs = [(t, k) for t in range(len(chosen)) for k in range(chosen.shape[1])]
    for t, k in sorted(pairs, key=lambda pair: -gates[pair].item()):
        if room[chosen[t, k]]:
            room[chosen[t, k]] -= 1
            kept[t, k] = 1
    return kept


def by_comparison(chosen: torch.Tensor, gates: torch.Tensor, _: int, C: int) -> torch.Tensor:
    ids, sizes = chosen.flatten(), gates.flatten()
    ahead = ((ids[:, None] == ids) & (sizes > sizes[:, None])).sum(-1)
    return (ahead < C).view_as(chosen)


def expert_by_expert(chosen: torch.Tensor, gates: torch.Tensor, E: int, C: int) -> torch.Tensor:
    kept = torch.zeros(chosen.numel(), dtype=torch.bool)
    for e in range(E):
        mine = (chosen.flatten() == e).nonzero()[:, 0]
        kept[mine[gates.flatten()[mine].topk(min(C, len(mine))).indices]] = True
    return kept.view_as(chosen)


def positions(chosen: torch.Tensor) -> torch.Tensor:
    return torch.arange(chosen.numel()).view(chosen.shape)


def above_a_bar(_: torch.Tensor, gates: torch.Tensor, E: int, C: int) -> torch.Tensor:
    """The C-th largest gate of all experts together as a bar."""
    kth = gates.flatten().sort(descending=True).values[min(C * E, gates.numel()) - 1]
    return gates >= kth


def sequences_in_a_loop(chosen: torch.Tensor, E: int, C: int) -> list[list[bool]]:
    rows = []
    for row in chosen.tolist():
        seen = [0] * E
        rows.append([])
        for e in row:
            seen[e] += 1
            rows[-1].append(seen[e] <= C)
    return rows


def pmf(n: int, T: int, E: int) -> float:
    return float(stats.binom.pmf(n, T, 1 / E))


RIGHT: dict[str, tuple[Answer, ...]] = {
    "9.1": (
        counted_in_a_loop,
        lambda chosen, E, C: one_hot(chosen, E).sum((0, 1)).sub(C).clamp_min(0),
        lambda chosen, E, C: [max(0, int((chosen == e).sum()) - C) for e in range(E)],
        lambda chosen, E, C: torch.relu(torch.bincount(chosen.reshape(-1), minlength=E) - C).int(),
    ),
    "9.2": (served_in_a_loop, by_comparison, expert_by_expert),
    "9.3": (
        lambda T, E: sum(max(0, n - T // E) * pmf(n, T, E) for n in range(T + 1)) * E / T,
        # What is above is as much as what is below, since the mean is C.
        lambda T, E: sum((T // E - n) * pmf(n, T, E) for n in range(T // E)) * E / T,
        lambda T, E: (
            E / T * torch.tensor([abs(n - T // E) * pmf(n, T, E) / 2 for n in range(T + 1)]).sum()
        ),
        lambda T, E: (
            torch.tensor([max(0, n - T // E) * pmf(n, T, E) for n in range(T + 1)]).sum().item()
            * E
            / T
        ),
        # De Moivre's closed form of the mean absolute deviation.
        lambda T, E: (1 - 1 / E) * (T // E + 1) * pmf(T // E + 1, T, E) * E / T if E > 1 else 0.0,
    ),
    "9.4": (
        sequences_in_a_loop,
        lambda chosen, E, C: (
            (one_hot(chosen, E) * (one_hot(chosen, E).cumsum(-2) <= C)).sum(-1) > 0
        ),
        lambda chosen, E, C: torch.stack([by_order(row, C) for row in chosen]),
        lambda chosen, E, C: (
            one_hot(chosen, E).cumsum(1).gather(-1, chosen[..., None])[..., 0] <= C
        ).float(),
    ),
}


def by_order(row: torch.Tensor, C: int) -> torch.Tensor:
    return ((row[:, None] == row).tril(-1).sum(-1)) < C


# Each with words of its message.
WRONG: dict[str, tuple[tuple[Answer, str], ...]] = {
    "9.1": (
        (lambda chosen, E, C: torch.bincount(chosen.flatten(), minlength=E) - C, "the least is 0"),
        (lambda chosen, E, C: torch.bincount(chosen.flatten(), minlength=E), "the loads"),
        (lambda chosen, E, C: counted_in_a_loop(chosen, E, C).sum(), "one number for each"),
        (lambda chosen, E, C: counted_in_a_loop(chosen[:, 0], E, C), "all K of each token"),
        (lambda chosen, E, C: torch.bincount(chosen.flatten()) - C, "expected"),
        (lambda chosen, E, C: counted_in_a_loop(chosen, E, C) > 0, "expected"),
        (lambda chosen, E, C: counted_in_a_loop(chosen, E, max(0, C - 1)), "one too many"),
        (lambda chosen, E, C: counted_in_a_loop(chosen, E, C - 1), "one too many"),
        (lambda chosen, E, C: counted_in_a_loop(chosen, E, C) / chosen.numel(), "expected"),
        (lambda chosen, E, C: torch.bincount(chosen.flatten()).sub(C).clamp(min=0), "shape (5,)"),
    ),
    "9.2": (
        (above_a_bar, "expected"),
        (lambda c, g, E, C: by_comparison(c, -g, E, C), "smallest gates"),
        (lambda c, g, E, C: by_comparison(c, g.float(), E, C), "expected"),
        (lambda c, g, E, C: ~by_comparison(c, g, E, C), "dropped ones"),
        (lambda c, g, E, C: by_comparison(c, g, E, C + 1), "not C + 1"),
        (lambda c, g, E, C: by_comparison(c, g, E, C - 1), "expected"),
        (lambda c, g, E, C: by_comparison(c.T, -positions(c.T), E, C).T, "first choices"),
        (lambda c, g, E, C: served_in_a_loop(c, -torch.arange(c.numel()).view_as(c), E, C), "posi"),
        (
            lambda c, g, E, C: torch.cat(
                [by_comparison(c[:, k : k + 1], g[:, k : k + 1], E, C) for k in range(c.shape[1])],
                1,
            ),
            "count them together",
        ),
    ),
    "9.3": (
        (lambda T, E: 0.0, "scatter around it"),
        (lambda T, E: RIGHT["9.3"][0](T, E) * T, "number of tokens"),
        (lambda T, E: RIGHT["9.3"][0](T, E) / E, "one expert's part"),
        (lambda T, E: sum(pmf(n, T, E) for n in range(T // E + 1, T + 1)), "overfull"),
        (lambda T, E: (T / E * (1 - 1 / E) / (2 * math.pi)) ** 0.5 * E / T, "expected"),
        (lambda T, E: 1 - (1 - 1 / E) ** T, "expected"),
        (lambda T, E: sum(n * pmf(n, T, E) for n in range(T // E + 1, T + 1)) * E / T, "expected"),
        (
            lambda T, E: sum((n - T // E) * pmf(n, T, E) for n in range(T // E, T)) * E / T,
            "one too early",
        ),
    ),
    "9.4": (
        (lambda c, E, C: by_order(c.flatten(), C).view_as(c), "one queue for the whole batch"),
        (lambda c, E, C: torch.stack([by_order(col, C) for col in c.T], 1), "across the batch"),
        (lambda c, E, C: ~RIGHT["9.4"][2](c, E, C), "dropped ones"),
        (lambda c, E, C: RIGHT["9.4"][2](c, E, C - 1), "stays empty"),
        (lambda c, E, C: one_hot(c, E) * (one_hot(c, E).cumsum(-2) <= C), "one-hot mask"),
        (lambda c, E, C: torch.arange(c.shape[1]).expand(c.shape) < C, "expected"),
        (lambda c, E, C: (one_hot(c, E).cumsum(1) <= C).all(-1), "expected"),
        (lambda c, E, C: (one_hot(c, E).cumsum(1) <= C).any(-1), "expected"),
        (lambda c, E, C: RIGHT["9.4"][2](c.flip(1), E, C).flip(1), "end of each sequence first"),
    ),
}


def test_the_exercise_that_reads_a_library_agrees_with_the_library() -> None:
    """The library chooses from logits, so tokens that are one-hot name their expert."""
    for chosen, E, C in EXERCISES["9.4"].inputs(torch.Generator().manual_seed(7)):
        config = SwitchTransformersConfig(hidden_size=E, num_experts=E, expert_capacity=C)
        router = SwitchTransformersTop1Router(config).eval()
        router.classifier.weight.data.copy_(torch.eye(E))
        kept = router(one_hot(chosen, E).float())[0].sum(-1)
        assert torch.equal(EXERCISES["9.4"].reference(chosen, E, C).long(), kept)
