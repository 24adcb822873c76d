"""Fitting: the training loop of chapter 13, for any model whose loss is a function of the step.

AdamW, gradients cut at a norm, the rate of ``settings``, as in chapter 10.          Chapter 13.
"""

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from moe_tutorial.learning.settings import Settings


def fit(
    model: nn.Module,
    objective: Callable[[], Tensor],
    settings: Settings,
    after_step: Callable[[int], None] | None = None,
) -> float:
    """Lower an objective step by step.

    Args:
        model: whose weights move; vectors such as biases do not decay.
        objective: draws its own batch and returns what to lower, penalties included.
        settings: how; its seed, batch size and length are a matter of ``objective``.
        after_step: is called with the number of steps done.

    Returns:
        The seconds of the processor that training took, those of ``after_step`` left out. Unlike
        those of the clock they do not grow when other programs run.

    Raises:
        ValueError: an objective that is not finite.
    """
    vectors = [it for it in model.parameters() if it.ndim < 2]
    others = [it for it in model.parameters() if it.ndim >= 2]
    optimizer = torch.optim.AdamW(
        [
            {"params": others, "weight_decay": settings.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ],
        lr=settings.learning_rate,
        betas=(0.9, 0.95),
    )
    seconds = 0.0
    for step in range(settings.steps):
        start = time.process_time()
        for group in optimizer.param_groups:
            group["lr"] = settings.rate(step)
        loss = objective()
        if not math.isfinite(loss.item()):
            raise ValueError(f"the objective must stay finite, got {loss.item()} in step {step}")
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), settings.largest_gradient)
        optimizer.step()
        seconds += time.process_time() - start
        if after_step is not None:
            after_step(step + 1)
    return seconds
