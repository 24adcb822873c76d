"""Answers to chapter 11's exercises as readers write them: right in any style, wrong in many."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from moe_tutorial import Groups, RouterConfig, limit_to_groups, route, scatter_gates
from moe_tutorial.exercises.chapter_11 import LFM2
from moe_tutorial.models import zoo
from tests.answers_zoo import group_limited, lfm2, llama, which

Answer = Callable[..., Any]
SIGMOID = RouterConfig(4, "sigmoid", epsilon=1e-6)


def dense(logits: Tensor, config: RouterConfig, bias: Tensor | None) -> Tensor:
    routing = route(logits, config, bias_E=bias)
    return scatter_gates(routing.gates_TK, routing.experts_TK, logits.shape[-1])


def in_a_loop(logits: Tensor, bias: Tensor) -> Tensor:
    gates = torch.zeros_like(logits)
    for t, row in enumerate(logits.sigmoid()):
        best = (row + bias).argsort(descending=True)[:4]
        gates[t, best] = row[best] / (row[best].sum() + 1e-6)
    return gates


def by_viewing(scores: Tensor, number: int, kept: int, k: int) -> Tensor:
    grouped = scores.unflatten(-1, (number, -1))
    best = grouped.topk(2, dim=-1).values.sum(-1).topk(kept).indices
    outside = torch.ones(len(scores), number, dtype=torch.bool).scatter(1, best, False)
    masked = grouped.masked_fill(outside[..., None], -torch.inf).flatten(1)
    return torch.zeros_like(scores, dtype=torch.bool).scatter(1, masked.topk(k).indices, True)


def with_the_package(scores: Tensor, number: int, kept: int, k: int) -> Tensor:
    chosen = limit_to_groups(scores, Groups(number, kept)).topk(k).indices
    return functional.one_hot(chosen, scores.shape[-1]).sum(-2).bool()


def filled(value: float) -> Answer:
    def answer(scores: Tensor, number: int, kept: int, k: int) -> Tensor:
        limited = limit_to_groups(scores, Groups(number, kept)).clamp(min=-1e9)
        limited[limited == -1e9] = value
        return torch.zeros_like(scores).scatter(1, limited.topk(k).indices, 1).bool()

    return answer


def gates_of(logits: Tensor, k: int) -> Tensor:
    chosen = logits.topk(k).indices
    return torch.zeros_like(logits).scatter(1, chosen, logits.sigmoid().gather(1, chosen))


def by_expert(x: Tensor, logits: Tensor, k: int, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    weights = gates_of(logits, k)
    y = torch.zeros_like(x)
    for e in range(len(gate)):
        u = weights[:, e : e + 1] * x
        y += (functional.silu(u @ gate[e].T) * (u @ up[e].T)) @ down[e].T
    return y


def by_einsum(x: Tensor, logits: Tensor, k: int, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    u = torch.einsum("te,td->etd", gates_of(logits, k), x)
    return (((functional.silu(u @ gate.mT)) * (u @ up.mT)) @ down.mT).sum(0)


def weighed_outputs(
    x: Tensor, logits: Tensor, k: int, gate: Tensor, up: Tensor, down: Tensor
) -> Tensor:
    each = ((functional.silu(x @ gate.mT)) * (x @ up.mT)) @ down.mT
    return torch.einsum("te,etd->td", gates_of(logits, k), each)


RIGHT: dict[str, tuple[Answer, ...]] = {
    "11.1": (lambda logits, bias: dense(logits, SIGMOID, bias), in_a_loop, lfm2),
    "11.2": (group_limited, by_viewing, with_the_package),
    "11.3": (by_expert, by_einsum, llama),
    "11.4": (
        which,
        lambda s, g: (
            [0.0, float((g / s).mean())]
            if torch.allclose(g / s, (g / s)[0, 0].expand_as(g))
            else [1.0, float(g.sum(-1).median())]
        ),
        lambda s, g: torch.stack(
            [
                ((g / s).std() > 1e-9).double(),
                torch.where((g / s).std() > 1e-9, g.sum(-1).mean(), (g / s).mean()),
            ]
        ),
    ),
}

# Each with words of its message.
WRONG: dict[str, tuple[tuple[Answer, str], ...]] = {
    "11.1": (
        (lambda logits, bias: dense(logits, SIGMOID, None), "bias has no effect"),
        (lambda logits, bias: dense(logits, RouterConfig(4, "sigmoid"), bias), "adds 1e-6"),
        (lambda logits, bias: dense(logits, RouterConfig(4), bias), "a softmax"),
        (
            lambda logits, bias: dense(logits, RouterConfig(4, "sigmoid", renormalise=False), bias),
            "as they are",
        ),
        (lambda logits, bias: in_a_loop(logits + bias, 0 * bias), "not on the logits"),
        (lambda logits, bias: dense(logits, RouterConfig(2, "sigmoid"), bias), "expected"),
        (lambda logits, bias: route(logits, SIGMOID, bias_E=bias).gates_TK, "shape"),
        (lambda logits, bias: route(logits, SIGMOID, bias_E=bias), "cannot be compared"),
    ),
    "11.2": (
        (lambda s, n, kept, k: by_viewing(s, 1, 1, k), "no effect"),
        (filled(0.0), "beats a negative score"),
        (filled(-1.0), "expected"),
        (lambda s, n, kept, k: limit_to_groups(s, Groups(n, kept)).isfinite(), "the K best"),
        (lambda s, n, kept, k: with_the_package(-s, n, kept, k), "expected"),
        (lambda s, n, kept, k: by_viewing(s, n, n, k), "no effect"),
        (lambda s, n, kept, k: limit_to_groups(s, Groups(n, kept)).topk(k).indices, "shape"),
        (
            lambda s, n, kept, k: (
                limit_to_groups(s, Groups(n, kept, 1)).topk(k).indices[..., None]
                == torch.arange(s.shape[1])
            ).any(1),
            "best expert alone",
        ),
    ),
    "11.3": (
        (weighed_outputs, "weigh the outputs"),
        (lambda x, logits, k, *w: by_expert(x, logits, logits.shape[1], *w), "every expert"),
        (lambda x, logits, k, *w: by_einsum(x, logits * 1e6, k, *w), "expected"),
        (lambda x, logits, k, *w: by_expert(x, logits, k, w[1], w[0], w[2]), "expected"),
        (lambda x, logits, k, *w: by_einsum(x, logits, 1, *w), "expected"),
        (lambda x, logits, k, *w: by_expert(x, logits, k, *w).sum(0), "shape"),
    ),
    "11.4": (
        (lambda s, g: [1, g.sum(-1).mean().item()], "not every router divides"),
        (lambda s, g: [0, (g[0, 0] / s[0, 0]).item()], "compare several tokens"),
        (lambda s, g: [1 - which(s, g)[0], which(s, g)[1]], "wrong way round"),
        (lambda s, g: [which(s, g)[0], g.sum(-1).mean().item()], "sum of their scores"),
        (lambda s, g: [which(s, g)[0], 1], "expected"),
        (lambda s, g: which(s, g)[1], "shape"),
    ),
}


def test_the_router_that_is_read_is_the_one_of_the_zoo() -> None:
    assert zoo.ROUTERS["lfm2_moe"].config == LFM2
    assert zoo.ROUTERS["lfm2_moe"].selection_bias
    llama4 = zoo.ROUTERS["llama4"]
    assert (llama4.config.probability, llama4.config.renormalise) == ("sigmoid", False)
    assert llama4.gates_on == "input"
