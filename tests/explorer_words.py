"""Numbers and sentences as an explorer must write them, said here once more and on its own."""

import math
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import torch

import moe_tutorial as moe


def fixed(value: float, digits: int) -> str:
    """A number with so many digits, rounded as JavaScript does it, with a real minus sign."""
    exact = Decimal(value).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)
    return str(abs(exact) if exact == 0 else exact).replace("-", "\N{MINUS SIGN}")


def share(value: float) -> str:
    """A number from 0 to 1 in the width of a bar: .34."""
    return "0" if value < 0.005 else "1" if value >= 0.995 else fixed(value, 2)[1:]


def listing(words: Sequence[object]) -> str:
    """'a', 'a and b', 'a, b and c'."""
    *rest, last = map(str, words)
    return f"{', '.join(rest)} and {last}" if rest else last


def experts_in_words(experts: Sequence[int]) -> str:
    """'expert 5', 'experts 5 and 8', and from five on only how many."""
    if len(experts) > 4:
        return f"{len(experts)} experts"
    return f"expert{'s' if len(experts) > 1 else ''} {listing(experts)}"


def centroid_sentence(
    token: Sequence[float], digits: int, logits_TE: torch.Tensor, state: dict[str, Any]
) -> str:
    place = ", ".join(fixed(value, digits) for value in token)
    best, experts = moe.top_k(logits_TE, 1).item(), moe.top_k(logits_TE, state["k"])[0].tolist()
    rule = {"dot": "dot product", "cosine": "cosine"}[state["scores"]]
    return (
        f"Token at ({place}), {rule}: {experts_in_words(experts)} "
        f"{'is' if state['k'] == 1 else 'are'} chosen. Expert {best} has logit "
        f"{fixed(logits_TE[0, best].item(), 2)} and probability "
        f"{fixed(moe.softmax(logits_TE)[0, best].item(), 2)}."
    )


def temperature_sentence(logits_TE: torch.Tensor, temperature: float) -> str:
    probabilities_TE = moe.softmax(logits_TE, temperature)
    undecided = moe.entropy(probabilities_TE).item()
    best = moe.top_k(probabilities_TE, 1).item()
    named = "infinite" if math.isinf(temperature) else f"{temperature:.15g}"
    return (
        f"Temperature {named}: expert {best} leads with probability "
        f"{fixed(probabilities_TE[0, best].item(), 3)}. Entropy {fixed(undecided, 2)} nats, as "
        f"undecided as a fair choice among {fixed(math.exp(undecided), 1)} experts."
    )


def selection_sentence(logits_TE: torch.Tensor, k: int) -> str:
    experts_TK, probabilities_TE = moe.top_k(logits_TE, k), moe.softmax(logits_TE)
    gates = (
        moe.softmax_over_chosen(logits_TE, experts_TK),
        moe.renormalise(probabilities_TE, experts_TK),
        moe.keep(probabilities_TE, experts_TK),
    )
    sums = [fixed(gates_TK.sum().item(), 3) for gates_TK in gates]
    return (
        f"K = {k}: {experts_in_words(experts_TK[0].tolist())}. The three ways' gates sum to "
        f"{listing(sums)}."
    )


def posterior_sentence(mean_TE: torch.Tensor, state: dict[str, Any]) -> str:
    shared = {0: "nothing shared", 1: "all shared"}.get(state["shared"])
    best = moe.top_k(mean_TE, 1).item()
    draws = f"{state['draws']} draw{'s' if state['draws'] > 1 else ''}"
    return (
        f"Clouds of deviation {state['deviation']:g}, "
        f"{shared or format(state['shared'], 'g') + ' of it shared'}: this draw takes "
        f"{experts_in_words(state['experts'])}. Expert {best} was chosen in "
        f"{state['counts'][best]} of {draws}; in endless draws its share is "
        f"{fixed(state['inclusion'][best], 3)}."
    )
