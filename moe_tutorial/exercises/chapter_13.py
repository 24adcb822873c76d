"""Exercises of chapter 13: a split by time, a gate for each task, what scripts hide, a ranking."""

from collections.abc import Sequence

import torch
from torch import Tensor

from moe_tutorial.exercises.grader import Exercise, Inputs, Mistake


def _clocks(generator: torch.Generator) -> Sequence[Inputs]:
    cases = []
    for number, share in ((40, 0.8), (25, 0.6), (60, 0.5)):
        seconds_N = torch.randint(number // 3, (number,), generator=generator)
        # Whatever the draw, the cut falls into the middle of a busy second.
        at = int(seconds_N.sort().values[int(share * number)])
        seconds_N[torch.randperm(number, generator=generator)[: number // 4]] = at
        cases.append((seconds_N, share))
    # Here every second has one rating, so a cut that is one place off shows.
    cases.append((torch.randperm(25, generator=generator), 0.3))
    return cases


def _gates(generator: torch.Generator) -> Sequence[Inputs]:
    cases = []
    for tokens, width, E, k in ((4, 3, 5, 2), (6, 2, 8, 3), (3, 4, 4, 1)):
        f_TED = torch.randn(tokens, E, width, generator=generator, dtype=torch.float64)
        logits_2TE = torch.randn(2, tokens, E, generator=generator, dtype=torch.float64)
        cases.append((f_TED, logits_2TE, k))
    return cases


def _languages(generator: torch.Generator) -> Sequence[Inputs]:
    cases = []
    for scripts, E in (([0, 0, 0, 1, 1, 2], 4), ([0, 1, 0, 1, 1], 6), ([2, 0, 1, 0, 2, 2, 0], 3)):
        script_L = torch.tensor(scripts)
        liking_SE = torch.rand(int(script_L.max()) + 1, E, generator=generator)
        own_LE = torch.rand(len(scripts), E, generator=generator)
        counts_LE = (100 * liking_SE[script_L] + 30 * own_LE).long() + 1
        cases.append((counts_LE, script_L))
    return cases


def _rankings(generator: torch.Generator) -> Sequence[Inputs]:
    cases = []
    # Scores may all be negative, as logarithms of odds are: 0 is no low score then.
    for films, number, ahead, mean in ((30, 10, 4, 0), (25, 5, 8, -20), (40, 10, 1, 0)):
        scores_I = torch.randn(films, generator=generator, dtype=torch.float64) + mean
        order = scores_I.sort(descending=True).indices
        seen_I = torch.zeros(films, dtype=torch.bool)
        seen_I[order[[0, 1, 3, 6]]] = True  # what one has seen is what one would like
        free = order[~seen_I[order]]
        # One near the top, so that no ranking is worth nothing; one at the last place that
        # counts, and one behind it, so that a list of another length shows.
        places = [1, number - 1, number]
        rest = torch.tensor([i for i in range(len(free)) if i not in places])
        rest = rest[torch.randperm(len(rest), generator=generator)]
        next_A = torch.cat([free[places], free[rest]])[:ahead]
        cases.append((scores_I, seen_I, next_A, number))
    return cases


def _split(seconds_N: Tensor, share: float) -> Tensor:
    cut = seconds_N.sort().values[int(share * len(seconds_N))]
    return seconds_N < cut


def _by_place(seconds_N: Tensor, share: float) -> Tensor:
    order_N = seconds_N.argsort(stable=True)
    found_N = torch.zeros(len(seconds_N), dtype=torch.bool)
    found_N[order_N[: int(share * len(seconds_N))]] = True
    return found_N


def _two_sums(f_TED: Tensor, logits_2TE: Tensor, k: int) -> Tensor:
    gates_2TK, experts_2TK = logits_2TE.topk(k)
    return _added(f_TED, experts_2TK, gates_2TK.softmax(-1), logits_2TE.shape)


def _added(f_TED: Tensor, experts_2TK: Tensor, gates_2TK: Tensor, shape: torch.Size) -> Tensor:
    whole_2TE = torch.zeros(shape, dtype=f_TED.dtype).scatter(-1, experts_2TK, gates_2TK)
    return torch.einsum("nte,ted->ntd", whole_2TE, f_TED)


def _not_renormalised(f_TED: Tensor, logits_2TE: Tensor, k: int) -> Tensor:
    gates_2TK, experts_2TK = logits_2TE.softmax(-1).topk(k)
    return _added(f_TED, experts_2TK, gates_2TK, logits_2TE.shape)


def _one_gate(f_TED: Tensor, logits_2TE: Tensor, k: int) -> Tensor:
    return _two_sums(f_TED, logits_2TE[:1].expand(2, -1, -1), k)


def _shared_choice(f_TED: Tensor, logits_2TE: Tensor, k: int) -> Tensor:
    experts_TK = logits_2TE.sum(0).topk(k).indices
    experts_2TK = experts_TK.expand(2, -1, -1)
    gates_2TK = logits_2TE.gather(-1, experts_2TK).softmax(-1)
    return _added(f_TED, experts_2TK, gates_2TK, logits_2TE.shape)


def _nats(counts_LE: Tensor) -> Tensor:
    p_LE = counts_LE.double() / counts_LE.sum()
    apart_LE = p_LE.sum(1, keepdim=True) * p_LE.sum(0)
    nats: Tensor = torch.special.xlogy(p_LE, p_LE / apart_LE).sum()
    return nats


def _by_script(counts_LE: Tensor, script_L: Tensor) -> Tensor:
    counts_SE = torch.zeros(int(script_L.max()) + 1, counts_LE.shape[1], dtype=counts_LE.dtype)
    return counts_SE.index_add(0, script_L, counts_LE)


def _beyond_script(counts_LE: Tensor, script_L: Tensor) -> Tensor:
    return _nats(counts_LE) - _nats(_by_script(counts_LE, script_L))


def _within(counts_LE: Tensor, script_L: Tensor) -> Tensor:
    """What the language tells within each script, unweighted."""
    return torch.stack([_nats(counts_LE[script_L == script]) for script in set(script_L.tolist())])


def _worth(places: int) -> Tensor:
    return 1 / torch.arange(2, places + 2, dtype=torch.float64).log2()


def _dcg(scores_I: Tensor, seen_I: Tensor, next_A: Tensor, number: int) -> Tensor:
    top_N = scores_I.masked_fill(seen_I, -torch.inf).sort(descending=True).indices[:number]
    return (_worth(number)[: len(top_N)] * torch.isin(top_N, next_A)).sum()


def _ndcg(scores_I: Tensor, seen_I: Tensor, next_A: Tensor, number: int) -> Tensor:
    return _dcg(scores_I, seen_I, next_A, number) / _worth(number)[: len(next_A)].sum()


def _seen_too(scores_I: Tensor, seen_I: Tensor, next_A: Tensor, number: int) -> Tensor:
    return _ndcg(scores_I, torch.zeros_like(seen_I), next_A, number)


def _seen_zero(scores_I: Tensor, seen_I: Tensor, next_A: Tensor, number: int) -> Tensor:
    return _seen_too(scores_I * ~seen_I, seen_I, next_A, number)


def _recall(scores_I: Tensor, seen_I: Tensor, next_A: Tensor, number: int) -> Tensor:
    top_N = scores_I.masked_fill(seen_I, -torch.inf).topk(number).indices
    return torch.isin(next_A, top_N).double().mean()


SPLIT = Exercise(
    "13.1",
    _split,
    _clocks,
    (
        Mistake(
            _by_place,
            "a second stands on both sides of this cut: whoever knows one half of it knows "
            "something of the other",
        ),
        Mistake(
            lambda seconds, share: ~_split(seconds, share),
            "this marks the later part: True is for what may be learnt from",
        ),
        Mistake(
            lambda seconds, share: seconds <= seconds.sort().values[int(share * len(seconds))],
            "the second of the cut belongs to the later part, all of it",
        ),
        Mistake(
            lambda seconds, share: torch.arange(len(seconds)) < int(share * len(seconds)),
            "this takes the rows as they stand: they are in no order of time",
        ),
        Mistake(
            lambda seconds, share: (
                seconds < seconds.min() + share * (seconds.max() - seconds.min())
            ),
            "this divides the time: the share is one of the ratings, of which some hours have many",
        ),
    ),
)

GATES = Exercise(
    "13.2",
    _two_sums,
    _gates,
    (
        Mistake(
            _not_renormalised,
            "these gates are a softmax over all experts: take it over the chosen ones, whose gates "
            "then sum to 1",
        ),
        Mistake(_one_gate, "both tasks have the first one's gate here: each has a gate of its own"),
        Mistake(
            lambda f, logits, k: _one_gate(f, logits[1:], k),
            "both tasks have the second one's gate here: each has a gate of its own",
        ),
        Mistake(
            _shared_choice,
            "both tasks use the same experts here: each chooses its own K, from its own logits",
        ),
        Mistake(
            lambda f, logits, k: _two_sums(f, logits, f.shape[1]),
            "all experts take part here: each task has K of them",
        ),
        Mistake(
            lambda f, logits, k: _two_sums(f, logits, k).sum(0),
            "the tasks' outputs are added up here: each goes into a tower of its own",
        ),
        Mistake(
            lambda f, logits, k: _two_sums(f, -logits, k),
            "these are the experts with the smallest logits",
        ),
    ),
)

BEYOND = Exercise(
    "13.3",
    _beyond_script,
    _languages,
    (
        Mistake(
            lambda counts, script: _nats(counts),
            "this is what language and expert tell of each other, script included: take off what "
            "the script tells",
        ),
        Mistake(
            lambda counts, script: _nats(_by_script(counts, script)),
            "this is what the script tells: what does the language add to it?",
        ),
        Mistake(
            lambda counts, script: _within(counts, script).mean(),
            "this is the mean over scripts: weigh each with its share of the tokens",
        ),
        Mistake(
            lambda counts, script: _within(counts, script).sum(),
            "this is the plain sum over scripts: weigh each with its share of the tokens",
        ),
        Mistake(
            lambda counts, script: _beyond_script(counts, script) / torch.tensor(2.0).log(),
            "these are bits: divide by nothing, and keep nats",
        ),
        Mistake(
            lambda counts, script: _nats(_by_script(counts, script)) - _nats(counts),
            "the other way round: a language tells at least as much as its script",
        ),
    ),
)

RANKING = Exercise(
    "13.4",
    _ndcg,
    _rankings,
    (
        Mistake(
            _seen_too,
            "films that were seen take places in this ranking: leave them out before sorting",
        ),
        Mistake(
            _seen_zero,
            "films that were seen get the score 0 here, which may be the highest of all: leave "
            "them out, or give them minus infinity",
        ),
        Mistake(
            lambda scores, seen, ahead, n: _dcg(scores, seen, ahead, n) / _worth(n).sum(),
            "with one film to find, the best ranking must be worth 1: divide by what the best "
            "ranking of these films reaches",
        ),
        Mistake(
            _dcg,
            "this sum is not divided yet: the best ranking must be worth 1",
        ),
        Mistake(
            lambda scores, seen, ahead, n: _dcg(scores, seen, ahead, n) / _worth(len(ahead)).sum(),
            "the best ranking has no more places than the list, however many films come next",
        ),
        Mistake(
            _recall,
            "this is recall, the share of the films that are found at all: places count, too",
        ),
        Mistake(
            lambda scores, seen, ahead, n: _recall(scores, seen, ahead, n) * len(ahead) / n,
            "this is precision, the share of the list that is right: places count, too",
        ),
        Mistake(
            lambda scores, seen, ahead, n: _ndcg(-scores, seen, ahead, n),
            "the lowest scores stand first here",
        ),
        Mistake(
            lambda scores, seen, ahead, n: _ndcg(scores, seen, ahead, len(scores)),
            "this ranks all films: only the first places of the list count",
        ),
    ),
    tolerance=1e-6,  # places and logarithms may well be float32
)

EXERCISES = (SPLIT, GATES, BEYOND, RANKING)
