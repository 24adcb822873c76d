"""Train a sparse language model on any number of devices, from one settings file.

On one machine, with a process for each GPU or, without any, for some of the cores::

    torchrun --standalone --nproc-per-node 4 -m moe_tutorial.train settings.json runs/first

On several machines, the same line on each, with a folder that all of them see::

    torchrun --nnodes 2 --nproc-per-node 8 --rdzv-backend c10d --rdzv-id 1 \
             --rdzv-endpoint first-machine:29500 -m moe_tutorial.train settings.json runs/first

Started again, it goes on from its newest checkpoint, on as many devices or on others. To start it
again by itself when a process dies, give torchrun ``--max-restarts 3`` and set
``TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1``; without that variable, the second attempt may fail to
find its store. A rank that waits in vain gives up after the settings' ``time_out``, and cannot know
for whom it waited: ``TORCH_DISTRIBUTED_DEBUG=DETAIL`` says which ranks took part.    Chapter 14.
"""

import argparse
import os
import sys
from pathlib import Path

import torch.distributed as dist

from moe_tutorial.learning.documents import installed_documents
from moe_tutorial.learning.text import corpus
from moe_tutorial.learning.training import evaluate
from moe_tutorial.parallel.launching import (
    Plan,
    bias_mover,
    connect,
    make_mesh,
    make_model,
    penalty_of,
    read_plan,
)
from moe_tutorial.parallel.spread import shard_rest, spread_experts
from moe_tutorial.parallel.training import train_parallel


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit status is 2 for input that every rank refuses."""
    parser = argparse.ArgumentParser("moe_tutorial.train", description=__doc__.splitlines()[0])
    parser.add_argument("settings", type=Path, help="a JSON file, see moe_tutorial.parallel")
    parser.add_argument("folder", type=Path, help="where checkpoints are kept")
    parser.add_argument("--until", type=int, help="stop after this step, to go on another time")
    options = parser.parse_args(arguments)
    try:
        _train(read_plan(options.settings), options.folder, options.until)
    except (TypeError, ValueError, FileNotFoundError, ModuleNotFoundError) as error:
        # Every rank says so: one that failed alone would be the only one to know why.
        print(f"rank {os.environ.get('RANK', '0')}: {error}", file=sys.stderr, flush=True)
        return 2
    return 0


def _train(plan: Plan, folder: Path, until: int | None) -> None:
    device = connect(plan.time_out)
    mesh = make_mesh(plan.copies, device)
    texts = corpus(installed_documents(plan.languages))
    model = make_model(plan).to(device)
    spread_experts(model, mesh)
    if plan.shard_rest:
        shard_rest(model, mesh)
    history = train_parallel(
        model,
        texts.training,
        plan.training,
        mesh,
        penalty=penalty_of(plan),
        after_step=bias_mover(model, plan.bias_rate),
        folder=folder,
        save_every=plan.save_every,
        until=until,
        progress=True,
    )
    # All ranks, since each holds experts that the others' tokens need.
    losses = evaluate(model, texts.validation, 16, plan.training.length)
    if dist.get_rank() == 0:
        print(f"steps {len(history.losses)}, training loss {history.losses[-1]:.4f} nats a byte")
        for domain, loss in losses.items():
            print(f"validation loss in {domain}: {loss:.4f}")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    sys.exit(main())
