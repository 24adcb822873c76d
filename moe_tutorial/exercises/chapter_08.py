"""Exercises of chapter 08: measuring a load, losses for balance, and reading a library's own."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from moe_tutorial.exercises.grader import Exercise, Inputs, Mistake
from moe_tutorial.learning.balance import switch_loss
from moe_tutorial.learning.loads import expert_load, load_metrics

# Whole numbers divided by whole numbers are float32 in torch, also where a float64 answer goes on
# from there: such an answer is right, too.
TOLERANCE = 1e-6


def _loads(generator: torch.Generator) -> Sequence[Inputs]:
    return [
        (torch.tensor([5, 0, 3, 0, 0, 0], dtype=torch.float64),),
        (torch.tensor([0, 0, 0, 17]),),  # collapsed, and counted in whole numbers
        (torch.tensor([1, 1_000_000, 0, 2]),),
        (torch.randint(1, 50, (12,), generator=generator).double(),),
        (torch.tensor([0.75, 0.0, 0.25], dtype=torch.float64),),  # shares instead of counts
    ]


def _last_of(experts: int) -> Tensor:
    return (torch.arange(experts) == experts - 1).double()


def _layers(generator: torch.Generator) -> Sequence[Inputs]:
    cases: list[Inputs] = []
    for layers, tokens, experts, k in ((3, 12, 4, 2), (2, 30, 6, 1), (2, 7, 5, 3), (1, 9, 4, 2)):
        logits = torch.randn(layers, tokens, experts, generator=generator, dtype=torch.float64)
        # Every layer prefers an expert of its own, so that pooling hides something.
        logits[torch.arange(layers), :, torch.arange(layers)] += 2
        cases.append((logits, k))
    cases.append((cases[0][0] + 800, 2))  # beyond where exponentials overflow
    cases.append((cases[0][0].flip(0), 2))  # the last layer is not the worst one any more
    cases.append((cases[1][0] - 9 * _last_of(6), 1))  # nobody chooses the last expert
    return cases


def _padded(generator: torch.Generator) -> Sequence[Inputs]:
    cases: list[Inputs] = []
    for tokens, experts, k, shift in ((20, 5, 2, 0), (33, 8, 1, 0), (12, 4, 3, 800)):
        # The last one's exponentials overflow.
        logits = torch.randn(tokens, experts, generator=generator, dtype=torch.float64) + shift
        # Padding stands anywhere, as in a batch of sequences of different lengths.
        mask = torch.rand(tokens, generator=generator) < 0.7
        mask[:2] = torch.tensor([False, True])
        logits[~mask] = 0  # padding: all alike, and all to the same experts
        logits[~mask, 0] = 1
        cases.append((logits, k, mask))
    alone = torch.randn(4, 6, generator=generator, dtype=torch.float64)
    cases.append((alone, 2, torch.arange(4) == 2))  # one token
    cases.append((alone, 2, torch.arange(4) >= 0))  # no padding at all
    cases.append(
        (alone - 9 * _last_of(6), 2, torch.arange(4) > 0)
    )  # nobody chooses the last expert
    return cases


def _loss(logits: Tensor, k: int, mask: Tensor | None = None) -> Tensor:
    return switch_loss(logits.softmax(-1), logits.topk(k).indices, mask)


def _each_layer(logits: Tensor, k: int) -> Tensor:
    return torch.stack([_loss(layer, k) for layer in logits])


def _share(logits: Tensor, k: int, mask: Tensor | None = None) -> Tensor:
    load = expert_load(logits.topk(k).indices, logits.shape[-1], mask).double()
    return load / load.sum()


def _counted_fully(logits: Tensor, k: int, mask: Tensor) -> Tensor:
    return logits.shape[-1] * (_share(logits, k) * logits[mask].softmax(-1).mean(0)).sum()


def _averaged_fully(logits: Tensor, k: int, mask: Tensor) -> Tensor:
    return logits.shape[-1] * (_share(logits, k, mask) * logits.softmax(-1).mean(0)).sum()


def _divided_by_all(logits: Tensor, k: int, mask: Tensor) -> Tensor:
    kept = mask.double().mean()
    return _loss(logits, k, mask) * kept


def _without_k(logits: Tensor, k: int) -> Tensor:
    """The loss over the tokens of all layers, with f counted per token: K when balanced."""
    return k * _loss(logits.flatten(0, 1), k)


def _entropy_with(epsilon: float) -> Callable[[Tensor], Tensor]:
    def answer(load: Tensor) -> Tensor:
        fraction = load.double() / load.sum()
        return torch.exp(-(fraction * (fraction + epsilon).log()).sum())

    return answer


def _perplexity(base: float) -> Callable[[Tensor], Tensor]:
    return lambda load: base ** load_metrics(load).entropy


EFFECTIVE = Exercise(
    "8.1",
    lambda load: load_metrics(load).effective_experts,
    _loads,
    (
        Mistake(
            lambda load: load_metrics(load).entropy,
            "this is the entropy, in nats: its exponential counts experts",
        ),
        Mistake(
            lambda load: load_metrics(load).entropy / torch.log(torch.tensor(2.0)),
            "this is the entropy, in bits: take the natural logarithm, and its exponential",
        ),
        Mistake(
            lambda load: (load > 0).sum().double(),
            "this counts experts with any token at all: a busier one has to count for more",
        ),
        Mistake(
            _perplexity(2.0),
            "the entropy is in nats (natural logarithm): take e to its power, not 2",
        ),
        Mistake(
            lambda load: 1 / load_metrics(load).fraction_E.square().sum(),
            "this is the inverse of the sum of squares, another such number: use the entropy",
        ),
        Mistake(
            lambda load: 1 / load_metrics(load).effective_experts,
            "this is one over the number of experts: the entropy has a minus in front of its sum",
        ),
        Mistake(
            lambda load: load.sum() / load.max(),
            "this is the sum over the largest, another such number: use the entropy",
        ),
        Mistake(
            lambda load: load_metrics(load).effective_experts / len(load),
            "this is a share of all experts: their number was asked for",
        ),
        Mistake(
            # 0 times minus infinity, wherever an expert has no token.
            lambda load: torch.exp(-(load / load.sum() * (load / load.sum()).log()).sum()),
            "NaN: an expert without tokens gives 0 times the logarithm of 0; leave it out",
        ),
        *(
            Mistake(
                _entropy_with(epsilon),
                f"your formula is right but for a constant of {epsilon:g} in the logarithm: leave "
                "out the experts without tokens instead, or use torch.special.xlogy",
            )
            for epsilon in (1e-3, 1e-4, 1e-5, 1e-6)
        ),
    ),
    tolerance=TOLERANCE,
)

MASKED = Exercise(
    "8.2",
    _loss,
    _padded,
    (
        Mistake(lambda logits, k, mask: _loss(logits, k), "padding counts as tokens here"),
        Mistake(_counted_fully, "padding is left out of P, but still counted in f"),
        Mistake(_averaged_fully, "padding is left out of f, but still averaged in P"),
        Mistake(
            lambda logits, k, mask: _loss(logits, k, ~mask) if (~mask).any() else logits.sum() * 0,
            "the mask is the wrong way round: True marks the tokens that count",
        ),
        Mistake(
            _divided_by_all,
            "padding is left out of the sums, but f or P is still divided by all rows",
        ),
        Mistake(
            lambda logits, k, mask: _loss(logits, k, mask) * mask.double().mean() ** 2,
            "padding is left out of the sums, but f and P are still divided by all rows",
        ),
        Mistake(
            lambda logits, k, mask: k * _loss(logits, k, mask),
            "this is K times too large: f is a share of all T K assignments",
        ),
        Mistake(
            lambda logits, k, mask: _loss(logits, k, mask) / logits.shape[-1],
            "the factor E is missing: balanced must read 1",
        ),
        Mistake(
            lambda logits, k, mask: _loss(logits, 1, mask),
            "f counts each token's first choice alone: all K choices are a load",
        ),
        Mistake(
            lambda logits, k, mask: (
                logits.shape[-1] * logits[mask].softmax(-1).mean(0).square().sum()
            ),
            "f is a count of the tokens that chose an expert, not the mean probability again",
        ),
        Mistake(
            lambda logits, k, mask: _loss(logits.detach(), k, mask),
            "the number is right, but no gradient reaches the logits: P has to stay attached",
        ),
    ),
    gradient=True,
    tolerance=TOLERANCE,
)

PER_LAYER = Exercise(
    "8.3",
    lambda logits, k: _each_layer(logits, k).mean(),
    _layers,
    (
        Mistake(
            lambda logits, k: _loss(logits.flatten(0, 1), k),
            "the layers are pooled: two that collapsed differently would look balanced",
        ),
        Mistake(
            lambda logits, k: _each_layer(logits, k).sum(),
            "this is the sum over the layers: the mean was asked for",
        ),
        Mistake(
            lambda logits, k: _loss(logits.mean(0), k),
            "logits of different layers have nothing in common: average the losses, not the logits",
        ),
        Mistake(
            lambda logits, k: k * _each_layer(logits, k).mean(),
            "this reads K when balanced: f is a share of all T K assignments",
        ),
        Mistake(
            lambda logits, k: _each_layer(logits, k).mean() / logits.shape[-1],
            "the factor E is missing: balanced must read 1",
        ),
        Mistake(
            lambda logits, k: _loss(logits[0], k),
            "this is the loss of the first layer alone",
        ),
        Mistake(
            lambda logits, k: _loss(logits[-1], k),
            "this is the loss of the last layer alone: is the result of the loop kept?",
        ),
        Mistake(
            lambda logits, k: _each_layer(logits, 1).mean(),
            "f counts each token's first choice alone: all K choices are a load",
        ),
        Mistake(
            lambda logits, k: _each_layer(logits, k).sum() / logits.shape[1],
            "the sum is divided by the number of tokens: divide by the number of layers",
        ),
        Mistake(
            lambda logits, k: _each_layer(logits.detach(), k).mean(),
            "the number is right, but no gradient reaches the logits: P has to stay attached",
        ),
    ),
    gradient=True,
    tolerance=TOLERANCE,
)

AS_READ = Exercise(
    "8.4",
    _without_k,
    _layers,
    (
        Mistake(
            lambda logits, k: _loss(logits.flatten(0, 1), k),
            "this is the library's value divided by K: look at what its counts are divided by",
        ),
        Mistake(
            lambda logits, k: k * _each_layer(logits, k).mean(),
            "each layer has its own loss here: look where the library's loop over the layers ends",
        ),
        Mistake(
            lambda logits, k: _each_layer(logits, k).mean(),
            "this is the answer to exercise 8.3: the library adds up all layers first, and its "
            "counts are not divided by K",
        ),
        Mistake(
            lambda logits, k: _without_k(logits, k) * len(logits),
            "the counts of all layers are divided by the rows of one",
        ),
        Mistake(
            lambda logits, k: _without_k(logits, k) / logits.shape[-1],
            "the factor E is missing: it stands in the last line of the source",
        ),
        Mistake(
            lambda logits, k: _loss(logits.flatten(0, 1), 1),
            "only each token's first choice is counted: the library counts all K",
        ),
    ),
    tolerance=TOLERANCE,
)

EXERCISES = (EFFECTIVE, MASKED, PER_LAYER, AS_READ)
