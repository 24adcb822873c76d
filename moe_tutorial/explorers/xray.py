"""The X-ray: a passage of which every token has its expert's colour, layer by layer."""

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from moe_tutorial.explorers.page import Explorer
from moe_tutorial.explorers.xray_still import xray_still
from moe_tutorial.figures.palette import EXPERT_COLOURS
from moe_tutorial.models.questions import favourite_tokens
from moe_tutorial.models.traces import NO_EXPERT, Trace, check_trace
from moe_tutorial.validation import check_size

MOST_TOKENS = 600
"""A longer passage is no picture any more."""
MOST_CHOICES = 300_000
"""More ids would make the page too heavy: 600 tokens with 8 experts each in 61 layers are fewer."""
USUAL_TOKENS = 400
"""How many are shown if nobody says."""
FAVOURITES = 8

Decode = Callable[[list[int]], str]


def xray(
    trace: Trace,
    decode: Decode | None = None,
    *,
    passage: slice | None = None,
    layer: int = 0,
) -> Explorer:
    """A passage as a model's experts see it: colours for experts, sliders for layers and tokens.

    Every token stands on the colour of its strongest expert; where there are more than twelve,
    the twelve that are busiest in the passage have colours. Or one expert alone is coloured. Under
    the hand, or at the slider, a token shows its experts and their gates, and an expert the tokens
    that it is over-represented for in the whole trace.

    Args:
        trace: as :func:`~moe_tutorial.models.inspection.trace` records it; the longer, the better
            for the favourite tokens.
        decode: token ids to text, such as ``tokenizer.decode``; None where a token is a byte.
        passage: which tokens of the trace are shown, up to 600; None takes the first sequence, or
            its first 400 tokens (fewer where a token has more than 750 ids), and then says so.
        layer: the place of the layer that is shown first.

    Returns:
        The explorer.

    Raises:
        TypeError, ValueError: what is no trace; tokens that are not known, or, without ``decode``,
            are no bytes; no token or too many; or a layer that the trace does not have.
    """
    check_trace("trace", trace)
    check_size("layer", layer, least=0)
    if layer >= len(trace.layers):
        raise ValueError(f"layer must be below {len(trace.layers)}, got {layer}")
    if bool((trace.tokens_T < 0).any()):
        raise ValueError("trace must know its token ids, got a token without one")
    of_bytes = decode is None
    if decode is None:
        if int(trace.tokens_T.max()) > 255:
            raise ValueError(
                f"decode must be given where tokens are no bytes, got {int(trace.tokens_T.max())}"
            )
        decode = _bytes
    first = int((trace.sequences_T == trace.sequences_T[0]).sum())
    note = ""
    if passage is None:
        usual = min(USUAL_TOKENS, MOST_CHOICES // (trace.k * len(trace.layers)))
        passage = slice(0, min(first, usual))
        if first > usual:
            note = f"These are the first {usual} of {first} tokens; passage= chooses others."
    shown = by_gate(trace.cut(passage))
    choices = shown.experts_LTK.numel()
    if not 1 <= len(shown) <= MOST_TOKENS or choices > MOST_CHOICES:
        raise ValueError(
            f"passage must have from 1 to {MOST_TOKENS} tokens, with at most {MOST_CHOICES} ids in "
            f"all layers, got {len(shown)} with {choices}: cut some layers off with trace.cut"
        )
    strongest_LT = shown.experts_LTK[..., 0]
    hues = [_coloured(row, trace.num_experts) for row in strongest_LT]
    words = split(shown.tokens_T.tolist(), decode)
    favourites = favourite_tokens(trace, FAVOURITES)
    ids = sorted({token for layer in favourites for expert in layer for token in expert})
    place = {token: number for number, token in enumerate(ids)}
    gates = shown.gates_LTK
    config = {
        "tokens": words,
        "layers": [f"Layer {place + 1}" for place in range(len(trace.layers))],
        "experts": trace.num_experts,
        "k": trace.k,
        "ids": shown.experts_LTK.flatten(1).tolist(),
        "gates": None
        if gates is None
        else (gates.double() * 100).round().long().flatten(1).tolist(),
        "hues": hues,
        "favourites": [[[place[t] for t in expert] for expert in row] for row in favourites],
        "vocabulary": [_named(decode([token]), token, of_bytes) for token in ids],
        "layer": layer,
        "note": note,
    }
    still = xray_still(words, strongest_LT[layer].tolist(), hues[layer], f"Layer {layer + 1}")
    with warnings.catch_warnings():
        # matplotlib measures with a font that lacks some letters, and the page has others.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        return Explorer("xray", "which experts read which token", config, [still])


def by_gate(trace: Trace) -> Trace:
    """The same with each token's experts in the order of their gates, those without one last."""
    if trace.gates_LTK is None:
        return trace
    gates = trace.gates_LTK.double().masked_fill(trace.experts_LTK == NO_EXPERT, -torch.inf)
    order = gates.sort(dim=-1, descending=True, stable=True).indices
    return replace(
        trace,
        experts_LTK=trace.experts_LTK.gather(-1, order),
        gates_LTK=trace.gates_LTK.gather(-1, order),
    )


def _coloured(strongest_T: Tensor, num_experts: int) -> list[int]:
    """The expert of each colour: its own where there are enough, else the busiest ones."""
    if num_experts <= len(EXPERT_COLOURS):
        return list(range(num_experts))
    counts = Counter(it for it in strongest_T.tolist() if it != NO_EXPERT)
    busiest = sorted(counts, key=lambda expert: (-counts[expert], expert))
    return sorted(busiest[: len(EXPERT_COLOURS)])


def _bytes(tokens: list[int]) -> str:
    return bytes(tokens).decode("utf-8", "replace")


def _named(word: str, token: int, of_bytes: bool) -> str:
    """What a token is called in a list: quoted, by name where it is blank, or by number."""
    names = {" ": "space", "\n": "new line", "\t": "tab", "\0": "end of text"}
    if "\N{REPLACEMENT CHARACTER}" in word or not word:  # a part of a character
        return f"byte {token:02X}" if of_bytes else f"token {token}"
    return names.get(word) or (f"\u201c{word}\u201d" if word.strip() else f"{len(word)} blanks")


def split(tokens: Sequence[int], decode: Decode) -> list[str]:
    """Each token's part of the text; of a character made of several, the first one has it.

    A token without a part of its own is a middle dot.
    """
    words: list[str] = []
    before: list[int] = []  # the tokens of the part before: some decoders drop a space at the start
    while len(words) < len(tokens):
        start = len(words)
        for end in range(start + 1, min(start + 5, len(tokens)) + 1):
            if "\N{REPLACEMENT CHARACTER}" not in decode(list(tokens[start:end])):
                break
        else:
            end = start + 1
        own = list(tokens[start:end])
        left, both = decode(before) if before else "", decode(before + own)
        word = both[len(left) :] if both.startswith(left) else decode(own)
        words += [word or "\N{MIDDLE DOT}", *["\N{MIDDLE DOT}"] * (end - start - 1)]
        before = own
    return words
