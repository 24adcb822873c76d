"""What chapter 15's script measures of a language model: does its routing hold, does it matter?"""

import copy
import statistics
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.models import balance
from experiments.uncertainty_routers import router_inputs
from moe_tutorial import Attention, Block, Experts, LanguageModel, MoELayer, Router, route
from moe_tutorial.learning.documents import installed_documents
from moe_tutorial.learning.language_model import Prediction
from moe_tutorial.learning.settings import Settings
from moe_tutorial.learning.text import Corpus, corpus, fixed_windows
from moe_tutorial.learning.training import train
from moe_tutorial.uncertainty.calibration import (
    expected_calibration_error,
    negative_log_likelihood,
)
from moe_tutorial.uncertainty.matching import match_experts
from moe_tutorial.uncertainty.one_layer import changed, moe_layers, noisy_input, switched_off
from moe_tutorial.uncertainty.perturbations import rounded, without_context
from moe_tutorial.uncertainty.stability import chance_jaccard, jaccard, shuffled_jaccard

WIDTH, EXPERT_WIDTH, EXPERTS, K, HEADS, LAYERS = 64, 64, 16, 4, 4, 4
LENGTH, WINDOWS = 64, 8  # bytes of a window; windows of each domain
RATE = 0.01
GAMMAS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)  # the noise's length over a token's
TEMPERATURES = (0.5, 1.0, 2.0, float("inf"))
DRAWS = 4  # whose outputs are averaged
DROPPED = (8, 16, 32, 48)
SNAPSHOTS = (0, 1, 2, 4, 8, 16, 32)  # of 32 parts of the training
Choices = list[Tensor]  # of each layer the experts, [T, K]


@cache
def text() -> Corpus:
    """The text of this installation."""
    return corpus(installed_documents())


@cache
def tokens() -> tuple[Tensor, Tensor]:
    """The same windows of validation text in every run, and the byte after each token."""
    parts = [batch for _, batch in fixed_windows(text().validation, WINDOWS, LENGTH)]
    return torch.cat([it.tokens_BS for it in parts]), torch.cat([it.targets_BS for it in parts])


def build(seed: int) -> LanguageModel:
    """A language model before training."""
    torch.manual_seed(seed)
    return LanguageModel(
        [
            Block(
                Attention(WIDTH, HEADS),
                MoELayer(Router(WIDTH, EXPERTS, K), Experts(EXPERTS, WIDTH, EXPERT_WIDTH)),
            )
            for _ in range(LAYERS)
        ]
    )


@torch.no_grad()
def choices(model: LanguageModel, tokens_BS: Tensor | None = None) -> Choices:
    """The experts that each layer chooses for the windows."""
    prediction: Prediction = model.eval()(tokens()[0] if tokens_BS is None else tokens_BS)
    return [it.experts_TK for it in prediction.routings if it is not None]


def overlaps(one: Choices, other: Choices) -> list[float]:
    """The mean Jaccard overlap in each layer."""
    pairs = zip(one, other, strict=True)
    return [round(jaccard(a, b).mean().item(), 4) for a, b in pairs]


def changes(one: Choices, other: Choices) -> list[float]:
    """What share of tokens has another set in each layer."""
    pairs = zip(one, other, strict=True)
    return [round((jaccard(a, b) < 1).double().mean().item(), 5) for a, b in pairs]


@torch.no_grad()
def passes(model: LanguageModel, draws: int = 1) -> list[Prediction]:
    """So many passes over the windows, with the same random numbers in every call."""
    generator = torch.Generator().manual_seed(0)
    model.eval()
    return [model(tokens()[0], generator) for _ in range(draws)]


def quality(predictions: list[Prediction]) -> dict[str, float]:
    """Loss and calibration error of the mean probability over some passes."""
    odds = [it.logits_BSV.double().softmax(-1) for it in predictions]
    odds_NV, labels_N = torch.stack(odds).mean(0).flatten(0, 1), tokens()[1].flatten()
    return {
        "loss": negative_log_likelihood(odds_NV, labels_N),
        "ece": expected_calibration_error(odds_NV, labels_N),
    }


def less(found: dict[str, float], before: dict[str, float]) -> dict[str, float]:
    """How much more than before."""
    return {name: round(value - before[name], 5) for name, value in found.items()}


def run(seed: int, order: int, steps: int, work: Path) -> dict[str, Any]:
    """Train a model and measure it.

    Args:
        seed: of the first weights.
        order: of the training windows.
        steps: of the training.
        work: the folder where its choices are kept, for :func:`pair`.
    """
    model = build(seed)
    snapshots = {round(steps * part / 32): choices(model) for part in SNAPSHOTS[:1]}
    wanted = {round(steps * part / 32) for part in SNAPSHOTS[1:]}
    done = 0

    def after_step(_: Prediction) -> None:
        nonlocal done
        done += 1
        if done in wanted:
            snapshots[done] = choices(model)
            model.train()

    settings = Settings(
        steps=steps, length=LENGTH, learning_rate=RATE, warm_up=steps // 20, seed=order
    )
    history = train(model, text().training, settings, penalty=balance, after_step=after_step)
    last = choices(model)
    torch.save([it.to(torch.int8) for it in last], work / f"choices_{seed}_{order}_{steps}.pt")
    return {
        "seconds": round(history.seconds[-1], 1),
        "quality": {name: round(value, 4) for name, value in quality(passes(model)).items()},
        "chance": round(chance_jaccard(EXPERTS, K), 4),
        "shuffled": [
            round(shuffled_jaccard(it, it, torch.Generator().manual_seed(0)).mean().item(), 4)
            for it in last
        ],
        "training": {str(step): overlaps(it, last) for step, it in snapshots.items()},
        **measured(model, last),
    }


def measured(model: LanguageModel, last: Choices) -> dict[str, Any]:
    """How a trained model's routing answers to what changes."""
    layers, before = moe_layers(model), quality(passes(model))
    embedded = model.blocks[0]
    noise, sampling = [], []
    for gamma in GAMMAS:
        own = []
        for i, layer in enumerate(layers):
            with noisy_input(layer.router, gamma, generator=torch.Generator().manual_seed(0)):
                own.append(overlaps(choices(model)[i : i + 1], last[i : i + 1])[0])
        with noisy_input(embedded, gamma, generator=torch.Generator().manual_seed(0)):
            deep = overlaps(choices(model), last)
        noise.append({"gamma": gamma, "at the router": own, "at the first block": deep})
    for temperature in TEMPERATURES:
        for i, layer in enumerate(layers):
            with changed(layer, selection="sampled", temperature=temperature):
                drawn = passes(model, DRAWS)
            routing = drawn[0].routings[i]
            assert routing is not None
            sampling.append(
                {
                    "temperature": str(temperature),
                    "layer": i,
                    "jaccard": overlaps([routing.experts_TK], last[i : i + 1])[0],
                    "one draw": less(quality(drawn[:1]), before),
                    "outputs averaged": less(quality(drawn), before),
                }
            )
    off = []
    for layer in layers:
        with switched_off(layer):
            off.append(less(quality(passes(model)), before))
    context = {}
    for dropped in DROPPED:
        cut = choices(model, without_context(tokens()[0], dropped))
        later = [[it[:, dropped:] for it in some] for some in (cut, last)]
        context[str(dropped)] = overlaps(*later)
    return {
        "noise": noise,
        "sampling": sampling,
        "switched off": off,
        "context": context,
        "bfloat16": {
            "router alone": changes(narrow_routers(model), last),
            "whole model": changes(choices(copy.deepcopy(model).to(torch.bfloat16)), last),
        },
    }


@torch.no_grad()
def narrow_routers(model: LanguageModel) -> Choices:
    """What each router would choose if its token, centroids and logits were in bfloat16."""

    def narrow(x: Tensor) -> Tensor:
        return rounded(x, torch.bfloat16)

    with router_inputs(model) as seen:
        model(tokens()[0])
    found = []
    for layer, x_TD in zip(moe_layers(model), seen, strict=True):
        logits_TE = narrow(narrow(x_TD) @ narrow(layer.router.centroids_ED).T)
        found.append(route(logits_TE, layer.router.config).experts_TK)
    return found


def pair(one: tuple[int, int], other: tuple[int, int], steps: int, work: Path) -> dict[str, Any]:
    """How much two models' choices share, as numbered and with experts matched.

    Names are found on every second window and judged on the others.

    Args:
        one: seed and order of a model.
        other: those of another.
        steps: of both.
        work: where :func:`run` left their choices.
    """

    def load(model: tuple[int, int]) -> Choices:
        path = work / f"choices_{model[0]}_{model[1]}_{steps}.pt"
        return [it.long() for it in torch.load(path, weights_only=True)]

    raw, matched, by_chance = [], [], []
    for a, b in zip(load(one), load(other), strict=True):
        names_E = match_experts(a[::2], b[::2], EXPERTS)
        renamed = names_E[b[1::2]]
        raw.append(jaccard(a[1::2], b[1::2]).mean().item())
        matched.append(jaccard(a[1::2], renamed).mean().item())
        generator = torch.Generator().manual_seed(0)
        by_chance.append(shuffled_jaccard(a[1::2], renamed, generator).mean().item())
    return {
        "raw": [round(it, 4) for it in raw],
        "matched": [round(it, 4) for it in matched],
        "matched, tokens shuffled": [round(it, 4) for it in by_chance],
        "mean gain": round(statistics.mean(matched) - statistics.mean(by_chance), 4),
    }
