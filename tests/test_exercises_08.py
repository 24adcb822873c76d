"""Answers to chapter 08's exercises as readers write them: right in any style, wrong in many."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

from moe_tutorial.exercises import EXERCISES

Answer = Callable[..., Any]
one_hot = torch.nn.functional.one_hot


def shares(load: torch.Tensor) -> torch.Tensor:
    return load / load.sum()


def in_a_loop(load: torch.Tensor) -> torch.Tensor:
    total = torch.zeros(())
    for count in load.tolist():
        if count:
            total -= count / float(load.sum()) * torch.log(torch.tensor(count / float(load.sum())))
    return total.exp()


def whole(logits: torch.Tensor, k: int) -> torch.Tensor:
    """Counts divided by counts: float32, whatever the logits are."""
    T, E = logits.shape
    load = one_hot(logits.topk(k).indices, E).sum((0, 1))
    return E * (load / (T * k) * logits.softmax(-1).mean(0)).sum()


def without_minlength(logits: torch.Tensor, k: int) -> torch.Tensor:
    """Counts end with the last expert that anybody chose."""
    load = torch.bincount(logits.topk(k).indices.flatten())
    return logits.shape[1] * (load / load.sum() * logits.softmax(-1).mean(0)).sum()


def with_weights(logits: torch.Tensor, k: int, mask: torch.Tensor) -> torch.Tensor:
    """Padding is multiplied by 0 instead of left out."""
    E = logits.shape[1]
    kept = mask.double()[:, None]
    chosen = torch.zeros_like(logits).scatter(1, logits.topk(k).indices, 1) * kept
    mean = (logits.softmax(-1) * kept).sum(0) / kept.sum()
    return (chosen.sum(0) / chosen.sum() * mean).sum() * E


def naive_softmax(logits: torch.Tensor) -> torch.Tensor:
    return logits.exp() / logits.exp().sum(-1, keepdim=True)


def naive(logits: torch.Tensor, k: int) -> torch.Tensor:
    E = logits.shape[1]
    load = torch.bincount(logits.topk(k).indices.flatten(), minlength=E).double()
    return E * (load / load.sum() * naive_softmax(logits).mean(0)).sum()


def from_the_library(logits: torch.Tensor, k: int) -> torch.Tensor:
    return load_balancing_loss_func(tuple(logits), logits.shape[-1], k)


RIGHT: dict[str, tuple[Answer, ...]] = {
    "8.1": (
        lambda load: torch.exp(-torch.special.xlogy(shares(load), shares(load)).sum()),
        lambda load: torch.exp(torch.special.entr(shares(load)).sum()),
        lambda load: torch.exp(-(shares(load) * shares(load).log()).nansum()),
        lambda load: (shares(load) ** -shares(load)).prod(),
        in_a_loop,
        lambda load: torch.distributions.Categorical(probs=load.double()).entropy().exp(),
        lambda load: np.exp(-sum(p * np.log(p) for p in (load / load.sum()).numpy() if p)),
    ),
    "8.2": (
        lambda logits, k, mask: whole(logits[mask], k),
        with_weights,
        lambda logits, k, mask: (
            load_balancing_loss_func((logits,), logits.shape[1], k, attention_mask=mask[None]) / k
        ),
        lambda logits, k, mask: whole(logits[mask], k).float(),
    ),
    "8.3": (
        lambda logits, k: sum(whole(layer, k) for layer in logits) / len(logits),
        lambda logits, k: torch.stack([whole(layer, k) for layer in logits]).mean(),
        lambda logits, k: torch.stack(
            [load_balancing_loss_func((layer,), layer.shape[1], k) / k for layer in logits]
        ).mean(),
        lambda logits, k: (
            (
                one_hot(logits.topk(k).indices, logits.shape[2]).double().mean((1, 2))
                * logits.softmax(-1).mean(1)
            ).sum()
            * logits.shape[2]
            / logits.shape[0]
        ),
    ),
    "8.4": (
        from_the_library,
        lambda logits, k: k * whole(logits.flatten(0, 1), k),
        lambda logits, k: (
            logits.shape[-1]
            * (
                one_hot(logits.topk(k).indices, logits.shape[-1]).sum(2).double().mean((0, 1))
                @ logits.softmax(-1).mean((0, 1))
            )
        ),
    ),
}

# Each with words of its message.
WRONG: dict[str, tuple[tuple[Answer, str], ...]] = {
    "8.1": (
        (lambda load: -(shares(load) * (shares(load) + 1e-6).log()).sum().exp(), "expected"),
        (
            lambda load: (-(shares(load) * (shares(load) + 1e-6).log()).sum()).exp(),
            "a constant of 1e-06 in the logarithm",
        ),
        (lambda load: (-(shares(load) * (shares(load) + 1e-4).log()).sum()).exp(), "0.0001"),
        (lambda load: torch.exp(-(shares(load) * shares(load).log()).sum()), "0 times the log"),
        (lambda load: -(shares(load) * shares(load).log2()).nansum(), "in bits"),
        (lambda load: load.count_nonzero(), "busier one has to count for more"),
        (lambda load: torch.exp((shares(load) * shares(load).log()).nansum()), "a minus"),
        (lambda load: load.double().softmax(0).square().sum(), "expected"),
        (lambda load: torch.tensor(3.0), "expected"),
        (lambda load: load.sum() / load.max(), "the sum over the largest"),
        (lambda load: torch.special.entr(shares(load.double())).mean().exp(), "expected"),
        (lambda load: torch.special.entr(load.double()).sum().exp(), "expected"),
        (lambda load: torch.special.entr(load.double().softmax(0)).sum().exp(), "expected"),
        (lambda load: load / load.sum(), "a single number"),
    ),
    "8.2": (
        (lambda logits, k, mask: whole(logits[:-7], k), "expected"),
        (lambda logits, k, mask: whole(logits, k), "padding counts as tokens"),
        (lambda logits, k, mask: k * whole(logits[mask], k), "K times too large"),
        (lambda logits, k, mask: whole(logits[mask], 1), "first choice alone"),
        (lambda logits, k, mask: whole(logits[mask].detach(), k), "no gradient"),
        (lambda logits, k, mask: whole(logits * mask[:, None], k), "expected"),
        (lambda logits, k, mask: naive(logits[mask], k), "nan"),
        (lambda logits, k, mask: whole(logits[mask].sigmoid(), k), "expected"),
        (
            lambda logits, k, mask: (
                logits.shape[1] * logits[mask].softmax(-1).mean(0).square().sum()
            ),
            "a count of the tokens",
        ),
        (lambda logits, k, mask: whole(logits[mask], k) - 1, "expected"),
        (
            # No minlength: the last experts may have no token.
            lambda logits, k, mask: (
                (
                    logits.shape[1]
                    * torch.bincount(logits[mask].topk(k).indices.flatten())
                    * logits[mask].softmax(-1).mean(0)
                ).sum()
                / (mask.sum() * k)
            ),
            "raised",
        ),
    ),
    "8.3": (
        (lambda logits, k: whole(logits.flatten(0, 1), k), "pooled"),
        (lambda logits, k: sum(whole(layer, k) for layer in logits), "sum over the layers"),
        (lambda logits, k: sum(whole(layer.detach(), k) for layer in logits) / len(logits), "grad"),
        (lambda logits, k: whole(logits[0], k), "first layer alone"),
        (lambda logits, k: whole(logits[-1], k), "last layer alone"),
        (lambda logits, k: sum(whole(x, k) for x in logits) / logits.shape[1], "number of layers"),
        (lambda logits, k: torch.stack([whole(x, 1) for x in logits]).mean(), "first choice alone"),
        (lambda logits, k: torch.stack([whole(x, k) for x in logits]).max(), "expected"),
        (lambda logits, k: sum(without_minlength(x, k) for x in logits) / len(logits), "raised"),
        (lambda logits, k: [whole(x, k) for x in logits], "a single number"),
        (lambda logits, k: whole(logits.mean(0), k), "nothing in common"),
        (lambda logits, k: torch.stack([naive(layer, k) for layer in logits]).mean(), "nan"),
        (lambda logits, k: torch.stack([whole(x, k) for x in logits]).median(), "expected"),
    ),
    "8.4": (
        (lambda logits, k: whole(logits.flatten(0, 1), k), "divided by K"),
        (lambda logits, k: sum(whole(x, k) for x in logits) / len(logits), "exercise 8.3"),
        (lambda logits, k: k * sum(whole(x, k) for x in logits) / len(logits), "loop over the"),
        (lambda logits, k: k * whole(logits.flatten(0, 1), k) / logits.shape[-1], "factor E"),
        (lambda logits, k: from_the_library(logits, k) * len(logits), "rows of one"),
        (lambda logits, k: logits.shape[-1] / k, "expected"),
        (lambda logits, k: whole(logits.flatten(0, 1), 1), "all K"),
        (lambda logits, k: whole(logits.flatten(0, 1), k) / k, "expected"),
        (lambda logits, k: k * naive(logits.flatten(0, 1), k), "nan"),
        (lambda logits, k: k * without_minlength(logits.flatten(0, 1), k), "raised"),
    ),
}


def test_the_exercise_that_reads_a_library_agrees_with_the_library() -> None:
    generator = torch.Generator().manual_seed(5)
    for logits, k in EXERCISES["8.4"].inputs(generator):
        expected = from_the_library(logits, k).double()
        torch.testing.assert_close(
            EXERCISES["8.4"].reference(logits, k), expected, atol=1e-5, rtol=1e-5
        )
