"""Right answers to chapter 12's exercises, and plausible wrong ones that the checks do not list."""

from collections.abc import Callable
from typing import Any

import torch

one_hot = torch.nn.functional.one_hot

RIGHT: dict[str, Callable[..., Any]] = {
    "12.1": lambda experts, mask, E: one_hot(experts[mask.bool()], E).double().mean((0, 1)),
    "12.2": lambda prompt, answer, E, size: (
        (answer[..., None] == (-torch.bincount(prompt.flatten(), minlength=E))
         .argsort(stable=True)[:size]).any(-1).double().mean()
    ),
    "12.3": lambda a, b, E: (
        ((a[:, None, :, None] == b[None, :, None]).sum((-2, -1)).double() / a.shape[1])
        .mul(torch.eye(len(a)).double() / len(a) - 1 / len(a) ** 2).sum()
    ),
    "12.4": lambda text, k: [
        torch.tensor([int(it.split(",")[1]) for it in text.split() if int(it.split(",")[0]) == n])
        .unflatten(0, (-1, k))
        for n in sorted({int(it.split(",")[0]) for it in text.split()})
    ],
}  # fmt: skip

UNLISTED: dict[str, tuple[Callable[..., Any], ...]] = {
    "12.1": (
        lambda experts, mask, E: torch.full((E,), 1 / E),
        lambda experts, mask, E: one_hot(experts[-1], E).double().mean((0, 1)),
        lambda experts, mask, E: one_hot(experts[mask == 1], E).double().mean((0, 1)).sort().values,
    ),
    "12.2": (
        lambda prompt, answer, E, size: torch.isin(answer, prompt).double().mean(),
        lambda prompt, answer, E, size: (answer < size).double().mean(),
        lambda prompt, answer, E, size: torch.tensor(1.0),
    ),
    "12.3": (
        lambda a, b, E: (a == b).double().mean(),
        lambda a, b, E: (a[:, :, None] == b[:, None]).any(-1).all(-1).double().mean(),
        lambda a, b, E: a.shape[1] / E,
    ),
    "12.4": (
        lambda text, k: torch.zeros(1, 1, k),
        lambda text, k: torch.tensor([int(it.split(",")[1]) for it in text.split()]),
        lambda text, k: RIGHT["12.4"](text, k)[0],
    ),
}
