"""Exercises of chapter 12: loads without padding, a hot set, overlap by chance, a foreign trace."""

from collections.abc import Sequence

import torch
from torch import Tensor

from moe_tutorial.exercises.grader import Exercise, Inputs, Mistake


def _sets(tokens: int, E: int, k: int, tilt: float, generator: torch.Generator) -> Tensor:
    """K different experts for each token, some of them liked more than others."""
    liking_E = tilt * torch.linspace(1, 0, E)[torch.randperm(E, generator=generator)]
    return (liking_E + torch.rand(tokens, E, generator=generator)).topk(k, dim=-1).indices


def _batches(generator: torch.Generator) -> Sequence[Inputs]:
    cases = []
    for rows, length, E, k in ((3, 7, 8, 2), (2, 20, 16, 4), (4, 5, 6, 1)):
        experts_BSK = _sets(rows * length, E, k, 0.5, generator).view(rows, length, k)
        lengths_B = torch.randint(1, length, (rows,), generator=generator)
        mask_BS = (torch.arange(length) < lengths_B[:, None]).long()
        # What is fed as padding is one token again and again, and so are its experts.
        experts_BSK[mask_BS == 0] = experts_BSK[-1, -1].clone()
        cases.append((experts_BSK, mask_BS, E))
    return cases


def _prompts(generator: torch.Generator) -> Sequence[Inputs]:
    cases = []
    for prompt, answer, E, k, size in ((9, 14, 8, 2, 3), (40, 25, 16, 4, 6), (12, 30, 6, 1, 2)):
        both_TK = _sets(prompt + answer, E, k, 0.7, generator)
        cases.append((both_TK[:prompt], both_TK[prompt:], E, size))
    # All are equally busy in this prompt, so that ids alone decide.
    equal = torch.tensor([[0, 1], [3, 2]]), torch.tensor([[0, 1], [3, 0], [0, 2]])
    return [*cases, (*equal, 4, 2)]


def _two_models(generator: torch.Generator) -> Sequence[Inputs]:
    cases = []
    for tokens, E, k, tilt in ((30, 8, 2, 0.9), (50, 16, 4, 0.5), (20, 6, 1, 0.8)):
        a_TK = _sets(tokens, E, k, tilt, generator)
        b_TK = _sets(tokens, E, k, tilt, generator)
        b_TK[: tokens // 3] = a_TK[: tokens // 3].flip(-1)
        cases.append((a_TK, b_TK, E))
    return cases


def _files(generator: torch.Generator) -> Sequence[Inputs]:
    cases = []
    for layers, passes, E, k in (((0, 1, 2), (4, 1, 1), 8, 2), ((1, 3), (3, 2), 16, 4)):
        lines = [
            f"{layer},{expert}"
            for tokens in passes
            for layer in layers
            for expert in _sets(tokens, E, k, 0.0, generator).flatten().tolist()
        ]
        cases.append(("\n".join(lines) + "\n", k))
    return cases


def _used(experts_TK: Tensor, E: int) -> Tensor:
    return torch.zeros(len(experts_TK), E, dtype=torch.float64).scatter(1, experts_TK, 1)


def _counts(experts: Tensor, E: int) -> Tensor:
    return torch.bincount(experts.flatten(), minlength=E).double()


def _real_loads(experts_BSK: Tensor, mask_BS: Tensor, E: int) -> Tensor:
    counts_E = _counts(experts_BSK[mask_BS == 1], E)
    return counts_E / counts_E.sum()


def _hot(experts_TK: Tensor, E: int, size: int, descending: bool = True) -> Tensor:
    order_E = _counts(experts_TK, E).sort(descending=descending, stable=True).indices
    return torch.zeros(E, dtype=torch.bool).scatter(0, order_E[:size], True)


def _hot_with_higher_ids(experts_TK: Tensor, E: int, size: int) -> Tensor:
    order_E = E - 1 - _counts(experts_TK, E).flip(0).sort(descending=True, stable=True).indices
    return torch.zeros(E, dtype=torch.bool).scatter(0, order_E[:size], True)


def _served(prompt_TK: Tensor, answer_SK: Tensor, E: int, size: int) -> Tensor:
    return _hot(prompt_TK, E, size)[answer_SK].double().mean()


def _found(a_TK: Tensor, b_TK: Tensor, E: int) -> Tensor:
    return (_used(a_TK, E) * _used(b_TK, E)).sum(-1).mean() / a_TK.shape[1]


def _by_chance(a_TK: Tensor, b_TK: Tensor, E: int) -> Tensor:
    return (_used(a_TK, E).mean(0) * _used(b_TK, E).mean(0)).sum() / a_TK.shape[1]


def _pairs(text: str) -> list[tuple[int, int]]:
    return [(int(layer), int(e)) for layer, e in (line.split(",") for line in text.split())]


def _parsed(text: str, k: int) -> Tensor:
    pairs = _pairs(text)
    layers = sorted({layer for layer, _ in pairs})
    rows = [[expert for at, expert in pairs if at == layer] for layer in layers]
    return torch.tensor(rows).view(len(layers), -1, k)


def _in_file_order(text: str, k: int) -> Tensor:
    pairs = _pairs(text)
    layers = len({layer for layer, _ in pairs})
    return torch.tensor([expert for _, expert in pairs]).view(layers, -1, k)


LOADS = Exercise(
    "12.1",
    _real_loads,
    _batches,
    (
        Mistake(
            lambda experts, mask, E: _counts(experts, E) / experts.numel(),
            "these count the padding, too: keep the tokens whose mask is 1",
        ),
        Mistake(
            lambda experts, mask, E: _counts(experts[mask == 1], E),
            "these are counts: a share of all assignments is asked for",
        ),
        Mistake(
            lambda experts, mask, E: _counts(experts[mask == 1], E) / mask.sum(),
            "these sum to K: a token makes K assignments, not one",
        ),
        Mistake(
            lambda experts, mask, E: _counts(experts[mask == 1], E) / experts.numel(),
            "these do not sum to 1: the padding is left out above and counted below",
        ),
        Mistake(
            lambda experts, mask, E: _real_loads(experts, 1 - mask, E),
            "these are the loads of the padding: a mask of 1 says that a token is real",
        ),
        Mistake(
            lambda experts, mask, E: torch.stack(
                [_real_loads(*row, E) for row in zip(experts, mask, strict=True) if row[1].any()]
            ).mean(0),
            "this is the mean of each text's shares: short texts then weigh as much as long ones",
        ),
        Mistake(
            lambda experts, mask, E: _real_loads(experts[..., :1], mask, E),
            "these count only the first expert of each token: all K take part",
        ),
    ),
)

HOT = Exercise(
    "12.2",
    _served,
    _prompts,
    (
        Mistake(
            lambda prompt, answer, E, size: _served(answer, answer, E, size),
            "this chooses the set from the answer, which nobody knows beforehand",
        ),
        Mistake(
            lambda prompt, answer, E, size: _served(prompt, prompt, E, size),
            "this asks how well the set serves the prompt that it was made of: ask the answer",
        ),
        Mistake(
            lambda prompt, answer, E, size: _hot(prompt, E, size)[answer].all(-1).double().mean(),
            "this counts tokens that find all their experts: each assignment counts for itself",
        ),
        Mistake(
            lambda prompt, answer, E, size: _hot(prompt, E, size)[answer].any(-1).double().mean(),
            "this counts tokens that find any of their experts: each assignment counts for itself",
        ),
        Mistake(
            lambda prompt, answer, E, size: (
                _hot(prompt, E, size, descending=False)[answer].double().mean()
            ),
            "this keeps the idlest experts: sort with the largest count first",
        ),
        Mistake(
            lambda prompt, answer, E, size: (
                _hot_with_higher_ids(prompt, E, size)[answer].double().mean()
            ),
            "of experts that are equally busy these are the higher ids: keep the lower ones, "
            "with a stable sort (topk promises no order)",
        ),
        Mistake(
            lambda prompt, answer, E, size: size / E,
            "this is chance, what a set gives that was drawn at random",
        ),
    ),
)

OVERLAP = Exercise(
    "12.3",
    lambda a, b, E: _found(a, b, E) - _by_chance(a, b, E),
    _two_models,
    (
        Mistake(
            lambda a, b, E: _found(a, b, E) - a.shape[1] / E,
            "K / E is chance where loads are equal: with busy experts two choices meet more often",
        ),
        Mistake(
            _found,
            "this is the overlap itself: chance is to be taken off",
        ),
        Mistake(
            lambda a, b, E: (a == b).double().mean() - _by_chance(a, b, E),
            "this compares place by place: the same expert may stand first in one, second in the "
            "other",
        ),
        Mistake(
            lambda a, b, E: a.shape[1] * (_found(a, b, E) - _by_chance(a, b, E)),
            "this counts experts: divide by K, so that two equal choices have an overlap of 1",
        ),
        Mistake(
            lambda a, b, E: _found(a, b, E) - a.shape[1] * _by_chance(a, b, E),
            "chance is divided by K as well: it is the overlap of two choices, too",
        ),
        Mistake(
            lambda a, b, E: _found(a, b, E) - _by_chance(a, b, E) / a.shape[1],
            "these are shares of assignments, which sum to 1: an expert is used by p of the "
            "tokens, and these shares sum to K",
        ),
        Mistake(_by_chance, "this is chance alone: take it off what was found"),
    ),
    tolerance=1e-6,  # shares of counts may well be float32
)

FOREIGN = Exercise(
    "12.4",
    _parsed,
    _files,
    (
        Mistake(
            _in_file_order,
            "this reads straight on as if there were one pass: a layer's lines come again in every "
            "pass, and belong together",
        ),
        Mistake(
            lambda text, k: _parsed(text, k).transpose(0, 1),
            "the first dimension is the layer's: [L, T, K]",
        ),
        Mistake(
            lambda text, k: _parsed(text, k).sort(-1).values,
            "these are sorted: keep the order of the file, which may be that of the gates",
        ),
        Mistake(
            lambda text, k: _parsed(text, k).flatten(1).view(len(_parsed(text, k)), k, -1),
            "K neighbouring lines are one token: the last dimension is K",
        ),
        Mistake(
            lambda text, k: torch.tensor(_pairs(text))[:, 0].view(len(_parsed(text, k)), -1, k),
            "these are the layers: the expert stands behind the comma",
        ),
        Mistake(
            lambda text, k: _parsed(text, k)[:, : len(_in_file_order(text, k)[0]) // 2],
            "tokens are missing: the file has several passes",
        ),
    ),
)

EXERCISES = (LOADS, HOT, OVERLAP, FOREIGN)
