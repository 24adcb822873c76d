"""The models of chapter 16's script: plain, smoothed, drawn, with a posterior, and several."""

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from experiments.uncertainty_scores import (
    LENGTH,
    Scores,
    answers,
    at_home,
    bigram_surprise,
    data,
    detected,
    doubts,
    everywhere,
    log_odds_of,
    windows,
)
from moe_tutorial import Attention, Block, Experts, MoELayer, Router, switch_loss
from moe_tutorial.learning.fitting import fit
from moe_tutorial.learning.languages import Guesser
from moe_tutorial.learning.settings import Settings
from moe_tutorial.learning.text import draw_batch
from moe_tutorial.uncertainty.bayesian import PosteriorRouter, PosteriorRouting, over_frozen
from moe_tutorial.uncertainty.bayesian_routers import (
    DropoutRouter,
    GaussianRouter,
    LaplaceRouter,
    TemperatureRouter,
)
from moe_tutorial.uncertainty.centroid_clouds import (
    centroid_variance,
    dropped,
    laplace_covariances,
)
from moe_tutorial.uncertainty.one_layer import changed, moe_layers

WIDTH, EXPERT_WIDTH, EXPERTS, K, HEADS, LAYERS = 32, 32, 16, 4, 4, 3
BALANCE = 0.01
BATCH = 32
DRAWS = 8
MODELS = 3  # of an ensemble
ALONE = 8  # a posterior over a frozen model takes an eighth of the steps
RATE_ALONE = 0.01
FISHER = 100  # windows of each language, for a Laplace posterior and for distances

RAW: dict[str, Callable[[float], tuple[type[Any], dict[str, Any]]]] = {
    "dropout": lambda value: (DropoutRouter, {"rate": value}),
    "laplace": lambda _: (LaplaceRouter, {}),
    "noise": lambda _: (GaussianRouter, {}),
    "mean field": lambda _: (GaussianRouter, {}),
    "full covariance": lambda _: (GaussianRouter, {"full_covariance": True}),
    "temperature": lambda _: (TemperatureRouter, {}),
}
"""Of each method, the router and its options; a router of your own is one line here."""


def build(seed: int) -> Guesser:
    """A guesser before training."""
    torch.manual_seed(seed)
    return Guesser(
        [
            Block(
                Attention(WIDTH, HEADS),
                MoELayer(Router(WIDTH, EXPERTS, K), Experts(EXPERTS, WIDTH, EXPERT_WIDTH)),
            )
            for _ in range(LAYERS)
        ]
    )


def trained(
    model: Guesser, steps: int, rate: float, seed: int, *, smoothing: float = 0.0, beta: float = 0.0
) -> float:
    """Train a guesser; returns the seconds that it took.

    Args:
        model: what is frozen in it stays.
        steps: how many.
        rate: the highest learning rate.
        seed: of the batches and the draws.
        smoothing: of the labels.
        beta: of the divergence: its mean over tokens, summed over experts and layers.
    """
    batches = torch.Generator().manual_seed(seed)
    draws = torch.Generator().manual_seed(seed + 1_000_000)
    learns = any(it.router.centroids_ED.requires_grad for it in moe_layers(model))
    text = data().training
    model.train()

    def objective() -> Tensor:
        batch = draw_batch(text, BATCH, LENGTH, batches)
        guess = model(batch.tokens_BS, draws)
        loss = nn.functional.cross_entropy(
            guess.logits_BC, batch.domains_BS[:, 0], label_smoothing=smoothing
        )
        for it in guess.routings:
            if learns:
                loss = loss + BALANCE * switch_loss(it.probabilities_TE, it.experts_TK)
            if beta and isinstance(it, PosteriorRouting):
                loss = loss + beta * it.divergence_T.mean()
        return loss

    settings = Settings(steps=steps, learning_rate=rate, warm_up=steps // 20, seed=seed)
    return fit(model, objective, settings)


def plain(seed: int, steps: int, rate: float, work: Path) -> Guesser:
    """The plain model of a seed, trained once and kept in the folder ``work``."""
    model, path = build(seed), work / f"plain_{seed}_{steps}_{rate:g}.pt"
    if path.exists():
        model.load_state_dict(torch.load(path, weights_only=True))
    else:
        trained(model, steps, rate, seed)
        scratch = path.with_suffix(f".{seed}.scratch")
        torch.save(model.state_dict(), scratch)
        scratch.replace(path)
    return model.eval()


def with_posterior(model: Guesser, method: str, value: float, *, frozen: bool) -> Guesser:
    """A copy of the model with another kind of router; all else is frozen, or nothing is."""
    made = copy.deepcopy(model).requires_grad_(not frozen)
    kind, options = RAW[method](value)
    for layer in moe_layers(made):
        router = over_frozen(kind, layer.router, **options)
        if not frozen:
            router.requires_grad_(True)
        if method == "noise":
            nn.init.constant_(router.posterior.bias[EXPERTS:], math.log(value))
        layer.router = router
    if method == "laplace":
        for layer, (x_TD, gradient_TE) in zip(moe_layers(made), fisher(model), strict=True):
            assert isinstance(layer.router, LaplaceRouter)
            layer.router.set_covariances(*laplace_covariances(x_TD, gradient_TE, value))
    return made


@contextmanager
def router_inputs(model: nn.Module) -> Iterator[list[Tensor]]:
    """What each layer's router sees, in the order in which they are called."""
    seen: list[Tensor] = []
    handles = [
        layer.router.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        for layer in moe_layers(model)
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def fisher(model: Guesser) -> list[tuple[Tensor, Tensor]]:
    """Of each layer, what its router saw of some training windows, and the gradients it got.

    The labels are drawn from what the model itself says.
    """
    model = copy.deepcopy(model).requires_grad_(True)
    tokens_NS = windows(data().training, FISHER).tokens_NS
    with router_inputs(model) as seen:
        guess = model(tokens_NS)
    generator = torch.Generator().manual_seed(0)
    odds_NC = guess.logits_BC.detach().softmax(-1)
    labels_N = torch.multinomial(odds_NC, 1, generator=generator).squeeze(1)
    loss = nn.functional.cross_entropy(guess.logits_BC, labels_N, reduction="sum")
    logits = [it.logits_TE for it in guess.routings if it is not None]
    gradients = torch.autograd.grad(loss, logits)
    return list(zip((it.detach() for it in seen), gradients, strict=True))


@contextmanager
def drawing(model: Guesser, method: str, value: float) -> Iterator[Guesser]:
    """A trained model that draws, with nothing else trained."""
    if method == "sampled":
        with changed_everywhere(model, selection="sampled", temperature=value):
            yield model
    elif method == "expert dropout":
        generator = torch.Generator().manual_seed(0)

        def drop(_: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return dropped(given[0], value, generator), *given[1:]

        handles = [it.experts.register_forward_pre_hook(drop) for it in moe_layers(model)]
        try:
            yield model
        finally:
            for handle in handles:
                handle.remove()
    else:
        yield with_posterior(model, method, value, frozen=True)


@contextmanager
def changed_everywhere(model: Guesser, **changes: Any) -> Iterator[None]:
    """Let all layers decide otherwise."""
    with ExitStack() as stack:
        for layer in moe_layers(model):
            stack.enter_context(changed(layer, **changes))
        yield


def judged(
    model: Guesser, reference: Mapping[str, Tensor], *, logarithms: bool = False
) -> dict[str, Any]:
    """All that is stored of a model that draws: one draw, outputs of DRAWS averaged, and inside.

    Args:
        model: what to judge.
        reference: the plain model's forecasts.
        logarithms: whether to average logarithms of probabilities, too.
    """
    said = everywhere(model, DRAWS)
    once = {place: {"logits": it["logits"][:1]} for place, it in said.items()}
    log_odds = log_odds_of(said)
    found: dict[str, Any] = {
        "one draw": answers(log_odds_of(once)),
        "outputs averaged": answers(log_odds, reference),
        **detected(doubts(said), log_odds),
    }
    if logarithms:
        found["logarithms averaged"] = answers(log_odds_of(said, of_probabilities=False))
    routers = [it.router for it in moe_layers(model) if isinstance(it.router, PosteriorRouter)]
    if routers:
        for router in routers:
            router.draws = DRAWS
        found["averaged inside"] = answers(log_odds_of(at_home(model, 1)), reference)
    found["logit variance"] = round(
        said["test"].get("logit variance", torch.zeros(1)).mean().item(), 4
    )
    return found


def judged_plain(model: Guesser) -> dict[str, Any]:
    """What is stored of the plain model, with doubts that need no draws."""
    said = everywhere(model, 1)
    log_odds = log_odds_of(said)
    here = doubts(said)
    for more in (bigram_surprise(), distances(model)):
        for place, scores in more.items():
            here[place] |= scores
    return {"plain": answers(log_odds), **detected(here, log_odds)}


def distances(model: Guesser) -> dict[str, Scores]:
    """How far windows are from the training windows, at the head and at the routers."""
    known = windows(data().training, FISHER)
    with torch.no_grad():
        features_ND = model(known.tokens_NS).features_BD.double()
    means_CD = torch.stack([features_ND[known.labels_N == c].mean(0) for c in range(8)])
    within_DD = torch.cov((features_ND - means_CD[known.labels_N]).T)
    inverse_DD = torch.linalg.inv(within_DD + 1e-6 * torch.eye(WIDTH).double())
    covariances = [laplace_covariances(*it, 1.0)[1] for it in fisher(model)]
    found = {}
    for place, tokens_NS in data().places().items():
        with torch.no_grad(), router_inputs(model) as seen:
            features_ND = model(tokens_NS).features_BD.double()
        apart_NCD = features_ND[:, None] - means_CD
        variance = [centroid_variance(u, s) for u, s in zip(seen, covariances, strict=True)]
        found[place] = {
            "Mahalanobis": ((apart_NCD @ inverse_DD) * apart_NCD).sum(-1).amin(-1),
            "centroid variance": torch.stack(variance).mean((0, 2)),
        }
    return found


def together(models: list[Guesser], reference: Mapping[str, Tensor]) -> dict[str, Any]:
    """What is stored of several models whose outputs are averaged."""
    each = [everywhere(model, 1) for model in models]
    said = {place: {"logits": torch.cat([it[place]["logits"] for it in each])} for place in each[0]}
    log_odds = log_odds_of(said)
    return {"outputs averaged": answers(log_odds, reference), **detected(doubts(said), log_odds)}
