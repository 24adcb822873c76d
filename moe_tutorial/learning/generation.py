"""Generation: text from a language model, one drawn byte after another.

t_{s+1} ~ softmax(l_s / tau), and again with t_{s+1} at the end.                     Chapter 10.
"""

import torch

from moe_tutorial.learning.language_model import LanguageModel
from moe_tutorial.learning.training import in_mode
from moe_tutorial.validation import check_generator, check_kind, check_positive_number, check_size


@torch.no_grad()
def continued(
    model: LanguageModel,
    prompt: bytes,
    count: int,
    *,
    temperature: float = 1.0,
    window: int = 128,
    generator: torch.Generator | None = None,
) -> bytes:
    """Let a model go on with a text.

    Nothing is kept from one byte to the next: each is predicted from the last ``window`` bytes
    anew. That is slow and short, and enough for a few hundred bytes.

    Args:
        model: over bytes; each of its modules is left in the mode that it was in.
        prompt: what to go on with, at least one byte.
        count: how many bytes to draw.
        temperature: tau; below 1 the model keeps closer to its likeliest bytes.
        window: how many bytes the model sees at most; no more than it was trained with.
        generator: the source of randomness, on the model's device; None takes torch's own.

    Returns:
        The prompt and the bytes drawn.

    Raises:
        TypeError: a model or prompt of another kind, or a generator that is none.
        ValueError: a model over other tokens than the 256 bytes, an empty prompt, or a number that
            is not positive.
    """
    check_kind("model", model, LanguageModel)
    check_kind("prompt", prompt, bytes)
    check_size("count", count)
    check_size("window", window)
    check_positive_number("temperature", temperature)
    if not prompt:
        raise ValueError("prompt must hold at least one byte, got none")
    if model.head.out_features != 256:
        raise ValueError(
            f"model must predict 256 bytes, got a vocabulary of {model.head.out_features}"
        )
    tokens = list(prompt)
    device = model.head.weight.device
    check_generator(generator, model.head.weight)
    with in_mode(model, training=False):
        for _ in range(count):
            seen_1S = torch.tensor([tokens[-window:]], device=device)
            logits_V = model(seen_1S, generator).logits_BSV[0, -1]
            odds_V = torch.softmax(logits_V / temperature, 0)
            tokens.append(int(torch.multinomial(odds_V, 1, generator=generator)))
    return bytes(tokens)
