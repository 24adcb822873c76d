"""Training on many devices: the loop of chapter 10, with four lines more.

each rank: its windows of the batch -> its share of the loss -> gradients, summed.  Chapter 14.
"""

import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from tqdm.auto import tqdm

from moe_tutorial.learning.checkpoint import check_identity, describe, function_name
from moe_tutorial.learning.language_model import LanguageModel, Prediction
from moe_tutorial.learning.settings import Settings
from moe_tutorial.learning.text import Text, draw_batch
from moe_tutorial.learning.training import History, adamw, cross_entropy, in_mode
from moe_tutorial.parallel.agreement import check_agreement
from moe_tutorial.parallel.gradients import clip_gradients, reduce_gradients
from moe_tutorial.parallel.saving import load_checkpoint, read_about, save_checkpoint
from moe_tutorial.parallel.spread import experts_mesh
from moe_tutorial.routing.decision import Routing
from moe_tutorial.validation import check_size


def train_parallel(
    model: LanguageModel,
    text: Text,
    settings: Settings,
    mesh: DeviceMesh,
    *,
    penalty: Callable[[Routing], Tensor] | None = None,
    after_step: Callable[[Prediction], None] | None = None,
    folder: Path | None = None,
    save_every: int = 100,
    until: int | None = None,
    progress: bool = False,
) -> History:
    """Train one model on all ranks of a mesh; every rank calls this with the same arguments.

    All ranks draw the same batch and take different windows of it, so that any number of ranks
    trains on the same text, and to the same weights as
    :func:`~moe_tutorial.learning.training.train` but for rounding. As many ranks as before go on
    from a checkpoint to the bit. Routers that draw have other random numbers on each rank.

    Args:
        model: after :func:`~moe_tutorial.parallel.spread.spread_experts`, on this rank's device.
        text: what to learn from.
        settings: how; its batch is that of all ranks together, which must share it evenly.
        mesh: the one that the experts were spread over.
        penalty: this rank's share of what a sparse layer's routing adds to the loss, such as
            :func:`~moe_tutorial.parallel.balancing.global_switch_loss` times a coefficient.
        after_step: is called on every rank when the weights have moved.
        folder: where checkpoints are kept, shared by all machines; training goes on from the newest
            one. None for none.
        save_every: in steps; the last step is saved always.
        until: stop after this step at the latest.
        progress: whether rank 0 shows how far it is.

    Returns:
        The loss of every step, over the whole batch, and the time, alike on every rank but for
        the time.

    Raises:
        ValueError: on all ranks alike: a batch that they cannot share evenly, something that
            differs between them, a checkpoint of another run, or a loss or gradient that is not
            finite.
    """
    check_size("save_every", save_every)
    rank, ranks = dist.get_rank(), experts_mesh(mesh).size()
    if settings.batch_size % ranks:
        raise ValueError(
            f"batch_size must be divisible by the number of ranks ({ranks}), got "
            f"{settings.batch_size}"
        )
    identity = asdict(settings) | {
        "text": text.fingerprint(),
        "penalty": function_name(penalty),
        "after_step": function_name(after_step),
    }
    about = None if folder is None else read_about(folder)
    check_agreement(model, identity | {"checkpoint": None if about is None else about["step"]})
    # FSDP2 puts its name before that of a class; a checkpoint is the same with and without.
    identity |= {name: it.removeprefix("FSDP") for name, it in describe(model).items()}
    device = next(model.parameters()).device
    windows = torch.Generator("cpu").manual_seed(settings.seed)
    draws = torch.Generator(device)
    optimizer = adamw(model, settings)
    history = History()
    if folder is not None and about is not None:
        check_identity(folder, about["identity"], identity)
        load_checkpoint(folder, model, optimizer)
        history = History(**about["history"])
    first = len(history.losses)
    for _ in range(first):  # windows that were drawn before
        draw_batch(text, settings.batch_size, settings.length, windows)
    last = settings.steps if until is None else min(until, settings.steps)
    share = slice(*(settings.batch_size * it // ranks for it in (rank, rank + 1)))
    start = time.perf_counter() - (history.seconds[-1] if history.seconds else 0)
    with (
        in_mode(model, training=True),
        tqdm(
            total=settings.steps,
            initial=first,
            desc="training",
            unit="step",
            disable=not (progress and rank == 0),
        ) as bar,
    ):
        for step in range(first, last):
            batch = draw_batch(text, settings.batch_size, settings.length, windows, device)
            # Noise of its own for each rank and step, which no checkpoint has to remember.
            draws.manual_seed(hash((settings.seed, step, rank)))
            prediction = model(batch.tokens_BS[share], draws)
            surprise_BS = cross_entropy(prediction, batch.part(share))
            loss = surprise_BS.sum() / batch.tokens_BS.numel()
            objective = loss
            if penalty is not None:
                for routing in prediction.routings:
                    if routing is not None:
                        objective = objective + penalty(routing)
            # The shares of all ranks: each sees the same sums, so all go on or none does.
            totals = torch.stack([loss, objective]).detach()
            dist.all_reduce(totals)
            if not math.isfinite(totals[1].item()):
                raise ValueError(
                    f"the loss must stay finite, got {totals[1].item()} in step {step}"
                )
            optimizer.zero_grad()
            objective.backward()  # type: ignore[no-untyped-call]
            reduce_gradients(model, mesh)
            norm = clip_gradients(model, settings.largest_gradient)
            if not math.isfinite(norm):
                raise ValueError(f"the gradient must stay finite, got norm {norm} in step {step}")
            for group in optimizer.param_groups:
                group["lr"] = settings.rate(step)
            optimizer.step()
            if after_step is not None:
                after_step(prediction)
            history.losses.append(totals[0].item())
            history.seconds.append(time.perf_counter() - start)
            done = step + 1
            if folder is not None and (done % save_every == 0 or done == last):
                about = {"step": done, "identity": identity, "history": asdict(history)}
                save_checkpoint(folder, done, model, optimizer, about)
            bar.set_postfix(loss=f"{history.losses[-1]:.3f}", refresh=False)
            bar.update()
    return history
