"""How many experts, and what their gates sum to: three ways to normalise, side by side."""

from torch import Tensor

from moe_tutorial.explorers.page import Explorer, check_one_token, experts_in_words
from moe_tutorial.explorers.svg import bars, fixed, share
from moe_tutorial.figures.style import listing
from moe_tutorial.routing.probabilities import softmax
from moe_tutorial.routing.selection import keep, renormalise, softmax_over_chosen, top_k
from moe_tutorial.validation import check_k

WAYS = {
    "softmax": "1  Top-k, softmax",
    "renormalised": "2  Softmax, top-k, renormalise",
    "kept": "3  Softmax, top-k, keep",
}


def selection_explorer(logits_E: Tensor, k: int = 3) -> Explorer:
    """One token's K best experts and their gates, normalised in three ways, with a slider for K.

    Args:
        logits_E: one token's logits, ``[E]``, from 2 to 16 experts.
        k: where the slider starts.

    Returns:
        The explorer; its sentence names the chosen experts and the gates' sums.

    Raises:
        TypeError: logits that are not floating point, or a k that is not an int.
        ValueError: a wrong shape, logits that are not finite, or k out of range.
    """
    logits = check_one_token(logits_E)
    check_k(k, len(logits))
    logits_TE = logits_E.double()[None]
    probabilities_TE = softmax(logits_TE)
    experts_TK = top_k(logits_TE, k)
    chosen = experts_TK[0].tolist()
    gates = {
        "softmax": softmax_over_chosen(logits_TE, experts_TK),
        "renormalised": renormalise(probabilities_TE, experts_TK),
        "kept": keep(probabilities_TE, experts_TK),
    }
    sums = {way: fixed(gates_TK.sum().item(), 3) for way, gates_TK in gates.items()}
    panels = [
        gate_bars(
            way, title, chosen, gates[way][0].tolist(), len(logits), reading=f"sum {sums[way]}"
        )
        for way, title in WAYS.items()
    ]
    values = probabilities_TE[0].tolist()
    everyone = bars(
        "probabilities",
        "Softmax over all experts",
        values,
        [share(value) for value in values],
        chosen=chosen,
        legend="the K best outlined",
    )
    return Explorer(
        "selection",
        "Explorer: K experts and three ways to make gates",
        f"K = {k}: {experts_in_words(chosen)}. The three ways' gates sum to "
        f"{listing(list(sums.values()))}.",
        {"logits": logits, "k": k},
        [everyone, panels[0]],
        panels[1:],
    )


def gate_bars(
    name: str,
    title: str,
    chosen: list[int],
    gates: list[float],
    num_experts: int,
    *,
    legend: str = "",
    reading: str = "",
    others: list[float] | None = None,
) -> str:
    """The chosen experts' gates as bars, and if given the gates of another rule as diamonds."""
    by_expert = dict(zip(chosen, gates, strict=True))
    marks = dict(zip(chosen, others, strict=True)) if others else {}
    return bars(
        name,
        title,
        [by_expert.get(expert, 0.0) for expert in range(num_experts)],
        [share(by_expert[expert]) if expert in by_expert else "" for expert in range(num_experts)],
        chosen=chosen,
        marks_E=[marks.get(expert) for expert in range(num_experts)] if others else None,
        legend=legend,
        reading=reading,
    )
