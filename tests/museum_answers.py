"""What readers may hand in as repairs of the bug museum's exhibits, right and wrong."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, logsumexp, softmax
from torch.nn.functional import one_hot
from torch.utils.checkpoint import checkpoint

from moe_tutorial.exercises import museum_balance, museum_layer

Answers = dict[str, tuple[Callable[..., Any], ...]]


def by_token(x: Tensor, experts: Tensor, gates: Tensor, weights: Tensor) -> Tensor:
    rows = []
    for t in range(len(x)):
        pairs = zip(experts[t].tolist(), gates[t], strict=True)
        rows.append(sum((g * (x[t] @ weights[e]) for e, g in pairs), torch.zeros_like(x[t])))
    return torch.stack(rows)


def rows_in_a_loop(rows: Tensor, token: Tensor, T: int) -> Tensor:
    y = torch.zeros(T, rows.shape[1], dtype=rows.dtype)
    for row, t in zip(rows, token.tolist(), strict=True):
        y[t] = y[t] + row
    return y


def written_back(rows: Tensor, order: Tensor) -> Tensor:
    y = torch.empty_like(rows)
    y[order] = rows
    return y


def queue_by_hand(p: Tensor, C: int) -> Tensor:
    taken = [0] * p.shape[1]
    kept = []
    for e in p.argmax(-1).tolist():
        taken[e] += 1
        kept.append(taken[e] <= C)
    return torch.tensor(kept)


def places_by_hand(experts: Tensor, E: int) -> Tensor:
    taken, places = [0] * E, torch.zeros_like(experts)
    for k in range(experts.shape[1]):
        for t, e in enumerate(experts[:, k].tolist()):
            places[t, k] = taken[e]
            taken[e] += 1
    return places


def gradients_anew(x: Tensor, slopes: Tensor, load: Tensor, _: Tensor) -> Tensor:
    pairs = zip(x.split(load.tolist()), slopes.split(load.tolist()), strict=True)
    return torch.stack([a.T @ b for a, b in pairs])


def gradients_with_nan_to_num(x: Tensor, s: Tensor, load: Tensor, memory: Tensor) -> Tensor:
    return museum_layer.weight_gradients_as_found(x, s, load, memory).nan_to_num(0)


def load_asked(x: Tensor, router: Tensor) -> Tensor:
    counts: list[Tensor] = []

    def block(x: Tensor) -> Tensor:
        scores = x @ router.T
        if not counts:
            counts.append(torch.bincount(scores.argmax(-1), minlength=len(router)))
        return scores.softmax(-1)

    checkpoint(block, x.requires_grad_(), use_reentrant=False).amax(-1).sum().backward()
    return counts[0]


def slope_in_full(logits: Tensor, value: Tensor, seed: int) -> Tensor:
    """Without recomputation, and by hand."""
    generator = torch.Generator().manual_seed(seed)
    e = (logits - torch.rand(logits.shape, generator=generator).log().neg().log()).argmax(-1)
    p = softmax(logits, -1)
    chosen = p.gather(-1, e[:, None])
    return value[e][:, None] * chosen * (one_hot(e, logits.shape[1]) - p)


def slope_with_a_state(logits: Tensor, value: Tensor, seed: int) -> Tensor:
    def block(logits: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        noise = -torch.log(-torch.log(torch.rand(logits.shape, generator=generator)))
        e = (logits + noise).argmax(-1, keepdim=True)
        return logits.softmax(-1).gather(-1, e) * value[e]

    logits = logits.requires_grad_()
    checkpoint(block, logits, use_reentrant=False).sum().backward()
    assert logits.grad is not None
    return logits.grad


def balance_in_a_loop(p: Tensor, experts: Tensor) -> Tensor:
    E = p.shape[1]
    terms = [(experts == e).double().mean() * p[:, e].mean() for e in range(E)]
    return E * torch.stack(terms).sum()


def weighed(scores: Tensor, bias: Tensor, K: int) -> Tensor:
    _, experts = torch.topk(scores + bias, K)
    gates = scores[torch.arange(len(scores))[:, None], experts]
    return gates / gates.sum(1, keepdim=True)


def step_in_place(bias: Tensor, load: Tensor, step: float) -> Tensor:
    bias.add_(torch.sign(load.sum() / len(load) - load), alpha=step)
    return bias


REPAIRS: Answers = {
    "The last expert wins": (
        by_token,
        lambda x, e, g, w: torch.einsum("td,tk,tkdf->tf", x, g, w[e]),
    ),
    "Repeated rows count once": (
        rows_in_a_loop,
        lambda rows, token, T: one_hot(token, T).to(rows.dtype).T @ rows,
        lambda rows, token, T: rows.new_zeros(T, rows.shape[1]).index_put(
            (token,), rows, accumulate=True
        ),
    ),
    "The order in place of its inverse": (
        written_back,
        lambda rows, order: torch.zeros_like(rows).index_copy(0, order, rows),
    ),
    "Transposed, then reshaped": (
        lambda logits: logits.reshape(-1, logits.shape[-1]),
        lambda logits: torch.stack([row for sequence in logits for row in sequence]),
    ),
    "Memory as it was": (
        gradients_anew,
        lambda x, s, load, memory: gradients_anew(x, s, load, memory).contiguous(),
    ),
    "A capacity that never binds": (
        queue_by_hand,
        lambda p, C: (
            (one_hot(p.argmax(-1), p.shape[1]).cumsum(0) <= C)
            .gather(1, p.argmax(-1, keepdim=True))
            .squeeze(1)
        ),
    ),
    "A count overwritten": (
        places_by_hand,
        lambda experts, E: (
            (one_hot(experts.T.flatten(), E).cumsum(0) - 1)
            .gather(1, experts.T.flatten()[:, None])
            .view(experts.T.shape)
            .T
        ),
    ),
    "Counted after the drop": (
        lambda experts, E, C: torch.bincount(experts, minlength=E) / len(experts),
        lambda experts, E, C: torch.stack([(experts == e).double().mean() for e in range(E)]),
    ),
    "Counts in bfloat16": (
        lambda loads: torch.stack([sum(column) for column in loads.T]),
        lambda loads: loads.double().sum(0).long(),
    ),
    "Shares compared with counts": (
        lambda bias, load, step: bias + step * torch.sign(1 / len(load) - load / load.sum()),
        step_in_place,
    ),
    "Evaluation is counted, too": (
        lambda load, experts, training: (
            load + training * torch.bincount(experts.flatten(), minlength=len(load))
        ),
        lambda load, experts, training: (
            load + one_hot(experts, len(load)).sum((0, 1)) if training else load.clone()
        ),
    ),
    "Rounded before the choice": (
        lambda logits, K: logits.argsort(-1, descending=True)[:, :K],
        lambda logits, K: logits.softmax(-1).topk(K).indices,
    ),
    "Masked with zero": (
        lambda s, b, ok, K: (s + b).where(ok, torch.tensor(-1e9).double()).topk(K).indices,
        lambda s, b, ok, K: (s + b - 1e6 * ~ok).argsort(-1, descending=True)[:, :K],
    ),
    "The bias in the gate": (
        weighed,
        lambda s, b, K: torch.nn.functional.normalize(
            s.gather(-1, (s + b).topk(K).indices), p=1, dim=-1
        ),
    ),
    "Added, then subtracted": (
        lambda s, b, K: s[torch.arange(len(s))[:, None], (s + b).topk(K).indices],
        lambda s, b, K: s.take_along_dim((s + b).argsort(-1, descending=True)[:, :K], -1),
    ),
    "Drawn in evaluation": (
        lambda logits, noise, training: (
            (logits + noise if training else logits)
            .masked_fill(one_hot(logits.argmax(-1), logits.shape[1]).bool(), -1e9)
            .argmax(-1)
        ),
        lambda logits, noise, training: (
            (logits + noise * float(training))
            .scatter(-1, logits.argmax(-1, keepdim=True), -torch.inf)
            .topk(1)
            .indices[:, 0]
        ),
    ),
    "Noise for the experts, too": (
        lambda x, noise, router, w: torch.stack(
            [x[t] @ w[e] for t, e in enumerate(((x * noise) @ router.T).argmax(-1).tolist())]
        ),
        lambda x, noise, router, w: (
            x[:, None] @ w[torch.einsum("td,td,ed->te", x, noise, router).argmax(-1)]
        )[:, 0],
    ),
    "A softmax over one number": (
        lambda logits: softmax(logits, -1).amax(-1, keepdim=True),
        lambda logits: (logits.amax(-1, keepdim=True) - logsumexp(logits, -1, keepdim=True)).exp(),
    ),
    "Logits for gates": (
        lambda logits, K, renormalise: (
            lambda top: top / top.sum(-1, keepdim=True) if renormalise else top
        )(softmax(logits, -1).topk(K).values),
        lambda logits, K, renormalise: (
            lambda top: (top - logsumexp(top if renormalise else logits, -1, keepdim=True)).exp()
        )(logits.topk(K).values),
    ),
    "Zero over zero": (
        lambda logits, K: (lambda logs: (logs - logsumexp(logs, -1, keepdim=True)).exp())(
            -torch.nn.functional.softplus(-logits.topk(K).values)
        ),
        lambda logits, K: softmax(torch.nn.functional.logsigmoid(logits).topk(K).values, -1),
    ),
    "An epsilon to hide behind": (
        lambda logits: logits.sigmoid() / logits.sigmoid().sum(-1, keepdim=True),
        lambda logits: softmax(-torch.nn.functional.softplus(-logits), -1),
    ),
    "Constant by broadcasting": (
        balance_in_a_loop,
        lambda p, experts: (
            p.shape[1] * (one_hot(experts, p.shape[1]).float().mean((0, 1)) * p.mean(0)).sum()
        ),
        lambda p, experts: (
            (
                p.shape[1]
                * torch.bincount(experts.flatten(), minlength=p.shape[1]).double()
                / experts.numel()
            )
            @ p.double().mean(0)
        ),
    ),
    "Softmax twice": (
        lambda logits, K: museum_balance.balance_loss(logits.softmax(-1), logits.topk(K).indices),
        lambda logits, K: balance_in_a_loop(softmax(logits, -1), logits.topk(K).indices),
    ),
    "Layers in one pool": (
        lambda p, experts: sum(map(balance_in_a_loop, p, experts)) / len(p),
        lambda p, experts: (
            p.shape[-1]
            * (one_hot(experts, p.shape[-1]).double().mean((1, 2)) * p.mean(1)).sum(-1).mean()
        ),
    ),
    "The padding votes": (
        lambda experts, real, E: (
            (one_hot(experts, E).double() * real[..., None, None]).sum((0, 1, 2))
            / (real.sum() * experts.shape[-1])
        ),
        lambda experts, real, E: (
            torch.bincount(experts[real].flatten(), minlength=E) / experts[real].numel()
        ),
    ),
    "A z-loss of probabilities": (
        lambda logits: (logits.exp().sum(-1).log() ** 2).mean(),
        lambda logits: logsumexp(logits, 1).pow(2).sum() / len(logits),
    ),
    "Counted once more in the backward pass": (
        load_asked,
        lambda x, router: torch.bincount((x @ router.T).argmax(-1), minlength=len(router)),
    ),
    "Other experts in the backward pass": (slope_in_full, slope_with_a_state),
    "A bias that no file has": (
        step_in_place,
        lambda bias, load, step: bias + step * torch.sign(load.double().mean() - load),
    ),
    "W times too large": (
        lambda dense, expert: torch.stack([dense.mean(0), expert.mean(0)]),
        lambda dense, expert: torch.stack([dense, expert]).mean(1),
    ),
    "Divided twice": (
        lambda p, share: p.shape[-1] * (p.mean(1) * share).sum(-1),
        lambda p, share: torch.einsum("wte,e->w", p, share) * p.shape[2] / p.shape[1],
    ),
    "One device's experts in the file": (
        lambda experts: experts.flatten(0, 1),
        lambda experts: torch.cat(list(experts)),
    ),
    "Right for one sequence": (
        lambda B, S, W, rank: torch.arange(B * S).view(B, W, S // W)[:, rank].flatten(),
        lambda B, S, W, rank: torch.tensor(
            [b * S + s for b in range(B) for s in range(rank * S // W, (rank + 1) * S // W)]
        ),
    ),
}

BUGS: Answers = {
    "The last expert wins": (
        lambda x, e, g, w: torch.einsum("td,tkdf->tf", x, w[e]),
        lambda x, e, g, w: torch.einsum("td,tk,tkdf->tf", x, g, w[e]) / e.shape[1],
        lambda x, e, g, w: by_token(x, e[:, :1], g[:, :1], w),
    ),
    "Repeated rows count once": (
        lambda rows, token, T: rows.new_zeros(T, rows.shape[1]).index_copy(0, token, rows),
        lambda rows, token, T: (
            rows_in_a_loop(rows, token, T)
            / torch.bincount(token, minlength=T).clamp(min=1)[:, None]
        ),
    ),
    "The order in place of its inverse": (
        lambda rows, order: rows,
        lambda rows, order: rows.flip(0),
        lambda rows, order: rows[order][order],
    ),
    "Transposed, then reshaped": (
        lambda logits: logits.transpose(0, 1).reshape(-1, logits.shape[-1]),
        lambda logits: logits.permute(2, 0, 1).reshape(-1, logits.shape[-1]),
    ),
    "Memory as it was": (
        gradients_with_nan_to_num,
        lambda x, s, load, memory: torch.zeros_like(memory),
    ),
    "A capacity that never binds": (
        lambda p, C: [n < C for n in range(len(p))],
        lambda p, C: queue_by_hand(p, C - 1),
        lambda p, C: queue_by_hand(p.flip(0), C).flip(0),
    ),
    "A count overwritten": (
        lambda experts, E: places_by_hand(experts, E) + 1,
        lambda experts, E: torch.cat([places_by_hand(c[:, None], E) for c in experts.T], 1),
    ),
    "Counted after the drop": (
        lambda experts, E, C: torch.bincount(experts, minlength=E).clamp(max=C) / len(experts),
        lambda experts, E, C: torch.bincount(experts, minlength=E),
    ),
    "Counts in bfloat16": (
        lambda loads: loads.bfloat16().sum(0).long(),
        lambda loads: sum(row.half() for row in loads).long(),
    ),
    "Shares compared with counts": (
        lambda bias, load, step: bias + step * torch.sign(load - load.sum() / len(load)),
        lambda bias, load, step: bias + step * (load.sum() / len(load) - load),
    ),
    "Evaluation is counted, too": (
        lambda load, experts, training: load,
        lambda load, experts, training: (
            torch.bincount(experts.flatten(), minlength=len(load)) if training else load
        ),
    ),
    "Rounded before the choice": (
        lambda logits, K: logits.bfloat16().topk(K).indices,
        lambda logits, K: logits.argsort(-1)[:, :K],
        lambda logits, K: (100 * logits).round().topk(K).indices,
    ),
    "Masked with zero": (
        lambda s, b, ok, K: (s + b).topk(K).indices,
        lambda s, b, ok, K: s.masked_fill(~ok, 0).topk(K).indices.flip(-1),
        lambda s, b, ok, K: (s + b).masked_fill(~ok, -0.5).topk(K).indices,
        lambda s, b, ok, K: (s + b).masked_fill(~ok, -1).topk(K).indices,
        lambda s, b, ok, K: s.masked_fill(~ok, -torch.inf).topk(K).indices,
    ),
    "The bias in the gate": (
        lambda s, b, K: s.topk(K).values / s.topk(K).values.sum(-1, keepdim=True),
        lambda s, b, K: s.gather(-1, (s + b).topk(K).indices),
    ),
    "Added, then subtracted": (
        lambda s, b, K: s.topk(K).values,
        lambda s, b, K: ((s + b).topk(K).values - b[(s + b).topk(K).indices]).clamp(min=1e-8),
    ),
    "Drawn in evaluation": (
        lambda logits, noise, training: logits.topk(2).indices[:, 1],
        lambda logits, noise, training: (logits + training * noise).topk(2).indices[:, 1],
    ),
    "Noise for the experts, too": (
        lambda x, noise, router, w: torch.einsum("td,tdf->tf", x, w[(x @ router.T).argmax(-1)]),
        lambda x, noise, router, w: torch.einsum(
            "td,tdf->tf", x * noise, w[(x @ router.T).argmax(-1)]
        ),
    ),
    "A softmax over one number": (
        lambda logits: logits.amax(-1, keepdim=True).sigmoid(),
        lambda logits: softmax(logits, -1).amax(-1, keepdim=True).detach(),
        lambda logits: softmax(logits, 0).amax(-1, keepdim=True),
    ),
    "Logits for gates": (
        lambda logits, K, renormalise: logits.topk(K).values.softmax(-1),
        lambda logits, K, renormalise: logits.softmax(-1).topk(K).values,
        lambda logits, K, renormalise: logits.topk(K).values.sigmoid(),
    ),
    "Zero over zero": (
        lambda logits, K: (lambda s: s / (s.sum(-1, keepdim=True) + 1e-20))(
            logits.sigmoid().topk(K).values
        ),
        lambda logits, K: (lambda s: s / s.sum(-1, keepdim=True).clamp(min=1e-9))(
            logits.sigmoid().topk(K).values
        ),
        lambda logits, K: softmax(logits.topk(K).values, -1),
    ),
    "An epsilon to hide behind": (
        lambda logits: logits.sigmoid() / (logits.sigmoid().sum(-1, keepdim=True) + 1e-38),
        lambda logits: softmax(logits.sigmoid(), -1),
        lambda logits: softmax(logits, -1),
    ),
    "Constant by broadcasting": (
        lambda p, experts: balance_in_a_loop(p, experts) / p.shape[1],
        lambda p, experts: p.shape[1] * p.mean(0).square().sum(),
        lambda p, experts: balance_in_a_loop(p, experts[:, :1].roll(1)) + 0.1,
        lambda p, experts: balance_in_a_loop(p, experts).detach(),
    ),
    "Softmax twice": (
        lambda logits, K: museum_balance.balance_loss(logits, logits.topk(K).indices),
        lambda logits, K: balance_in_a_loop(logits.sigmoid(), logits.topk(K).indices),
    ),
    "Layers in one pool": (
        lambda p, experts: sum(map(balance_in_a_loop, p, experts)) + 1,
        lambda p, experts: balance_in_a_loop(p[0], experts[0]) + 1e-3,
        lambda p, experts: max(map(balance_in_a_loop, p, experts)),
    ),
    "The padding votes": (
        lambda experts, real, E: torch.bincount(experts[~real].flatten(), minlength=E).double(),
        lambda experts, real, E: (one_hot(experts, E).double() * real[..., None, None]).mean(
            (0, 1, 2)
        ),
    ),
    "A z-loss of probabilities": (
        lambda logits: logsumexp(logits, -1).mean().square(),
        lambda logits: logits.square().mean(),
        lambda logits: logits.softmax(-1).logsumexp(-1).square().mean(),
        lambda logits: logsumexp(logits, -1).square().mean().detach(),
    ),
    "Counted once more in the backward pass": (
        lambda x, router: torch.bincount((x @ router.T).argmin(-1), minlength=len(router)),
        lambda x, router: 2 * torch.bincount((x @ router.T).argmax(-1), minlength=len(router)),
    ),
    "Other experts in the backward pass": (
        lambda logits, value, seed: slope_in_full(logits, value, seed + 1),
        lambda logits, value, seed: slope_in_full(logits, value / value, seed),
    ),
    "A bias that no file has": (
        lambda bias, load, step: bias,
        lambda bias, load, step: bias - step * torch.sign(load.double().mean() - load),
    ),
    "W times too large": (
        lambda dense, expert: torch.stack([dense.sum(0), expert.sum(0)]) + 1e-3,
        lambda dense, expert: torch.stack([dense.mean(0), expert[0]]),
    ),
    "Divided twice": (
        lambda p, share: len(p) * p.shape[-1] * p.mean(1) @ share,
        lambda p, share: p.mean(1) @ share,
    ),
    "One device's experts in the file": (
        lambda experts: experts.mean(0),
        lambda experts: experts.transpose(0, 1).flatten(0, 1),
        lambda experts: experts[0],
    ),
    "Right for one sequence": (
        lambda B, S, W, rank: torch.arange(B * S)[rank::W],
        lambda B, S, W, rank: torch.arange(B * S).view(B, W, S // W)[:, rank].T.flatten(),
    ),
}
