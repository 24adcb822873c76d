"""The figure of the sampled router, alive: draw, draw again, and count who comes."""

import torch
from torch import Tensor

from moe_tutorial.explorers.page import (
    Explorer,
    check_one_temperature,
    check_one_token,
    experts_in_words,
    temperature_in_words,
)
from moe_tutorial.explorers.selection import gate_bars
from moe_tutorial.explorers.svg import bars, fixed, share, strip
from moe_tutorial.explorers.temperature import number
from moe_tutorial.routing.inclusion import inclusion_probabilities
from moe_tutorial.routing.probabilities import softmax
from moe_tutorial.routing.sampling import gumbel_top_k
from moe_tutorial.routing.selection import softmax_over_chosen, top_k
from moe_tutorial.validation import check_choice, check_generator, check_k


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
        The explorer; its sentence names the chosen experts and how often the best is drawn.

    Raises:
        TypeError: logits that are not floating point, a k that is not an int, a temperature that is
            not a number, or a generator that is not one.
        ValueError: a wrong shape, logits that are not finite, k or temperature out of range, a word
            that is not one of the allowed ones, or a generator elsewhere.
    """
    logits = check_one_token(logits_E)
    check_k(k, len(logits))
    temperature = check_one_temperature(temperature)
    check_choice("selection", selection, ("sampled", "top_k"))
    check_choice("gates", gates, ("original", "tempered"))
    logits_TE = torch.tensor([logits], dtype=torch.float64)
    check_generator(generator, logits_TE)
    generator = generator or torch.default_generator
    # Look at the numbers that gumbel_top_k is about to take.
    ahead = torch.Generator()
    ahead.set_state(generator.get_state())
    uniforms = torch.rand(logits_TE.shape, generator=ahead, dtype=torch.float64)[0].tolist()
    drawn_TK = gumbel_top_k(logits_TE, k, temperature, generator)
    if selection == "sampled":
        experts_TK = drawn_TK
        inclusion = inclusion_probabilities(logits_TE, k, temperature)[0].tolist()
    else:
        experts_TK = top_k(logits_TE, k)
        inclusion = [float(expert in experts_TK[0]) for expert in range(len(logits))]
    chosen = experts_TK[0].tolist()
    original = softmax_over_chosen(logits_TE, experts_TK)[0].tolist()
    tempered = softmax_over_chosen(logits_TE, experts_TK, temperature)[0].tolist()
    shown, others = (original, tempered) if gates == "original" else (tempered, original)
    probabilities = softmax(logits_TE, temperature)[0].tolist()
    counts = [int(expert in chosen) for expert in range(len(logits))]
    return Explorer(
        "sampled",
        "Explorer: a router that draws its experts",
        _sentence(selection, temperature, chosen, counts, inclusion, int(top_k(logits_TE, 1))),
        {
            "logits": logits,
            "k": k,
            "temperature": number(temperature),
            "selection": selection,
            "gates": gates,
            "uniforms": uniforms,
        },
        [
            strip("logits", "The router's logits", logits),
            bars(
                "probabilities",
                "Probabilities",
                probabilities,
                [share(value) for value in probabilities],
                chosen=chosen,
                legend="chosen ones outlined",
            ),
            gate_bars(
                "gates",
                "Gates of the chosen experts",
                chosen,
                shown,
                len(logits),
                legend=f"\N{WHITE DIAMOND} if {'tempered' if gates == 'original' else 'original'}",
                others=others,
            ),
        ],
        [
            bars(
                "counts",
                "Drawn in 1 draw",
                [float(count) for count in counts],
                [str(count) for count in counts],
                height=174,
                chosen=chosen,
                marks_E=inclusion,
                legend="\N{WHITE DIAMOND} exact inclusion probability",
                notes=("\N{GREEK SMALL LETTER PI}", [share(value) for value in inclusion]),
            )
        ],
    )


def _sentence(
    selection: str,
    temperature: float,
    chosen: list[int],
    counts: list[int],
    inclusion: list[float],
    first: int,
) -> str:
    if selection == "top_k":
        return (
            f"Top-K takes {experts_in_words(chosen)}, every time. "
            f"Temperature {temperature_in_words(temperature)}."
        )
    return (
        f"Drawn at temperature {temperature_in_words(temperature)}: {experts_in_words(chosen)}. "
        f"Expert {first} was in {counts[first]} of 1 draw; its inclusion probability is "
        f"{fixed(inclusion[first], 3)}."
    )
