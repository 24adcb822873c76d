"""The bug museum, seventh room: work that many devices share.

Chapter 14 teaches what is done wrong here. What W devices hold is one tensor with W rows.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from moe_tutorial.exercises.grader import Inputs
from moe_tutorial.exercises.museum_layer import normal
from moe_tutorial.exercises.museum_records import DEVICES, Code, Exhibit, Source


def reduced_as_found(dense_WD: Tensor, expert_WD: Tensor) -> Tensor:
    """Gradients of the mean of W devices' losses: a dense weight's, and a weight's of one expert.

    Row w of both comes from the tokens of device w.
    """
    dense_D = dense_WD.mean(0)  # an all-reduce that averages
    expert_D = expert_WD.sum(0)  # all tokens came to the expert's device, and it added
    return torch.stack([dense_D, expert_D])


def reduced(dense_WD: Tensor, expert_WD: Tensor) -> Tensor:
    """Gradients of the mean of W devices' losses: a dense weight's, and a weight's of one expert.

    Row w of both comes from the tokens of device w.
    """
    dense_D = dense_WD.mean(0)  # an all-reduce that averages
    expert_D = expert_WD.sum(0) / len(expert_WD)  # all tokens came to the expert's device
    return torch.stack([dense_D, expert_D])


def test_reduced(reduced: Code) -> None:
    """Where every device finds the same gradient, both weights have that gradient."""
    assert torch.equal(reduced(torch.ones(4, 1), torch.ones(4, 1)), torch.ones(2, 1))


def _gradients(generator: torch.Generator) -> Sequence[Inputs]:
    return [
        (normal(W, D, generator=generator), normal(W, D, generator=generator))
        for W, D in ((4, 3), (2, 5), (1, 2))
    ]


def device_losses_as_found(probabilities_WTE: Tensor, share_E: Tensor) -> Tensor:
    """W losses, one for each device, whose mean is the balance loss of all W T tokens."""
    W, T, E = probabilities_WTE.shape
    mean_WE = probabilities_WTE.sum(1) / (W * T)
    return E * mean_WE @ share_E


def device_losses(probabilities_WTE: Tensor, share_E: Tensor) -> Tensor:
    """W losses, one for each device, whose mean is the balance loss of all W T tokens."""
    E = probabilities_WTE.shape[-1]
    return E * probabilities_WTE.mean(1) @ share_E


def test_device_losses(device_losses: Code) -> None:
    """Perfect balance costs 1 on four devices, as on one."""
    even_WTE, share_E = torch.full((4, 3, 2), 0.5), torch.full((2,), 0.5)
    assert device_losses(even_WTE, share_E).mean() == 1


def _shards(generator: torch.Generator) -> Sequence[Inputs]:
    return [
        (normal(*shape, generator=generator).softmax(-1), normal(shape[2], generator=generator))
        for shape in ((4, 5, 3), (2, 6, 4), (1, 7, 2))
    ]


def checkpoint_as_found(experts_WMD: Tensor) -> Tensor:
    """The weights of all W M experts as a file keeps them, by number; device w has M of them."""
    saved = {}
    for experts_MD in experts_WMD:
        for m, weight_D in enumerate(experts_MD):
            saved[m] = weight_D
    return torch.stack([saved[e] for e in sorted(saved)])


def checkpoint(experts_WMD: Tensor) -> Tensor:
    """The weights of all W M experts as a file keeps them, by number; device w has M of them."""
    saved = {}
    for w, experts_MD in enumerate(experts_WMD):
        for m, weight_D in enumerate(experts_MD):
            saved[w * len(experts_MD) + m] = weight_D
    return torch.stack([saved[e] for e in sorted(saved)])


def test_checkpoint(checkpoint: Code) -> None:
    """Two devices with one expert each make a file with two experts."""
    assert checkpoint(torch.tensor([[[1.0]], [[2.0]]])).flatten().tolist() == [1, 2]


def _experts(generator: torch.Generator) -> Sequence[Inputs]:
    return [(normal(*shape, generator=generator),) for shape in ((2, 3, 2), (4, 2, 3), (1, 5, 2))]


def rows_as_found(B: int, S: int, W: int, rank: int) -> Tensor:
    """Which of the B S rows of a batch device ``rank`` has, if W devices share each sequence."""
    count = B * S // W
    return rank * count + torch.arange(count)


def rows(B: int, S: int, W: int, rank: int) -> Tensor:
    """Which of the B S rows of a batch device ``rank`` has, if W devices share each sequence."""
    part = S // W
    within_S = rank * part + torch.arange(part)
    return (S * torch.arange(B)[:, None] + within_S).flatten()


def test_rows(rows: Code) -> None:
    """Of two sequences of two tokens, device 0 of two has the first token of each."""
    assert rows(2, 2, 2, 0).tolist() == [0, 2]


def _parts(_: torch.Generator) -> Sequence[Inputs]:
    return [(3, 8, 2, 1), (2, 12, 4, 3), (1, 6, 3, 1), (4, 4, 4, 0)]


SPREAD = (
    Exhibit(
        "W times too large",
        14,
        DEVICES,
        "The more devices, the larger the experts' gradients. AdamW hides it; clipping does not.",
        reduced_as_found,
        reduced,
        "The exchange brings an expert the tokens of all devices, and its gradient is their sum "
        "already. Where the dense weights average, the experts divide by W.",
        test_reduced,
        _gradients,
        (
            Source("pytorch/pytorch", 160285),
            Source("databricks/megablocks", 20, "pull request"),
            Source("NVIDIA/Megatron-LM", 5956, "pull request"),
        ),
    ),
    Exhibit(
        "Divided twice",
        14,
        DEVICES,
        "The same coefficient balances well on one device and hardly at all on many.",
        device_losses_as_found,
        device_losses,
        "Each device divided by all tokens, and then the devices are averaged, which divides by W "
        "once more. One of the two is enough.",
        test_device_losses,
        _shards,
        (
            Source("NVIDIA/Megatron-LM", 3672),
            Source("NVIDIA/Megatron-LM", 3769, "pull request"),
        ),
    ),
    Exhibit(
        "One device's experts in the file",
        14,
        DEVICES,
        "Resuming works without an error, and the loss jumps.",
        checkpoint_as_found,
        checkpoint,
        "Every device numbered its own experts from 0, so that the names were the same and one "
        "device's weights were written over another's. A name needs the global number.",
        test_checkpoint,
        _experts,
        (Source("KempnerInstitute/KempnerForge", 202), Source("verl-project/verl", 2086)),
    ),
    Exhibit(
        "Right for one sequence",
        14,
        DEVICES,
        "With one sequence in the batch all agrees. With two, tokens get each other's outputs.",
        rows_as_found,
        rows,
        "A device has a part of every sequence, and not one piece of the flattened batch. Only "
        "where there is one sequence is that the same.",
        test_rows,
        _parts,
        (Source("pytorch/torchtitan", 3604, "pull request"),),
    ),
)
