"""Exercises of chapter 03: choosing experts."""

from collections.abc import Sequence

import torch
from torch import Tensor

from moe_tutorial.exercises.grader import Exercise, Inputs, Mistake
from moe_tutorial.routing.probabilities import softmax
from moe_tutorial.routing.selection import keep, renormalise, softmax_over_chosen, top_k


def _scores_with_ties(generator: torch.Generator) -> Sequence[Inputs]:
    draws = torch.randint(-2, 3, (6, 40), generator=generator).double()
    # Neighbours among the floats: whoever breaks ties by a small amount changes their order.
    above = torch.nextafter(torch.ones((), dtype=torch.float64), torch.tensor(2.0).double())
    near = torch.ones(1, 9, dtype=torch.float64)
    near[0, [3, 7]] = above
    extreme = torch.tensor([[-1000.0, 1000.0, 0.0, 1000.0, -1000.0]], dtype=torch.float32)
    return [(draws, 5), (near, 3), (extreme, 5), (extreme, 1)]


def _logits_and_experts(generator: torch.Generator) -> Sequence[Inputs]:
    near = torch.randn(5, 8, generator=generator, dtype=torch.float64)
    # Experts far below the best one: their full softmax is 0 in every floating-point format.
    far = torch.tensor([[2000.0, 1.0, 0.0, -1.0, -3.0]], dtype=torch.float64)
    high = torch.tensor([[1000.0, 999.0, 0.0], [-1000.0, -999.0, 5.0]], dtype=torch.float64)
    return [
        (near, torch.tensor([[1, 4, 6]] * 5)),
        (far, torch.tensor([[3, 1]])),
        (high, torch.tensor([[1, 0], [0, 1]])),
    ]


def _logits(generator: torch.Generator) -> Sequence[Inputs]:
    return [
        (torch.randn(6, 5, generator=generator, dtype=torch.float64),),
        (3 * torch.randn(3, 12, generator=generator, dtype=torch.float64),),
        (torch.tensor([[1000.0, 998.0, -1000.0]], dtype=torch.float64),),
    ]


def _logits_and_switch(generator: torch.Generator) -> Sequence[Inputs]:
    few = torch.randn(4, 6, generator=generator, dtype=torch.float64)
    many = 2 * torch.randn(1, 16, generator=generator, dtype=torch.float64)
    high = torch.tensor([[1000.0, -1000.0, 999.0, 0.0]], dtype=torch.float64)
    return [(x, k, norm) for x, k in ((few, 2), (many, 8), (high, 2)) for norm in (True, False)]


def _with_small_steps(step: float) -> Mistake:
    return Mistake(
        lambda s, k: (s - step * torch.arange(s.shape[-1])).argsort(-1, descending=True)[..., :k],
        "scores that nearly tie come in a wrong order: do not round them, and take nothing off for "
        "each id; a stable sort needs neither",
    )


def _with_epsilon(epsilon: float) -> Sequence[Mistake]:
    words = (
        "0 / 0 is hidden here, as by a small amount in the divisor: where all chosen probabilities "
        "underflow, these gates sum to 0"
    )

    def added(logits: Tensor, experts: Tensor) -> Tensor:
        kept = keep(softmax(logits), experts)
        return kept / (kept.sum(-1, True) + epsilon)

    def clamped(logits: Tensor, experts: Tensor) -> Tensor:
        kept = keep(softmax(logits), experts)
        return kept / kept.sum(-1, True).clamp(min=epsilon)

    return Mistake(added, words), Mistake(clamped, words)


def _olmoe_gates(logits: Tensor, k: int, norm_topk_prob: bool) -> Tensor:
    experts = top_k(logits, k)
    return (renormalise if norm_topk_prob else keep)(softmax(logits), experts)


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
            lambda s, k: s.argsort(dim=-1, descending=True)[..., :k],
            "argsort promises nothing about equal scores unless it is told to be stable",
        ),
        Mistake(
            lambda s, k: s.argsort(dim=-1).flip(-1)[..., :k],
            "an upward sort turned round puts equal scores in an order of its own: sort downwards, "
            "and have the sort stable",
        ),
        Mistake(
            lambda s, k: s.argsort(dim=-1)[:k],
            "[:k] takes the first k tokens: it is the last dimension that holds the experts",
        ),
        Mistake(
            lambda s, k: s.argsort(dim=-1, stable=True).flip(-1)[..., :k],
            "turning an upward sort round puts the higher id first among equal scores",
        ),
        Mistake(
            lambda s, k: s.argsort(dim=-1, stable=True)[..., -k:],
            "the end of an upward sort: the best expert stands last, and ties keep higher ids",
        ),
        Mistake(
            lambda s, k: top_k(s, k).sort(-1).values,
            "the right experts, sorted by id: put the best first",
        ),
        Mistake(
            lambda s, k: s.gather(-1, top_k(s, k)),
            "these are the scores: return the experts' ids",
        ),
        *map(_with_small_steps, (1e-3, 1e-6, 1e-9)),
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
            lambda logits, e: logits.gather(-1, e).exp() / logits.gather(-1, e).exp().sum(-1, True),
            "right until exp() leaves the range of floats, for logits of 1000 or -1000: subtract "
            "the largest chosen logit first, as torch.softmax does",
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
        Mistake(
            lambda logits, e: softmax_over_chosen(logits, e.sort(-1).values),
            "these gates stand in the order of the ids: keep the order of experts_TK",
        ),
        Mistake(
            lambda logits, e: torch.softmax(logits.topk(e.shape[-1]).values, -1),
            "these are the gates of the best experts: take those that experts_TK names",
        ),
        *(m for epsilon in (1e-6, 1e-8, 1e-9, 1e-12, 1e-20) for m in _with_epsilon(epsilon)),
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
        Mistake(
            lambda logits: logits.exp().amax(-1, True) / logits.exp().sum(-1, True),
            "right until exp() overflows, for logits of 1000: take torch.softmax, which subtracts "
            "the largest logit first",
        ),
    ),
    gradient=True,
)

OLMOE_GATES = Exercise(
    "3.4",
    _olmoe_gates,
    _logits_and_switch,
    (
        Mistake(
            lambda logits, k, norm: _olmoe_gates(logits, k, True),
            "norm_topk_prob has no effect yet: where it is False, the gates stay as they are",
        ),
        Mistake(
            lambda logits, k, norm: _olmoe_gates(logits, k, False),
            "norm_topk_prob has no effect yet: where it is True, the gates must sum to 1",
        ),
        Mistake(
            lambda logits, k, norm: _olmoe_gates(logits, k, not norm),
            "the two values of norm_topk_prob are exchanged: True divides by the sum",
        ),
        Mistake(
            lambda logits, k, norm: torch.softmax(softmax(logits).topk(k).values, -1),
            "a softmax of probabilities is no softmax of logits: divide by the sum, or use logits",
        ),
        Mistake(
            lambda logits, k, norm: (
                logits.exp().topk(k).values
                / (logits.exp().topk(k).values if norm else logits.exp()).sum(-1, True)
            ),
            "right until exp() overflows, for logits of 1000: take torch.softmax, which subtracts "
            "the largest logit first",
        ),
        Mistake(
            lambda logits, k, norm: _olmoe_gates(logits, k, norm).flip(-1),
            "the gates stand the other way round: put the best expert first",
        ),
    ),
)

EXERCISES = (TOP_K, GATES, TOP_1_GATE, OLMOE_GATES)
