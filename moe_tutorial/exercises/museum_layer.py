"""The bug museum, first room: rows that are lost, doubled or taken for each other in a layer.

Chapters 05 to 07 teach what is done wrong here.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from moe_tutorial.exercises.grader import Inputs
from moe_tutorial.exercises.museum_records import SIZE, TRAINS, VALUES, Code, Exhibit, Source


def normal(*shape: int, generator: torch.Generator) -> Tensor:
    """Normal random numbers in float64."""
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def different(T: int, E: int, K: int, generator: torch.Generator) -> Tensor:
    """K different experts for each token."""
    return torch.rand(T, E, generator=generator).topk(K).indices


def combine_as_found(
    x_TD: Tensor, experts_TK: Tensor, gates_TK: Tensor, weights_EDD: Tensor
) -> Tensor:
    """Weigh what each token's experts make of it, and add."""
    y_TD = torch.zeros_like(x_TD)
    for e, weight_DD in enumerate(weights_EDD):
        t_R, k_R = (experts_TK == e).nonzero(as_tuple=True)
        y_TD[t_R] = gates_TK[t_R, k_R, None] * (x_TD[t_R] @ weight_DD)
    return y_TD


def combine(x_TD: Tensor, experts_TK: Tensor, gates_TK: Tensor, weights_EDD: Tensor) -> Tensor:
    """Weigh what each token's experts make of it, and add."""
    y_TD = torch.zeros_like(x_TD)
    for e, weight_DD in enumerate(weights_EDD):
        t_R, k_R = (experts_TK == e).nonzero(as_tuple=True)
        y_TD[t_R] += gates_TK[t_R, k_R, None] * (x_TD[t_R] @ weight_DD)
    return y_TD


def test_combine(combine: Code) -> None:
    """Two experts that multiply by 1 and by 10 make 11 of 1."""
    weights_EDD = torch.tensor([[[1.0]], [[10.0]]])
    y_TD = combine(torch.ones(1, 1), torch.tensor([[0, 1]]), torch.ones(1, 2), weights_EDD)
    assert y_TD.item() == 11


def _layers(generator: torch.Generator) -> Sequence[Inputs]:
    cases = []
    for T, D, E, K in ((7, 3, 5, 2), (4, 2, 4, 3), (6, 2, 3, 1)):
        gates_TK = normal(T, K, generator=generator).softmax(-1)
        weights_EDD = normal(E, D, D, generator=generator)
        x_TD = normal(T, D, generator=generator)
        cases.append((x_TD, different(T, E, K, generator), gates_TK, weights_EDD))
    return cases


def add_rows_as_found(rows_RD: Tensor, token_R: Tensor, T: int) -> Tensor:
    """Add each of R rows to the token that it belongs to."""
    y_TD = rows_RD.new_zeros(T, rows_RD.shape[1])
    y_TD[token_R] += rows_RD
    return y_TD


def add_rows(rows_RD: Tensor, token_R: Tensor, T: int) -> Tensor:
    """Add each of R rows to the token that it belongs to."""
    y_TD = rows_RD.new_zeros(T, rows_RD.shape[1])
    return y_TD.index_add(0, token_R, rows_RD)


def test_add_rows(add_rows: Code) -> None:
    """Two rows of 1 that belong to one token make 2."""
    assert add_rows(torch.ones(2, 1), torch.tensor([0, 0]), 1).item() == 2


def _rows(generator: torch.Generator) -> Sequence[Inputs]:
    return [
        (normal(R, 3, generator=generator), torch.randint(T, (R,), generator=generator), T)
        for R, T in ((12, 5), (30, 8), (4, 6))
    ]


def restore_as_found(sorted_RD: Tensor, order_R: Tensor) -> Tensor:
    """Undo ``x_RD[order_R]``: give every row its old place."""
    return sorted_RD[order_R]


def restore(sorted_RD: Tensor, order_R: Tensor) -> Tensor:
    """Undo ``x_RD[order_R]``: give every row its old place."""
    return sorted_RD[order_R.argsort()]


def test_restore(restore: Code) -> None:
    """Three rows that moved in a circle come back; two that were swapped prove nothing."""
    x_RD, order_R = torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([1, 2, 0])
    assert torch.equal(restore(x_RD[order_R], order_R), x_RD)


def _orders(generator: torch.Generator) -> Sequence[Inputs]:
    return [
        (normal(R, 2, generator=generator), torch.randperm(R, generator=generator))
        for R in (1, 7, 16)
    ]


def flatten_as_found(logits_BSE: Tensor) -> Tensor:
    """Write the logits as one row of E numbers for each token."""
    B, S, E = logits_BSE.shape
    return logits_BSE.transpose(1, 2).reshape(B * S, E)


def flatten(logits_BSE: Tensor) -> Tensor:
    """Write the logits as one row of E numbers for each token."""
    return logits_BSE.flatten(0, 1)


def test_flatten(flatten: Code) -> None:
    """The row of token 1 of sequence 0 is that token's."""
    logits_BSE = torch.arange(12.0).view(2, 2, 3)
    assert torch.equal(flatten(logits_BSE)[1], logits_BSE[0, 1])


def _sequences(generator: torch.Generator) -> Sequence[Inputs]:
    return [(normal(*shape, generator=generator),) for shape in ((2, 5, 3), (3, 4, 4), (1, 1, 6))]


def weight_gradients_as_found(
    x_RD: Tensor, slopes_RF: Tensor, load_E: Tensor, memory_EDF: Tensor
) -> Tensor:
    """Each expert's gradient from its block of sorted rows, into memory that holds anything."""
    start = 0
    for e, load in enumerate(load_E.tolist()):
        if load == 0:
            continue
        block = slice(start, start + load)
        memory_EDF[e] = x_RD[block].T @ slopes_RF[block]
        start += load
    return memory_EDF


def weight_gradients(x_RD: Tensor, slopes_RF: Tensor, load_E: Tensor, memory_EDF: Tensor) -> Tensor:
    """Each expert's gradient from its block of sorted rows, into memory that holds anything."""
    start = 0
    memory_EDF.zero_()
    for e, load in enumerate(load_E.tolist()):
        block = slice(start, start + load)
        memory_EDF[e] = x_RD[block].T @ slopes_RF[block]
        start += load
    return memory_EDF


def test_weight_gradients(weight_gradients: Code) -> None:
    """In memory full of NaN, an expert without rows gets a gradient of 0."""
    dirty_EDF = torch.full((2, 1, 1), torch.nan)
    found_EDF = weight_gradients(
        torch.ones(1, 1), torch.ones(1, 1), torch.tensor([1, 0]), dirty_EDF
    )
    assert found_EDF.flatten().tolist() == [1, 0]


def _blocks(generator: torch.Generator) -> Sequence[Inputs]:
    cases = []
    for load in ([3, 0, 4], [0, 0, 2, 5], [2, 2]):
        x_RD, slopes_RF = (normal(sum(load), n, generator=generator) for n in (3, 2))
        memory_EDF = normal(len(load), 3, 2, generator=generator)
        cases.append((x_RD, slopes_RF, torch.tensor(load), memory_EDF))
    return cases


LAYER = (
    Exhibit(
        "The last expert wins",
        5,
        TRAINS,
        "The loss falls, but two experts for each token are no better than one.",
        combine_as_found,
        combine,
        "Add to the row instead of writing over it: what the first of a token's experts said was "
        "overwritten by the second.",
        test_combine,
        _layers,
        (Source("AviSoori1x/makeMoE", 2),),
    ),
    Exhibit(
        "Repeated rows count once",
        7,
        TRAINS,
        "The layer agrees with the reference at K = 1. At K = 2 its outputs are too small.",
        add_rows_as_found,
        add_rows,
        "Where an index is repeated, y[i] += rows reads the old value, adds, and writes, once for "
        "all of them, so that one write remains. index_add adds them all.",
        test_add_rows,
        _rows,
        (
            Source("pymc-devs/pytensor", 2242, "pull request"),
            Source("pytorch/pytorch", 59511),
        ),
    ),
    Exhibit(
        "The order in place of its inverse",
        7,
        SIZE,
        "Right for two rows, and wrong for most larger batches.",
        restore_as_found,
        restore,
        "An order is undone by its inverse, order.argsort(). A swap of two is its own inverse, "
        "so a test with two rows says nothing.",
        test_restore,
        _orders,
        (Source("lablup/mlxcel", 1600),),
    ),
    Exhibit(
        "Transposed, then reshaped",
        6,
        SIZE,
        "Shapes are right, a single token is routed well, and longer sequences are not.",
        flatten_as_found,
        flatten,
        "reshape reads the numbers in their order, so it must follow no transpose: the rows mixed "
        "the logits of several tokens.",
        test_flatten,
        _sequences,
        (
            Source("huggingface/transformers", 33463),
            Source("huggingface/transformers", 33582, "pull request"),
        ),
    ),
    Exhibit(
        "Memory as it was",
        7,
        VALUES,
        "Gradients are NaN once in a while, where an expert got no token.",
        weight_gradients_as_found,
        weight_gradients,
        "Memory that is not initialised holds what was there before. The expert without rows was "
        "skipped, so nobody wrote its zeros.",
        test_weight_gradients,
        _blocks,
        (Source("meta-pytorch/MSLK", 158, "pull request"), Source("tgale96/grouped_gemm", 36)),
    ),
)
