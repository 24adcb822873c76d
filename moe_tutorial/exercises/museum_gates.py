"""The bug museum, fourth room: gates that are constant, not there, or no gates at all.

Chapters 03 and 08 teach what is done wrong here.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from moe_tutorial.exercises.grader import Inputs
from moe_tutorial.exercises.museum_layer import normal
from moe_tutorial.exercises.museum_records import LOGGED, TRAINS, VALUES, Code, Exhibit, Source


def gate_of_best_as_found(logits_TE: Tensor) -> Tensor:
    """The softmax gate of each token's best expert, ``[T, 1]``: by it the router learns."""
    best_T1 = logits_TE.topk(1).values
    return best_T1.softmax(-1)


def gate_of_best(logits_TE: Tensor) -> Tensor:
    """The softmax gate of each token's best expert, ``[T, 1]``: by it the router learns."""
    return logits_TE.softmax(-1).topk(1).values


def test_gate_of_best(gate_of_best: Code) -> None:
    """The gate tells the logits that it comes from how to change it."""
    logits_TE = torch.tensor([[1.0, 0.0]], requires_grad=True)
    gate_of_best(logits_TE).sum().backward()
    assert logits_TE.grad is not None
    assert logits_TE.grad.abs().sum() > 0


def _logits(generator: torch.Generator) -> Sequence[Inputs]:
    return [(normal(T, E, generator=generator),) for T, E in ((6, 4), (1, 7), (9, 3))]


def chosen_gates_as_found(logits_TE: Tensor, K: int, renormalise: bool) -> Tensor:
    """The gates of the K best: softmax over all experts or, renormalised, over the chosen."""
    best_TK = logits_TE.topk(K).values
    if renormalise:
        best_TK = best_TK.softmax(-1)
    return best_TK


def chosen_gates(logits_TE: Tensor, K: int, renormalise: bool) -> Tensor:
    """The gates of the K best: softmax over all experts or, renormalised, over the chosen."""
    if renormalise:
        return logits_TE.topk(K).values.softmax(-1)
    return logits_TE.softmax(-1).topk(K).values


def test_chosen_gates(chosen_gates: Code) -> None:
    """Gates are positive and sum to 1 at most, renormalised or not."""
    for renormalise in (True, False):
        gates_TK = chosen_gates(torch.tensor([[5.0, -1.0, -2.0]]), 2, renormalise)
        assert (gates_TK > 0).all()
        assert gates_TK.sum() < 1.000_01


def _switches(generator: torch.Generator) -> Sequence[Inputs]:
    return [(normal(7, 6, generator=generator), K, K != 3) for K in (1, 2, 3)]


def shared_out_as_found(logits_TE: Tensor, K: int) -> Tensor:
    """The K largest sigmoid scores of each token, divided by their sum."""
    scores_TK = logits_TE.sigmoid().topk(K).values
    return scores_TK / scores_TK.sum(-1, keepdim=True)


def shared_out(logits_TE: Tensor, K: int) -> Tensor:
    """The K largest sigmoid scores of each token, divided by their sum."""
    return logsigmoid(logits_TE.topk(K).values).softmax(-1)


def test_shared_out(shared_out: Code) -> None:
    """Logits of -120 in float32 still make gates that sum to 1."""
    assert torch.allclose(shared_out(torch.full((1, 3), -120.0), 2).sum(-1), torch.ones(1))


def _far_below(generator: torch.Generator) -> Sequence[Inputs]:
    cases = []
    for T, E, K, shift in ((6, 5, 2, 0), (5, 8, 3, -800), (4, 3, 1, -1000)):
        cases.append((normal(T, E, generator=generator) + shift, K))
    return cases


def shares_as_found(logits_TE: Tensor) -> Tensor:
    """Each token's sigmoid scores as shares that sum to 1, for the balance loss."""
    scores_TE = logits_TE.sigmoid()
    return scores_TE / (scores_TE.sum(-1, keepdim=True) + 1e-20)


def shares(logits_TE: Tensor) -> Tensor:
    """Each token's sigmoid scores as shares that sum to 1, for the balance loss."""
    return logsigmoid(logits_TE).softmax(-1)


def test_shares(shares: Code) -> None:
    """A router that pushes all its logits down to -60 makes no share smaller."""
    assert torch.allclose(shares(torch.full((1, 2), -60.0)), torch.full((1, 2), 0.5))


def _pushed(generator: torch.Generator) -> Sequence[Inputs]:
    cases = []
    for T, E, shift in ((6, 5, 0), (5, 8, -60), (4, 3, -90)):
        cases.append((normal(T, E, generator=generator) + shift,))
    return cases


GATES = (
    Exhibit(
        "A softmax over one number",
        3,
        TRAINS,
        "With one expert for each token, the router's weights never change.",
        gate_of_best_as_found,
        gate_of_best,
        "The softmax of a single number is 1, whatever the number is, and its slope is 0. Take "
        "the softmax over all experts, and then the best.",
        test_gate_of_best,
        _logits,
        (Source("davidmrau/mixture-of-experts", 27),),
        gradient=True,
    ),
    Exhibit(
        "Logits for gates",
        3,
        VALUES,
        "Models that do not renormalise answer nonsense. All others are right.",
        chosen_gates_as_found,
        chosen_gates,
        "The softmax stood inside of the branch that renormalises. In the other branch nobody "
        "took one, and logits of either sign weighed the experts.",
        test_chosen_gates,
        _switches,
        (Source("sgl-project/sglang", 35160, "pull request"),),
    ),
    Exhibit(
        "Zero over zero",
        3,
        VALUES,
        "A few tokens turn to NaN, and with them everything that is written after them.",
        shared_out_as_found,
        shared_out,
        "In float32 the sigmoid of -104 and below is 0, and 0 / 0 is NaN. Adding 1e-20 below, as "
        "the public code does now, makes gates of 0 of it, and the token gets no output. In "
        "logarithms nothing underflows.",
        test_shared_out,
        _far_below,
        (Source("sgl-project/sglang", 31017, "pull request"),),
    ),
    Exhibit(
        "An epsilon to hide behind",
        8,
        LOGGED,
        "The balance loss falls below 1, its value at balance, towards 0. The loads stay uneven.",
        shares_as_found,
        shares,
        "With scores below the epsilon all shares are nearly 0, and so is the loss: the router "
        "can lower it without balancing anything. Where the sum cannot be 0, none is needed.",
        test_shares,
        _pushed,
        (Source("allenai/OLMo-core", 255, "pull request"), Source("NVIDIA/Megatron-LM", 1545)),
    ),
)
