"""Exercises of chapter 03: choosing experts."""

from collections.abc import Sequence

import torch

from moe_tutorial.exercises.grader import Exercise, Inputs, Mistake
from moe_tutorial.routing.probabilities import softmax
from moe_tutorial.routing.selection import keep, softmax_over_chosen, top_k


def _scores_with_ties(generator: torch.Generator) -> Sequence[Inputs]:
    draws = torch.randint(-2, 3, (6, 40), generator=generator).double()
    return [(draws, 5), (torch.randn(4, 7, generator=generator, dtype=torch.float64), 2)]


def _logits_and_experts(generator: torch.Generator) -> Sequence[Inputs]:
    near = torch.randn(5, 8, generator=generator, dtype=torch.float64)
    # Experts far below the best one: their full softmax is 0 in every floating-point format.
    far = torch.tensor([[2000.0, 1.0, 0.0, -1.0, -3.0]], dtype=torch.float64)
    return [(near, torch.tensor([[1, 4, 6]] * 5)), (far, torch.tensor([[3, 1]]))]


def _logits(generator: torch.Generator) -> Sequence[Inputs]:
    return [
        (torch.randn(6, 5, generator=generator, dtype=torch.float64),),
        (3 * torch.randn(3, 12, generator=generator, dtype=torch.float64),),
    ]


TOP_K = Exercise(
    "3.1",
    top_k,
    _scores_with_ties,
    (
        Mistake(
            lambda s, k: s.argsort(dim=-1, stable=True)[..., :k],
            "these are the k smallest scores: argsort sorts upwards unless told otherwise",
        ),
        Mistake(
            lambda s, k: s.topk(k).indices,
            "torch.topk promises nothing about equal scores: the lower id must come first",
        ),
        Mistake(
            lambda s, k: s.argsort(dim=-1, stable=True).flip(-1)[..., :k],
            "turning an upward sort round puts the higher id first among equal scores",
        ),
        Mistake(
            lambda s, k: top_k(s, k).sort(-1).values,
            "the right experts, sorted by id: put the best first",
        ),
        Mistake(
            lambda s, k: s.gather(-1, top_k(s, k)),
            "these are the scores: return the experts' ids",
        ),
    ),
)

GATES = Exercise(
    "3.2",
    softmax_over_chosen,
    _logits_and_experts,
    (
        Mistake(
            lambda logits, e: keep(softmax(logits), e) / keep(softmax(logits), e).sum(-1, True),
            "right until all chosen probabilities underflow, then 0 / 0: never leave the logits",
        ),
        Mistake(
            lambda logits, e: keep(softmax(logits), e),
            "these gates sum to less than 1 over the chosen experts: did you renormalise?",
        ),
        Mistake(
            lambda logits, e: logits.gather(-1, e) / logits.gather(-1, e).sum(-1, True),
            "logits can be negative, so dividing by their sum gives no shares: exponentiate first",
        ),
        Mistake(
            lambda logits, e: torch.softmax(logits.gather(-1, e), 0),
            "this softmax runs over the tokens: the last dimension holds the chosen experts",
        ),
    ),
)

TOP_1_GATE = Exercise(
    "3.3",
    lambda logits: keep(softmax(logits), top_k(logits, 1)),
    _logits,
    (
        Mistake(
            lambda logits: softmax_over_chosen(logits, top_k(logits, 1)),
            "this gate is the constant 1, so no gradient reaches the router: do not renormalise",
        ),
        Mistake(
            lambda logits: keep(softmax(logits), top_k(logits, 1)).detach(),
            "the value is right but cut off from the logits: no detach, no item, no numpy",
        ),
        Mistake(
            lambda logits: logits.gather(-1, top_k(logits, 1)),
            "this is the largest logit: the gate is a probability",
        ),
        Mistake(
            lambda logits: torch.sigmoid(logits.gather(-1, top_k(logits, 1))),
            "a sigmoid looks at one logit alone: the softmax compares it with all the others",
        ),
    ),
    gradient=True,
)

EXERCISES = (TOP_K, GATES, TOP_1_GATE)
