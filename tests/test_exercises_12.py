"""Answers to chapter 12's exercises as readers write them: right in any style, wrong in many."""

from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from moe_tutorial.exercises import EXERCISES
from moe_tutorial.models.drift import overlap
from moe_tutorial.models.engines import write_llama_cpp
from moe_tutorial.models.questions import hot_set, loads, served
from moe_tutorial.models.traces import Trace, from_ids

Answer = Callable[..., Any]
one_hot = torch.nn.functional.one_hot


def loads_in_loops(experts: torch.Tensor, mask: torch.Tensor, E: int) -> list[float]:
    counts, total = [0] * E, 0
    for row, real in zip(experts.tolist(), mask.tolist(), strict=True):
        for ids, is_real in zip(row, real, strict=True):
            for expert in ids * is_real:
                counts[expert] += 1
                total += 1
    return [count / total for count in counts]


def loads_by_one_hot(experts: torch.Tensor, mask: torch.Tensor, E: int) -> torch.Tensor:
    counts = (one_hot(experts, E).sum(2) * mask[..., None]).sum((0, 1))
    return counts / counts.sum()


def served_by_counter(prompt: torch.Tensor, answer: torch.Tensor, E: int, size: int) -> float:
    counts = Counter(prompt.flatten().tolist())
    hot = sorted(range(E), key=lambda expert: (-counts[expert], expert))[:size]
    ids = answer.flatten().tolist()
    return sum(expert in hot for expert in ids) / len(ids)


def served_by_isin(prompt: torch.Tensor, answer: torch.Tensor, E: int, size: int) -> torch.Tensor:
    counts = torch.bincount(prompt.flatten(), minlength=E)
    hot = torch.argsort(-counts, stable=True)[:size]
    return torch.isin(answer, hot).float().mean()


def overlap_in_sets(a: torch.Tensor, b: torch.Tensor, E: int) -> float:
    T, k = a.shape
    pairs = list(zip(a.tolist(), b.tolist(), strict=True))
    found = sum(len(set(x) & set(y)) for x, y in pairs)
    used = [Counter(it.flatten().tolist()) for it in (a, b)]
    return found / (T * k) - sum(used[0][e] * used[1][e] for e in range(E)) / (T * T * k)


def overlap_by_matrix(a: torch.Tensor, b: torch.Tensor, E: int) -> torch.Tensor:
    p, q = one_hot(a, E).sum(1).double(), one_hot(b, E).sum(1).double()
    every = p @ q.T / a.shape[1]  # of each token of a with each token of b
    return every.diag().mean() - every.mean()


def of_three(a: torch.Tensor, b: torch.Tensor, E: int) -> torch.Tensor:
    found = (a[:, :, None] == b[:, None, :]).any(-1).double().mean()
    counts = [torch.bincount(it.flatten(), minlength=E) / it.numel() for it in (a, b)]
    return found - a.shape[1] * torch.dot(counts[0].double(), counts[1].double())


def parsed_by_dict(text: str, k: int) -> torch.Tensor:
    rows = defaultdict(list)
    for line in text.splitlines():
        layer, expert = line.split(",")
        rows[int(layer)].append(int(expert))
    return torch.stack([torch.tensor(ids).reshape(-1, k) for ids in rows.values()])


def parsed_as_lists(text: str, k: int) -> list[list[list[int]]]:
    table = [[int(it) for it in line.split(",")] for line in text.strip().split("\n")]
    result = []
    for layer in sorted({row[0] for row in table}):
        ids = [row[1] for row in table if row[0] == layer]
        result.append([ids[i : i + k] for i in range(0, len(ids), k)])
    return result


def parsed_by_masks(text: str, k: int) -> torch.Tensor:
    both = torch.tensor([list(map(int, line.split(","))) for line in text.split()])
    return torch.stack([both[both[:, 0] == n, 1].view(-1, k) for n in both[:, 0].unique()])


RIGHT: dict[str, tuple[Answer, ...]] = {
    "12.1": (
        loads_in_loops,
        loads_by_one_hot,
        lambda x, m, E: torch.histc(x[m.bool()].double(), E, 0, E - 1) / (m.sum() * x.shape[2]),
    ),
    "12.2": (
        served_by_counter,
        served_by_isin,
        lambda p, a, E, n: one_hot(a, E).double().mean((0, 1))[
            torch.bincount(p.flatten(), minlength=E).sort(descending=True, stable=True)[1][:n]
        ].sum(),
    ),
    "12.3": (overlap_in_sets, overlap_by_matrix, of_three),
    "12.4": (parsed_by_dict, parsed_as_lists, parsed_by_masks),
}  # fmt: skip

# Each with words of its message.
WRONG: dict[str, tuple[tuple[Answer, str], ...]] = {
    "12.1": (
        (lambda x, m, E: one_hot(x, E).double().mean((0, 1, 2)), "count the padding"),
        (lambda x, m, E: one_hot(x[m == 1], E).sum((0, 1)), "these are counts"),
        (lambda x, m, E: one_hot(x[m == 1], E).double().sum(1).mean(0), "sum to K"),
        (lambda x, m, E: one_hot(x[m == 0], E).double().mean((0, 1)), "of the padding"),
        (lambda x, m, E: one_hot(x[m == 1][:, 0], E).double().mean(0), "only the first expert"),
        (lambda x, m, E: (one_hot(x, E) * m[..., None, None]).double().mean((0, 1, 2)), "not sum"),
        (lambda x, m, E: loads_by_one_hot(x * m[..., None], m * 0 + 1, E), "expected"),
        (
            lambda x, m, E: sum(
                loads_by_one_hot(x[b : b + 1], m[b : b + 1], E) for b in range(len(x))
            ) / len(x),
            "short texts",
        ),
        (lambda x, m, E: 100 * loads_by_one_hot(x, m, E), "expected"),
    ),
    "12.2": (
        (lambda p, a, E, n: served_by_counter(a, a, E, n), "nobody knows beforehand"),
        (lambda p, a, E, n: served_by_counter(p, p, E, n), "made of"),
        (lambda p, a, E, n: n / E, "this is chance"),
        (lambda p, a, E, n: served_by_isin(p, a, E, n) * a.shape[1], "expected"),
        (lambda p, a, E, n: torch.isin(a, p).double().mean(), "expected"),
        (lambda p, a, E, n: served_by_isin(p, a, E, n + 1), "expected"),
        (lambda p, a, E, n: served_by_isin(torch.cat([p, a]), a, E, n), "beforehand"),
        (
            lambda p, a, E, n: torch.isin(
                a, (torch.bincount(p.flatten(), minlength=E) * E + torch.arange(E)).topk(n)[1]
            ).double().mean(),
            "higher ids",
        ),
        (
            lambda p, a, E, n: torch.isin(
                a, torch.bincount(p.flatten(), minlength=E).sort(stable=True)[1][:n]
            ).double().mean(),
            "idlest",
        ),
    ),
    "12.3": (
        (lambda a, b, E: (a[:, :, None] == b[:, None]).any(-1).double().mean(), "overlap itself"),
        (
            lambda a, b, E: (a[:, :, None] == b[:, None]).any(-1).double().mean() - a.shape[1] / E,
            "loads are equal",
        ),
        (lambda a, b, E: a.shape[1] * overlap_in_sets(a, b, E), "divide by K"),
        (lambda a, b, E: (a == b).double().mean(), "expected"),
        (lambda a, b, E: overlap_in_sets(a, a, E), "expected"),
        (lambda a, b, E: -overlap_in_sets(a, b, E), "expected"),
        (lambda a, b, E: (a[:, :, None] == b[:, None]).any(-1).any(-1).double().mean(), "expected"),
        (lambda a, b, E: overlap_in_sets(a, b, E) / (1 - a.shape[1] / E), "expected"),
    ),
    "12.4": (
        (
            lambda text, k: torch.tensor([int(it.split(",")[1]) for it in text.split()]).view(
                len({it.split(",")[0] for it in text.split()}), -1, k
            ),
            "one pass",
        ),
        (lambda text, k: parsed_by_dict(text, k).movedim(1, 0), "layer's"),
        (lambda text, k: parsed_by_masks(text, k).sort(-1)[0], "these are sorted"),
        (lambda text, k: parsed_by_masks(text, k).flip(-1), "expected"),
        (lambda text, k: parsed_by_dict(text, k).flatten(0, 1), "expected"),
        (lambda text, k: parsed_by_masks(text, k).transpose(1, 2), "expected"),
        (lambda text, k: parsed_by_masks(text, k).flip(0), "expected"),
        (lambda text, k: parsed_by_masks(text, k).double(), "dtype"),
    ),
}  # fmt: skip


def in_a_trace(ids_TK: torch.Tensor, E: int) -> Trace:
    return from_ids(ids_TK[None], E, ["layer 0"], tokens_T=torch.zeros(len(ids_TK)))


def test_the_references_agree_with_the_package(tmp_path: Path) -> None:
    inputs = {n: EXERCISES[n].inputs(torch.Generator().manual_seed(3)) for n in RIGHT}
    for experts, mask, E in inputs["12.1"]:
        counts = loads(in_a_trace(experts[mask == 1], E))[0].double()
        reference = EXERCISES["12.1"].reference(experts, mask, E)
        assert torch.allclose(reference, counts / counts.sum())
    for prompt, answer, E, size in inputs["12.2"]:
        hot = hot_set(in_a_trace(prompt, E), size)
        expected = served(hot, in_a_trace(answer, E)).found_L[0]
        assert torch.allclose(EXERCISES["12.2"].reference(prompt, answer, E, size), expected)
    for a, b, E in inputs["12.3"]:
        both = overlap(in_a_trace(a, E), in_a_trace(b, E))
        expected = both.found_L[0] - both.chance_L[0]
        assert torch.allclose(EXERCISES["12.3"].reference(a, b, E), expected)
    ids = torch.stack([inputs["12.2"][1][0], inputs["12.2"][1][0].flip(0)])
    write_llama_cpp(from_ids(ids, 16, ["layer 0", "layer 1"]), tmp_path / "trace.csv")
    text = (tmp_path / "trace.csv").read_text("ascii")
    assert torch.equal(EXERCISES["12.4"].reference(text, 4), ids)
