"""Exercises of chapter 14: splits, a share of the balance loss, bytes between nodes, factors."""

from collections.abc import Sequence

import torch
from torch import Tensor

from moe_tutorial.exercises.grader import Exercise, Inputs, Mistake


def _loads(generator: torch.Generator) -> Sequence[Inputs]:
    return [
        (torch.randint(0, 9, (ranks, experts), generator=generator), rank)
        for ranks, experts, rank in ((2, 6, 1), (4, 8, 2), (3, 9, 0))
    ]


def _batches(generator: torch.Generator) -> Sequence[Inputs]:
    cases = []
    for tokens, mine, E, k in ((12, 5, 4, 2), (30, 7, 8, 3), (9, 2, 6, 1)):
        logits_TE = torch.randn(tokens, E, dtype=torch.float64, generator=generator)
        probabilities_TE = logits_TE.softmax(-1)
        load_E = torch.bincount(logits_TE.topk(k).indices.flatten(), minlength=E)
        cases.append((probabilities_TE[:mine], load_E, tokens))
    return cases


def _choices(generator: torch.Generator) -> Sequence[Inputs]:
    cases = []
    for tokens, E, k, nodes, mine, row in ((9, 8, 3, 4, 1, 10.0), (20, 16, 4, 4, 3, 256.0)):
        chosen_TE = torch.rand(tokens, E, generator=generator)
        cases.append((chosen_TE.topk(k).indices, E, nodes, mine, row))
    return cases


def _recipes(generator: torch.Generator) -> Sequence[Inputs]:
    # Every recipe on some mesh; which mesh goes with which is drawn.
    meshes = [(8, 2), (16, 4), (12, 3), (4, 1)]
    order = torch.randperm(4, generator=generator).tolist()
    recipes = [(a, b) for a in ("share", "mean") for b in ("sum", "mean")]
    return [
        (*meshes[at], *recipe)
        for shift in range(2)
        for at, recipe in zip(order[shift:] + order[:shift], recipes, strict=True)
    ]


def _splits(load_WE: Tensor, rank: int) -> Tensor:
    ranks = len(load_WE)
    load_WWM = load_WE.view(ranks, ranks, -1)  # from rank, to rank, expert there
    return torch.stack([load_WWM[rank].sum(-1), load_WWM[:, rank].sum(-1)])


def _share(probabilities_TE: Tensor, load_E: Tensor, tokens: int) -> Tensor:
    fraction_E = load_E.double() / load_E.sum()
    return len(load_E) * (fraction_E * probabilities_TE.sum(0) / tokens).sum()


def _visits(experts_TK: Tensor, E: int, nodes: int) -> Tensor:
    visited_TN = torch.zeros(len(experts_TK), nodes, dtype=torch.bool)
    return visited_TN.scatter(1, experts_TK // (E // nodes), True)


def _bytes(experts_TK: Tensor, E: int, nodes: int, my_node: int, row_bytes: float) -> Tensor:
    visited_TN = _visits(experts_TK, E, nodes)
    return (visited_TN.sum() - visited_TN[:, my_node].sum()) * row_bytes


def _factors(ranks: int, copies: int, loss: str, reduction: str) -> Tensor:
    scale = 1 if loss == "share" else ranks
    over = (1, 1) if reduction == "sum" else (ranks, copies)
    return torch.tensor([scale / it for it in over], dtype=torch.float64)


def _pair(dense: float, expert: float) -> Tensor:
    return torch.tensor([dense, expert], dtype=torch.float64)


SPLITS = Exercise(
    "14.1",
    _splits,
    _loads,
    (
        Mistake(
            lambda load, rank: _splits(load, rank).flip(0),
            "these two are exchanged: first what this rank sends, then what it receives",
        ),
        Mistake(
            lambda load, rank: _splits(load, rank)[0].expand(2, -1),
            "a rank does not receive what it sends: others have other tokens",
        ),
        Mistake(
            lambda load, rank: torch.stack(
                [
                    load.view(len(load), -1, len(load))[rank].sum(0),
                    load.view(len(load), -1, len(load))[:, :, rank].sum(1),
                ]
            ),
            "this deals experts out like cards: rank r holds neighbours, those from r E / W on",
        ),
        Mistake(
            lambda load, rank: _splits(load, rank) * (torch.arange(len(load)) != rank),
            "rows for a rank's own experts take part, too: an all-to-all has a place for them",
        ),
        Mistake(
            lambda load, rank: torch.stack(
                [_splits(load, rank)[0], load.view(len(load), len(load), -1).sum((0, 2))]
            ),
            "the second row has what each rank receives from all: what comes to this rank from "
            "each is asked for",
        ),
    ),
)

SHARE = Exercise(
    "14.2",
    _share,
    _batches,
    (
        Mistake(
            lambda p, load, tokens: _share(p, load, len(p)),
            "this is a mean over the rank's own tokens: shares of all ranks would add up to W "
            "times the loss",
        ),
        Mistake(
            lambda p, load, tokens: _share(p, load, tokens) / len(load),
            "the factor E is missing: balanced, all shares add up to 1",
        ),
        Mistake(
            lambda p, load, tokens: _share(p, load, tokens) * load.sum() / tokens,
            "these fractions sum to K: a token makes K assignments, so divide the load by T K",
        ),
        Mistake(
            lambda p, load, tokens: _share(p, load, tokens) * load.sum(),
            "these are loads: the fraction of all assignments is asked for",
        ),
        Mistake(
            lambda p, load, tokens: _share(
                p, torch.bincount(p.argmax(-1), minlength=len(load)), tokens
            ),
            "this load is counted on this rank: the load of all ranks was given",
        ),
        Mistake(
            lambda p, load, tokens: _share(p, load, tokens) * tokens,
            "these probabilities are summed: divide by the tokens of all ranks",
        ),
    ),
    gradient=True,
    tolerance=1e-6,  # a quotient of two counts is float32
)

BYTES = Exercise(
    "14.3",
    _bytes,
    _choices,
    (
        Mistake(
            lambda experts, E, nodes, mine, row: (experts // (E // nodes) != mine).sum() * row,
            "this sends a row for each expert: experts of a token on the same node share one",
        ),
        Mistake(
            lambda experts, E, nodes, mine, row: _visits(experts, E, nodes).sum() * row,
            "rows that stay on this node cross nothing",
        ),
        Mistake(
            lambda experts, E, nodes, mine, row: (
                ((experts // (E // nodes)) != mine).any(-1).sum() * row
            ),
            "this counts tokens that leave: one that goes to three nodes crosses three times",
        ),
        Mistake(
            lambda experts, E, nodes, mine, row: (
                (_visits(experts, E, nodes).sum() - len(experts)) * row
            ),
            "this takes one visit off for each token: not every token has an expert at home",
        ),
        Mistake(
            lambda experts, E, nodes, mine, row: experts.numel() * row,
            "this sends every assignment: leave out what stays at home, and what shares a row",
        ),
        Mistake(
            lambda experts, E, nodes, mine, row: _bytes(experts, E, nodes, mine, 1.0),
            "these are rows: each has row_bytes bytes",
        ),
    ),
    tolerance=1e-6,
)

FACTORS = Exercise(
    "14.4",
    _factors,
    _recipes,
    (
        Mistake(
            lambda ranks, copies, loss, reduction: _pair(1, 1),
            "not every recipe is right: a loss that is a mean over a rank's own tokens is W times "
            "its share",
        ),
        Mistake(
            lambda ranks, copies, loss, reduction: _factors(ranks, copies, loss, reduction)[
                :1
            ].expand(2),
            "experts are another matter: their gradients are reduced over copies, not over all",
        ),
        Mistake(
            lambda ranks, copies, loss, reduction: _factors(ranks, copies, loss, reduction).flip(0),
            "these two are exchanged: first the factor of dense parameters, then of experts",
        ),
        Mistake(
            lambda ranks, copies, loss, reduction: 1 / _factors(ranks, copies, loss, reduction),
            "these are upside down: a factor of 4 says that a gradient is four times too large",
        ),
        Mistake(
            lambda ranks, copies, loss, reduction: _pair(
                (1 if loss == "share" else ranks) / (1 if reduction == "sum" else ranks),
                (1 if loss == "share" else ranks) / (1 if reduction == "sum" else ranks // copies),
            ),
            "an expert's gradient is averaged over its copies, of which there are C, not W / C",
        ),
        Mistake(
            lambda ranks, copies, loss, reduction: (
                _factors(ranks, copies, loss, reduction)
                * torch.tensor([1, copies if reduction == "sum" else 1])
            ),
            "copies see different tokens: the sum over them is right, and not too large",
        ),
    ),
)

EXERCISES = (SPLITS, SHARE, BYTES, FACTORS)
