"""The bug museum, fifth room: balance losses that do not see what they should balance.

Chapter 08 teaches what is done wrong here.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from moe_tutorial.exercises.grader import Inputs
from moe_tutorial.exercises.museum_layer import different, normal
from moe_tutorial.exercises.museum_records import LOGGED, TRAINS, Code, Exhibit, Source


def balance_loss_as_found(probabilities_TE: Tensor, experts_TK: Tensor) -> Tensor:
    """E times the sum over the experts of their share of choices times their mean probability."""
    E = probabilities_TE.shape[-1]
    share_E = one_hot(experts_TK, E).double().mean((0, 1))
    mean_K = probabilities_TE.gather(-1, experts_TK).mean(0)
    return E * (share_E[:, None] * mean_K).sum()


def balance_loss(probabilities_TE: Tensor, experts_TK: Tensor) -> Tensor:
    """E times the sum over the experts of their share of choices times their mean probability."""
    E = probabilities_TE.shape[-1]
    share_E = one_hot(experts_TK, E).double().mean((0, 1))
    mean_E = probabilities_TE.mean(0)
    return E * (share_E * mean_E).sum()


def test_balance_loss(balance_loss: Code) -> None:
    """Two tokens at one expert cost more than one token at each of two."""
    collapsed_TE = torch.tensor([[0.7, 0.3], [0.7, 0.3]])
    even_TE = torch.tensor([[0.7, 0.3], [0.3, 0.7]])
    collapsed, even = (balance_loss(p_TE, p_TE.topk(1).indices) for p_TE in (collapsed_TE, even_TE))
    assert collapsed > even + 0.1


def _routers(generator: torch.Generator) -> Sequence[Inputs]:
    cases = []
    for T, E, K in ((12, 4, 2), (9, 6, 1), (20, 5, 3)):
        tilt_E = torch.linspace(1, -1, E, dtype=torch.float64)
        probabilities_TE = (normal(T, E, generator=generator) + tilt_E).softmax(-1)
        cases.append((probabilities_TE, probabilities_TE.topk(K).indices))
    return cases


def loss_of_logits_as_found(logits_TE: Tensor, K: int) -> Tensor:
    """The balance loss of a softmax router that chooses K, from its logits."""
    router_TE = logits_TE.softmax(-1)
    experts_TK = router_TE.topk(K).indices
    return balance_loss(router_TE.softmax(-1), experts_TK)


def loss_of_logits(logits_TE: Tensor, K: int) -> Tensor:
    """The balance loss of a softmax router that chooses K, from its logits."""
    router_TE = logits_TE.softmax(-1)
    experts_TK = router_TE.topk(K).indices
    return balance_loss(router_TE, experts_TK)


def test_loss_of_logits(loss_of_logits: Code) -> None:
    """At full collapse, all of the probability at one of E experts, the loss is E."""
    collapsed_TE = torch.tensor([[50.0, 0, 0, 0]]).expand(6, 4)
    assert torch.allclose(loss_of_logits(collapsed_TE, 1).double(), torch.tensor(4.0).double())


def _logits(generator: torch.Generator) -> Sequence[Inputs]:
    cases = ((12, 4, 2), (9, 6, 1), (20, 5, 3))
    return [(2 * normal(T, E, generator=generator), K) for T, E, K in cases]


def loss_of_layers_as_found(probabilities_LTE: Tensor, experts_LTK: Tensor) -> Tensor:
    """The mean of the balance losses of L layers."""
    return balance_loss(probabilities_LTE.flatten(0, 1), experts_LTK.flatten(0, 1))


def loss_of_layers(probabilities_LTE: Tensor, experts_LTK: Tensor) -> Tensor:
    """The mean of the balance losses of L layers."""
    layers = zip(probabilities_LTE, experts_LTK, strict=True)
    return torch.stack([balance_loss(p_TE, experts_TK) for p_TE, experts_TK in layers]).mean()


def test_loss_of_layers(loss_of_layers: Code) -> None:
    """Two layers that collapsed to different experts are two collapsed layers."""
    probabilities_LTE = torch.eye(2)[:, None].expand(2, 5, 2)
    assert loss_of_layers(probabilities_LTE, probabilities_LTE.topk(1).indices) == 2


def _layers(generator: torch.Generator) -> Sequence[Inputs]:
    cases = []
    for L, T, E, K in ((2, 8, 4, 1), (3, 6, 5, 2), (1, 9, 3, 1)):
        tilt_LE = 2 * normal(L, 1, E, generator=generator)
        probabilities_LTE = (normal(L, T, E, generator=generator) + tilt_LE).softmax(-1)
        cases.append((probabilities_LTE, probabilities_LTE.topk(K).indices))
    return cases


def load_as_found(experts_BSK: Tensor, real_BS: Tensor, E: int) -> Tensor:
    """Each expert's share of the choices of real tokens, not of the padding behind them."""
    return one_hot(experts_BSK, E).double().mean((0, 1, 2))


def load(experts_BSK: Tensor, real_BS: Tensor, E: int) -> Tensor:
    """Each expert's share of the choices of real tokens, not of the padding behind them."""
    return one_hot(experts_BSK[real_BS], E).double().mean((0, 1))


def test_load(load: Code) -> None:
    """What the padding chooses changes no share."""
    real_BS = torch.tensor([[True, False, False]])
    one, other = torch.tensor([[[0], [1], [1]]]), torch.tensor([[[0], [0], [0]]])
    assert torch.equal(load(one, real_BS, 2), load(other, real_BS, 2))


def _padded(generator: torch.Generator) -> Sequence[Inputs]:
    cases = []
    for B, S, E, K in ((3, 7, 5, 2), (2, 9, 4, 1), (4, 5, 6, 3)):
        experts_BSK = different(B * S, E, K, generator).view(B, S, K)
        length_B1 = torch.randint(1, S, (B, 1), generator=generator)
        real_BS = torch.arange(S) < length_B1
        experts_BSK[~real_BS] = torch.arange(K)
        cases.append((experts_BSK, real_BS, E))
    return cases


def z_loss_as_found(logits_TE: Tensor) -> Tensor:
    """The mean over the tokens of the squared logsumexp of the router's logits."""
    logits_TE = logits_TE.softmax(-1).amax(-1, keepdim=True)
    return logits_TE.logsumexp(-1).square().mean()


def z_loss(logits_TE: Tensor) -> Tensor:
    """The mean over the tokens of the squared logsumexp of the router's logits."""
    return logits_TE.logsumexp(-1).square().mean()


def test_z_loss(z_loss: Code) -> None:
    """Logits that are all larger by 10 cost more."""
    logits_TE = torch.tensor([[1.0, 2.0]])
    assert z_loss(logits_TE + 10) > z_loss(logits_TE) + 1


def _plain(generator: torch.Generator) -> Sequence[Inputs]:
    return [(3 * normal(T, E, generator=generator),) for T, E in ((6, 4), (1, 7), (9, 3))]


BALANCE = (
    Exhibit(
        "Constant by broadcasting",
        8,
        LOGGED,
        "The balance loss stands still from the first step on, at a value that looks plausible.",
        balance_loss_as_found,
        balance_loss,
        "A column of E shares times a row of K means is a table [E, K], and its sum is the product "
        "of two sums, of which one is always 1. Both factors need one number for each expert.",
        test_balance_loss,
        _routers,
        (Source("mindspore-ai/hyper-parallel", 752), Source("huggingface/transformers", 28093)),
        gradient=True,
    ),
    Exhibit(
        "Softmax twice",
        8,
        LOGGED,
        "The balance loss stays near 1 while a third of the experts gets no token.",
        loss_of_logits_as_found,
        loss_of_logits,
        "The softmax of numbers between 0 and 1 is nearly even. What is called logits in one "
        "place must be logits in the next.",
        test_loss_of_logits,
        _logits,
        (Source("huggingface/transformers", 45111, "pull request"),),
        gradient=True,
    ),
    Exhibit(
        "Layers in one pool",
        8,
        LOGGED,
        "The loss says balance, and each single layer uses a few of its experts.",
        loss_of_layers_as_found,
        loss_of_layers,
        "Layers that prefer different experts even each other out in a pool. Each layer needs a "
        "loss of its own, and then the mean.",
        test_loss_of_layers,
        _layers,
        (Source("huggingface/transformers", 28255), Source("huggingface/transformers", 31464)),
        gradient=True,
    ),
    Exhibit(
        "The padding votes",
        8,
        LOGGED,
        "Batches with short texts look unbalanced, and the loss moves the router for it.",
        load_as_found,
        load,
        "All padding is one token, so much of it goes to the same experts. Count where the mask "
        "says that there is text.",
        test_load,
        _padded,
        (
            Source("huggingface/transformers", 28505),
            Source("huggingface/transformers", 28517, "pull request"),
        ),
    ),
    Exhibit(
        "A z-loss of probabilities",
        8,
        TRAINS,
        "The z-loss is small and even, and the logits grow all the same.",
        z_loss_as_found,
        z_loss,
        "A variable called logits held the largest probability. Its logsumexp lies between 0 and "
        "1 however large the logits are, and a shift of all of them does not show.",
        test_z_loss,
        _plain,
        (Source("huggingface/transformers", 48421, "pull request"),),
        gradient=True,
    ),
)
