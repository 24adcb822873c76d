"""Near misses for the exercises of chapters 03 to 05, each with words that it has to hear."""

import numpy as np
import torch

from moe_tutorial.exercises import EXERCISES
from tests.answers_routing import Answer

softmax = torch.softmax


def subtracted(step: float) -> Answer:
    """Ties broken by a small amount for each id."""
    return lambda s, k: (s - step * torch.arange(s.shape[-1])).topk(k).indices


def guarded(epsilon: float) -> Answer:
    """A quotient whose divisor cannot be 0."""

    def gates(logits: torch.Tensor, experts: torch.Tensor) -> torch.Tensor:
        kept = softmax(logits, -1).gather(-1, experts)
        return kept / (kept.sum(-1, keepdim=True) + epsilon)

    return gates


def exponential_gates(logits: torch.Tensor, experts: torch.Tensor) -> torch.Tensor:
    """The softmax over the chosen, without the shift."""
    chosen = logits.gather(-1, experts).exp()
    return chosen / chosen.sum(-1, keepdim=True)


def second_by_division(logits: torch.Tensor) -> torch.Tensor:
    """Drawn first, or second after each other expert, with 1 - s in the divisor."""
    s = softmax(logits, -1)
    total = s.clone()
    for j in range(s.shape[-1]):
        for e in range(s.shape[-1]):
            if e != j:
                total[:, e] += s[:, j] * s[:, e] / (1 - s[:, j])
    return total


# Wrong answers, each with words that its message must have: they look right at first.
HINTED: dict[str, tuple[tuple[Answer, str], ...]] = {
    "3.1": (
        (subtracted(1e-3), "nearly tie"),
        (subtracted(1e-7), "nearly tie"),
        (subtracted(1e-11), "nearly tie"),
        (lambda s, k: np.argsort(s.numpy(), -1, "stable")[:, ::-1][:, :k], "higher id first"),
        (lambda s, k: s.argsort(dim=-1, stable=True)[:, -k:], "best expert stands last"),
        (
            lambda s, k: s.float().sort(dim=-1, descending=True, stable=True).indices[:, :k],
            "do not round",
        ),
    ),
    "3.2": (
        (guarded(1e-6), "0 / 0 is hidden"),
        (guarded(1e-12), "0 / 0 is hidden"),
        (lambda z, e: guarded(0.0)(z, e).nan_to_num(0), "0 / 0 is hidden"),
        (lambda z, e: softmax(z.gather(-1, e.sort(-1).values), -1), "order of the ids"),
        (lambda z, e: softmax(z.sort(-1).values[:, -e.shape[1]:].flip(-1), -1), "best experts"),
        (lambda z, e: z.exp().gather(-1, e) / z.exp().gather(-1, e).sum(-1, True), "largest"),
    ),
    "3.3": (
        (lambda z: torch.ones(len(z), 1).double(), "do not renormalise"),
        (lambda z: softmax(z, -1).amax(-1, True) + 1e-6, "expected"),
        (lambda z: z.exp().amax(-1, True) / z.exp().sum(-1, True), "overflows"),
    ),
    "3.4": (
        (
            lambda z, k, norm: z.exp().topk(k).values
            / (z.exp().topk(k).values if norm else z.exp()).sum(-1, True),
            "overflows",
        ),
        (lambda z, k, norm: EXERCISES["3.4"].reference(z, k, norm).flip(-1), "best expert first"),
        (lambda z, k, norm: softmax(z, -1).topk(k).values, "must sum to 1"),
    ),
    "4.1": (
        (lambda z, w, k, t: (z / t + w.log()).topk(k).indices, "favour here"),
        (lambda z, w, k, t: (z - w.log()).topk(k).indices, "no effect yet"),
        (lambda z, w, k, t: (w * (-z / t).exp()).argsort(-1)[:, :k], "range of floats"),
        (lambda z, w, k, t: (w / softmax(z / t, -1)).argsort(-1)[:, :k], "range of floats"),
        (lambda z, w, k, t: (z / t - w).topk(k).indices, "two logarithms"),
    ),
    "4.2": (
        (lambda z, e: z.log_softmax(-1).gather(-1, e).sum(-1), "with replacement"),
        (lambda z, e: softmax(z, -1).gather(-1, e).prod(-1).log(), "with replacement"),
        (
            lambda z, e: sum(
                z.gather(-1, e)[:, i] - z.gather(-1, e)[:, i:].logsumexp(-1)
                for i in range(e.shape[1])
            ),
            "never drawn included",
        ),
        (lambda z, e: EXERCISES["4.2"].reference(z, e) + np.log(1.0 + (e.shape[1] > 1)), "got"),
        (
            lambda z, e: EXERCISES["4.2"].reference(z, e)
            + torch.lgamma(torch.tensor(e.shape[1] + 1.0).double()),
            "log K!",
        ),
    ),
    "4.3": (
        (lambda z: 2 * softmax(z, -1), "can exceed 1"),
        (second_by_division, "rounds to 1"),
    ),
    "5.1": (
        (lambda o, g: (g[..., None] * o).sum(1).squeeze(), "expected shape"),
        (lambda o, g: (softmax(g, -1)[..., None] * o).sum(1), "no second softmax"),
    ),
    "5.2": (
        (lambda z, e, o: (softmax(z.gather(-1, e), -1)[..., None] * o).sum(1), "pair them"),
        (lambda z, e, o: (exponential_gates(z, e.sort(-1)[0])[..., None] * o).sum(1), "overflows"),
    ),
    "5.3": (
        (lambda o, z, v: softmax(z, -1) * (1 - softmax(z, -1)) * (o @ v), "all other gates"),
        (lambda o, z, v: softmax(z, -1) * (o @ v - (o @ v).mean()), "weighted by the gates"),
        (
            lambda o, z, v: (lambda g: g * (o @ v - g @ (o @ v)))(z.exp() / z.exp().sum()),
            "overflows",
        ),
    ),
    "5.4": ((lambda e, n, r: torch.bincount(e.flatten()), "expected"),),
}  # fmt: skip
