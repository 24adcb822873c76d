"""Chapter 07's checks: right answers in other styles pass, wrong ones are told what is wrong."""

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from moe_tutorial.exercises import check

Answer = Callable[..., Any]


def by_hand(chosen: Tensor, weights: int, peak: float, reading: float) -> float:
    experts = {e for row in chosen.tolist() for e in row}
    multiplying = sum(2 * weights for _ in range(chosen.numel())) / peak
    waiting = 4 * weights * len(experts) / reading
    return multiplying if multiplying > waiting else waiting


def one_by_one(chosen: Tensor, E: int, size: int) -> list[int]:
    rows = [0] * E
    filled = [0] * E
    for e in chosen.flatten().tolist():
        if filled[e] == rows[e]:
            rows[e] += size
        filled[e] += 1
    return rows


def with_a_loop(rows: Tensor, chosen: Tensor) -> Tensor:
    outputs = torch.zeros(*chosen.shape, rows.shape[1], dtype=rows.dtype)
    queue = iter(rows)
    for e in range(int(chosen.max()) + 1):
        for t, k in (chosen == e).nonzero().tolist():
            outputs[t, k] = next(queue)
    return outputs


RIGHT: list[tuple[str, Answer]] = [
    ("7.1", by_hand),
    (
        "7.1",
        lambda c, w, p, r: np.maximum(
            2 * w * c.numel() / p, 4 * w * len(set(c.flatten().tolist())) / r
        ),
    ),
    (
        "7.1",
        lambda c, w, p, r: torch.maximum(
            torch.tensor(2.0 * w * c.numel() / p), torch.tensor(4.0 * w * c.unique().numel() / r)
        ),
    ),
    (
        "7.1",
        lambda c, w, p, r: max(
            w * c.numel() / (p / 2), w * int((c.flatten().bincount() > 0).sum()) / (r / 4)
        ),
    ),
    (
        "7.1",
        lambda c, w, p, r: np.float32(
            max(2 * w * c.numel() / p, 4 * w * np.unique(c.numpy()).size / r)
        ),
    ),
    ("7.2", one_by_one),
    ("7.2", lambda c, E, s: (-(-np.bincount(c.flatten(), minlength=E) // s) * s).astype(np.int32)),
    ("7.2", lambda c, E, s: -(-c.flatten().bincount(minlength=E) // s) * s),
    ("7.2", lambda c, E, s: [s * math.ceil(c.flatten().tolist().count(e) / s) for e in range(E)]),
    ("7.2", lambda c, E, s: (torch.nn.functional.one_hot(c, E).sum((0, 1)) / s).ceil().long() * s),
    ("7.3", with_a_loop),
    ("7.3", lambda rows, c: rows[c.flatten().argsort(stable=True).argsort()].reshape(*c.shape, -1)),
    (
        "7.3",
        lambda rows, c: rows.numpy()[np.argsort(np.argsort(c.flatten(), kind="stable"))].reshape(
            *c.shape, -1
        ),
    ),
    (
        "7.3",
        lambda rows, c: (
            torch.zeros_like(rows)
            .index_add(0, c.flatten().sort(stable=True).indices, rows)
            .view(*c.shape, -1)
        ),
    ),
    (
        "7.3",
        lambda rows, c: (
            torch.empty_like(rows)
            .scatter(0, c.flatten().argsort(stable=True)[:, None].expand_as(rows), rows)
            .view(*c.shape, -1)
            .float()
        ),
    ),
    ("7.4", lambda v: functools.reduce(lambda total, value: total + value, v)),
    ("7.4", lambda v: np.add.accumulate(v.numpy())[-1]),
    ("7.4", lambda v: list(itertools.accumulate(v))[-1]),
    ("7.4", lambda v: sum(v, torch.tensor(0.0))),
]

# Each with a part of the message that it must get.
WRONG: list[tuple[str, Answer, str]] = [
    (
        "7.1",
        lambda c, w, p, r: 2 * w * c.numel() / p + 4 * w * len(c.unique()) / r,
        "at the same time",
    ),
    (
        "7.1",
        lambda c, w, p, r: max(2 * w * c.numel() / p, 4 * w * c.numel() / r),
        "count the experts",
    ),
    (
        "7.1",
        lambda c, w, p, r: max(2 * w * c.numel() / p, 4 * w * (1 + c.max().item()) / r),
        "not read",
    ),
    ("7.1", lambda c, w, p, r: max(2 * w * c.numel() / p, w * len(c.unique()) / r), "four"),
    ("7.1", lambda c, w, p, r: min(2 * w * c.numel() / p, 4 * w * len(c.unique()) / r), "slower"),
    ("7.1", lambda c, w, p, r: 2 * w * c.numel() / p, "expected"),
    ("7.1", lambda c, w, p, r: 4 * w * len(c.unique()) / r, "expected"),
    ("7.1", lambda c, w, p, r: max(2 * w * c.numel() / p, 2 * w * len(c.unique()) / r), "bfloat16"),
    (
        "7.1",
        lambda c, w, p, r: max(2 * w * c.numel() / p, 4 * w * len(set(map(tuple, c.tolist()))) / r),
        "different experts",
    ),
    (
        "7.1",
        lambda c, w, p, r: sum(
            max(2 * w * n / p, 4 * w / r) for n in c.flatten().bincount().tolist() if n
        ),
        "two totals",
    ),
    ("7.1", lambda c, w, p, r: max(2 * w * c.numel() // p, 4 * w * len(c.unique()) // r), "got"),
    ("7.2", lambda c, E, s: torch.bincount(c.flatten(), minlength=E), "before padding"),
    ("7.2", lambda c, E, s: c.flatten().bincount(minlength=E) // s * s + s, "full block"),
    ("7.2", lambda c, E, s: [max(s, n) for n in one_by_one(c, E, s)], "needs no block"),
    ("7.2", lambda c, E, s: [n // s for n in one_by_one(c, E, s)], "blocks"),
    ("7.2", lambda c, E, s: sum(one_by_one(c, E, s)), "each expert"),
    ("7.2", lambda c, E, s: one_by_one(c, int(c.max()) + 1, s), "there are E"),
    ("7.2", lambda c, E, s: np.cumsum(one_by_one(c, E, s)), "ends of the blocks"),
    ("7.2", lambda c, E, s: one_by_one(c[:, :1], E, s), "first choices alone"),
    ("7.2", lambda c, E, s: [*one_by_one(c, E, s)[1:], 0], "expected"),
    ("7.2", lambda c, E, s: [max(one_by_one(c, E, s))] * E, "expected"),
    (
        "7.3",
        lambda rows, c: rows[c.flatten().argsort(stable=True)].view(*c.shape, -1),
        "second time",
    ),
    ("7.3", lambda rows, c: rows.reshape(*c.shape, -1), "order of the experts"),
    ("7.3", lambda rows, c: with_a_loop(rows, c).sum(1), "K rows of a token apart"),
    ("7.3", lambda rows, c: with_a_loop(rows, c).flatten(0, 1), "shape [T, K, D]"),
    ("7.3", lambda rows, c: with_a_loop(rows, c.sort(-1).values), "k-th choice"),
    ("7.3", lambda rows, c: with_a_loop(rows, c).flip(0), "expected"),
    ("7.3", lambda rows, c: with_a_loop(rows, c).squeeze(), "shape"),
    ("7.3", lambda rows, c: with_a_loop(rows, c).mean(1), "shape"),
    ("7.3", lambda rows, c: with_a_loop(rows, c).transpose(0, 1), "shape"),
    # Not stable: the tokens of a block come in the opposite order.
    ("7.3", lambda rows, c: with_a_loop(rows, c.flip(0)).flip(0), "expected"),
    ("7.4", lambda v: math.fsum(v.tolist()), "exact sum"),
    ("7.4", lambda v: v.cumsum(0)[-1], "only the result was rounded"),
    ("7.4", lambda v: torch.sum(v), "torch.sum"),
    ("7.4", lambda v: v.numpy().sum(), "NumPy's sum"),
    ("7.4", lambda v: v[::2].sum() + v[1::2].sum(), "expected"),
    ("7.4", lambda v: sum(v.bfloat16()), "expected"),
    ("7.4", lambda v: sum(v[1:]), "expected"),
    ("7.4", lambda v: np.add.accumulate(v.flip(0).numpy())[-1], "wrong end"),
    ("7.4", lambda v: np.add.accumulate(v.sort().values.numpy())[-1], "not sorted"),
    ("7.4", lambda v: np.add.accumulate(v.double().numpy())[-1], "exact sum"),
]


@pytest.mark.parametrize(("number", "answer"), RIGHT)
def test_right_answers_in_other_styles_pass(number: str, answer: Answer) -> None:
    assert check(number, answer).status == "correct", check(number, answer)


@pytest.mark.parametrize(("number", "answer", "part"), WRONG)
def test_wrong_answers_hear_what_is_wrong(number: str, answer: Answer, part: str) -> None:
    verdict = check(number, answer)
    assert verdict.status == "wrong"
    assert part in verdict.message
