"""Training: draw windows, predict each next byte, move the weights a little; again.

loss = mean of -ln p(next byte) + what a function of each layer's routing adds.      Chapter 10.
"""

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from moe_tutorial.learning.checkpoint import (
    Checkpoint,
    check_one_process,
    check_weights,
    checked_path,
    describe,
    function_name,
)
from moe_tutorial.learning.language_model import LanguageModel, Prediction
from moe_tutorial.learning.settings import Settings
from moe_tutorial.learning.text import Batch, Text, draw_batch, fixed_windows
from moe_tutorial.routing.decision import Routing
from moe_tutorial.validation import check_size


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
    checkpoint: str | os.PathLike[str] | None = None,
    save_every: int = 100,
    until: int | None = None,
    progress: bool = False,
) -> History:
    """Train a model where it is, on its own device.

    On a CPU the same model, text, settings and number of threads give the same weights, to the
    bit, whether training was interrupted or not; a GPU's attention may add in another order.

    Args:
        model: its weights are changed; move it to a GPU first to train there. It may be wrapped,
            as by ``torch.compile``; the checkpoint is the same with and without.
        text: what to learn from.
        settings: how.
        penalty: what each sparse layer's routing adds to the loss, layer by layer and never pooled:
            a balancing loss times its coefficient, for instance.
        after_step: is called when the weights have moved, with what the model returned before: to
            move a selection bias, for instance. What it changes must be a part of the model, if
            an interruption is to leave no trace.
        checkpoint: a file to keep all that training needs to go on. If it is there, training goes
            on from it. It is written every ``save_every`` steps and at the end. It knows the
            settings, the text, the model (each module's options, each weight's shape and dtype,
            what is frozen), the kind of device, and the names of ``penalty`` and ``after_step``,
            with the arguments of a ``functools.partial``. It cannot know what these functions do,
            nor a number that they take from elsewhere: keep those the same yourself.
        save_every: see above.
        until: stop after this step at the latest, as an interruption would.
        progress: whether to show how far it is: on the standard error stream of a terminal, below
            the cell in a notebook.

    Returns:
        The loss and the time of every step, those before an interruption included.

    Raises:
        TypeError: a checkpoint that is no path, or a size that is no int.
        ValueError: a size below 1, a checkpoint that cannot be written, is damaged or belongs to
            another run (nothing has changed then), a checkpoint of a model that is spread over
            processes, or a loss, a gradient (no weight has moved then) or a weight that is not
            finite (the checkpoint is the last good one).
    """
    check_size("save_every", save_every)
    if until is not None:
        check_size("until", until)
    file = None if checkpoint is None else checked_path(checkpoint)
    if file is not None:
        check_one_process(model)
    device = next(model.parameters()).device
    windows = torch.Generator("cpu").manual_seed(settings.seed)
    # Another seed than the windows', so that the noise of a draw tells nothing of them.
    draws = torch.Generator(device).manual_seed(-1 - settings.seed)
    optimizer = adamw(model, settings)
    history = History()
    identity = asdict(settings) | {
        "text": text.fingerprint(),
        "penalty": function_name(penalty),
        "after_step": function_name(after_step),
        "kind of device": device.type,
        **describe(model),
    }
    state = Checkpoint(model, optimizer, windows, draws, identity, history)
    if file is not None and file.exists():
        state.load(file)
    start = time.perf_counter() - (history.seconds[-1] if history.seconds else 0)
    last = settings.steps if until is None else min(until, settings.steps)
    first = len(history.losses)
    with (
        in_mode(model, training=True),
        tqdm(
            total=settings.steps, initial=first, desc="training", unit="step", disable=not progress
        ) as bar,
    ):
        for step in range(first, last):
            batch = draw_batch(text, settings.batch_size, settings.length, windows, device)
            prediction = model(batch.tokens_BS, draws)
            loss = cross_entropy(prediction, batch).mean()
            objective = loss
            if penalty is not None:
                for routing in prediction.routings:
                    if routing is not None:
                        objective = objective + penalty(routing)
            if not math.isfinite(objective.item()):
                raise ValueError(
                    f"the loss must stay finite, got {objective.item()} in step {step}"
                )
            optimizer.zero_grad()
            objective.backward()  # type: ignore[no-untyped-call]
            # Before the weights move: a step that is not finite could never be taken back.
            norm = nn.utils.clip_grad_norm_(model.parameters(), settings.largest_gradient).item()
            if not math.isfinite(norm):
                raise ValueError(f"the gradient must stay finite, got norm {norm} in step {step}")
            for group in optimizer.param_groups:
                group["lr"] = settings.rate(step)
            # AdamW counts its steps on torch's default device, whichever that is.
            with torch.device("cpu"):
                optimizer.step()
            if after_step is not None:
                after_step(prediction)
            history.losses.append(loss.item())
            history.seconds.append(time.perf_counter() - start)
            done = step + 1
            if file is not None and (done % save_every == 0 or done == last):
                state.save(file)
            bar.set_postfix(loss=f"{history.losses[-1]:.3f}", refresh=False)
            bar.update()
    check_weights(model)
    return history


def adamw(model: nn.Module, settings: Settings) -> torch.optim.AdamW:
    """AdamW as the settings have it: matrices decay, biases and the weights of norms do not."""
    decaying: dict[nn.Parameter, None] = {}
    others: dict[nn.Parameter, None] = {}
    for module in model.modules():
        norm = type(module).__name__.endswith("Norm")
        for name, parameter in module.named_parameters(recurse=False):
            # E stacked biases are a table, but no matrix: what a parameter is, its name says.
            matrix = parameter.ndim > 1 and not norm and "bias" not in name and name != "scale"
            (decaying if matrix else others)[parameter] = None
    groups = [
        {"params": list(decaying), "weight_decay": settings.weight_decay},
        {"params": [it for it in others if it not in decaying], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.95))


@contextmanager
def in_mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    """Put a model into training or evaluation mode, and each module back into its own, always."""
    modes = [(module, module.training) for module in model.modules()]
    model.train(training)
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@torch.no_grad()
def evaluate(
    model: LanguageModel, text: Text, windows: int, length: int, *, batch_size: int = 32
) -> dict[str, float]:
    """The mean surprise in each domain, on windows that are the same in every call.

    Args:
        model: each of its modules is left in the mode, training or evaluation, that it was in.
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
    device = next(model.parameters()).device
    losses = {}
    with in_mode(model, training=False):
        for domain, every in fixed_windows(text, windows, length, device):
            draws = torch.Generator(device).manual_seed(0)
            total = 0.0
            for first in range(0, windows, batch_size):
                batch = every.part(slice(first, first + batch_size))
                total += cross_entropy(model(batch.tokens_BS, draws), batch).double().sum().item()
            losses[domain] = total / (windows * length)
    return losses
