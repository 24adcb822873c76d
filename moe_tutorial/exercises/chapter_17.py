"""Exercises of chapter 17: lost rows, a test of one's own, one without answers, ends of counts."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from moe_tutorial.exercises.grader import EXACT, Exercise, Inputs, Mistake
from moe_tutorial.exercises.museum_layer import combine, combine_as_found, different, normal

Combine = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
Layer = Callable[[Tensor], Tensor]


def _indices(generator: torch.Generator) -> Sequence[Inputs]:
    cases: list[Inputs] = [
        (torch.randint(T, (R,), generator=generator),) for T, R in ((5, 12), (9, 9))
    ]
    # One expert's rows in a loop over experts, where no token comes twice, and a run of one token.
    return [*cases, (torch.randperm(7, generator=generator),), (torch.full((4,), 2),)]


def _by_token(x_TD: Tensor, experts_TK: Tensor, gates_TK: Tensor, weights_EDD: Tensor) -> Tensor:
    return torch.einsum("td,tk,tkdf->tf", x_TD, gates_TK, weights_EDD[experts_TK])


def _unweighed(x_TD: Tensor, experts_TK: Tensor, gates_TK: Tensor, weights_EDD: Tensor) -> Tensor:
    return combine(x_TD, experts_TK, torch.ones_like(gates_TK), weights_EDD)


def _evenly(x_TD: Tensor, experts_TK: Tensor, gates_TK: Tensor, weights_EDD: Tensor) -> Tensor:
    mean_T1 = gates_TK.mean(-1, keepdim=True)
    return combine(x_TD, experts_TK, mean_T1.expand_as(gates_TK), weights_EDD)


def _renormalised(
    x_TD: Tensor, experts_TK: Tensor, gates_TK: Tensor, weights_EDD: Tensor
) -> Tensor:
    return combine(x_TD, experts_TK, gates_TK / gates_TK.sum(-1, keepdim=True), weights_EDD)


def _first_choice(
    x_TD: Tensor, experts_TK: Tensor, gates_TK: Tensor, weights_EDD: Tensor
) -> Tensor:
    return combine(x_TD, experts_TK[:, :1], gates_TK[:, :1], weights_EDD)


def _transposed(x_TD: Tensor, experts_TK: Tensor, gates_TK: Tensor, weights_EDD: Tensor) -> Tensor:
    return combine(x_TD, experts_TK, gates_TK, weights_EDD.transpose(1, 2))


def _next_tokens_gate(
    x_TD: Tensor, experts_TK: Tensor, gates_TK: Tensor, weights_EDD: Tensor
) -> Tensor:
    return combine(x_TD, experts_TK, gates_TK.roll(1, 0), weights_EDD)


RIGHT_ONES: tuple[Combine, ...] = (combine, _by_token)
WRONG_ONES: tuple[Combine, ...] = (
    combine_as_found,
    _unweighed,
    _evenly,
    _renormalised,
    _first_choice,
    _transposed,
    _next_tokens_gate,
)


def _agrees(code: Combine, T: int = 6, D: int = 3, E: int = 4, K: int = 2) -> bool:
    """Compare with the sum by hand on random inputs."""
    generator = torch.Generator().manual_seed(0)
    experts_TK = different(T, E, K, generator)
    gates_TK = 0.9 * normal(T, E, generator=generator).softmax(-1)[:, :K]
    x_TD = normal(T, D, generator=generator)
    case = (x_TD, experts_TK, gates_TK, normal(E, D, D, generator=generator))
    return torch.allclose(code(*case), _by_token(*case))


def _codes(generator: torch.Generator) -> Sequence[Inputs]:
    # In an order that nobody knows: a test has to look at the code, not at how often it was called.
    codes = (*RIGHT_ONES, *WRONG_ONES)
    return [(codes[i],) for i in torch.randperm(len(codes), generator=generator).tolist()]


def _token_by_token(x_TD: Tensor) -> Tensor:
    return torch.sin(3 * x_TD) + x_TD.sum(-1, keepdim=True)


def _with_places(x_TD: Tensor) -> Tensor:
    """A layer that serves the first two tokens of each sign."""
    positive_T = x_TD[:, 0] > 0
    number_T = torch.where(positive_T, positive_T.cumsum(0), (~positive_T).cumsum(0))
    return x_TD * (number_T <= 2)[:, None]


def _mixed(x_TD: Tensor) -> Tensor:
    """A layer in which rows were transposed and then reshaped."""
    return x_TD + 0.1 * x_TD.T.reshape(x_TD.shape)


def _by_position(x_TD: Tensor) -> Tensor:
    return x_TD - torch.arange(len(x_TD), dtype=x_TD.dtype)[:, None]


def _by_the_first(x_TD: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(x_TD[0])
    return x_TD - length


def _layers(generator: torch.Generator) -> Sequence[Inputs]:
    layers: tuple[Layer, ...] = (_token_by_token, _with_places, _mixed, _by_position)
    cases: list[Inputs] = [
        (layer, normal(T, 3, generator=generator), torch.randperm(T, generator=generator))
        for layer, T in zip(layers, (7, 9, 8, 6), strict=True)
    ]
    # Here every change is downwards.
    return [
        *cases,
        (_by_the_first, torch.arange(8.0).double().view(4, 2), torch.tensor([2, 0, 1, 3])),
    ]


def _change(layer: Layer, x_TD: Tensor, order_T: Tensor) -> Tensor:
    return (layer(x_TD[order_T]) - layer(x_TD)[order_T]).abs().max()


def _dtypes(_: torch.Generator) -> Sequence[Inputs]:
    return [(dtype,) for dtype in (torch.bfloat16, torch.float16, torch.float32, torch.float64)]


LOST = Exercise(
    "17.1",
    lambda token_R: token_R.numel() - token_R.unique().numel(),
    _indices,
    (
        Mistake(
            lambda token_R: token_R.unique().numel(),
            "these are the rows that remain: one for each token that is named",
        ),
        Mistake(
            lambda token_R: (torch.bincount(token_R) > 1).sum(),
            "this counts the tokens that lose something: one that is named four times loses three",
        ),
        Mistake(
            lambda token_R: (torch.bincount(token_R)[token_R] > 1).sum(),
            "these are all rows of repeated tokens: one row of each of these tokens is kept",
        ),
        Mistake(
            lambda token_R: token_R.numel() - (token_R.max() + 1),
            "a token that is not named keeps no row: count the different ones, not the largest",
        ),
    ),
)

OWN_TEST = Exercise(
    "17.2",
    lambda code: code in RIGHT_ONES,
    _codes,
    (
        Mistake(
            lambda code: True,
            "this accepts everything, as a look at the shape does, which all of these bugs keep",
        ),
        Mistake(
            lambda code: False,
            "this refuses everything, the right code as well",
        ),
        Mistake(
            lambda code: _agrees(code, K=1),
            "with one expert for each token some of the bugs do not show: give it two",
        ),
        Mistake(
            lambda code: _agrees(code, T=1),
            "with a single token some of the bugs do not show: give it several, all different",
        ),
        Mistake(
            lambda code: _agrees(code, D=1),
            "with a width of 1 a matrix is its own transpose: give it two at least",
        ),
    ),
)

WITHOUT_ANSWERS = Exercise(
    "17.3",
    _change,
    _layers,
    (
        Mistake(
            lambda layer, x_TD, order_T: (layer(x_TD[order_T]) - layer(x_TD)).abs().max(),
            "the outputs stand in two orders: give those of the unchanged batch the same order",
        ),
        Mistake(
            lambda layer, x_TD, order_T: (
                (layer(x_TD[order_T]) - layer(x_TD)[order_T.argsort()]).abs().max()
            ),
            "this is the inverse order: outputs have to go where their tokens went",
        ),
        Mistake(
            lambda layer, x_TD, order_T: (layer(x_TD[order_T]) - layer(x_TD)[order_T]).max(),
            "a change downwards counts as well: take absolute values first",
        ),
        Mistake(
            lambda layer, x_TD, order_T: (layer(x_TD[order_T]) - layer(x_TD)[order_T]).abs().mean(),
            "this is the mean change, in which one wrong row among many is hard to see",
        ),
        Mistake(
            lambda layer, x_TD, order_T: (layer(x_TD[order_T]) - layer(x_TD)[order_T]).norm(),
            "this is the length of all changes together: the largest one was asked for",
        ),
    ),
)

ENDS = Exercise(
    "17.4",
    lambda dtype: 2 / torch.finfo(dtype).eps,
    _dtypes,
    (
        Mistake(
            lambda dtype: torch.finfo(dtype).max,
            "this is the largest number that there is: far below it, one more changes nothing",
        ),
        Mistake(
            lambda dtype: 1 / torch.finfo(dtype).eps,
            "here the steps are 1 wide, so that one more is still counted, up to twice as many",
        ),
        Mistake(
            lambda dtype: 2.0 ** torch.finfo(dtype).bits,
            "not all bits are for the digits of the number: some are for its exponent and sign",
        ),
        Mistake(
            lambda dtype: 2 / torch.finfo(dtype).eps + 1,
            "this number is not among those of the dtype: the count stops one earlier",
        ),
    ),
    tolerance=EXACT,
)

EXERCISES = (LOST, OWN_TEST, WITHOUT_ANSWERS, ENDS)
