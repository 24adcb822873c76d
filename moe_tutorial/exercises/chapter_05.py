"""Exercises of chapter 05: gates and the weighted sum."""

from collections.abc import Sequence

import torch
from torch import Tensor

from moe_tutorial.exercises.grader import Exercise, Inputs, Mistake
from moe_tutorial.routing.combination import combine
from moe_tutorial.routing.probabilities import softmax
from moe_tutorial.routing.selection import keep, softmax_over_chosen


def _outputs_and_gates(generator: torch.Generator) -> Sequence[Inputs]:
    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return [
        (draw(6, 3, 4), softmax(draw(6, 3))),
        (draw(2, 2, 2), draw(2, 2).abs()),
        (draw(5, 1, 8), draw(5, 1).abs()),
        (draw(1, 3, 4), draw(1, 3).abs()),
        (draw(4, 2, 1), draw(4, 2)),
    ]


def _sampled(generator: torch.Generator) -> Sequence[Inputs]:
    cases: list[Inputs] = []
    for tokens, experts, k in ((5, 8, 3), (20, 12, 4)):
        logits = torch.randn(tokens, experts, generator=generator, dtype=torch.float64)
        drawn = torch.rand(tokens, experts, generator=generator).argsort(-1)[:, :k]
        outputs = torch.randn(tokens, k, 6, generator=generator, dtype=torch.float64)
        cases.append((logits, drawn, outputs))
    steep = torch.tensor([[1000.0, -1000.0, 998.0, 0.0]], dtype=torch.float64)
    cases.append((steep, torch.tensor([[2, 0]]), cases[0][2][:1, :2]))
    return cases


def _one_token(generator: torch.Generator) -> Sequence[Inputs]:
    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return [
        (draw(3, 4), draw(3), draw(4)),
        (draw(2, 16), 3 * draw(2), draw(16)),
        (draw(1, 5), draw(1), draw(5)),
        (draw(3, 2), torch.tensor([1000.0, 999.0, -1000.0], dtype=torch.float64), draw(2)),
    ]


def _choices(generator: torch.Generator) -> Sequence[Inputs]:
    cases: list[Inputs] = []
    for tokens, experts, k in ((8, 10, 3), (6, 5, 1), (1, 4, 2)):
        drawn = torch.rand(tokens, experts - 1, generator=generator).argsort(-1)[:, :k]
        cases += [(drawn, experts, True), (drawn, experts, False)]
    return cases


def _reached(experts: Tensor, num_experts: int, renormalise: bool) -> Tensor:
    chosen = torch.bincount(experts.flatten(), minlength=num_experts)
    if not renormalise:
        chosen = torch.full_like(chosen, len(experts))
    elif experts.shape[-1] == 1:
        chosen = torch.zeros_like(chosen)
    return chosen.double()  # so that counts pass as floats, too, such as torch.zeros counted up


def _logit_gradient(outputs: Tensor, logits: Tensor, direction: Tensor) -> Tensor:
    gates = torch.softmax(logits, -1)
    return gates * ((outputs - gates @ outputs) @ direction)


COMBINE = Exercise(
    "5.1",
    combine,
    _outputs_and_gates,
    (
        Mistake(lambda o, g: o.sum(-2), "the gates have no effect yet: weight before adding"),
        Mistake(
            lambda o, g: o.mean(-2),
            "a plain mean treats the chosen experts alike: weight them by their gates",
        ),
        Mistake(
            lambda o, g: (g[..., None] * o).mean(-2),
            "the weighted outputs are added, not averaged: this divides by K once too often",
        ),
        Mistake(
            lambda o, g: combine(o, g / g.sum(-1, keepdim=True)),
            "take the gates as they come: gates kept as they are need not sum to 1",
        ),
        Mistake(
            lambda o, g: combine(o, softmax(g)),
            "these are gates already: no second softmax",
        ),
    ),
)


def _by_exp(logits: Tensor) -> Tensor:
    return logits.exp() / logits.exp().sum(-1, keepdim=True)


def _in_wrong_order(outputs: Tensor, experts: Tensor) -> Tensor:
    order = experts.argsort(-1)[..., None].expand_as(outputs)
    return outputs.gather(1, order)


OUTPUTS_BY_ID = Exercise(
    "5.2",
    lambda logits, e, outputs: combine(outputs, softmax_over_chosen(logits, e.sort(-1).values)),
    _sampled,
    (
        Mistake(
            lambda logits, e, outputs: combine(outputs, softmax_over_chosen(logits, e)),
            "outputs stand in the order of the ids, gates in the order of the draw: pair them",
        ),
        Mistake(
            lambda logits, e, outputs: combine(
                _in_wrong_order(outputs, e), softmax_over_chosen(logits, e)
            ),
            "argsort tells where each sorted id comes from, not where each drawn id goes to",
        ),
        Mistake(
            lambda logits, e, outputs: combine(outputs, keep(softmax(logits), e.sort(-1).values)),
            "these gates sum to less than 1 over the chosen experts: did you renormalise?",
        ),
        Mistake(
            lambda logits, e, outputs: torch.einsum(
                "tk,tkd->td", _by_exp(logits.gather(-1, e.sort().values)), outputs
            ),
            "right until exp() overflows, for logits of 1000: take torch.softmax, which subtracts "
            "the largest logit first",
        ),
        Mistake(
            lambda logits, e, outputs: outputs.mean(1),
            "a plain mean treats the chosen experts alike: weight them by their gates",
        ),
    ),
)

LOGIT_GRADIENT = Exercise(
    "5.3",
    _logit_gradient,
    _one_token,
    (
        Mistake(
            lambda o, logits, v: torch.softmax(logits, -1) * (o @ v),
            "raising one gate lowers the others: subtract what y already gives",
        ),
        Mistake(
            lambda o, logits, v: (o - torch.softmax(logits, -1) @ o) @ v,
            "almost: the difference to y still has to be multiplied by the expert's gate",
        ),
        Mistake(
            lambda o, logits, v: o @ v,
            "this is the gradient of the gates: go on through the softmax to the logits",
        ),
        Mistake(
            lambda o, logits, v: (
                torch.softmax(logits, -1) * (1 - torch.softmax(logits, -1)) * (o @ v)
            ),
            "this holds the other gates fixed: raising one logit also lowers all other gates",
        ),
        Mistake(
            lambda o, logits, v: torch.softmax(logits, -1) * ((o - o.mean(0)) @ v),
            "compare with y, the mean weighted by the gates, not with the plain mean",
        ),
        Mistake(
            lambda o, logits, v: -_logit_gradient(o, logits, v),
            "the sign is turned round: an expert better than y must be pulled up",
        ),
        Mistake(
            lambda o, logits, v: _by_exp(logits) * ((o - _by_exp(logits) @ o) @ v),
            "right until exp() overflows, for logits of 1000: take torch.softmax, which subtracts "
            "the largest logit first",
        ),
    ),
)

REACHED = Exercise(
    "5.4",
    _reached,
    _choices,
    (
        Mistake(
            lambda e, n, renormalise: (
                torch.bincount(e.flatten(), minlength=n)
                if renormalise
                else torch.full((n,), len(e))
            ),
            "almost: at K = 1 a renormalised gate is the constant 1, so nobody is reached",
        ),
        Mistake(
            lambda e, n, renormalise: torch.bincount(e.flatten(), minlength=n),
            "kept gates depend on every logit, so they reach experts that were not chosen, too",
        ),
        Mistake(
            lambda e, n, renormalise: torch.full((n,), len(e)),
            "a gate that sums to 1 with the others depends on the chosen logits alone",
        ),
        Mistake(
            lambda e, n, renormalise: _reached(e, n, not renormalise),
            "the two values of renormalise are exchanged: kept gates are those that reach all",
        ),
    ),
)

EXERCISES = (COMBINE, OUTPUTS_BY_ID, LOGIT_GRADIENT, REACHED)
