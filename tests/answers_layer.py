"""Answers to chapter 06's exercises as readers write them: right in any style, wrong in many."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from transformers import GptOssConfig
from transformers.models.gpt_oss.modeling_gpt_oss import GptOssExperts

from moe_tutorial import FeedForward, Router

Answer = Callable[..., Any]
F = torch.nn.functional


def with_linear_layers(
    u: torch.Tensor, gate: torch.Tensor, up: torch.Tensor, down: torch.Tensor
) -> torch.Tensor:
    return F.linear(F.silu(F.linear(u, gate)) * F.linear(u, up), down)


def with_the_package(
    u: torch.Tensor, gate: torch.Tensor, up: torch.Tensor, down: torch.Tensor
) -> torch.Tensor:
    layer = FeedForward(u.shape[1], len(gate)).double()
    layer.load_state_dict({"into.weight": torch.cat([gate, up]), "out.weight": down})
    return layer(u)


def row_by_row(
    u: torch.Tensor, gate: torch.Tensor, up: torch.Tensor, down: torch.Tensor
) -> list[torch.Tensor]:
    return [down @ (F.silu(gate @ row) * (up @ row)) for row in u]


def with_numpy_in_float32(
    u: torch.Tensor, gate: torch.Tensor, up: torch.Tensor, down: torch.Tensor
) -> Any:
    u_, gate_, up_, down_ = (t.numpy().astype(np.float32) for t in (u, gate, up, down))
    opened = u_ @ gate_.T
    return (opened * (np.tanh(opened / 2) + 1) / 2 * (u_ @ up_.T)) @ down_.T


def with_einsum(
    u: torch.Tensor, gate: torch.Tensor, up: torch.Tensor, down: torch.Tensor
) -> torch.Tensor:
    opened, raised = (torch.einsum("rd,fd->rf", u, weight) for weight in (gate, up))
    return torch.einsum("rf,rf,df->rd", F.silu(opened), raised, down)


def gpt_oss(
    u: torch.Tensor, into: torch.Tensor, bias: torch.Tensor, down: torch.Tensor,
    down_bias: torch.Tensor, alpha: float, limit: float,
) -> torch.Tensor:  # fmt: skip
    gate, up = (u @ into + bias).unflatten(-1, (-1, 2)).unbind(-1)
    gate, up = gate.clamp(max=limit), up.clamp(-limit, limit)
    return gate / (1 + (-alpha * gate).exp()) * (1 + up) @ down + down_bias


def in_the_library(
    u: torch.Tensor, into: torch.Tensor, bias: torch.Tensor, down: torch.Tensor,
    down_bias: torch.Tensor, alpha: float, limit: float,
) -> torch.Tensor:  # fmt: skip
    config = GptOssConfig(hidden_size=len(into), intermediate_size=len(down), num_local_experts=1)
    config._experts_implementation = "eager"
    experts = GptOssExperts(config).double()
    experts.alpha, experts.limit = alpha, limit
    weights = {
        "gate_up_proj": into, "gate_up_proj_bias": bias,
        "down_proj": down, "down_proj_bias": down_bias,
    }  # fmt: skip
    experts.load_state_dict({name: weight[None] for name, weight in weights.items()})
    with torch.no_grad():
        return experts(u, torch.zeros(len(u), 1, dtype=torch.int64), torch.ones(len(u), 1))


def cut_otherwise(
    u: torch.Tensor, into: torch.Tensor, bias: torch.Tensor, down: torch.Tensor,
    down_bias: torch.Tensor, alpha: float, limit: float,
    *, gates: Any = (None, 1), ups: Any = (-1, 1), sooner: int = 0, inside: bool = True,
    scale: bool = False,
) -> torch.Tensor:  # fmt: skip
    def cut(z: torch.Tensor, bounds: Any) -> torch.Tensor:
        low, high = (b and b * limit for b in bounds)
        return z if (low, high) == (None, None) else z.clamp(low, high)

    raw, up = (u @ into + bias)[:, ::2], (u @ into + bias)[:, 1::2]
    gate, up = cut(raw, gates), cut(up + sooner, ups) + 1 - sooner
    opened = gate * torch.sigmoid(alpha * (gate if inside else raw))
    return (alpha if scale else 1) * opened * up @ down + down_bias


def plain_swiglu(
    u: torch.Tensor, into: torch.Tensor, bias: torch.Tensor, down: torch.Tensor,
    down_bias: torch.Tensor, *_: float,
) -> torch.Tensor:  # fmt: skip
    gate, up = (u @ into + bias).chunk(2, -1)
    return F.silu(gate) * up @ down + down_bias


def router_weights(D: int, E: int) -> int:
    return sum(weight.numel() for weight in Router(D, E, 1).parameters())


RIGHT: dict[str, tuple[Answer, ...]] = {
    "6.1": (
        with_linear_layers,
        with_the_package,
        row_by_row,
        with_numpy_in_float32,
        with_einsum,
    ),
    "6.2": (
        lambda D, F, E, K, shared: sum([3 * D * F] * K) + 3 * D * shared + E * D,
        lambda D, F, E, K, shared: router_weights(D, E) + D * 3 * (K * F + shared),
        lambda D, F, E, K, shared: float(3 * D * F * K + 3 * D * shared + D * E),
        lambda D, F, E, K, shared: torch.tensor(3 * D * F * K + 3 * D * shared + D * E),
    ),
    "6.3": (
        lambda rest, expert, E, K: 1 / ((rest + E * expert) / (rest + K * expert)),
        lambda rest, expert, E, K: torch.tensor((rest + K * expert) / (rest + E * expert)),
        lambda rest, expert, E, K: (rest / expert + K) / (rest / expert + E),
        lambda rest, expert, E, K: np.float32((rest + K * expert) / (rest + E * expert)),
        lambda rest, expert, E, K: 1 - (E - K) * expert / (rest + E * expert),
    ),
    "6.4": (
        gpt_oss,
        in_the_library,
        lambda *case: gpt_oss(*(v.float() if torch.is_tensor(v) else v for v in case)),
        lambda *case: [gpt_oss(r[None], *case[1:])[0] for r in case[0]],
    ),
}

# Each with words of its message.
WRONG: dict[str, tuple[tuple[Answer, str], ...]] = {
    "6.1": (
        (lambda u, g, up, down: with_linear_layers(u, up, g, down), "swapped"),
        (lambda u, g, up, down: (F.gelu(u @ g.T) * (u @ up.T)) @ down.T, "GEGLU"),
        (lambda u, g, up, down: (torch.sigmoid(u @ g.T) * (u @ up.T)) @ down.T, "alone"),
        (lambda u, g, up, down: F.silu(u @ g.T) @ down.T, "no effect yet"),
        (lambda u, g, up, down: F.silu((u @ g.T) * (u @ up.T)) @ down.T, "before the product"),
        (lambda u, g, up, down: (F.relu(u @ g.T) * (u @ up.T)) @ down.T, "ReGLU"),
        # Nothing stops this one on square matrices, but the others are not square.
        (lambda u, g, up, down: (F.silu(u @ g) * (u @ up)) @ down, "raised"),
        (lambda u, g, up, down: (u @ g.T * (1 / (1 + (u @ g.T).exp()))) @ down.T, "expected"),
        (lambda u, g, up, down: with_linear_layers(u, g, up, down).squeeze(), "shape (1, 8)"),
        (lambda u, g, up, down: u + with_linear_layers(u, g, up, down), "expected"),
        (lambda u, g, up, down: (F.silu(u @ g.T) * F.silu(u @ up.T)) @ down.T, "expected"),
        (lambda u, g, up, down: (F.mish(u @ g.T) * (u @ up.T)) @ down.T, "expected"),
        (
            # infinity over infinity, at logits of 1000
            lambda u, g, up, down: (
                (u @ g.T) * (u @ g.T).exp() / (1 + (u @ g.T).exp()) * (u @ up.T)
            ) @ down.T,
            "nan",
        ),
    ),
    "6.2": (
        (lambda D, F, E, K, shared: D * (3 * (F * K + shared) + K), "all E experts"),
        (lambda D, F, E, K, shared: D * (2 * (F * K + shared) + E), "three matrices"),
        (lambda D, F, E, K, shared: D * (3 * F * K + E), "runs the shared expert"),
        (lambda D, F, E, K, shared: D * (3 * (F * E + shared) + E), "only K of the E"),
        (lambda D, F, E, K, shared: D * 3 * (F * K + shared), "passes the router"),
        (lambda D, F, E, K, shared: 2 * D * (3 * (F * K + shared) + E), "FLOPs"),
        (lambda D, F, E, K, shared: D * (3 * F * (K + 1) + E), "of its own"),
        (lambda D, F, E, K, shared: D * 3 * (F * K + shared) + E, "D weights"),
        (lambda D, F, E, K, shared: D * (3 * (F * K + shared) + E + 1), "no gate"),
        (lambda D, F, E, K, shared: D * (3 * K * (F + shared) + E), "expected"),
        (lambda D, F, E, K, shared: D * (3 * F * K + 2 * shared + E), "expected"),
    ),
    "6.3": (
        (lambda rest, expert, E, K: K / E, "outside the experts"),
        (lambda rest, expert, E, K: K * expert / (rest + E * expert), "active too"),
        (lambda rest, expert, E, K: (rest + E * expert) / (rest + K * expert), "other way up"),
        (lambda rest, expert, E, K: (rest + K * expert) / (E * (rest + expert)), "E times"),
        (lambda rest, expert, E, K: rest + K * expert, "expected"),
        (lambda rest, expert, E, K: 100 * (rest + K * expert) / (rest + E * expert), "percent"),
        (lambda rest, expert, E, K: (E - K) * expert / (rest + E * expert), "not active"),
        (lambda rest, expert, E, K: (rest + K * expert) / (E * expert), "rest of the model"),
        (lambda rest, expert, E, K: rest + K * expert / (rest + E * expert), "brackets"),
        (lambda rest, e, E, K: round((rest + K * e) / (rest + E * e), 2), "expected"),
    ),
    "6.4": (
        (plain_swiglu, "expected"),
        (lambda u, i, b, d, db, a, m: gpt_oss(u, i, b, d, db, a, 1e9), "nothing is cut off"),
        (lambda u, i, b, d, db, a, m: gpt_oss(u, i, b, d, db, 1.0, m), "alpha has no effect"),
        (lambda u, i, b, d, db, a, m: gpt_oss(u, i, b, d, 0 * db, a, m), "second bias"),
        (
            lambda u, i, b, d, db, a, m: gpt_oss(
                u, i.unflatten(1, (2, -1)).mT.flatten(1), b.unflatten(0, (2, -1)).T.flatten(),
                d, db, a, m,
            ),
            "two halves",
        ),
        (lambda u, i, b, d, db, a, m: gpt_oss(u, i, b, d, db, a, m) * 2, "expected"),
        (lambda *case: cut_otherwise(*case, ups=(None, 1)), "both sides"),
        (lambda *case: cut_otherwise(*case, ups=(None, None)), "up is cut off, too"),
        (lambda *case: cut_otherwise(*case, gates=(None, None)), "the gate is cut off, too"),
        (lambda *case: cut_otherwise(*case, gates=(-1, 1)), "above only"),
        (lambda *case: cut_otherwise(*case, sooner=1), "after it was cut off"),
        (lambda *case: cut_otherwise(*case, inside=False), "before the cut"),
        (lambda *case: cut_otherwise(*case, scale=True), "silu(alpha * gate)"),
    ),
}  # fmt: skip
