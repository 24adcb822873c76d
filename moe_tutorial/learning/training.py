"""Training: draw windows, predict each next byte, move the weights a little; again.

loss = mean of -ln p(next byte) + what a function of each layer's routing adds.      Chapter 10.
"""

import math
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from moe_tutorial.learning.language_model import LanguageModel, Prediction
from moe_tutorial.learning.text import Batch, Text, draw_batch
from moe_tutorial.routing.decision import Routing
from moe_tutorial.validation import check_positive_number, check_size


@dataclass(frozen=True)
class Settings:
    """How a model is trained: with one seed, on one machine, these numbers decide every weight.

    Attributes:
        steps: how often the weights move.
        batch_size: B, the windows of a step.
        length: S, the tokens of a window.
        learning_rate: its highest value.
        warm_up: in how many steps it rises to that, in a straight line.
        lowest_rate: what share of it is left after the last step, along half a cosine.
        weight_decay: of AdamW, for matrices alone (Loshchilov and Hutter 2019).
        largest_gradient: longer gradients, all parameters' together, are scaled down to this norm.
        seed: of the windows, and of routers that draw.

    Raises:
        TypeError, ValueError: a number outside what makes sense; the message names it.
    """

    steps: int
    batch_size: int = 16
    length: int = 128
    learning_rate: float = 3e-3
    warm_up: int = 20
    lowest_rate: float = 0.1
    weight_decay: float = 0.1
    largest_gradient: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "length"):
            check_size(name, getattr(self, name))
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise ValueError(f"seed must be an int of at least 0, got {self.seed!r}")
        for name in ("learning_rate", "largest_gradient"):
            check_positive_number(name, getattr(self, name))
        for name in ("warm_up", "lowest_rate", "weight_decay"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.lowest_rate > 1:
            raise ValueError(f"lowest_rate must be at most 1, got {self.lowest_rate}")
        if self.warm_up >= self.steps:
            raise ValueError(f"warm_up must be below steps ({self.steps}), got {self.warm_up}")

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        if step < self.warm_up:
            return self.learning_rate * (step + 1) / self.warm_up
        way = (step - self.warm_up) / max(1, self.steps - 1 - self.warm_up)
        falling = (1 + math.cos(math.pi * way)) / 2
        return self.learning_rate * (self.lowest_rate + (1 - self.lowest_rate) * falling)


@dataclass
class History:
    """What happened in training, step by step.

    Attributes:
        losses: each step's cross-entropy on its own batch, in nats per byte, without penalties.
        seconds: how long training has taken, at the end of each step.
    """

    losses: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


def cross_entropy(prediction: Prediction, batch: Batch) -> Tensor:
    r"""The surprise at each next byte, in nats.

    .. math:: -\ln p(t_{s+1} \mid t_1, \ldots, t_s)

    Divided by ln 2 it counts bits; a model that knows nothing has ln 256 = 5.545.

    Returns:
        ``[B, S]``, float32 at least.
    """
    logits_BSV = prediction.logits_BSV
    if logits_BSV.dtype in (torch.float16, torch.bfloat16):
        logits_BSV = logits_BSV.float()
    return nn.functional.cross_entropy(
        logits_BSV.transpose(1, 2), batch.targets_BS, reduction="none"
    )


def train(
    model: LanguageModel,
    text: Text,
    settings: Settings,
    *,
    penalty: Callable[[Routing], Tensor] | None = None,
    after_step: Callable[[Prediction], None] | None = None,
    checkpoint: Path | None = None,
    save_every: int = 100,
    until: int | None = None,
    progress: bool = False,
) -> History:
    """Train a model where it is, on its own device.

    On a CPU the same model, text, settings and number of threads give the same weights, to the
    bit, whether training was interrupted or not; a GPU's attention may add in another order.

    Args:
        model: its weights are changed; move it to a GPU first to train there.
        text: what to learn from.
        settings: how.
        penalty: what each sparse layer's routing adds to the loss, layer by layer and never pooled:
            a balancing loss times its coefficient, for instance.
        after_step: is called when the weights have moved, with what the model returned before: to
            move a selection bias, for instance. What it changes must be a part of the model, if
            an interruption is to leave no trace.
        checkpoint: a file to keep all that training needs to go on. If it is there, training goes
            on from it. It is written every ``save_every`` steps and at the end.
        save_every: see above.
        until: stop after this step at the latest, as an interruption would.
        progress: whether to show on the standard error stream how far it is.

    Returns:
        The loss and the time of every step, those before an interruption included.

    Raises:
        TypeError, ValueError: a size that is no positive int, a checkpoint that was written with
            other settings or text, or a loss that is not finite.
    """
    check_size("save_every", save_every)
    if until is not None:
        check_size("until", until)
    device = model.head.weight.device
    windows = torch.Generator().manual_seed(settings.seed)
    # Another seed than the windows', so that the noise of a draw tells nothing of them.
    draws = torch.Generator(device).manual_seed(-1 - settings.seed)
    optimizer = _optimizer(model, settings)
    history = History()
    identity = asdict(settings) | {"text": text.fingerprint()}
    state = _State(model, optimizer, windows, draws, identity, history)
    if checkpoint is not None and checkpoint.exists():
        state.load(checkpoint)
    model.train()
    start = time.perf_counter() - (history.seconds[-1] if history.seconds else 0)
    last = settings.steps if until is None else min(until, settings.steps)
    for step in range(len(history.losses), last):
        batch = draw_batch(text, settings.batch_size, settings.length, windows, device)
        prediction = model(batch.tokens_BS, draws)
        loss = cross_entropy(prediction, batch).mean()
        objective = loss
        if penalty is not None:
            for routing in prediction.routings:
                if routing is not None:
                    objective = objective + penalty(routing)
        if not math.isfinite(objective.item()):
            raise ValueError(f"the loss must stay finite, got {objective.item()} in step {step}")
        optimizer.zero_grad()
        objective.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), settings.largest_gradient)
        for group in optimizer.param_groups:
            group["lr"] = settings.rate(step)
        optimizer.step()
        if after_step is not None:
            after_step(prediction)
        history.losses.append(loss.item())
        history.seconds.append(time.perf_counter() - start)
        done = step + 1
        if checkpoint is not None and (done % save_every == 0 or done == last):
            state.save(checkpoint)
        if progress:
            _show(done, settings.steps, history)
    return history


def _optimizer(model: nn.Module, settings: Settings) -> torch.optim.AdamW:
    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.95))


@dataclass
class _State:
    """All that the rest of a training run depends on."""

    model: LanguageModel
    optimizer: torch.optim.AdamW
    windows: torch.Generator
    draws: torch.Generator
    identity: dict[str, Any]
    history: History

    def save(self, path: Path) -> None:
        content = {
            "identity": self.identity,
            "history": asdict(self.history),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "windows": self.windows.get_state(),
            "draws": self.draws.get_state(),
        }
        # An interruption while writing must not destroy the last good checkpoint.
        scratch = path.with_name(path.name + ".new")
        torch.save(content, scratch)
        scratch.replace(path)

    def load(self, path: Path) -> None:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        written = content["identity"]
        changed = [name for name, value in self.identity.items() if written.get(name) != value]
        if changed:
            raise ValueError(
                f"checkpoint {path.name} was written with another {', '.join(changed)}: use the "
                "same, or another file"
            )
        self.model.load_state_dict(content["model"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.windows.set_state(content["windows"])
        self.draws.set_state(content["draws"])
        self.history.losses[:] = content["history"]["losses"]
        self.history.seconds[:] = content["history"]["seconds"]


def _show(done: int, steps: int, history: History) -> None:
    bar = "#" * (30 * done // steps)
    end = "\n" if done == steps else ""
    sys.stderr.write(
        f"\r[{bar:.<30}] step {done}/{steps}, loss {history.losses[-1]:.3f}, "
        f"{history.seconds[-1]:.0f} s{end}"
    )
    sys.stderr.flush()


@torch.no_grad()
def evaluate(
    model: LanguageModel, text: Text, windows: int, length: int, *, batch_size: int = 32
) -> dict[str, float]:
    """The mean surprise in each domain, on windows that are the same in every call.

    Args:
        model: is left in the mode, training or evaluation, that it was in.
        text: what to predict, mostly a corpus's validation text.
        windows: how many, from each domain.
        length: S, the tokens in each.
        batch_size: windows at a time, as many as fit into memory.

    Returns:
        For each domain nats per byte; the mean over domains is the loss that :func:`train` lowers.

    Raises:
        TypeError, ValueError: as :func:`~moe_tutorial.learning.text.draw_batch`.
    """
    check_size("batch_size", batch_size)
    device = model.head.weight.device
    was_training = model.training
    model.eval()
    losses = {}
    for domain, (start, end) in zip(text.domains, pairwise(text.starts), strict=True):
        one = Text((domain,), text.bytes_N[start:end], (0, end - start))
        every = draw_batch(one, windows, length, torch.Generator().manual_seed(0), device)
        draws = torch.Generator(device).manual_seed(0)
        total = 0.0
        for first in range(0, windows, batch_size):
            part = slice(first, first + batch_size)
            batch = Batch(every.tokens_BS[part], every.targets_BS[part], every.domains_BS[part])
            total += cross_entropy(model(batch.tokens_BS, draws), batch).double().sum().item()
        losses[domain] = total / (windows * length)
    model.train(was_training)
    return losses
