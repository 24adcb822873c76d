"""Draw the moving picture of the README: book/images/routing.svg, and its partner for the dark.

The stored language model of chapter 10 reads a sentence; the picture plays what its last router
decides for each character. It moves by style alone, since GitHub strips scripts, and stands still
for readers who asked their system for less motion.
"""

from pathlib import Path

import torch

from moe_tutorial import trace
from moe_tutorial.figures.palette import (
    ACCENT,
    INK,
    MUTED,
    PAGE,
    PAGES,
    RULE,
    UNUSED,
    UNUSED_EDGE,
    Colour,
    contrast,
)
from moe_tutorial.learning.trained import trained_model
from moe_tutorial.uncertainty.one_layer import moe_layers

IMAGES = Path(__file__).resolve().parent.parent / "book" / "images"
FILES = {IMAGES / "routing.svg": False, IMAGES / "routing-dark.svg": True}

TEXT = "each token chooses its experts"
SECONDS = 0.7  # a character
PAUSE = 5  # characters' time at the end, with the whole sentence to be seen
STILL = 11  # the character that is shown where nothing may move

WIDTH, HEIGHT = 880, 300
LETTER = 26  # from one character to the next
TEXT_Y, BOX_Y, BOX = 96, 212, 44
FONT = "system-ui, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
ALT = (
    "A language model reads “each token chooses its experts” one character at a time. For each, "
    "its router lights 2 of 8 experts and writes a gate beside each; the letter keeps the colour "
    "of its first expert."
)


def decisions() -> list[list[tuple[int, float]]]:
    """For each character the chosen experts with their gates, the largest gate first."""
    model = trained_model()
    with trace(model) as recording, torch.no_grad():
        model(torch.tensor([list(TEXT.encode())]))
    record = recording.trace()
    assert record.gates_LTK is not None
    experts_TK, gates_TK = record.experts_LTK[-1].tolist(), record.gates_LTK[-1].tolist()
    return [list(zip(*rows, strict=True)) for rows in zip(experts_TK, gates_TK, strict=True)]


def draw(dark: bool) -> str:
    """The picture as a file, for a light page or for a dark one."""

    def of(colour: Colour) -> str:
        return colour.dark if dark else colour.light

    def word(x: float, y: float, text: str, size: int, colour: str, weight: int = 400) -> str:
        return (
            f'<text x="{x:g}" y="{y:g}" font-size="{size}" font-weight="{weight}" '
            f'fill="{colour}" text-anchor="middle">{text}</text>'
        )

    def on(colour: str) -> str:
        return max(PAGE.light, PAGE.dark, key=lambda it: contrast(it, colour))

    rows = decisions()
    cycle = len(rows) + PAUSE
    num_experts = moe_layers(trained_model())[-1].router.num_experts
    colours = [of(PAGES[f"expert-{expert}"]) for expert in range(num_experts)]
    letter_x = [WIDTH / 2 + LETTER * (t - (len(TEXT) - 1) / 2) for t in range(len(TEXT))]
    expert_x = [WIDTH / 2 + 96 * (e - (num_experts - 1) / 2) for e in range(num_experts)]

    style = [
        f".now{{opacity:0;animation:now {cycle * SECONDS:g}s step-end infinite}}",
        f".read{{opacity:0;animation:{cycle * SECONDS:g}s step-end infinite}}",
        f"@keyframes now{{0%{{opacity:1}}{100 / cycle:.3f}%{{opacity:0}}}}",
    ]
    back, front = [], []
    for t, chosen in enumerate(rows):
        first = colours[chosen[0][0]]
        begin = 100 * t / cycle
        style.append(f"@keyframes r{t}{{0%{{opacity:0}}{begin:.3f}%{{opacity:1}}}}")
        letter = TEXT[t] if TEXT[t] != " " else "␣"
        back.append(word(letter_x[t], TEXT_Y, letter, 24, of(MUTED)))
        left = letter_x[t] - LETTER / 2 + 1
        back.append(
            f'<g class="read" style="animation-name:r{t}">'
            f'<rect x="{left:g}" y="{TEXT_Y - 24}" width="{LETTER - 2}" height="34" rx="4" '
            f'fill="{first}"/>{word(letter_x[t], TEXT_Y, letter, 24, on(first))}</g>'
        )
        still = " still" if t == STILL else ""
        front.append(f'<g class="now{still}" style="animation-delay:{t * SECONDS:g}s">')
        front.append(
            f'<rect x="{left - 2:g}" y="{TEXT_Y - 26}" width="{LETTER + 2}" height="38" rx="6" '
            f'fill="none" stroke="{of(INK)}" stroke-width="2.5"/>'
        )
        for expert, gate in chosen:
            x, colour = expert_x[expert], colours[expert]
            front.append(
                f'<path d="M{letter_x[t]:g} {TEXT_Y + 12}C{letter_x[t]:g} {TEXT_Y + 70} {x:g} '
                f'{BOX_Y - 60} {x:g} {BOX_Y - 24}" fill="none" stroke="{colour}" '
                f'stroke-width="{2 + 8 * gate:.1f}"/>'
                f'<rect x="{x - BOX:g}" y="{BOX_Y - 24}" width="{2 * BOX}" height="48" rx="8" '
                f'fill="{colour}" stroke="{of(INK)}" stroke-width="2"/>'
            )
            front.append(word(x, BOX_Y + 6, f"expert {expert}", 16, on(colour), 600))
            front.append(word(x, BOX_Y + 46, f"gate {gate:.2f}", 15, of(INK)))
        front.append("</g>")
    style.append(
        "@media (prefers-reduced-motion:reduce){.now,.read{animation:none!important}"
        ".read,.still{opacity:1}}"
    )
    for x, expert in zip(expert_x, range(num_experts), strict=True):
        back.append(
            f'<rect x="{x - BOX:g}" y="{BOX_Y - 24}" width="{2 * BOX}" height="48" rx="8" '
            f'fill="{of(UNUSED)}" stroke="{of(UNUSED_EDGE)}"/>'
        )
        back.append(word(x, BOX_Y + 6, f"expert {expert}", 16, of(MUTED)))
    title = "The router gives every token 2 of 8 experts. Here each character is a token."
    foot = "The last layer of the small model of chapter 10: its own choices, its own gates."
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{ALT}" '
            f'width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" '
            f'font-family="{FONT}">',
            f"<style>{''.join(style)}</style>",
            f'<rect x=".5" y=".5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="10" '
            f'fill="{of(PAGE)}" stroke="{of(RULE)}"/>',
            word(WIDTH / 2, 40, title, 18, of(ACCENT), 600),
            *back,
            *front,
            word(WIDTH / 2, HEIGHT - 14, foot, 13, of(MUTED)),
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    for path, dark in FILES.items():
        path.write_text(draw(dark), encoding="utf-8")
        print(f"{path.name}: {ALT}")
