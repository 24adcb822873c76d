"""Exercises of chapter 11: reading routers."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from moe_tutorial.exercises.grader import Exercise, Inputs, Mistake
from moe_tutorial.routing.combination import scatter_gates
from moe_tutorial.routing.configuration import Groups, RouterConfig
from moe_tutorial.routing.decision import route
from moe_tutorial.routing.groups import limit_to_groups
from moe_tutorial.routing.selection import top_k

LFM2 = RouterConfig(4, "sigmoid", epsilon=1e-6)


def _draw(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def _logits_and_bias(generator: torch.Generator) -> Sequence[Inputs]:
    cases: list[Inputs] = []
    for tokens, experts, level in ((12, 32, 0.0), (5, 8, 1.0), (4, 16, -14.0)):
        bias = 0.5 * _draw(generator, experts)
        cases.append((_draw(generator, tokens, experts) + level, bias))
    return cases


def _dense(logits: Tensor, bias: Tensor | None, config: RouterConfig) -> Tensor:
    routing = route(logits, config, bias_E=bias)
    return scatter_gates(routing.gates_TK, routing.experts_TK, logits.shape[-1])


def _from_biased(logits: Tensor, bias: Tensor) -> Tensor:
    biased = logits.sigmoid() + bias
    chosen = top_k(biased, 4)
    gates = biased.gather(-1, chosen)
    return scatter_gates(gates / (gates.sum(-1, keepdim=True) + 1e-6), chosen, logits.shape[-1])


READ_A_ROUTER = Exercise(
    "11.1",
    lambda logits, bias: _dense(logits, bias, LFM2),
    _logits_and_bias,
    (
        Mistake(
            lambda logits, bias: _dense(logits, None, LFM2),
            "the bias has no effect yet: pass it to route, which adds it for the choice alone",
        ),
        Mistake(
            _from_biased,
            "these gates are made from scores with the bias: the code gathers them without it",
        ),
        Mistake(
            lambda logits, bias: _dense(logits + bias, None, LFM2),
            "the bias belongs on the scores, after the sigmoid, and not on the logits",
        ),
        Mistake(
            lambda logits, bias: _dense(logits, bias, RouterConfig(4)),
            "these scores are a softmax: the code takes a sigmoid of each logit",
        ),
        Mistake(
            lambda logits, bias: _dense(logits, bias, replace(LFM2, epsilon=0.0)),
            "almost: the code adds 1e-6 to the sum, and where all scores are tiny it shows",
        ),
        Mistake(
            lambda logits, bias: _dense(
                logits, bias, replace(LFM2, epsilon=0.0, renormalise=False)
            ),
            "these gates are the scores as they are: the code divides them by their sum",
        ),
    ),
)


def _scores_and_groups(generator: torch.Generator) -> Sequence[Inputs]:
    # The bias has made some scores negative, in one case nearly all, in the last all below -1.
    return [
        (_draw(generator, 20, 16).sigmoid() + 0.5 * _draw(generator, 16), 4, 2, 4),
        (_draw(generator, 6, 12).sigmoid() - 0.8, 3, 1, 2),
        (_draw(generator, 1, 6), 2, 1, 3),
        (_draw(generator, 9, 24), 8, 3, 6),
        (_draw(generator, 6, 12).sigmoid() - 2.5, 4, 2, 3),
    ]


def _chosen(scores: Tensor, k: int) -> Tensor:
    return torch.zeros_like(scores).scatter(-1, scores.topk(k).indices, 1.0).bool()


def _limited(best: int | None, fill: float = -torch.inf) -> Callable[..., Tensor]:
    def answer(scores: Tensor, number: int, kept: int, k: int) -> Tensor:
        size = scores.shape[-1] // number
        groups = Groups(number, kept, size if best is None else best, fill)
        return _chosen(limit_to_groups(scores, groups), k)

    return answer


def _interleaved(scores: Tensor, number: int, kept: int, k: int) -> Tensor:
    order = torch.arange(scores.shape[-1]).view(-1, number).T.flatten()
    return _limited(2)(scores[:, order], number, kept, k)[:, order.argsort()]


GROUP_LIMITED = Exercise(
    "11.2",
    _limited(2),
    _scores_and_groups,
    (
        Mistake(
            lambda scores, number, kept, k: _chosen(scores, k),
            "these are the K best of all experts: the groups have no effect yet",
        ),
        Mistake(
            _limited(1),
            "each group is judged by its best expert alone: add up its two best scores",
        ),
        Mistake(
            _limited(None),
            "each group is judged by all its experts: add up its two best scores only",
        ),
        Mistake(
            _limited(2, 0.0),
            "experts of other groups were given 0, which beats a negative score: take -inf",
        ),
        Mistake(
            _interleaved,
            "a group is a row of neighbours, experts 0, 1, 2 and so on, not every G-th expert",
        ),
        Mistake(
            lambda scores, number, kept, k: limit_to_groups(scores, Groups(number, kept)) > -1e9,
            "all experts of the kept groups are marked: choose the K best among them",
        ),
    ),
)


def _llama_inputs(generator: torch.Generator) -> Sequence[Inputs]:
    cases: list[Inputs] = []
    for tokens, experts, k, width, hidden in ((7, 4, 1, 5, 3), (6, 5, 2, 4, 8), (1, 2, 2, 3, 2)):
        up = (_draw(generator, experts, hidden, width), _draw(generator, experts, hidden, width))
        down = _draw(generator, experts, width, hidden)
        x, logits = _draw(generator, tokens, width), _draw(generator, tokens, experts)
        cases.append((x, logits, k, *up, down))
    return cases


def _swiglu(u: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """Every expert on its own row: [T, E, D] to [T, E, D]."""
    inner = torch.nn.functional.silu(torch.einsum("ted,efd->tef", u, gate))
    return torch.einsum("tef,edf->ted", inner * torch.einsum("ted,efd->tef", u, up), down)


def _weights(logits: Tensor, k: int, config: RouterConfig) -> Tensor:
    return _dense(logits, None, replace(config, k=k))[..., None]


_KEPT = RouterConfig(1, "sigmoid", renormalise=False)


def _gates_on_the_input(
    config: RouterConfig, x: Tensor, logits: Tensor, k: int, *experts: Tensor
) -> Tensor:
    gates = _weights(logits, k, config)
    return _swiglu(gates * x[:, None], *experts).sum(1)


def _gates_on_the_output(
    config: RouterConfig, x: Tensor, logits: Tensor, k: int, *experts: Tensor
) -> Tensor:
    gates = _weights(logits, k, config)
    return (gates * _swiglu(x[:, None].expand(-1, logits.shape[-1], -1), *experts)).sum(1)


GATES_ON_THE_INPUT = Exercise(
    "11.3",
    lambda x, logits, k, *experts: _gates_on_the_input(_KEPT, x, logits, k, *experts),
    _llama_inputs,
    (
        Mistake(
            lambda *a: _gates_on_the_output(_KEPT, *a),
            "these gates weigh the outputs: here they multiply the token before the expert",
        ),
        Mistake(
            lambda x, logits, k, *experts: (
                _weights(logits, k, _KEPT)
                * _swiglu(_weights(logits, k, _KEPT) * x[:, None], *experts)
            ).sum(1),
            "each gate is used twice: it multiplies the token, and the output stays as it is",
        ),
        Mistake(
            lambda *a: _gates_on_the_input(replace(_KEPT, probability="softmax"), *a),
            "these scores are a softmax: take a sigmoid of each logit",
        ),
        Mistake(
            lambda *a: _gates_on_the_input(replace(_KEPT, renormalise=True), *a),
            "these gates were divided by their sum: keep the sigmoids as they are",
        ),
        Mistake(
            lambda x, logits, k, *experts: _gates_on_the_input(
                _KEPT, x, logits, logits.shape[-1], *experts
            ),
            "every expert has a share in this sum: only the K with the largest logits run",
        ),
        Mistake(
            lambda x, logits, k, *experts: _swiglu(
                _weights(logits, k, _KEPT).gt(0) * x[:, None], *experts
            ).sum(1),
            "the gates have no effect yet: multiply the token by its expert's gate",
        ),
    ),
)


def _scores_and_gates(generator: torch.Generator) -> Sequence[Inputs]:
    cases: list[Inputs] = []
    for tokens, k, scale in ((9, 4, 2.5), (5, 8, 1.0), (2, 2, 0.37), (6, 1, 2.0)):
        scores = _draw(generator, tokens, k).sigmoid()
        cases.append((scores, scale * scores / scores.sum(-1, keepdim=True)))
        cases.append((scores, scale * scores))
    return cases


def _numbers(first: Tensor | float, second: Tensor) -> Tensor:
    return torch.stack([torch.as_tensor(first, dtype=torch.float64), second])


def _found(scores: Tensor, gates: Tensor) -> Tensor:
    ratios_T = gates.sum(-1) / scores.sum(-1)
    if torch.allclose(ratios_T, ratios_T[0].expand_as(ratios_T)):
        return _numbers(0.0, ratios_T.mean())
    return _numbers(1.0, gates.sum(-1).mean())


WHICH_GATES = Exercise(
    "11.4",
    _found,
    _scores_and_gates,
    (
        Mistake(
            lambda scores, gates: _numbers(1 - _found(scores, gates)[0], gates.sum(-1).mean()),
            "the first number is the wrong way round: 1 says that gates were divided by their sum",
        ),
        Mistake(
            lambda scores, gates: _numbers(1 - _found(scores, gates)[0], _found(scores, gates)[1]),
            "the first number is the wrong way round: 1 says that gates were divided by their sum",
        ),
        Mistake(
            lambda scores, gates: _numbers(_found(scores, gates)[0], gates.sum(-1).mean()),
            "gates that were not divided sum to the scale times the sum of their scores",
        ),
        Mistake(
            lambda scores, gates: _numbers(1.0, gates.sum(-1).mean()),
            "not every router divides: compare the gates with the scores in several tokens",
        ),
        Mistake(
            lambda scores, gates: _numbers(0.0, (gates / scores)[0, 0]),
            "within one token gates are always a multiple of scores: compare several tokens",
        ),
    ),
)

EXERCISES = (READ_A_ROUTER, GROUP_LIMITED, GATES_ON_THE_INPUT, WHICH_GATES)
