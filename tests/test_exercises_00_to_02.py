"""The checks of chapters 00 to 02: right answers in other styles pass, wrong ones hear why."""

import math
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import linear, normalize

from moe_tutorial.exercises import EXERCISES, check

Answer = Callable[..., Any]


def cosine_in_a_loop(x: Tensor, w: Tensor, scale: float) -> Tensor:
    rows = [
        [scale * float(u @ v) / math.sqrt(float(u @ u) * float(v @ v)) for v in w]
        for u in x.reshape(-1, x.shape[-1])
    ]
    return torch.tensor(rows).reshape(*x.shape[:-1], len(w))  # float32, torch's default


def by_trying(logits: Tensor, ratio: float) -> Tensor:
    found = []
    for row in logits:
        low, high = 1e-3, 1e5
        for _ in range(200):
            middle = math.sqrt(low * high)
            best, second = torch.log_softmax(row / middle, -1).topk(2).values.tolist()
            low, high = (middle, high) if best - second > math.log(ratio) else (low, middle)
        found.append(low)
    return torch.tensor(found, dtype=torch.float64)


def by_plogp(logits: Tensor) -> Tensor:
    p = torch.softmax(logits, -1)
    return torch.special.entr(p).sum(-1)


RIGHT: dict[str, tuple[Answer, ...]] = {
    "0.1": (
        lambda T, E, K: sum(K for _ in range(T)) / E,
        lambda T, E, K: Fraction(T * K, E),
        lambda T, E, K: torch.tensor(T * K / E),
    ),
    "0.2": (
        lambda config: (
            config["num_experts_per_tok"]
            * sum(
                rows * columns
                for rows, columns in (
                    (config["intermediate_size"], config["hidden_size"]),
                    (config["intermediate_size"], config["hidden_size"]),
                    (config["hidden_size"], config["intermediate_size"]),
                )
            )
            + config["num_local_experts"] * config["hidden_size"]
        ),
        lambda config: float(
            3
            * config["hidden_size"]
            * config["intermediate_size"]
            * config.get("num_experts_per_tok")
            + config["hidden_size"] * config["num_local_experts"]
        ),
        lambda config: np.dot(
            [3 * config["intermediate_size"] * config["num_experts_per_tok"], 1],
            [config["hidden_size"], config["hidden_size"] * config["num_local_experts"]],
        ),
    ),
    "0.3": (
        lambda T, E, K: E * -math.expm1(T * math.log1p(-K / E)) if K < E else E,
        lambda T, E, K: float(E * (1 - (1 - Decimal(K) / E) ** T)),
        lambda T, E, K: sum(1 - math.prod(1 - K / E for _ in range(T)) for _ in range(E)),
    ),
    "1.1": (
        lambda x, w: (x.square().sum(-1, keepdim=True) * w.square().sum(-1)).sqrt(),
        lambda x, w: torch.cdist(x, 0 * x[:1]) @ torch.cdist(0 * w[:1], w),
        lambda x, w: [[math.hypot(*u) * math.hypot(*v) for v in w.tolist()] for u in x.tolist()],
    ),
    "1.2": (
        lambda x, w, s: s * normalize(x, dim=-1) @ normalize(w, dim=-1).T,
        lambda x, w, s: s * (x @ w.T) / (x.norm(dim=-1, keepdim=True) * w.norm(dim=-1) + 1e-8),
        cosine_in_a_loop,
    ),
    "1.3": (
        lambda x, w: torch.einsum("td,ed->te", x, w) - torch.einsum("ed,ed->e", w, w) / 2,
        lambda x, w: linear(x, w, -0.5 * w.norm(dim=1) ** 2),
        lambda x, w: x @ w.T - 0.5 * torch.diagonal(w @ w.T) + 3,
    ),
    "2.1": (
        by_trying,
        lambda logits, ratio: -(logits.topk(2).values.diff(dim=-1).squeeze(-1)) / np.log(ratio),
        lambda logits, ratio: np.diff(np.sort(logits.numpy()))[:, -1] / np.log(ratio),
    ),
    "2.2": (
        by_plogp,
        lambda logits: logits.logsumexp(-1) - (torch.softmax(logits, -1) * logits).sum(-1),
        lambda logits: -torch.special.xlogy(
            torch.softmax(logits, -1), torch.softmax(logits, -1)
        ).sum(-1),
    ),
    "2.3": (
        lambda w, t: torch.stack([row / t for row in w]),
        lambda w, t: w * (1 / t) + torch.ones(w.shape[1]).double(),
        lambda w, t: w.numpy() / t,
        lambda w, t: w * torch.tensor(1 / t),
    ),
}  # fmt: skip

# For each wrong answer, words of the message that it has to earn.
WRONG: dict[str, tuple[tuple[Answer, str], ...]] = {
    "0.1": (
        (lambda T, E, K: round(T * K / E), "do not round"),
        (lambda T, E, K: math.ceil(T * K / E), "round it up"),
        (lambda T, E, K: T // E * K, "expected 0.5"),
        (lambda T, E, K: T * E / K, "changed places"),
        (lambda T, E, K: T / E, "where is K"),
    ),
    "0.2": (
        (
            lambda c: 3 * c["hidden_size"] * c["intermediate_size"] * c["num_experts_per_tok"],
            "router's",
        ),
        (lambda c: c["num_hidden_layers"] * c["hidden_size"], "expected 3.5"),
        (lambda c: c["intermediate_size"] * c["num_local_experts"], "expected 3.5"),
        (
            lambda c: (
                3 * c["hidden_size"] * c["intermediate_size"] * c["num_local_experts"]
                + c["hidden_size"] * c["num_local_experts"]
            ),
            "all the weights of the layer",
        ),
        (
            lambda c: (
                2 * c["hidden_size"] * c["intermediate_size"] * c["num_experts_per_tok"]
                + c["hidden_size"] * c["num_local_experts"]
            ),
            "three matrices here",
        ),
        (
            lambda c: c["hidden_size"] * (3 * c["intermediate_size"] + c["num_local_experts"]),
            "one expert and the router",
        ),
        (
            lambda c: (
                c["num_experts_per_tok"]
                * c["hidden_size"]
                * (3 * c["intermediate_size"] + c["num_local_experts"])
            ),
            "once for each token",
        ),
        (
            lambda c: (
                3 * c["hidden_size"] * c["intermediate_size"] * c["num_experts_per_tok"]
                + c["num_local_experts"]
            ),
            "D weights for each expert",
        ),
    ),
    "0.3": (
        (lambda T, E, K: E * (1 - (1 - 1 / E) ** (T * K)), "differ from each other"),
        (lambda T, E, K: T * K, "expected 8"),
        (lambda T, E, K: min(T * K, E), "share experts"),
        (lambda T, E, K: K / E, "expected 8"),
        (lambda T, E, K: E * (1 - K * (1 - 1 / E) ** T), "expected"),
    ),
    "1.1": (
        (lambda x, w: x @ w.T, "as they lie"),
        (lambda x, w: (x @ w.T).abs(), "expected"),
        (lambda x, w: w.norm(dim=1)[None].repeat(len(x), 1), "tokens of length 1"),
        (lambda x, w: x.norm() * w.norm(dim=1)[None].repeat(len(x), 1), "expected"),
        (lambda x, w: (x.norm(dim=1)[:, None] * w.norm(dim=1)).T, "one row per expert"),
    ),
    "1.2": (
        (lambda x, w, s: s * normalize(x) @ normalize(w).T, "dim=-1"),
        (lambda x, w, s: s * normalize(x, dim=0) @ normalize(w, dim=-1).T, "expected"),
        (lambda x, w, s: normalize(x, dim=-1) @ normalize(w, dim=-1).T, "scale"),
        (lambda x, w, s: s * (x @ w.T) / (x.norm() * w.norm()), "one length for all"),
        (lambda x, w, s: s * (x @ w.T) / (x.norm(dim=-1, keepdim=True) + w.norm(dim=-1)), "exp"),
        (lambda x, w, s: s * (x @ w.T) / (x.norm(dim=-1, keepdim=True) * w.norm(dim=-1) + 1e-5),
         "small added constant"),
    ),
    "1.3": (
        (lambda x, w: -torch.cdist(x, w), "right order"),
        (lambda x, w: -torch.cdist(x, w).square() / 2, "centroid alone"),
        (lambda x, w: -(x[:, None] - w).square().sum(-1), "drop what is the same"),
        (lambda x, w: 2 * x @ w.T - w.square().sum(-1), "twice as large"),
        (lambda x, w: x @ w.T - x.square().sum(-1, keepdim=True) / 2, "expected"),
        (lambda x, w: (x @ w.T - w.square().sum(-1) / 2).softmax(-1), "expected"),
    ),
    "2.1": (
        (lambda z, r: (z.topk(2).values[:, 0] - z.topk(2).values[:, 1]) / r, "logarithm"),
        (lambda z, r: (z[:, 0] - z[:, 1]).abs() / math.log(r), "expected"),
        (lambda z, r: (z.topk(2).values[:, :1] - z.topk(2).values[:, 1:]) / math.log(r), "shape"),
        (lambda z, r: (z.amax(-1) - z.amin(-1)) / math.log(r), "second best"),
        (lambda z, r: z.topk(2).values[:, 0] / math.log(r), "expected"),
        (
            lambda z, r: -z.softmax(-1).topk(2).values.log().diff(dim=-1)[:, 0] / math.log(r),
            "underflows",
        ),
    ),
    "2.2": (
        (lambda z: z.exp().sum(-1).log() - (z.softmax(-1) * z).sum(-1), "overflowed"),
        (lambda z: -(z.softmax(-1) * (z.softmax(-1) + 1e-12).log()).sum(-1), "small constant"),
        (lambda z: -(z.softmax(-1) * (z.softmax(-1) + 1e-8).log()).sum(-1), "small constant"),
        (lambda z: -(z.softmax(-1) * z.softmax(-1).log()).sum(-1), "NaN"),
        (lambda z: -z.log_softmax(-1).mean(-1), "expected"),
        (lambda z: -(z.softmax(-1) * z.log_softmax(-1)).sum(), "a single number"),
    ),
    "2.3": (
        (lambda w, t: w * t, "divide, do not multiply"),
        (lambda w, t: w, "unchanged"),
        (lambda w, t: w / t**2, "one division"),
        (lambda w, t: w / w.norm(dim=-1, keepdim=True) / t, "expected"),
        (lambda w, t: (w.T / t).contiguous(), "shape"),
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("number", "answer"), [(number, answer) for number in RIGHT for answer in RIGHT[number]]
)
def test_a_right_answer_in_another_style_passes(number: str, answer: Answer) -> None:
    assert repr(check(number, answer)) == f"Exercise {number}: correct."


@pytest.mark.parametrize(
    ("number", "answer", "words"),
    [(number, answer, words) for number in WRONG for answer, words in WRONG[number]],
)
def test_a_wrong_answer_hears_what_is_wrong(number: str, answer: Answer, words: str) -> None:
    verdict = check(number, answer)
    assert verdict.status == "wrong"
    assert words in verdict.message


def test_a_count_that_is_nearly_right_is_not_called_rounded() -> None:
    message = check("0.2", lambda c: EXERCISES["0.2"].reference(c) + c["num_hidden_layers"]).message
    assert "expected 3.5" in message
    assert "float32" not in message


@pytest.mark.parametrize("number", WRONG)
def test_each_exercise_is_attacked(number: str) -> None:
    assert len(RIGHT[number]) >= 3
    assert len(WRONG[number]) >= 5
