"""The bug museum, third room: routers that choose other experts than they were meant to.

Chapters 01, 03, 04, 08 and 11 teach what is done wrong here.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from moe_tutorial.exercises.grader import Inputs
from moe_tutorial.exercises.museum_layer import normal
from moe_tutorial.exercises.museum_records import (
    TRAINS,
    VALUES,
    VARIES,
    Code,
    Exhibit,
    Source,
)


def choose_as_found(logits_TE: Tensor, K: int) -> Tensor:
    """Each token's K best experts, the best one first, for a layer that computes in bfloat16."""
    probabilities_TE = logits_TE.softmax(-1).bfloat16()
    return probabilities_TE.topk(K).indices


def choose(logits_TE: Tensor, K: int) -> Tensor:
    """Each token's K best experts, the best one first, for a layer that computes in bfloat16."""
    return logits_TE.topk(K).indices


def test_choose(choose: Code) -> None:
    """The larger of two close logits is found wherever it stands."""
    assert choose(torch.tensor([[0.0, 0.001], [0.001, 0.0]]), 1).flatten().tolist() == [1, 0]


def _close(generator: torch.Generator) -> Sequence[Inputs]:
    cases = ((9, 6, 2), (20, 8, 3))
    return [(4 + 0.01 * normal(T, E, generator=generator), K) for T, E, K in cases]


def allowed_as_found(scores_TE: Tensor, bias_E: Tensor, allowed_TE: Tensor, K: int) -> Tensor:
    """The K allowed experts whose score plus bias is largest, the best one first."""
    biased_TE = scores_TE + bias_E
    return biased_TE.masked_fill(~allowed_TE, 0.0).topk(K).indices


def allowed(scores_TE: Tensor, bias_E: Tensor, allowed_TE: Tensor, K: int) -> Tensor:
    """The K allowed experts whose score plus bias is largest, the best one first."""
    biased_TE = scores_TE + bias_E
    return biased_TE.masked_fill(~allowed_TE, -torch.inf).topk(K).indices


def test_allowed(allowed: Code) -> None:
    """An expert that is not allowed is not chosen where all scores are negative, either."""
    only_0 = torch.tensor([[True, False]])
    assert allowed(torch.zeros(1, 2), torch.tensor([-1.0, -1.0]), only_0, 1).item() == 0


def _groups(generator: torch.Generator) -> Sequence[Inputs]:
    cases = []
    for T, E, K, shift in ((8, 8, 2, -0.9), (10, 6, 3, -3.0), (6, 8, 4, 0.2)):
        allowed_TE = torch.rand(T, E, generator=generator).argsort(-1) < E // 2 + 1
        scores_TE = normal(T, E, generator=generator).sigmoid()
        bias_E = shift + 0.3 * normal(E, generator=generator)
        cases.append((scores_TE, bias_E, allowed_TE, K))
    return cases


def gates_as_found(scores_TE: Tensor, bias_E: Tensor, K: int) -> Tensor:
    """Choose by score plus bias, and weigh by the scores, divided by their sum."""
    gates_TK = (scores_TE + bias_E).topk(K).values
    return gates_TK / gates_TK.sum(-1, keepdim=True)


def gates(scores_TE: Tensor, bias_E: Tensor, K: int) -> Tensor:
    """Choose by score plus bias, and weigh by the scores, divided by their sum."""
    experts_TK = (scores_TE + bias_E).topk(K).indices
    gates_TK = scores_TE.gather(-1, experts_TK)
    return gates_TK / gates_TK.sum(-1, keepdim=True)


def test_gates(gates: Code) -> None:
    """A bias that changes no choice changes no gate."""
    scores_TE = torch.tensor([[0.8, 0.2]])
    with_bias = gates(scores_TE, torch.tensor([0.0, 5.0]), 2)
    assert torch.allclose(with_bias.sort().values, scores_TE.sort().values)


def _biased(generator: torch.Generator) -> Sequence[Inputs]:
    cases = []
    for T, E, K in ((8, 8, 2), (5, 6, 4), (9, 4, 3)):
        scores_TE = normal(T, E, generator=generator).sigmoid()
        cases.append((scores_TE, 0.3 * normal(E, generator=generator), K))
    return cases


def scores_of_chosen_as_found(scores_TE: Tensor, bias_E: Tensor, K: int) -> Tensor:
    """The scores, without the bias, of the K experts whose score plus bias is largest."""
    best_TK, experts_TK = (scores_TE + bias_E).topk(K)
    return best_TK - bias_E[experts_TK]


def scores_of_chosen(scores_TE: Tensor, bias_E: Tensor, K: int) -> Tensor:
    """The scores, without the bias, of the K experts whose score plus bias is largest."""
    experts_TK = (scores_TE + bias_E).topk(K).indices
    return scores_TE.gather(-1, experts_TK)


def test_scores_of_chosen(scores_of_chosen: Code) -> None:
    """A score of 1e-8 is still there beside a bias of 12."""
    found = scores_of_chosen(torch.tensor([[1e-8]]), torch.tensor([12.0]), 1)
    assert found.item() > 0


def _small(generator: torch.Generator) -> Sequence[Inputs]:
    cases = []
    for T, E, K in ((6, 5, 2), (4, 8, 3)):
        scores_TE = (3 * normal(T, E, generator=generator)).sigmoid().float()
        bias_E = 12_000 + 100.0 * torch.randperm(E, generator=generator)
        cases.append((scores_TE, bias_E, K))
    return cases


def second_as_found(
    logits_TE: Tensor,
    noise_TE: Tensor,
    training: bool,
) -> Tensor:
    """The second expert: drawn with Gumbel noise in training, the second best otherwise."""
    best_T1 = logits_TE.argmax(-1, keepdim=True)
    rest_TE = (logits_TE + noise_TE).scatter(-1, best_T1, -torch.inf)
    return rest_TE.argmax(-1)


def second(logits_TE: Tensor, noise_TE: Tensor, training: bool) -> Tensor:
    """The second expert: drawn with Gumbel noise in training, the second best otherwise."""
    best_T1 = logits_TE.argmax(-1, keepdim=True)
    rest_TE = (logits_TE + training * noise_TE).scatter(-1, best_T1, -torch.inf)
    return rest_TE.argmax(-1)


def test_second(second: Code) -> None:
    """In evaluation, noise that would change the choice is not heard."""
    logits_TE, noise_TE = torch.tensor([[3.0, 2.0, 1.0]]), torch.tensor([[0.0, 0.0, 9.0]])
    assert second(logits_TE, noise_TE, training=False).item() == 1
    assert second(logits_TE, noise_TE, training=True).item() == 2


def _draws(generator: torch.Generator) -> Sequence[Inputs]:
    return [
        (normal(12, 5, generator=generator), 2 * normal(12, 5, generator=generator), training)
        for training in (True, False)
    ]


def jittered_as_found(
    x_TD: Tensor, noise_TD: Tensor, router_ED: Tensor, weights_EDD: Tensor
) -> Tensor:
    """One expert for each token, chosen by a router that sees the tokens times some noise."""
    x_TD = x_TD * noise_TD
    expert_T = (x_TD @ router_ED.T).argmax(-1)
    return torch.einsum("td,tdf->tf", x_TD, weights_EDD[expert_T])


def jittered(x_TD: Tensor, noise_TD: Tensor, router_ED: Tensor, weights_EDD: Tensor) -> Tensor:
    """One expert for each token, chosen by a router that sees the tokens times some noise."""
    expert_T = ((x_TD * noise_TD) @ router_ED.T).argmax(-1)
    return torch.einsum("td,tdf->tf", x_TD, weights_EDD[expert_T])


def test_jittered(jittered: Code) -> None:
    """Where there is one expert, noise for the router changes nothing."""
    x_TD, one = torch.ones(1, 1), torch.ones(1, 1, 1)
    assert jittered(x_TD, torch.full((1, 1), 1.01), torch.ones(1, 1), one).item() == 1


def _jitters(generator: torch.Generator) -> Sequence[Inputs]:
    return [
        (
            normal(T, D, generator=generator),
            1 + 0.2 * normal(T, D, generator=generator),
            normal(E, D, generator=generator),
            normal(E, D, D, generator=generator),
        )
        for T, D, E in ((9, 3, 4), (5, 2, 6))
    ]


CHOOSING = (
    Exhibit(
        "Rounded before the choice",
        1,
        VARIES,
        "Training and inference choose other experts for some tokens with the same weights.",
        choose_as_found,
        choose,
        "bfloat16 makes ties of probabilities that are close, and a tie is broken by chance or by "
        "position. Choose first, and round the gates of the chosen.",
        test_choose,
        _close,
        (Source("ViperEkura/AstrAI", 57, "pull request"),),
    ),
    Exhibit(
        "Masked with zero",
        11,
        TRAINS,
        "Some tokens leave the groups of experts that they are limited to.",
        allowed_as_found,
        allowed,
        "0 is the smallest probability, but not the smallest score plus bias: where all of these "
        "are negative, what is masked wins. Minus infinity loses to everything.",
        test_allowed,
        _groups,
        (
            Source("vllm-project/vllm", 13474, "pull request"),
            Source("sgl-project/sglang", 3705, "pull request"),
            Source("deepseek-ai/DeepSeek-V3", 741),
        ),
    ),
    Exhibit(
        "The bias in the gate",
        8,
        TRAINS,
        "A converted model answers worse than the original, and chooses the same experts.",
        gates_as_found,
        gates,
        "The bias is there to move choices, and has no say in the sum. topk returns the values "
        "that it compared, so the gates have to be gathered from the scores.",
        test_gates,
        _biased,
        (
            Source("ml-explore/mlx-lm", 1354, "pull request"),
            Source("PaddlePaddle/PaddleFormers", 3452, "pull request"),
        ),
    ),
    Exhibit(
        "Added, then subtracted",
        8,
        VALUES,
        "Some tokens' gates are all zero, in a model whose biases have grown large.",
        scores_of_chosen_as_found,
        scores_of_chosen,
        "A small number that is added to a large one is rounded away, and subtracting brings back "
        "the zero that is left. Gather the scores as they were.",
        test_scores_of_chosen,
        _small,
        (Source("flashinfer-ai/flashinfer", 3875, "pull request"),),
    ),
    Exhibit(
        "Drawn in evaluation",
        4,
        VARIES,
        "Evaluating twice gives two losses, with the same weights and the same data.",
        second_as_found,
        second,
        "eval() sets a flag and no more. Every place that draws has to ask for it.",
        test_second,
        _draws,
        (Source("deepspeedai/DeepSpeed", 8620, "pull request"),),
    ),
    Exhibit(
        "Noise for the experts, too",
        8,
        TRAINS,
        "The more jitter the router gets, the worse the whole layer becomes.",
        jittered_as_found,
        jittered,
        "The name x_TD was used again for the noisy tokens, so that the experts computed with "
        "them. Give the router's input a place of its own.",
        test_jittered,
        _jitters,
        (
            Source("huggingface/transformers", 33969),
            Source("huggingface/transformers", 35847, "pull request"),
        ),
    ),
)
