"""The bug museum, second room: queues and counts that are wrong by a little.

Chapters 08 and 09 teach what is done wrong here.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from moe_tutorial.exercises.grader import Inputs
from moe_tutorial.exercises.museum_layer import different, normal
from moe_tutorial.exercises.museum_records import (
    LOGGED,
    SIZE,
    TRAINS,
    VARIES,
    Code,
    Exhibit,
    Source,
)


def kept_as_found(probabilities_TE: Tensor, C: int) -> Tensor:
    """Which tokens, in their order, find one of the C places of their best expert."""
    best_T1 = probabilities_TE.argmax(-1, keepdim=True)
    ones = one_hot(best_T1, probabilities_TE.shape[-1])
    number = (ones.cumsum(-2) * ones).sum(-1)
    return (number <= C).flatten()


def kept(probabilities_TE: Tensor, C: int) -> Tensor:
    """Which tokens, in their order, find one of the C places of their best expert."""
    best_T = probabilities_TE.argmax(-1)
    ones_TE = one_hot(best_T, probabilities_TE.shape[-1])
    number_T = (ones_TE.cumsum(-2) * ones_TE).sum(-1)
    return number_T <= C


def test_kept(kept: Code) -> None:
    """Of three tokens that want one expert with two places, the third is dropped."""
    probabilities_TE = torch.tensor([[0.9, 0.1]]).expand(3, 2)
    assert kept(probabilities_TE, 2).tolist() == [True, True, False]


def _queues(generator: torch.Generator) -> Sequence[Inputs]:
    cases = ((12, 3, 2), (20, 4, 5), (6, 2, 0), (5, 5, 9))
    return [(normal(T, E, generator=generator).softmax(-1), C) for T, E, C in cases]


def ahead_as_found(experts_TK: Tensor, E: int) -> Tensor:
    """How many stand ahead of each choice at its expert, if all first choices come first."""
    columns, before_E = [], torch.zeros(E, dtype=torch.long)
    for expert_T in experts_TK.T:
        ones_TE = one_hot(expert_T, E)
        queue_TE = ones_TE.cumsum(0) - 1 + before_E
        columns.append((queue_TE * ones_TE).sum(-1))
        before_E = ones_TE.sum(0)
    return torch.stack(columns, -1)


def ahead(experts_TK: Tensor, E: int) -> Tensor:
    """How many stand ahead of each choice at its expert, if all first choices come first."""
    columns, before_E = [], torch.zeros(E, dtype=torch.long)
    for expert_T in experts_TK.T:
        ones_TE = one_hot(expert_T, E)
        queue_TE = ones_TE.cumsum(0) - 1 + before_E
        columns.append((queue_TE * ones_TE).sum(-1))
        before_E = before_E + ones_TE.sum(0)
    return torch.stack(columns, -1)


def test_ahead(ahead: Code) -> None:
    """No two assignments have the same place at one expert, at K = 3 either."""
    experts_TK = torch.tensor([[0, 1, 2], [1, 2, 0], [2, 0, 1]])
    places_TK = ahead(experts_TK, 3)
    assert all(sorted(places_TK[experts_TK == e].tolist()) == [0, 1, 2] for e in range(3))


def _choices(generator: torch.Generator) -> Sequence[Inputs]:
    return [(different(T, E, K, generator), E) for T, E, K in ((9, 4, 3), (14, 6, 4), (8, 3, 2))]


def wanted_as_found(experts_T: Tensor, E: int, C: int) -> Tensor:
    """Which share of the tokens wants each expert, for a balance loss beside a capacity C."""
    ones_TE = one_hot(experts_T, E)
    ones_TE = ones_TE * (ones_TE.cumsum(0) <= C)
    return ones_TE.double().mean(0)


def wanted(experts_T: Tensor, E: int, C: int) -> Tensor:
    """Which share of the tokens wants each expert, for a balance loss beside a capacity C."""
    return one_hot(experts_T, E).double().mean(0)


def test_wanted(wanted: Code) -> None:
    """An expert that three of four tokens want has a share of 3/4, however few places it has."""
    assert wanted(torch.tensor([0, 0, 0, 1]), 2, 1).tolist() == [0.75, 0.25]


def _crowds(generator: torch.Generator) -> Sequence[Inputs]:
    return [
        ((torch.rand(T, generator=generator).square() * E).long(), E, C)
        for T, E, C in ((20, 4, 3), (30, 5, 4), (7, 3, 9))
    ]


def total_load_as_found(load_WE: Tensor) -> Tensor:
    """Add up the loads that W devices counted, in a model that computes in bfloat16."""
    total_E = torch.zeros(load_WE.shape[1], dtype=torch.bfloat16)
    for load_E in load_WE:
        total_E += load_E
    return total_E.long()


def total_load(load_WE: Tensor) -> Tensor:
    """Add up the loads that W devices counted, in a model that computes in bfloat16."""
    return load_WE.sum(0)


def test_total_load(total_load: Code) -> None:
    """A count of 256 and one more is 257."""
    assert total_load(torch.tensor([[256], [1]])).tolist() == [257]


def _loads(generator: torch.Generator) -> Sequence[Inputs]:
    return [
        (torch.randint(most, (W, E), generator=generator),)
        for W, E, most in ((64, 4, 700), (8, 3, 900), (2, 5, 4000))
    ]


def moved_bias_as_found(bias_E: Tensor, load_E: Tensor, step: float) -> Tensor:
    """Raise the bias of experts below the fair load by a step, and lower it of those above."""
    fair = 1 / len(load_E)
    return bias_E + step * torch.sign(fair - load_E)


def moved_bias(bias_E: Tensor, load_E: Tensor, step: float) -> Tensor:
    """Raise the bias of experts below the fair load by a step, and lower it of those above."""
    fair = load_E.sum() / len(load_E)
    return bias_E + step * torch.sign(fair - load_E)


def test_moved_bias(moved_bias: Code) -> None:
    """Of two experts, the one with fewer tokens goes up, though it has some."""
    low, high = moved_bias(torch.zeros(2), torch.tensor([3, 9]), 0.5).tolist()
    assert low > 0 > high


def _biases(generator: torch.Generator) -> Sequence[Inputs]:
    return [
        (normal(E, generator=generator), torch.randint(1, 50, (E,), generator=generator), 0.001)
        for E in (4, 7, 16)
    ]


def counted_as_found(load_E: Tensor, experts_TK: Tensor, training: bool) -> Tensor:
    """Add a batch's choices to the load of the training step, which will move the bias."""
    return load_E + torch.bincount(experts_TK.flatten(), minlength=len(load_E))


def counted(load_E: Tensor, experts_TK: Tensor, training: bool) -> Tensor:
    """Add a batch's choices to the load of the training step, which will move the bias."""
    if not training:
        return load_E
    return load_E + torch.bincount(experts_TK.flatten(), minlength=len(load_E))


def test_counted(counted: Code) -> None:
    """A batch of the validation set leaves the load as it was."""
    before_E, experts_TK = torch.tensor([5, 2]), torch.tensor([[0], [1], [1]])
    assert counted(before_E, experts_TK, training=False).tolist() == [5, 2]


def _steps(generator: torch.Generator) -> Sequence[Inputs]:
    return [
        (torch.randint(9, (5,), generator=generator), different(8, 5, 2, generator), training)
        for training in (True, False, True, False)
    ]


COUNTING = (
    Exhibit(
        "A capacity that never binds",
        9,
        TRAINS,
        "No token is ever dropped, whatever the capacity is.",
        kept_as_found,
        kept,
        "keepdim=True put an axis of length 1 where the running sum looks for the tokens, so each "
        "token was the first in a queue of its own.",
        test_kept,
        _queues,
        (Source("huggingface/transformers", 48421, "pull request"),),
    ),
    Exhibit(
        "A count overwritten",
        9,
        SIZE,
        "Two choices for each token work. With three, two tokens share a place at an expert.",
        ahead_as_found,
        ahead,
        "The third choices stand behind the first and the second ones: the count before them has "
        "to be added up, not replaced.",
        test_ahead,
        _choices,
        (Source("lucidrains/st-moe-pytorch", 13),),
    ),
    Exhibit(
        "Counted after the drop",
        9,
        LOGGED,
        "The balance loss falls to its best value, and a quarter of the tokens is dropped.",
        wanted_as_found,
        wanted,
        "A load that is cut off at C looks even, however many tokens are turned away. The loss "
        "has to see what tokens want, not what they got.",
        test_wanted,
        _crowds,
        (Source("NVIDIA/Megatron-LM", 1513),),
    ),
    Exhibit(
        "Counts in bfloat16",
        8,
        VARIES,
        "Two runs that should agree move an expert's bias in opposite directions.",
        total_load_as_found,
        total_load,
        "bfloat16 has 8 bits for a number's digits: from 256 on it has no odd numbers, and near "
        "40,000 only every 256th number. Counts stay whole numbers.",
        test_total_load,
        _loads,
        (Source("NVIDIA/Megatron-LM", 7081, "pull request"),),
    ),
    Exhibit(
        "Shares compared with counts",
        8,
        TRAINS,
        "All biases fall together, except for idle experts', and the loads stay uneven.",
        moved_bias_as_found,
        moved_bias,
        "The fair share is a number below 1, the load a number of tokens. Whoever got one token "
        "is above it. Both have to have one unit.",
        test_moved_bias,
        _biases,
        (Source("gfyddha/FlyLoRA", 1),),
    ),
    Exhibit(
        "Evaluation is counted, too",
        8,
        TRAINS,
        "A run that is evaluated more often trains differently.",
        counted_as_found,
        counted,
        "no_grad keeps gradients from being recorded, not buffers from being changed. The count "
        "must ask whether it is training.",
        test_counted,
        _steps,
        (Source("pytorch/torchtitan", 4148, "pull request"),),
    ),
)
