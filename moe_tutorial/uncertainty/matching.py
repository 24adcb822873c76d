"""Matching: which expert of one model plays the part of which expert of another?

names = the permutation that makes the sum of shared tokens largest.                 Chapter 15.
"""

import math

import torch
from torch import Tensor

from moe_tutorial.uncertainty.stability import jaccard
from moe_tutorial.validation import check_finite, check_floating, check_sets


def match_experts(experts_TK: Tensor, other_TK: Tensor, num_experts: int) -> Tensor:
    r"""New names for the experts of another model, under which the two share most tokens.

    .. math:: \operatorname{argmax}_{\text{permutations } \nu} \; \sum_e
              \bigl| \{t : e \in A_t\} \cap \{t : \nu^{-1}(e) \in B_t\} \bigr|

    Two models number their experts at random, so their raw overlap is at the chance level whatever
    they learnt. ``names_E[other_TK]`` speaks in the names of ``experts_TK``. Find the names on some
    tokens and measure the overlap on others: a permutation fitted to noise overlaps by more than
    chance, and choices shuffled over the tokens show by how much.

    Args:
        experts_TK: int64 ids of one model's choice, ``[T, K]`` with any leading dimensions.
        other_TK: those of another model for the same tokens; its K may differ.
        num_experts: E, of both.

    Returns:
        names_E: int64, for each expert of the other model the id of its partner.

    Raises:
        TypeError, ValueError: as for :func:`~moe_tutorial.uncertainty.stability.jaccard`, or ids
            outside 0 .. E-1.
    """
    check_sets(experts_TK, num_experts)
    check_sets(other_TK, num_experts, "other_TK")
    jaccard(experts_TK, other_TK)
    chosen_TE, others_TE = (
        torch.nn.functional.one_hot(ids, num_experts).sum(-2).flatten(0, -2).double()
        for ids in (experts_TK, other_TK)
    )
    return best_assignment(others_TE.T @ chosen_TE)


def best_assignment(gain_EE: Tensor) -> Tensor:
    """One column for each row, no column twice, with the largest sum of gains.

    The Hungarian method in its form with prices (Kuhn 1955; Munkres 1957): a row looks for the
    cheapest way to a free column, on which every row before it may move to another one. E rows
    take some E * E * E steps, which is nothing for the experts of a layer.

    Args:
        gain_EE: square, finite, floating point.

    Returns:
        columns_E: int64, the column of each row, on the device of ``gain_EE``.

    Raises:
        TypeError, ValueError: what is no square matrix of finite numbers.
    """
    check_floating("gain_EE", gain_EE)
    if gain_EE.ndim != 2 or gain_EE.shape[0] != gain_EE.shape[1]:
        raise ValueError(f"gain_EE must be square, got shape {tuple(gain_EE.shape)}")
    check_finite("gain_EE", gain_EE)
    cost = (-gain_EE.detach().double()).tolist()
    n = len(cost)
    price_of_row, price_of_column = [0.0] * n, [0.0] * (n + 1)
    row_of = [-1] * (n + 1)  # the last column is where a row stands before it has one
    for row in range(n):
        row_of[n], column = row, n
        cheapest, before = [math.inf] * n, [n] * n
        visited = [False] * (n + 1)
        while row_of[column] != -1:
            visited[column] = True
            here, step, following = row_of[column], math.inf, n
            for it in range(n):
                if visited[it]:
                    continue
                reduced = cost[here][it] - price_of_row[here] - price_of_column[it]
                if reduced < cheapest[it]:
                    cheapest[it], before[it] = reduced, column
                if cheapest[it] < step:
                    step, following = cheapest[it], it
            for it in range(n + 1):
                if visited[it]:
                    price_of_row[row_of[it]] += step
                    price_of_column[it] -= step
                elif it < n:
                    cheapest[it] -= step
            column = following
        while column != n:
            row_of[column] = row_of[before[column]]
            column = before[column]
    columns_E = torch.empty(n, dtype=torch.int64)
    columns_E[row_of[:n]] = torch.arange(n)
    return columns_E.to(gain_EE.device)
