"""What the scripts that train language models share: one measured run, and runs that go on."""

import argparse
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from experiments.store import kept, store
from moe_tutorial import Attention, Block, FeedForward, LanguageModel, MoELayer
from moe_tutorial.learning.balance import switch_loss
from moe_tutorial.learning.language_model import Prediction
from moe_tutorial.learning.settings import Settings
from moe_tutorial.learning.text import Corpus
from moe_tutorial.learning.training import evaluate, train
from moe_tutorial.routing.decision import Routing

HEADS, LAYERS = 4, 2
BALANCE = 0.01  # the coefficient of the Switch loss, in each sparse layer
WINDOWS = 16  # of each domain, for a validation loss
POINTS = 8  # at which it is measured on the way


def arguments(description: str, results: Path, steps: int, whose: str) -> argparse.ArgumentParser:
    """The options that every such script has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--expert-width", type=int, default=64)
    parser.add_argument("--steps", type=int, default=steps, help=f"of {whose}")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--results", type=Path, default=results)
    parser.add_argument("--minutes", type=float, default=1e9, help="start no run after these")
    return parser


def described(options: argparse.Namespace, text: Corpus) -> dict[str, Any]:
    """What all runs of one file have in common."""
    return {
        "width": options.width,
        "expert_width": options.expert_width,
        "layers": LAYERS,
        "heads": HEADS,
        "balance": BALANCE,
        "steps": options.steps,
        "validation_windows": WINDOWS,
        "text": [text.training.fingerprint(), text.validation.fingerprint()],
        "device": torch.cuda.get_device_name() if options.device == "cuda" else options.device,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }


def stacked(width: int, layer: Callable[[], FeedForward | MoELayer]) -> LanguageModel:
    """A model of LAYERS blocks, with weights from torch's global generator."""
    return LanguageModel([Block(Attention(width, HEADS), layer()) for _ in range(LAYERS)])


def balance(routing: Routing) -> torch.Tensor:
    """The balancing loss of one layer."""
    return BALANCE * switch_loss(routing.probabilities_TE, routing.experts_TK)


def measured(
    model: LanguageModel, text: Corpus, settings: Settings, *, sparse: bool, per_token: int
) -> list[dict[str, Any]]:
    """Train a model, and measure its validation loss at POINTS on the way.

    Args:
        model: what to train.
        text: what to train and to measure on.
        settings: of the training.
        sparse: whether it has routers to balance.
        per_token: FLOPs of one token in training.

    Returns:
        For each point the step, the compute and the seconds so far, those of measuring left out,
        and the loss.
    """
    tokens = settings.batch_size * settings.length
    points = {round(settings.steps * (i + 1) / POINTS) for i in range(POINTS)}
    validation: list[dict[str, Any]] = []
    done, measuring, start = 0, 0.0, time.perf_counter()

    def validate(_: Prediction) -> None:
        nonlocal done, measuring
        done += 1
        if done not in points:
            return
        now = time.perf_counter()
        by_domain = evaluate(model, text.validation, WINDOWS, settings.length)
        validation.append(
            {
                "step": done,
                "teraflops": float(f"{done * tokens * per_token / 1e12:.4g}"),
                "seconds": round(now - start - measuring, 1),
                "loss": round(sum(by_domain.values()) / len(by_domain), 4),
                "by_domain": {domain: round(loss, 4) for domain, loss in by_domain.items()},
            }
        )
        measuring += time.perf_counter() - now

    penalty = balance if sparse else None
    train(model, text.training, settings, penalty=penalty, after_step=validate, progress=True)
    return validation


def last_loss(run: dict[str, Any]) -> float:
    """The validation loss of a stored run after its last step."""
    return float(run["validation"][-1]["loss"])


def best_rate(key: str, which: Any, trials: Sequence[dict[str, Any]]) -> float:
    """The learning rate with which the trials of one kind ended lowest on average.

    Args:
        key: the field that tells kinds apart.
        which: the kind.
        trials: stored runs of all kinds.
    """
    losses: dict[float, list[float]] = {}
    for it in trials:
        if it[key] == which:
            losses.setdefault(it["settings"]["learning_rate"], []).append(last_loss(it))
    return min(losses, key=lambda rate: statistics.mean(losses[rate]))


class Runs:
    """The trials and runs of one file, each stored when it is done and not run again.

    Args:
        path: the file; what an earlier call left in it is kept.
        about: what all its runs have in common.
        key: by which of a run's fields, beside seed and learning rate, it is known.
        total: how many there will be.
        minutes: start no run after these.
        more: what else the file holds.

    Raises:
        SystemExit: the file holds runs with another ``about``.
    """

    def __init__(
        self,
        path: Path,
        about: dict[str, Any],
        key: str,
        total: int,
        minutes: float,
        more: dict[str, Any] | None = None,
    ) -> None:
        self.path, self.key, self.minutes = path, key, minutes
        new = {"about": about, **(more or {}), "trials": [], "runs": []}
        self.content = kept(path, {"about": about}) or new
        store(path, self.content, indent=1)
        self.trials, self.runs = self.content["trials"], self.content["runs"]
        self.start = time.perf_counter()
        done = len(self.trials) + len(self.runs)
        self.bar = tqdm(total=total, initial=done, desc="models", unit="run")

    def add(
        self,
        to: list[dict[str, Any]],
        which: Any,
        seed: int,
        rate: float,
        run: Callable[[], dict[str, Any]],
    ) -> None:
        """Run what is not stored yet, if there is time left, and store it among ``to``."""
        stored = any(
            (it[self.key], it["seed"], it["settings"]["learning_rate"]) == (which, seed, rate)
            for it in to
        )
        if stored or self._late():
            return
        to.append(run())
        store(self.path, self.content, indent=1)
        last = to[-1]["validation"][-1]
        self.bar.write(f"{which}, seed {seed}, {rate}: loss {last['loss']}, {last['seconds']} s")
        self.bar.update()

    def note(self, key: str, make: Callable[[], Any]) -> None:
        """Store under ``key`` what ``make`` returns, unless it is there or no time is left."""
        if key in self.content or self._late():
            return
        self.content[key] = make()
        store(self.path, self.content, indent=1)

    def _late(self) -> bool:
        return time.perf_counter() - self.start > 60 * self.minutes
