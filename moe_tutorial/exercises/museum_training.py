"""The bug museum, sixth room: steps that are computed twice, and a file that missed a step.

Chapters 04, 08 and 10 teach what is done wrong here.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from moe_tutorial.exercises.grader import Inputs
from moe_tutorial.exercises.museum_layer import normal
from moe_tutorial.exercises.museum_records import (
    DEVICES,
    LOGGED,
    TRAINS,
    Code,
    Exhibit,
    Source,
)


def load_of_step_as_found(x_TD: Tensor, router_ED: Tensor) -> Tensor:
    """How many tokens chose each expert in a training step that recomputes its activations."""
    load_E = torch.zeros(len(router_ED), dtype=torch.long)

    def block(x_TD: Tensor) -> Tensor:
        scores_TE = x_TD @ router_ED.T
        load_E.add_(torch.bincount(scores_TE.argmax(-1), minlength=len(load_E)))
        return scores_TE.softmax(-1)

    x_TD = x_TD.requires_grad_()
    checkpoint(block, x_TD, use_reentrant=False).amax(-1).sum().backward()
    return load_E


def load_of_step(x_TD: Tensor, router_ED: Tensor) -> Tensor:
    """How many tokens chose each expert in a training step that recomputes its activations."""

    def block(x_TD: Tensor) -> Tensor:
        return (x_TD @ router_ED.T).softmax(-1)

    x_TD = x_TD.requires_grad_()
    probabilities_TE = checkpoint(block, x_TD, use_reentrant=False)
    probabilities_TE.amax(-1).sum().backward()
    return torch.bincount(probabilities_TE.argmax(-1), minlength=len(router_ED))


def test_load_of_step(load_of_step: Code) -> None:
    """Five tokens make five choices."""
    assert load_of_step(torch.ones(5, 1), torch.tensor([[1.0], [-1.0]])).sum() == 5


def _steps(generator: torch.Generator) -> Sequence[Inputs]:
    return [
        (normal(T, D, generator=generator), normal(E, D, generator=generator))
        for T, D, E in ((9, 3, 4), (20, 2, 5))
    ]


def slope_as_found(logits_TE: Tensor, value_E: Tensor, seed: int) -> Tensor:
    """The gradient of gate times value of drawn experts, in a step that recomputes."""
    generator = torch.Generator().manual_seed(seed)

    def block(logits_TE: Tensor) -> Tensor:
        noise_TE = torch.rand(logits_TE.shape, generator=generator).log().neg().log().neg()
        expert_T1 = (logits_TE + noise_TE).argmax(-1, keepdim=True)
        return logits_TE.softmax(-1).gather(-1, expert_T1) * value_E[expert_T1]

    logits_TE = logits_TE.requires_grad_()
    answers_T1 = checkpoint(block, logits_TE, use_reentrant=False)
    return torch.autograd.grad(answers_T1.sum(), logits_TE)[0]


def slope(logits_TE: Tensor, value_E: Tensor, seed: int) -> Tensor:
    """The gradient of gate times value of drawn experts, in a step that recomputes."""
    generator = torch.Generator().manual_seed(seed)
    noise_TE = torch.rand(logits_TE.shape, generator=generator).log().neg().log().neg()

    def block(logits_TE: Tensor) -> Tensor:
        expert_T1 = (logits_TE + noise_TE).argmax(-1, keepdim=True)
        return logits_TE.softmax(-1).gather(-1, expert_T1) * value_E[expert_T1]

    logits_TE = logits_TE.requires_grad_()
    answers_T1 = checkpoint(block, logits_TE, use_reentrant=False)
    return torch.autograd.grad(answers_T1.sum(), logits_TE)[0]


def test_slope(slope: Code) -> None:
    """A token's gradient is that of one expert's gate: p_e (1 - p_e) at the drawn expert e."""
    even_TE = torch.zeros(200, 4)
    found_TE = slope(even_TE, torch.arange(1.0, 5.0), 0)
    drawn_T = (even_TE + _gumbel(even_TE.shape, 0)).argmax(-1)
    assert torch.equal(found_TE.argmax(-1), drawn_T)


def _gumbel(shape: torch.Size, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator).log().neg().log().neg()


def _sampled(generator: torch.Generator) -> Sequence[Inputs]:
    return [
        (normal(12, E, generator=generator), torch.arange(1.0, E + 1).double(), seed)
        for E, seed in ((4, 3), (6, 5))
    ]


def saved_bias_as_found(bias_E: Tensor, load_E: Tensor, step: float) -> Tensor:
    """What a file holds of the bias after a step; the saver got the tensor before it."""
    saver = {"bias": bias_E}
    bias_E = bias_E + step * torch.sign(load_E.double().mean() - load_E)
    return saver["bias"].clone()


def saved_bias(bias_E: Tensor, load_E: Tensor, step: float) -> Tensor:
    """What a file holds of the bias after a step; the saver got the tensor before it."""
    saver = {"bias": bias_E}
    bias_E += step * torch.sign(load_E.double().mean() - load_E)
    return saver["bias"].clone()


def test_saved_bias(saved_bias: Code) -> None:
    """After a step with uneven loads, the file does not hold the zeros of the start."""
    assert saved_bias(torch.zeros(2), torch.tensor([1, 3]), 0.5).tolist() == [0.5, -0.5]


def _biases(generator: torch.Generator) -> Sequence[Inputs]:
    return [
        (normal(E, generator=generator), torch.randint(50, (E,), generator=generator), 0.001)
        for E in (4, 7)
    ]


TRAINING = (
    Exhibit(
        "Counted once more in the backward pass",
        8,
        LOGGED,
        "With recomputation switched on, the logged loads and balance losses double.",
        load_of_step_as_found,
        load_of_step,
        "What is recomputed runs twice, with all that it does on the side. So a block that is "
        "recomputed returns what is to be counted, and does not count.",
        test_load_of_step,
        _steps,
        (
            Source("NVIDIA/Megatron-LM", 1514),
            Source("pytorch/torchtitan", 1593, "pull request"),
            Source("NVIDIA-NeMo/Automodel", 3247, "pull request"),
        ),
    ),
    Exhibit(
        "Other experts in the backward pass",
        4,
        TRAINS,
        "The outputs are right. The gradients belong to experts that the token never saw.",
        slope_as_found,
        slope,
        "Recomputing repeats torch's own random numbers, but not those of a generator that you "
        "made. In the public code it was ties that fell another way. Decide once, outside.",
        test_slope,
        _sampled,
        (
            Source("NVIDIA-NeMo/Automodel", 3140, "pull request"),
            Source("NVIDIA-NeMo/Automodel", 2635, "pull request"),
        ),
    ),
    Exhibit(
        "A bias that no file has",
        10,
        DEVICES,
        "Training is balanced. What is loaded from the checkpoint is not, and its biases are 0.",
        saved_bias_as_found,
        saved_bias,
        "a = a + b makes a new tensor and gives it the old name. Whoever holds the old tensor sees "
        "no change. Write into it: a += b, or a.add_(b).",
        test_saved_bias,
        _biases,
        (Source("pytorch/torchtitan", 1226, "pull request"),),
    ),
)
