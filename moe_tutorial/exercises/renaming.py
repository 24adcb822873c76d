"""Exercise 15.3: the names under which two models' experts share the most."""

import itertools
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from moe_tutorial.exercises.grader import Exercise, Inputs, Mistake


def _models(generator: torch.Generator) -> Sequence[Inputs]:
    # How often which pair of choices is made: the largest number leads away from the best names.
    counts_EE = torch.tensor([[60, 40, 1, 0], [40, 2, 0, 1], [0, 1, 30, 3], [2, 0, 2, 25]])
    pairs_N = torch.arange(16).repeat_interleave(counts_EE.flatten())
    pairs_N1 = pairs_N[torch.randperm(len(pairs_N), generator=generator)][:, None]
    cases = [_halves(pairs_N1 // 4, pairs_N1 % 4, 4)]
    while len(cases) < 3:
        E, k = 5, 1 + len(cases)
        one_NK = torch.rand(60, E, generator=generator).topk(k).indices
        redrawn_NK = torch.rand(60, E, generator=generator).topk(k).indices
        kept_N1 = torch.rand(60, 1, generator=generator) < 0.2
        renamed_E = torch.randperm(E, generator=generator)
        other_NK = renamed_E[torch.where(kept_N1, one_NK, redrawn_NK)]
        order_NK = torch.rand(60, k, generator=generator).argsort(-1)  # of a list, not of a set
        case = _halves(one_NK, other_NK.gather(-1, order_NK), E)
        if _tells_apart(*case):
            cases.append(case)
    return cases


def _tells_apart(a_TK: Tensor, b_TK: Tensor, c_TK: Tensor, d_TK: Tensor, E: int) -> bool:
    """Whether there is one answer, and another one for the likely mistakes.

    Who makes the mean overlap largest, and not the number of shared experts, finds the same names.
    Who finds them also, or only, on the tokens that judge them, who turns them round, or who counts
    equal sets, does not.
    """
    gains_EE, judged_gains_EE = _gains(a_TK, b_TK, E), _gains(c_TK, d_TK, E)
    numbers = [_sums(it_EE) for it_EE in (gains_EE, judged_gains_EE, gains_EE + judged_gains_EE)]
    found = [int(it_P.argmax()) for it_P in numbers]
    names_E = _permutations(E)[found[0]]
    if len(set(found)) < 3 or torch.equal(names_E, names_E.argsort()):
        return False
    overlaps_TP = _overlaps(a_TK, b_TK, E)
    mean_P, equal_P = overlaps_TP.mean(0), (overlaps_TP == 1).sum(0)
    alone = all(bool(it_P.topk(2).values.diff() < -1e-9) for it_P in (*numbers, mean_P))
    agree = int(mean_P.argmax()) == found[0] and bool(equal_P[found[0]] < equal_P.max())
    answers = _overlaps(c_TK, d_TK, E).mean(0)[found].tolist()
    return alone and agree and len(set(answers)) == 3


def _halves(one_NK: Tensor, other_NK: Tensor, E: int) -> Inputs:
    half = len(one_NK) // 2
    return (one_NK[:half], other_NK[:half], one_NK[half:], other_NK[half:], E)


def _used(experts_TK: Tensor, E: int) -> Tensor:
    return torch.zeros(len(experts_TK), E, dtype=torch.bool).scatter(1, experts_TK, True)


def _gains(one_TK: Tensor, other_TK: Tensor, E: int) -> Tensor:
    """How many tokens each expert of the other model (row) shares with each of the one."""
    return _used(other_TK, E).double().T @ _used(one_TK, E).double()


@cache
def _permutations(E: int) -> Tensor:
    return torch.tensor(list(itertools.permutations(range(E))))


def _sums(gains_EE: Tensor) -> Tensor:
    """What each permutation gains."""
    return gains_EE[torch.arange(len(gains_EE)), _permutations(len(gains_EE))].sum(-1)


def _best_names(gains_EE: Tensor) -> Tensor:
    return _permutations(len(gains_EE))[_sums(gains_EE).argmax()]


def _greedy_names(gains_EE: Tensor) -> Tensor:
    """The largest number first, then the largest among who is left."""
    left_EE, names_E = gains_EE.clone(), torch.zeros(len(gains_EE), dtype=torch.int64)
    for _ in range(len(gains_EE)):
        row, column = divmod(int(left_EE.argmax()), len(gains_EE))
        names_E[row] = column
        left_EE[row], left_EE[:, column] = -1, -1
    return names_E


def _renamed(
    one_TK: Tensor, other_TK: Tensor, judged_TK: Tensor, judged_other_TK: Tensor, E: int
) -> Tensor:
    names_E = _best_names(_gains(one_TK, other_TK, E))
    return _judged(judged_TK, judged_other_TK, names_E, E)


def _found_on_all(
    one_TK: Tensor, other_TK: Tensor, judged_TK: Tensor, judged_other_TK: Tensor, E: int
) -> Tensor:
    all_TK, all_other_TK = torch.cat([one_TK, judged_TK]), torch.cat([other_TK, judged_other_TK])
    return _renamed(all_TK, all_other_TK, judged_TK, judged_other_TK, E)


def _overlaps(one_TK: Tensor, other_TK: Tensor, E: int) -> Tensor:
    """Each token's overlap under each permutation, ``[T, P]``."""
    renamed_TPE = _used(other_TK, E)[:, _permutations(E).argsort(-1)]
    return _overlap(_used(one_TK, E)[:, None], renamed_TPE)


def _overlap(one_TE: Tensor, other_TE: Tensor) -> Tensor:
    return (one_TE & other_TE).sum(-1).double() / (one_TE | other_TE).sum(-1)


def _judged(one_TK: Tensor, other_TK: Tensor, names_E: Tensor, E: int) -> Tensor:
    return _overlap(_used(one_TK, E), _used(names_E[other_TK], E)).mean()


RENAMED = Exercise(
    "15.3",
    _renamed,
    _models,
    (
        Mistake(
            lambda a, b, c, d, E: _judged(c, d, torch.arange(E), E),
            "these experts are not renamed: the two models number them each in its own way",
        ),
        Mistake(
            lambda a, b, c, d, E: _renamed(c, d, c, d, E),
            "these names were found on the tokens on which they are judged: find them on the first "
            "two choices",
        ),
        Mistake(
            lambda a, b, c, d, E: _overlaps(c, d, E).mean(0).max(),
            "these names were found on the tokens on which they are judged: find them on the first "
            "two choices",
        ),
        Mistake(
            _found_on_all,
            "these names were found on all tokens, those that judge them among them: find them on "
            "the first two choices",
        ),
        Mistake(
            lambda a, b, c, d, E: _renamed(a, b, a, b, E),
            "this judges on the tokens that found the names: judge on the last two choices",
        ),
        Mistake(
            lambda a, b, c, d, E: _judged(c, d, _best_names(_gains(a, b, E)).argsort(), E),
            "these names go the wrong way: they turn the first model's ids into the second's, or "
            "rename the wrong model",
        ),
        Mistake(
            lambda a, b, c, d, E: _judged(c, d, _greedy_names(_gains(a, b, E)), E),
            "this gives the largest number its way first, and the others then lose more: the sum "
            "over all experts is to be largest",
        ),
        Mistake(
            lambda a, b, c, d, E: _judged(c, d, _gains(a, b, E).argmax(1), E),
            "this lets each expert have its favourite name, so that two may bear the same one",
        ),
        Mistake(
            lambda a, b, c, d, E: _judged(
                torch.cat([a, c]), torch.cat([b, d]), _best_names(_gains(a, b, E)), E
            ),
            "this judges on all tokens: leave out those on which the names were found",
        ),
        Mistake(
            lambda a, b, c, d, E: (c == _best_names(_gains(a, b, E))[d]).double().mean(),
            "this compares places in lists: the same experts in another order are the same choice",
        ),
    ),
    tolerance=1e-6,  # shares of counts may well be float32
)
