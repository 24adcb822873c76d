"""Answers to chapter 13's exercises as readers write them: right in any style, wrong in many."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torchmetrics.functional.retrieval import retrieval_normalized_dcg

from moe_tutorial.exercises import EXERCISES
from moe_tutorial.learning.specialisation import mutual_information

Answer = Callable[..., Any]
Tensor = torch.Tensor


def split_in_a_loop(seconds: Tensor, share: float) -> list[bool]:
    ordered = sorted(int(second) for second in seconds)
    cut = ordered[int(share * len(ordered))]
    return [int(second) < cut for second in seconds]


def split_by_kth(seconds: Tensor, share: float) -> Tensor:
    cut = seconds.kthvalue(int(share * len(seconds)) + 1).values
    return torch.where(seconds < cut, True, False)


def split_by_search(seconds: Tensor, share: float) -> Tensor:
    ordered, order = seconds.sort()
    first = torch.searchsorted(ordered, ordered[int(share * len(seconds))])
    return torch.zeros(len(seconds)).scatter(0, order[:first], 1).bool()


def split_in_numpy(seconds: Tensor, share: float) -> Any:
    return seconds.numpy() < np.sort(seconds.numpy())[int(share * len(seconds))]


def gates_in_loops(f: Tensor, logits: Tensor, k: int) -> Tensor:
    y = torch.zeros(2, len(f), f.shape[2], dtype=torch.float64)
    for task in range(2):
        for t in range(len(f)):
            values, chosen = logits[task, t].topk(k)
            weights = torch.exp(values) / torch.exp(values).sum()
            for weight, e in zip(weights, chosen, strict=True):
                y[task, t] += weight * f[t, e]
    return y


def gates_by_gather(f: Tensor, logits: Tensor, k: int) -> Tensor:
    p, experts = logits.softmax(-1).topk(k)
    p = p / p.sum(-1, keepdim=True)
    rows = torch.arange(len(f))[None, :, None]
    return (p[..., None] * f[rows, experts]).sum(2)


def beyond_by_joint(counts: Tensor, script: Tensor) -> Tensor:
    p = counts.double() / counts.sum()
    total = torch.zeros((), dtype=torch.float64)
    for i in range(len(script)):
        same = script == script[i]
        for e in range(counts.shape[1]):
            together = p[i, e] * p[same].sum() / (p[i].sum() * p[same, e].sum())
            total += p[i, e] * together.log()
    return total


def beyond_by_package(counts: Tensor, script: Tensor) -> Tensor:
    whole = counts.sum()
    return torch.stack([
        mutual_information(counts[script == s]) * counts[script == s].sum() / whole
        for s in script.unique()
    ]).sum()  # fmt: skip


def ndcg_in_loops(scores: Tensor, seen: Tensor, ahead: Tensor, n: int) -> float:
    free = [i for i in range(len(scores)) if not bool(seen[i])]
    free.sort(key=lambda i: -float(scores[i]))
    wanted = set(ahead.tolist())
    found = sum(1 / math.log2(place + 1) for place, i in enumerate(free[:n], 1) if i in wanted)
    return found / sum(1 / math.log2(place + 1) for place in range(1, min(n, len(wanted)) + 1))


def ndcg_by_library(scores: Tensor, seen: Tensor, ahead: Tensor, n: int) -> Tensor:
    target = torch.zeros(len(scores), dtype=torch.bool)
    target[ahead] = True
    return retrieval_normalized_dcg(scores[~seen], target[~seen], top_k=n)


def ndcg_by_rank(scores: Tensor, seen: Tensor, ahead: Tensor, n: int) -> Tensor:
    rank = scores.float().masked_fill(seen, -torch.inf).argsort(descending=True).argsort()
    found = (1 / (rank[ahead] + 2.0).log2() * (rank[ahead] < n)).sum()
    return found / (1 / (torch.arange(min(n, len(ahead))) + 2.0).log2()).sum()


def ndcg_cut_too_early(scores: Tensor, seen: Tensor, ahead: Tensor, n: int) -> Tensor:
    first = scores.argsort(descending=True)[:n]
    scores = torch.full_like(scores, -torch.inf).index_put((first,), scores[first])
    left = int((~seen[first]).sum())
    return torch.tensor(ndcg_in_loops(scores, seen, ahead, left)) * (
        sum(1 / math.log2(p + 2) for p in range(min(left, len(ahead))))
        / sum(1 / math.log2(p + 2) for p in range(min(n, len(ahead))))
    )


RIGHT: dict[str, tuple[Answer, ...]] = {
    "13.1": (split_in_a_loop, split_by_kth, split_by_search, split_in_numpy),
    "13.2": (
        gates_in_loops,
        gates_by_gather,
        lambda f, logits, k: [gates_by_gather(f, logits[[task] * 2], k)[0] for task in (0, 1)],
    ),
    "13.3": (
        beyond_by_joint,
        beyond_by_package,
        lambda c, s: mutual_information(c) - mutual_information(
            torch.stack([c[s == i].sum(0) for i in s.unique()])
        ),
    ),
    "13.4": (
        ndcg_in_loops,
        ndcg_by_library,
        ndcg_by_rank,
        lambda scores, seen, ahead, n: ndcg_in_loops(scores - 1e9 * seen, seen * 0, ahead, n),
    ),
}  # fmt: skip

# Each with words of its message.
WRONG: dict[str, tuple[tuple[Answer, str], ...]] = {
    "13.1": (
        (
            lambda s, share: s.argsort(stable=True).argsort() < int(share * len(s)),
            "on both sides of this cut",
        ),
        (lambda s, share: ~split_by_kth(s, share), "later part: True"),
        (
            lambda s, share: s <= s.kthvalue(int(share * len(s)) + 1).values,
            "belongs to the later part",
        ),
        (lambda s, share: torch.arange(len(s)) < int(share * len(s)), "in no order of time"),
        (lambda s, share: split_by_kth(s, share).nonzero()[:, 0], "expected shape"),
        (lambda s, share: split_by_kth(s, 1 - share), "expected"),
        (lambda s, share: s < s.sort().values[int(share * len(s)) - 1], "expected"),
        (lambda s, share: s < s.sort().values[int(share * len(s)) + 1], "expected"),
        (lambda s, share: s < torch.quantile(s.double(), share), "expected"),
    ),
    "13.2": (
        (lambda f, g, k: gates_by_gather(f, g, f.shape[1]), "all experts take part"),
        (lambda f, g, k: gates_by_gather(f, g[[0, 0]], k), "first one's gate"),
        (lambda f, g, k: gates_by_gather(f, g[[1, 1]], k), "second one's gate"),
        (lambda f, g, k: gates_by_gather(f, g, k).sum(0), "are added up"),
        (lambda f, g, k: gates_by_gather(f, -g, k), "smallest logits"),
        (lambda f, g, k: gates_by_gather(f, g, k).flip(0), "expected"),
        (lambda f, g, k: gates_by_gather(f, g.softmax(-1), k), "expected"),
        (lambda f, g, k: gates_by_gather(f, g, k).transpose(0, 1), "expected shape"),
        (lambda f, g, k: gates_by_gather(f, g, k).mean(0, keepdim=True).expand(2, -1, -1),
         "expected"),
    ),
    "13.3": (
        (lambda c, s: mutual_information(c), "take off what"),
        (lambda c, s: mutual_information(c) - beyond_by_package(c, s), "does the language add"),
        (lambda c, s: beyond_by_package(c, s) / math.log(2), "bits"),
        (lambda c, s: -beyond_by_package(c, s), "the other way round"),
        (lambda c, s: sum(mutual_information(c[s == i]) for i in s.unique()), "plain sum"),
        (lambda c, s: mutual_information(c) / 2, "expected"),
        (lambda c, s: beyond_by_package(c / c.sum(1, keepdim=True), s), "expected"),
        (lambda c, s: c.sum(), "expected"),
    ),
    "13.4": (
        (lambda scores, seen, ahead, n: ndcg_in_loops(scores, seen * 0, ahead, n), "were seen"),
        (
            lambda scores, seen, ahead, n: (
                ndcg_in_loops(scores, seen, ahead, n)
                * sum(1 / math.log2(p + 2) for p in range(min(n, len(ahead))))
                / sum(1 / math.log2(p + 2) for p in range(n))
            ),
            "must be worth 1",
        ),
        (lambda scores, seen, ahead, n: ndcg_in_loops(-scores, seen, ahead, n), "lowest scores"),
        (lambda scores, seen, ahead, n: ndcg_in_loops(scores, seen, ahead, 99), "all films"),
        (lambda scores, seen, ahead, n: ndcg_in_loops(scores * ~seen, seen * 0, ahead, n),
         "get the score 0"),
        (lambda scores, seen, ahead, n: (
            ndcg_in_loops(scores, seen, ahead, n)
            * sum(1 / math.log2(p + 2) for p in range(min(n, len(ahead))))
        ), "not divided"),
        (lambda scores, seen, ahead, n: (
            ndcg_in_loops(scores, seen, ahead, n)
            * sum(1 / math.log2(p + 2) for p in range(min(n, len(ahead))))
            / sum(1 / math.log2(p + 2) for p in range(len(ahead)))
        ), "more places than the list"),
        (ndcg_cut_too_early, "expected"),
        (lambda scores, seen, ahead, n: ndcg_in_loops(scores, seen, ahead, n - 1), "expected"),
        (lambda scores, seen, ahead, n: ndcg_in_loops(scores, seen, ahead, n + 1), "expected"),
        (lambda scores, seen, ahead, n: ndcg_in_loops(scores, seen, ahead, n) ** 2, "expected"),
        (lambda scores, seen, ahead, n: torch.tensor(0.5), "expected"),
    ),
}  # fmt: skip


def test_the_references_agree_with_what_others_wrote() -> None:
    for number, others in (("13.3", beyond_by_package), ("13.4", ndcg_by_library)):
        for case in EXERCISES[number].inputs(torch.Generator().manual_seed(5)):
            expected = others(*case).double()
            assert torch.allclose(EXERCISES[number].reference(*case), expected, atol=1e-6)
