"""Answers to chapter 10's exercises as readers write them: right in any style, wrong in many."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import MixtralConfig, MixtralForCausalLM

from moe_tutorial.exercises import EXERCISES

Answer = Callable[..., Any]
F = torch.nn.functional


def one_by_one(logits: torch.Tensor, targets: torch.Tensor) -> float:
    bits = 0.0
    for row, target in zip(logits.tolist(), targets.tolist(), strict=True):
        top = max(row)
        log_sum = top + math.log(sum(math.exp(logit - top) for logit in row))
        bits += (log_sum - row[target]) / math.log(2)
    return bits / len(targets)


def matrices(D: int, F: int, E: int, K: int) -> int:
    expert = [(D, F // K), (D, F // K), (F // K, D)]
    return sum(rows * columns for rows, columns in expert * E) + E * D


RIGHT: dict[str, tuple[Answer, ...]] = {
    "10.1": (
        one_by_one,
        lambda logits, targets: F.cross_entropy(logits, targets) / torch.log(torch.tensor(2.0)),
        lambda x, y: -x.log_softmax(1)[range(len(y)), y].mean() / math.log(2),
        lambda logits, targets: F.cross_entropy(logits, targets) * math.log2(math.e),
        lambda logits, targets: F.nll_loss(logits.float().log_softmax(-1), targets) / math.log(2),
    ),
    "10.2": (
        matrices,
        lambda D, F, E, K: E * D * (3 * F // K + 1),
        lambda D, F, E, K: float(D * E * (1 + 3 * F / K)),
    ),
    "10.3": (
        lambda a, b: (a - b).mean() / ((a - b).var() / len(a)).sqrt(),
        lambda a, b: (a - b).sum() / (len(a) * (a - b).var()).sqrt(),
        lambda a, b: (a.mean() - b.mean()) / (torch.std(a - b) / math.sqrt(len(b))),
    ),
    "10.4": (
        lambda loss, aux, coefficient: (loss - aux * coefficient) * math.log2(math.e),
        lambda loss, aux, coefficient: (loss - coefficient * aux) / torch.log(torch.tensor(2.0)),
        lambda loss, aux, coefficient: math.log(math.exp(loss - aux * coefficient), 2),
    ),
}  # fmt: skip

# Each with words of its message.
WRONG: dict[str, tuple[tuple[Answer, str], ...]] = {
    "10.1": (
        (F.cross_entropy, "these are nats"),
        (lambda x, y: F.cross_entropy(x, y, reduction="sum") / math.log(2), "whole text"),
        (lambda x, y: -x.softmax(-1).gather(1, y[:, None]).mean().log2(), "average the surprises"),
        (lambda x, y: -x.gather(1, y[:, None]).mean() / math.log(2), "these are logits"),
        (lambda x, y: -(x.softmax(-1).gather(1, y[:, None]) + 1e-9).log2().mean(), "expected"),
        (lambda x, y: F.cross_entropy(x, y) * math.log(2), "expected"),
        (
            lambda x, y: -(x.exp().gather(1, y[:, None])[:, 0] / x.exp().sum(1)).log2().mean(),
            "to 0",
        ),
        (lambda x, y: 2 ** (F.cross_entropy(x, y) / math.log(2)), "perplexity"),
        (lambda x, y: -x.log_softmax(0)[range(len(y)), y].mean() / math.log(2), "last dimension"),
        (lambda x, y: F.cross_entropy(x[:-1], y[1:]) / math.log(2), "expected"),
        (lambda x, y: F.cross_entropy(x.clamp(-50, 50), y) / math.log(2), "expected"),
    ),
    "10.2": (
        (lambda D, F, E, K: 3 * D * F * E + D * E, "as wide as the dense layer"),
        (lambda D, F, E, K: 3 * D * F // K * E, "the router is stored"),
        (lambda D, F, E, K: 3 * D * F + D * E, "a token uses"),
        (lambda D, F, E, K: 2 * D * (F // K) * E + D * E, "three matrices"),
        (lambda D, F, E, K: 3 * D * (F // K) * E + D * K, "not only for the K"),
        (lambda D, F, E, K: 3 * D * (F // K) * E + E, "D numbers"),
        (lambda D, F, E, K: E * (3 * D * (F // K) + 2 * (F // K) + D) + D * E, "no biases"),
        (lambda D, F, E, K: 3 * D * (F // K) * E + D * E + 1, "expected"),
    ),
    "10.3": (
        (lambda a, b: (a.mean() - b.mean()) / ((a.var() + b.var()) / len(a)) ** 0.5, "unrelated"),
        (lambda a, b: (a - b).mean() / (a - b).std(), "spreads of one seed"),
        (lambda a, b: (b - a).mean() / ((b - a).std() / len(a) ** 0.5), "other way round"),
        (lambda a, b: (a - b).mean() / ((a - b).std(correction=0) / len(a) ** 0.5), "n - 1"),
        (lambda a, b: (a - b).mean(), "mean difference"),
        (lambda a, b: (a - b).mean() / ((a - b).std() / len(a)), "root of n"),
        (lambda a, b: (a - b).mean() * len(a) / (a - b).var(), "take the root"),
        (lambda a, b: ((a - b).mean() / ((a - b).std() / len(a) ** 0.5)).abs(), "has a sign"),
        (lambda a, b: (a - b).mean() / ((a - b).std() / (len(a) - 1) ** 0.5), "expected"),
    ),
    "10.4": (
        (lambda loss, aux, c: loss - c * aux, "nats"),
        (lambda loss, aux, c: loss / math.log(2), "still in it"),
        (lambda loss, aux, c: (loss - aux) / math.log(2), "its coefficient"),
        (lambda loss, aux, c: (loss + c * aux) / math.log(2), "do not add it again"),
        (lambda loss, aux, c: loss / math.log(2) - c * aux, "while both are nats"),
        (lambda loss, aux, c: 2**loss, "expected"),
        (lambda loss, aux, c: (loss - 0.02 * aux) / math.log(2), "expected"),
        (lambda loss, aux, c: (loss - 2 * c * aux) / math.log(2), "expected"),
    ),
}


def test_the_exercise_that_reads_a_library_agrees_with_the_library() -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2, "vocab_size": 11}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    model = MixtralForCausalLM(MixtralConfig(**sizes, **heads)).eval()
    tokens = torch.randint(11, (3, 9))
    with torch.no_grad():
        logged = model(tokens, labels=tokens, output_router_logits=True)
    targets = tokens[:, 1:].flatten()
    bits = F.cross_entropy(logged.logits[:, :-1].flatten(0, 1), targets).item() / math.log(2)
    arguments = logged.loss.item(), logged.aux_loss.item(), model.router_aux_loss_coef
    assert EXERCISES["10.4"].reference(*arguments) == pytest.approx(bits, rel=1e-5)
