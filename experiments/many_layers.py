"""Train many of chapter 08's layers at once: ``train_layer`` with one more dimension in front.

Calling a small layer's operations costs more than their arithmetic, so that a dozen layers side by
side take little longer than one. R counts runs; all else is as in ``learning.clusters``, and a
test holds the two to the same numbers.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import gelu, one_hot, softplus

from moe_tutorial.layer.moe import MoELayer
from moe_tutorial.learning.clusters import BATCH, EXPERTS, HIDDEN, Run, judged, make_task, new_layer

NUMBERS = {
    "learning_rate": 0.03, "switch": 0.0, "shazeer": 0.0, "z": 0.0, "bias_rate": 0.0,
    "temperature": 1.0,
}  # fmt: skip
"""What may differ between runs that are trained together, with what it is if nothing is said."""
Weights = dict[str, Tensor]


def train_many(runs: Sequence[dict[str, Any]], steps: int) -> list[Run]:
    """Train layers side by side.

    Args:
        runs: what ``train_layer`` takes for each, beside ``steps``. What is no number must be the
            same in all of them.
        steps: of training.

    Returns:
        What ``train_layer`` returns for each.

    Raises:
        ValueError: runs that differ in something else.
    """
    fixed, *others = [{k: v for k, v in run.items() if k not in {*NUMBERS, "seed"}} for run in runs]
    if any(other != fixed for other in others):
        raise ValueError("these runs cannot be trained together: only numbers may differ")
    number = {
        name: torch.tensor([run.get(name, usual) for run in runs], dtype=torch.float64)
        for name, usual in NUMBERS.items()
    }
    biased = bool((number["bias_rate"] > 0).all())
    layers = [_first_layer(run, fixed, biased) for run in runs]
    weights = {
        name: torch.stack([layer.state_dict()[name] for layer in layers])
        for name, _ in layers[0].named_parameters()
    }
    trained = [name for name in weights if not (fixed.get("frozen") and "centroids" in name)]
    moments = {name: [torch.zeros_like(weights[name]) for _ in range(2)] for name in trained}
    bias_RE = torch.zeros(len(runs), EXPERTS, dtype=torch.float64)
    batches = [_batches(run["seed"], steps, fixed.get("by_subject", False)) for run in runs]
    loads = []
    for step in range(steps):
        parts = zip(*(batch[step] for batch in batches), strict=True)
        x_RTD, y_RTD, uniform_RTE, normal_RTE = (torch.stack(part) for part in parts)
        for name in trained:
            weights[name] = weights[name].detach().requires_grad_()
        noise_RTE = normal_RTE if fixed.get("selection") == "noisy_top_k" else uniform_RTE
        error_R, load_RE = _losses(weights, x_RTD, y_RTD, noise_RTE, bias_RE, number, fixed)
        gradients = torch.autograd.grad(error_R.sum(), [weights[name] for name in trained])
        with torch.no_grad():
            for name, gradient in zip(trained, gradients, strict=True):
                weights[name] = weights[name] - _adam_step(
                    gradient, moments[name], step + 1, number["learning_rate"]
                )
        loads.append(load_RE)
        if biased and step < steps - fixed.get("rest", 0):
            sign_RE = (load_RE.double().mean(-1, keepdim=True) - load_RE).sign()
            bias_RE += number["bias_rate"][:, None] * (sign_RE - sign_RE.mean(-1, keepdim=True))
    load_RNE = torch.stack(loads, 1)
    found = []
    for r, (run, layer) in enumerate(zip(runs, layers, strict=True)):
        layer.load_state_dict({name: value[r].detach() for name, value in weights.items()}, False)
        if biased:
            layer.router.bias_E = bias_RE[r]
        layer.eval()
        found.append(Run(layer, load_RNE[r], *judged(layer, run["seed"])))
    return found


def _first_layer(run: dict[str, Any], fixed: dict[str, Any], biased: bool) -> MoELayer:
    generator = torch.Generator().manual_seed(run["seed"])
    return new_layer(
        generator, fixed.get("k", 1), fixed.get("selection", "top_k"),
        run.get("temperature", 1.0), biased,
    )  # fmt: skip


@lru_cache(maxsize=16)
def _batches(seed: int, steps: int, by_subject: bool) -> list[tuple[Tensor, ...]]:
    """The tokens, targets and random numbers of a seed's steps: the same for all remedies."""
    task, generator = make_task(seed), torch.Generator().manual_seed(seed)
    new_layer(generator)  # takes the numbers that the first weights take
    uniform, normal = (torch.Generator().manual_seed(2000 + seed) for _ in range(2))
    batches: list[tuple[Tensor, ...]] = []
    for _ in range(steps):
        x_TD, y_TD = task.sample(BATCH, generator)
        if by_subject:
            order_T = torch.cdist(x_TD, task.centres_MD).argmin(-1).argsort(stable=True)
            x_TD, y_TD = x_TD[order_T], y_TD[order_T]
        empty_TE = x_TD.new_empty(BATCH, EXPERTS)
        uniform_TE = empty_TE.clone().uniform_(generator=uniform)
        normal_TE = empty_TE.clone().normal_(generator=normal)
        batches.append((x_TD, y_TD, uniform_TE, normal_TE))
    return batches


def _losses(
    weights: Weights,
    x_RTD: Tensor,
    y_RTD: Tensor,
    noise_RTE: Tensor,
    bias_RE: Tensor,
    number: dict[str, Tensor],
    fixed: dict[str, Any],
) -> tuple[Tensor, Tensor]:
    """Each run's loss ``[R]`` and load ``[R, E]``."""
    k, selection = fixed.get("k", 1), fixed.get("selection", "top_k")
    clean_RTE = logits_RTE = x_RTD @ weights["router.centroids_ED"].mT
    if selection == "noisy_top_k":
        deviation_RTE = softplus(x_RTD @ weights["router.noise_ED"].mT) + 0.01
        logits_RTE = clean_RTE + noise_RTE * deviation_RTE
    p_RTE = logits_RTE.softmax(-1)
    if selection == "sampled":
        gumbel_RTE = -(-noise_RTE.log()).log()
        score_RTE = logits_RTE / number["temperature"][:, None, None] + gumbel_RTE
    else:
        score_RTE = p_RTE + bias_RE[:, None] if bias_RE.any() else logits_RTE
    e_RTK = score_RTE.topk(k).indices
    chosen_RTE = one_hot(e_RTK, EXPERTS).sum(2)
    gates_RTK = p_RTE.gather(-1, e_RTK) if k == 1 else logits_RTE.gather(-1, e_RTK).softmax(-1)
    gates_RTE = torch.zeros_like(p_RTE).scatter(-1, e_RTK, gates_RTK)
    y_hat_RTD = _experts(weights, x_RTD, e_RTK, gates_RTK, gates_RTE)
    loss_R = (y_hat_RTD - y_RTD).square().mean((1, 2))

    pieces = fixed.get("pieces", 1)
    f_RPE, P_RPE = (
        part.view(len(part), pieces, -1, EXPERTS).mean(2)
        for part in (chosen_RTE.double() / k, p_RTE)
    )
    loss_R = loss_R + number["switch"] * EXPERTS * (f_RPE * P_RPE).sum(-1).mean(-1)
    if number["shazeer"].any():
        uneven_R = _squared_variation(gates_RTE.sum(1))
        if selection == "noisy_top_k":
            best_RT2 = logits_RTE.topk(2).values
            bar_RTE = torch.where(chosen_RTE > 0, best_RT2[..., 1:], best_RT2[..., :1])
            chance_RTE = torch.special.ndtr((clean_RTE - bar_RTE) / deviation_RTE)
            uneven_R = uneven_R + _squared_variation(chance_RTE.sum(1))
        loss_R = loss_R + number["shazeer"] * uneven_R
    loss_R = loss_R + number["z"] * logits_RTE.logsumexp(-1).square().mean(-1)
    return loss_R, chosen_RTE.sum(1)


def _experts(
    weights: Weights, x_RTD: Tensor, e_RTK: Tensor, gates_RTK: Tensor, gates_RTE: Tensor
) -> Tensor:
    """The weighted outputs: every expert's first matrix is applied, the chosen ones' rows kept."""
    w_in, w_out = weights["experts.in_EHD"], weights["experts.out_EDF"]
    wide_RTEH = (x_RTD @ w_in.flatten(1, 2).mT).view(*x_RTD.shape[:2], EXPERTS, HIDDEN)
    at_RTKH = e_RTK[..., None].expand(-1, -1, -1, HIDDEN)
    bias_RTKH = weights["experts.in_bias_EH"].gather(1, at_RTKH.flatten(1, 2)).view_as(at_RTKH)
    hidden_RTKH = gates_RTK[..., None] * gelu(wide_RTEH.gather(2, at_RTKH) + bias_RTKH)
    wide_RTEH = torch.zeros_like(wide_RTEH).scatter(2, at_RTKH, hidden_RTKH)
    matrix_RED = w_out.transpose(2, 3).flatten(1, 2)
    return wide_RTEH.flatten(2) @ matrix_RED + gates_RTE @ weights["experts.out_bias_ED"]


def _squared_variation(values_RE: Tensor) -> Tensor:
    return (values_RE / values_RE.mean(-1, keepdim=True) - 1).square().mean(-1)


def _adam_step(gradient: Tensor, moments: list[Tensor], step: int, rate_R: Tensor) -> Tensor:
    """What ``torch.optim.Adam`` takes off, with a learning rate for each run."""
    first, second = moments
    first.lerp_(gradient, 1 - 0.9)
    second.mul_(0.999).addcmul_(gradient, gradient, value=1 - 0.999)
    spread = second.sqrt() / (1 - 0.999**step) ** 0.5 + 1e-8
    rate = rate_R.view(-1, *[1] * (gradient.ndim - 1)) / (1 - 0.9**step)
    taken: Tensor = rate * first / spread
    return taken
