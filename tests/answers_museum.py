"""Answers to chapter 17's exercises as readers write them: right in any style, wrong in many."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch

Answer = Callable[..., Any]
rand = torch.rand


def lost_by_counter(token: torch.Tensor) -> int:
    return sum(count - 1 for count in Counter(token.tolist()).values())


def lost_by_trying(token: torch.Tensor) -> float:
    y = torch.zeros(int(token.max()) + 1)
    y[token] += torch.ones(len(token))
    return len(token) - y.sum().item()


def compared_by_hand(code: Answer, T: int = 3, D: int = 2, gate: float = 0.3) -> bool:
    """Experts that multiply by different matrices, gates that sum to less than 1."""
    torch.manual_seed(1)
    x, w = rand(T, D), rand(3, D, D)
    experts = torch.tensor([[0, 1], [2, 0], [1, 2]])[:T]
    gates = torch.tensor([[gate, 0.2], [0.1, 0.6], [0.4, 0.5]])[:T]
    wanted = [sum(gates[t, k] * (x[t] @ w[experts[t, k]]) for k in range(2)) for t in range(T)]
    return torch.allclose(code(x, experts, gates, torch.stack(list(w))), torch.stack(wanted))


def asserted(code: Answer) -> bool:
    x, w = torch.eye(2), torch.tensor([[[1.0, 2], [3, 4]], [[10.0, 20], [30, 40]]])
    y = code(x, torch.tensor([[0, 1], [1, 0]]), torch.tensor([[1.0, 2], [3, 4]]), w)
    try:
        torch.testing.assert_close(y, torch.tensor([[21.0, 42], [102, 136]]))
    except AssertionError:
        return False
    return True


def linear(code: Answer) -> bool:
    """Each gate alone must do what it does in the sum."""
    torch.manual_seed(0)
    x, w, experts = rand(4, 3), rand(3, 3, 3), torch.tensor([[0, 1], [1, 2], [2, 0], [1, 0]])
    gates = rand(4, 2)
    whole = code(x, experts, gates, w)
    for t in range(4):
        parts = [gates[t, k] * (x[t] @ w[experts[t, k]]) for k in range(2)]
        if not torch.allclose(whole[t], parts[0] + parts[1]):
            return False
    return True


def changed(layer: Answer, x: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    back = torch.empty_like(x)
    back[order] = layer(x[order])
    return (back - layer(x)).abs().max()


def doubled(dtype: torch.dtype) -> float:
    n = torch.tensor(1, dtype=dtype)
    while n + 1 != n:
        n = 2 * n
    return n.item()


STYLES: dict[str, tuple[Answer, ...]] = {
    "17.1": (
        lost_by_counter,
        lost_by_trying,
        lambda token: (torch.bincount(token) - 1).clamp(min=0).sum(),
        lambda token: len(token) - len(set(token.tolist())),
    ),
    "17.2": (compared_by_hand, asserted, linear),
    "17.3": (
        changed,
        lambda layer, x, order: torch.dist(layer(x)[order], layer(x[order]), p=torch.inf),
        lambda layer, x, order: max(
            abs(float(a) - float(b))
            for new, old in zip(layer(x[order]), layer(x)[order], strict=True)
            for a, b in zip(new, old, strict=True)
        ),
    ),
    "17.4": (
        doubled,
        lambda dtype: 1 / (torch.finfo(dtype).eps / 2),
        lambda dtype: {torch.bfloat16: 2**8, torch.float16: 2**11, torch.float32: 2**24}.get(
            dtype, 2**53
        ),
    ),
}

RIGHT: dict[str, Answer] = {number: answers[0] for number, answers in STYLES.items()}

UNLISTED: dict[str, tuple[Answer, ...]] = {
    "17.1": (
        lambda token: 0,
        lambda token: len(token),
        lambda token: torch.bincount(token).max() - 1,
    ),
    "17.2": (
        lambda code: not compared_by_hand(code),
        lambda code: code.__name__ != "combine_as_found",
        lambda code: compared_by_hand(code, D=2) or code.__name__ == "combine_as_found",
    ),
    "17.3": (
        lambda layer, x, order: (x[order] - x).abs().max(),
        lambda layer, x, order: torch.zeros(()),
        lambda layer, x, order: (layer(x[order]) - layer(x)[order]).abs().sum(),
    ),
    "17.4": (
        lambda dtype: 256,
        lambda dtype: 10 ** torch.finfo(dtype).resolution,
        lambda dtype: 2 * 2 / torch.finfo(dtype).eps,
    ),
}

# Wrong answers, and words of what is said of them.
WRONG: dict[str, tuple[tuple[Answer, str], ...]] = {
    "17.1": (
        (lambda token: len(set(token.tolist())), "rows that remain"),
        (lambda token: sum(n > 1 for n in Counter(token.tolist()).values()), "loses three"),
        (lambda token: (token[:, None] == token).sum(1).gt(1).sum(), "one row of each"),
        (lambda token: len(token) - len(torch.bincount(token)), "not named"),
        (lambda token: torch.bincount(token) - 1, "expected a single number"),
    ),
    "17.2": (
        (lambda code: 1 == 1, "accepts everything"),
        (lambda code: code is None, "refuses everything"),
        (lambda code: code(*_ones()).shape == (2, 3), "a look at the shape"),
        (lambda code: compared_by_hand(code, D=1), "its own transpose"),
        (lambda code: compared_by_hand(code, T=1), "a single token"),
        (lambda code: [code], "cannot be compared"),
    ),
    "17.3": (
        (lambda layer, x, order: (layer(x) - layer(x[order])).abs().max(), "two orders"),
        (lambda layer, x, o: (layer(x[o]) - layer(x)[o.argsort()]).abs().max(), "inverse"),
        (lambda layer, x, order: torch.max(layer(x[order]) - layer(x)[order]), "downwards"),
        (lambda layer, x, o: torch.nn.functional.l1_loss(layer(x[o]), layer(x)[o]), "mean"),
        (lambda layer, x, order: torch.dist(layer(x[order]), layer(x)[order]), "length"),
        (lambda layer, x, o: torch.allclose(layer(x[o]), layer(x)[o]), "expected"),
    ),
    "17.4": (
        (lambda dtype: torch.finfo(dtype).max, "largest number"),
        (lambda dtype: 1 / torch.finfo(dtype).eps, "steps are 1 wide"),
        (lambda dtype: 1 << torch.finfo(dtype).bits, "exponent and sign"),
        (lambda dtype: doubled(dtype) + 1, "not among those"),
        (lambda dtype: dtype, "cannot be compared"),
    ),
}


def _ones() -> tuple[torch.Tensor, ...]:
    return torch.ones(2, 3), torch.tensor([[0, 1], [1, 0]]), torch.ones(2, 2), torch.ones(2, 3, 3)
