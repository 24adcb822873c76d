"""The figure of the sampled router, alive: draw, draw again, and count who comes."""

import torch
from torch import Tensor

from moe_tutorial.explorers.page import Explorer, number, one_token
from moe_tutorial.explorers.temperature import in_words
from moe_tutorial.figures import Picture, expert_bars
from moe_tutorial.routing.combination import scatter_gates
from moe_tutorial.routing.inclusion import inclusion_probabilities
from moe_tutorial.routing.probabilities import softmax
from moe_tutorial.routing.sampling import gumbel_top_k
from moe_tutorial.routing.selection import softmax_over_chosen, top_k
from moe_tutorial.validation import check_choice, check_generator, check_k, check_positive_number


def routing_explorer(
    logits_E: Tensor,
    k: int = 3,
    temperature: float = 1.0,
    *,
    selection: str = "sampled",
    gates: str = "original",
    generator: torch.Generator | None = None,
) -> Explorer:
    """A router that draws its experts, or takes the best: one token's logits, choice and gates.

    The first draw is the one that :func:`moe_tutorial.routing.sampling.gumbel_top_k` makes with
    the same generator; later ones come from a generator in the browser that starts from the
    first draw's numbers.

    Args:
        logits_E: one token's logits, ``[E]``, from 2 to 16 experts.
        k: how many experts are chosen at first.
        temperature: of the probabilities at first; ``math.inf`` is allowed.
        selection: ``"sampled"`` or ``"top_k"`` at first.
        gates: ``"original"`` for gates from the logits, ``"tempered"`` from logits / temperature.
        generator: the source of the first draw's randomness, on the CPU; None takes torch's own.

    Returns:
        The explorer; its sentence names the chosen experts and the likeliest ones.

    Raises:
        TypeError: logits that are not floating point, a k that is not an int, a temperature that is
            not a number, or a generator that is not one.
        ValueError: a wrong shape, logits that are not finite, k or temperature out of range, a word
            that is not one of the allowed ones, or a generator elsewhere.
    """
    logits_TE = one_token(logits_E)
    check_rule(logits_TE, k, temperature, selection, gates, generator)
    generator = generator or torch.default_generator
    # Look at the numbers that gumbel_top_k is about to take.
    ahead = torch.Generator()
    ahead.set_state(generator.get_state())
    uniforms_TE = torch.rand(logits_TE.shape, generator=ahead, dtype=torch.float64)
    drawn_TK = gumbel_top_k(logits_TE, k, temperature, generator)
    experts_TK = drawn_TK if selection == "sampled" else top_k(logits_TE, k)
    columns = routing_columns(logits_TE, experts_TK, temperature, selection)
    return Explorer(
        "sampled",
        "a router that draws its experts",
        {
            "logits": logits_TE[0].tolist(),
            "k": k,
            "temperature": number(temperature),
            "selection": selection,
            "gates": gates,
            "uniforms": uniforms_TE[0].tolist(),
        },
        [routing_picture(columns, experts_TK, temperature, gates)],
    )


def check_rule(
    logits_TE: Tensor, k: int, temperature: float, selection: str, gates: str, generator: object
) -> None:
    """Refuse what no router can start with."""
    check_k(k, logits_TE.shape[-1])
    check_positive_number("temperature", temperature)
    check_choice("selection", selection, ("sampled", "top_k"))
    check_choice("gates", gates, ("original", "tempered"))
    check_generator(generator, logits_TE)


def routing_columns(
    logits_TE: Tensor, drawn_NK: Tensor, temperature: float, selection: str
) -> dict[str, Tensor]:
    """What there is to see of one token's draws, the last of them above all: each ``[1, E]``."""
    num_experts, k, last_TK = logits_TE.shape[-1], drawn_NK.shape[-1], drawn_NK[-1:]

    def gates(tau: float) -> Tensor:
        gates_TK = softmax_over_chosen(logits_TE, last_TK, tau)
        return scatter_gates(gates_TK, last_TK, num_experts)

    if selection == "sampled":
        inclusion_TE = inclusion_probabilities(logits_TE, k, temperature)
    else:
        inclusion_TE = torch.zeros_like(logits_TE).scatter(-1, top_k(logits_TE, k), 1.0)
    counts_E = torch.bincount(drawn_NK.flatten(), minlength=num_experts)
    return {
        "logit": logits_TE,
        "probability": softmax(logits_TE, temperature),
        "gate, original": gates(1.0),
        "gate, tempered": gates(temperature),
        "share of draws": counts_E[None] / len(drawn_NK),
        "inclusion probability": inclusion_TE,
    }


def routing_picture(
    columns: dict[str, Tensor], drawn_NK: Tensor, temperature: float, gates: str
) -> Picture:
    """Bars of three of the columns, with the inclusion probabilities as diamonds."""
    often = f"how often in {len(drawn_NK)} draw{'s' if len(drawn_NK) > 1 else ''}"
    titles = {
        f"probabilities at T = {in_words(temperature)}": "probability",
        f"gates from the {gates} logits": f"gate, {gates}",
        often: "share of draws",
    }
    return expert_bars(
        {title: columns[name][0] for title, name in titles.items()},
        "share",
        chosen=dict.fromkeys(titles, drawn_NK[-1]),
        markers={often: columns["inclusion probability"][0]},
        marker_label="inclusion probability",
        y_limits=(0, 1.02),
    )
