"""What chapter 13 reads from its stored runs: a number for each seed, in the order of the seeds.

Runs of two kinds with the same seed saw the same batches: take their difference seed by seed.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from moe_tutorial.results import stored

Application = Literal["translation", "recommendation", "code"]


def each_seed(
    application: Application, kind: str, number: Callable[[dict[str, Any]], float]
) -> Tensor:
    """A number of every run of one kind.

    Args:
        application: the name of the stored results.
        kind: of model, such as ``"sparse"``.
        number: what to read from a run.

    Returns:
        numbers_N: float64, in the order of the seeds.

    Raises:
        ValueError: there is no such kind.
    """
    runs = [run for run in stored(application)["runs"] if run["model"] == kind]
    if not runs:
        kinds = list(dict.fromkeys(run["model"] for run in stored(application)["runs"]))
        raise ValueError(f"kind must be one of {', '.join(kinds)}, got {kind!r}")
    runs.sort(key=lambda run: run["seed"])
    return torch.tensor([number(run) for run in runs], dtype=torch.float64)


def price(application: Application, kind: str) -> dict[str, float]:
    """What a model of one kind costs.

    Returns:
        Its parameters, those that a token (or a moment) uses, and the processor's seconds of its
        training, the middle one of the seeds.
    """
    return {
        "stored": each_seed(application, kind, lambda run: run["total_parameters"])[0].item(),
        "used": each_seed(application, kind, lambda run: run["active_parameters"])[0].item(),
        "seconds": each_seed(application, kind, lambda run: run["validation"][-1]["seconds"])
        .median()
        .item(),
    }


def translation_loss(kind: str, languages: Sequence[str]) -> Tensor:
    """Nats a character on unseen names, the mean over some languages, for each seed."""

    def mean(run: dict[str, Any]) -> float:
        losses: dict[str, float] = run["validation"][-1]["by_language"]
        return sum(losses[language] for language in languages) / len(languages)

    return each_seed("translation", kind, mean)


def translation_right(kind: str, languages: Sequence[str]) -> Tensor:
    """The share of unseen names that are right to the last character, for each seed."""
    return each_seed(
        "translation", kind,
        lambda run: sum(run["right"][language] for language in languages) / len(languages),
    )  # fmt: skip


def copied(languages: Sequence[str]) -> float:
    """The share of the names that models wrote that are right if the English name is copied."""
    shares = stored("translation")["copied"]
    return float(sum(shares[language] for language in languages) / len(languages))


def translation_tells() -> dict[str, dict[str, float]]:
    """What the sparse models' experts of the last layer tell of each label, means over the seeds.

    Returns:
        For each label, in nats: its doubt, what untrained and trained experts tell of it, and what
        the trained ones tell of labels that were shuffled.
    """
    return _tells(
        "translation",
        lambda run: run["untrained_layers"][-1]["tells"],
        lambda run: run["layers"][-1]["tells"],
    )


def _tells(
    application: Application,
    untrained: Callable[[dict[str, Any]], dict[str, Any]],
    trained: Callable[[dict[str, Any]], dict[str, Any]],
) -> dict[str, dict[str, float]]:
    """The same of any sparse runs; the functions find each run's labels with their nats."""

    def mean(number: Callable[[dict[str, Any]], float]) -> float:
        return each_seed(application, "sparse", number).mean().item()

    run = next(run for run in stored(application)["runs"] if run["model"] == "sparse")
    labels = [label for label, nats in trained(run).items() if isinstance(nats, dict)]
    return {
        label: {
            "doubt": mean(lambda run, label=label: trained(run)[label]["label_entropy"]),  # type: ignore[misc]
            "untrained": mean(lambda run, label=label: untrained(run)[label]["information"]),  # type: ignore[misc]
            "trained": mean(lambda run, label=label: trained(run)[label]["information"]),  # type: ignore[misc]
            "shuffled": mean(lambda run, label=label: trained(run)[label]["shuffled"]),  # type: ignore[misc]
        }
        for label in labels
    }


METRICS = {"next": "ndcg", "liked": "auc"}
"""How each task of the recommenders is measured."""


def recommended(kind: str, task: Literal["next", "liked"]) -> Tensor:
    """What a network reached in a task on the last tenth of all ratings, for each seed."""
    return each_seed("recommendation", kind, lambda run: run["test"][METRICS[task]])


def recommended_by_person(kind: str) -> Tensor:
    """NDCG for each person of the last tenth, the mean over the seeds, ``[U]``."""
    runs = [run for run in stored("recommendation")["runs"] if run["model"] == kind]
    rows = [run["test"]["ndcg_by_user"] for run in runs]
    return torch.tensor(rows, dtype=torch.float64).mean(0)


def baselines(task: Literal["next", "liked"]) -> dict[str, float]:
    """What each baseline reached in a task on the last tenth of all ratings."""
    found = stored("recommendation")["baselines"][task]
    return {
        name: float(it["test"]["ndcg"] if task == "next" else it["test"])
        for name, it in found.items()
    }


def recommendation_tells() -> dict[str, dict[str, float]]:
    """As :func:`translation_tells`, of the task, and in each task of person and last film."""
    return _tells("recommendation", lambda run: run["untrained"], lambda run: run["told"])


def code_loss(kind: str, domain: str | None = None) -> Tensor:
    """Nats a byte on unseen text of one domain, or the mean of all, for each seed."""

    def loss(run: dict[str, Any]) -> float:
        last = run["validation"][-1]
        return float(last["by_domain"][domain] if domain else last["loss"])

    return each_seed("code", kind, loss)


def code_guesses(question: str, when: Literal["untrained", "trained"]) -> dict[str, float]:
    """How often a count table guesses right from each key, the mean over the seeds.

    Args:
        question: ``"kind of token"`` or ``"language"``.
        when: whose experts are among the keys.
    """
    run = next(run for run in stored("code")["runs"] if run["model"] == "sparse")
    label = f"{question}, guessed"
    return {
        key: each_seed("code", "sparse", lambda run, key=key: run[when][label][key]).mean().item()  # type: ignore[misc]
        for key in run[when][label]
    }
