"""The term project: the lowest validation loss that a fixed number of FLOPs buys.

An entry is a module with ``build()`` and ``SETTINGS``; all get the same text and the same budget.
steps = budget / (FLOPs a token * tokens a step).
"""

import hashlib
import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from moe_tutorial.course.plan import PlanError, module_of
from moe_tutorial.learning.language_model import LanguageModel, training_flops
from moe_tutorial.learning.settings import Settings
from moe_tutorial.learning.text import Corpus, draw_batch
from moe_tutorial.learning.training import evaluate, train
from moe_tutorial.routing.decision import Routing

WINDOWS = 64  # of each domain, for the validation loss
SLACK = 1.02  # what a model may compute beyond what it counts: sums that nobody calls products
CHOICES = {"batch_size", "length", "learning_rate", "warm_up", "lowest_rate", "weight_decay"}
"""The settings that an entry chooses; steps follow from the budget."""


@dataclass(frozen=True)
class Entry:
    """What somebody enters.

    Attributes:
        name: of its file.
        digest: of its text: a changed file is another entry.
        build: makes the model, with weights from torch's global generator.
        settings: those of CHOICES that it sets.
        penalty: what each sparse layer's routing adds to the loss, or None.
    """

    name: str
    digest: str
    build: Callable[[], LanguageModel]
    settings: Mapping[str, float]
    penalty: Callable[[Routing], Tensor] | None


@dataclass(frozen=True)
class Run:
    """What one entry reached with one seed.

    Attributes:
        name: of the entry.
        digest: of the entry's text.
        seed: of weights, windows and draws.
        budget: FLOPs that it was given.
        flops: that it used, in whole steps.
        total_parameters: of the model.
        active_parameters: of the model, for a token.
        settings: of the training, all of them.
        loss: in nats a byte, the mean over the domains of the validation text.
        by_domain: the same for each domain.
        seconds: of training.
        text: fingerprints of the training and the validation text.
        versions: of Python and torch, and the kind of processor.
    """

    name: str
    digest: str
    seed: int
    budget: float
    flops: float
    total_parameters: int
    active_parameters: int
    settings: dict[str, Any]
    loss: float
    by_domain: dict[str, float]
    seconds: float
    text: list[str]
    versions: list[str]


@dataclass(frozen=True)
class Standing:
    """One line of the leaderboard.

    Attributes:
        place: one more than the number of entries that are clearly better: whose worst run is
            better than the best run of this one.
        name: of the entry.
        losses: one for each seed, sorted.
        runs: its runs.
    """

    place: int
    name: str
    losses: tuple[float, ...]
    runs: tuple[Run, ...]


def read_entry(path: Path) -> Entry:
    """Read a module that somebody enters. It runs with your rights: read it first.

    Raises:
        PlanError: it cannot be imported, has no build(), or settings that are not for it to choose.
    """
    module = module_of(path)
    build, settings = getattr(module, "build", None), getattr(module, "SETTINGS", {})
    if not callable(build):
        raise PlanError(f"{path.name} must have a function build() that returns a LanguageModel")
    if not isinstance(settings, Mapping) or not set(settings) <= CHOICES:
        raise PlanError(f"{path.name}: SETTINGS may hold {', '.join(sorted(CHOICES))}, and no more")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    return Entry(path.stem, digest, build, dict(settings), getattr(module, "penalty", None))


def check_model(model: Any, corpus: Corpus, length: int) -> LanguageModel:
    """Refuse what is no language model, or computes more than it counts.

    Raises:
        PlanError: saying which.
    """
    if not isinstance(model, LanguageModel):
        raise PlanError(f"build() must return a LanguageModel, got {type(model).__name__}")
    batch = draw_batch(corpus.training, 2, length, torch.Generator().manual_seed(0))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(batch.tokens_BS, torch.Generator().manual_seed(0))
    found = counter.get_total_flops() / batch.tokens_BS.numel()
    # The counter knows nothing of the mask: for it every token attends to the whole window.
    attention = len(model.blocks) * 2 * 2 * model.head.in_features * length
    counted = model.counted().flops() + attention
    if found > SLACK * counted:
        raise PlanError(
            f"the model computes {found:.0f} FLOPs a token forward, and counts {counted}: a part "
            "that computes more has to be counted"
        )
    return model


def run_entry(entry: Entry, seed: int, budget: float, corpus: Corpus) -> Run:
    """Train an entry with one seed for what the budget allows, and measure it.

    Raises:
        PlanError: a model that is refused, settings that make no sense, or a budget below 20 steps.
    """
    torch.manual_seed(seed)
    chosen = {"warm_up": 0, **entry.settings}
    length, batch_size = int(chosen.get("length", 128)), int(chosen.get("batch_size", 16))
    model = check_model(entry.build(), corpus, length)
    a_step = training_flops(model, length) * length * batch_size
    steps = int(budget // a_step)
    if steps < 20:
        raise PlanError(f"a step takes {a_step:.3g} FLOPs: a budget of {budget:.3g} gives {steps}")
    try:
        settings = Settings(steps=steps, seed=seed, **chosen)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise PlanError(f"SETTINGS: {error}") from error
    start = time.perf_counter()
    train(model, corpus.training, settings, penalty=entry.penalty, progress=True)
    seconds = time.perf_counter() - start
    by_domain = evaluate(model, corpus.validation, WINDOWS, 128)
    counted = model.counted()
    return Run(
        entry.name,
        entry.digest,
        seed,
        budget,
        float(steps * a_step),
        counted.total_parameters(),
        counted.active_parameters(),
        asdict(settings),
        round(statistics.mean(by_domain.values()), 4),
        {domain: round(loss, 4) for domain, loss in by_domain.items()},
        round(seconds, 1),
        [corpus.training.fingerprint(), corpus.validation.fingerprint()],
        [platform.python_version(), torch.__version__, platform.machine()],
    )


def standings(runs: Sequence[Run]) -> list[Standing]:
    """The leaderboard: who is not clearly beaten by anybody has place 1, and so on."""
    by_name: dict[str, list[Run]] = {}
    for run in runs:
        by_name.setdefault(run.name, []).append(run)
    losses = {name: sorted(run.loss for run in its) for name, its in by_name.items()}
    found = [
        Standing(
            1 + sum(other[-1] < own[0] for other in losses.values()),
            name,
            tuple(own),
            tuple(by_name[name]),
        )
        for name, own in losses.items()
    ]
    return sorted(found, key=lambda it: (it.place, statistics.mean(it.losses), it.name))


def as_markdown(found: Sequence[Standing], failed: Mapping[str, str]) -> str:
    """The leaderboard as a page, with what it means."""
    lines = [
        "# Leaderboard",
        "",
        "Validation loss in nats a byte, lower is better: the mean over seeds, the best seed and "
        "the worst. A place is shared by all whom nobody beats clearly: with each of the seeds.",
        "",
        "| place | entry | mean loss | best to worst | seeds | parameters | used for a token "
        "| steps | FLOPs |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for it in found:
        run = it.runs[0]
        lines.append(
            f"| {it.place} | {it.name} | {statistics.mean(it.losses):.3f} "
            f"| {it.losses[0]:.3f} to {it.losses[-1]:.3f} | {len(it.losses)} "
            f"| {run.total_parameters} | {run.active_parameters} | {run.settings['steps']} "
            f"| {run.flops:.3g} |"
        )
    if any(len(it.losses) < 2 for it in found):
        lines += ["", "One seed says nothing about spread: run at least three."]
    lines += [f"\n{name} did not run: {reason}" for name, reason in failed.items()]
    return "\n".join(lines) + "\n"


def stored_runs(path: Path) -> list[Run]:
    """The runs in a file; none if there is none yet."""
    if not path.exists():
        return []
    return [Run(**it) for it in json.loads(path.read_text(encoding="utf-8"))]


def store_runs(runs: Sequence[Run], path: Path) -> None:
    """Write all runs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(run) for run in runs], indent=1) + "\n", encoding="utf-8")


def compete(
    files: Sequence[Path], seeds: Sequence[int], budget: float, corpus: Corpus, out: Path
) -> list[Standing]:
    """Run what is not stored yet, and write ``runs.json`` and ``leaderboard.md``.

    An entry that fails is named below the table, and stops no other. A run counts only beside
    others of the same budget, text and versions.
    """
    runs, failed = stored_runs(out / "runs.json"), {}
    kept: list[Run] = []
    text = [corpus.training.fingerprint(), corpus.validation.fingerprint()]
    for file in files:
        try:
            entry = read_entry(file)
            for seed in seeds:
                key = (entry.name, entry.digest, seed, budget, text)
                done = [r for r in runs if (r.name, r.digest, r.seed, r.budget, r.text) == key]
                if not done:
                    done = [run_entry(entry, seed, budget, corpus)]
                    runs += done
                    store_runs(runs, out / "runs.json")
                kept += done[:1]
        except Exception as error:
            failed[file.stem] = f"{type(error).__name__}: {error}"
            kept = [run for run in kept if run.name != file.stem]
    found = standings(kept)
    out.mkdir(parents=True, exist_ok=True)
    (out / "leaderboard.md").write_text(as_markdown(found, failed), encoding="utf-8")
    return found
