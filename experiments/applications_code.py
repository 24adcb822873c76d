"""Train the models of code of chapter 13 and store them: moe_tutorial/results/code.json.

One small model reads prose, Python, C++ and JavaScript a byte at a time. Three kinds of model see
the same batches with the same five seeds: ``dense``; ``sparse`` with EXPERTS experts of which 2 are
chosen, together as wide; and ``dense, wide``, as wide as all experts together. Each kind first
tries RATES with another seed, at full length, and trains with the best.

Of the sparse models it is stored what their experts tell of the language and of the kind of Python
token, and how often a count table guesses these from bytes, from experts, and from both. A run that
is stored is not run again. It takes about half an hour on one core.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.applications import (
    KINDS,
    RATES,
    SEEDS,
    about,
    build,
    flops,
    parser,
    tune_and_train,
)
from experiments.models import Runs, measured
from moe_tutorial import LanguageModel
from moe_tutorial.learning.code import (
    TOKEN_KINDS,
    code_documents,
    guessed,
    last_bytes,
    python_windows,
)
from moe_tutorial.learning.ngrams import LONGEST, count_table, evaluate_ngrams
from moe_tutorial.learning.settings import Settings
from moe_tutorial.learning.specialisation import joint_counts, specialisation
from moe_tutorial.learning.text import VOCABULARY, Corpus, corpus, draw_batch

RESULTS = Path(__file__).resolve().parent.parent / "moe_tutorial/results/code.json"
EXPERTS = 16
BATCH, LENGTH = 8, 128
WINDOWS = 300  # whose experts are looked at, of Python and of all languages
SHUFFLES = 5


def told(model: LanguageModel, text: Corpus, sources: dict[str, str]) -> dict[str, Any]:
    """What the experts tell of the language and of the kind of token, and what bytes tell."""
    drawn = draw_batch(text.validation, WINDOWS, LENGTH, torch.Generator().manual_seed(0))
    tokens_BS, kinds_BS = python_windows(sources, WINDOWS, LENGTH)
    languages = len(text.validation.domains)
    found: dict[str, Any] = {"layers": []}
    with torch.no_grad():
        for name, tokens, labels, count, windows in (
            ("language", drawn.tokens_BS, drawn.domains_BS, languages, True),
            ("kind of token", tokens_BS, kinds_BS, len(TOKEN_KINDS), False),
        ):
            experts = [it.experts_TK for it in model(tokens).routings if it is not None]
            for layer, chosen in enumerate(experts):
                if len(found["layers"]) == layer:
                    found["layers"].append({})
                for given in (None, tokens):
                    it = specialisation(
                        labels, chosen, count, EXPERTS,
                        windows=windows, given_BS=given, shuffles=SHUFFLES,
                    )  # fmt: skip
                    head = name if given is None else f"{name}, given the byte"
                    found["layers"][layer][head] = {k: round(v, 4) for k, v in asdict(it).items()}
                counts_LE = joint_counts(labels, chosen, count, EXPERTS)
                found["layers"][layer][f"{name}, counts"] = counts_LE.tolist()
            found[f"{name}, guessed"] = guesses(tokens, experts, labels)
    return found


def named(count: int) -> str:
    """So many bytes in words."""
    return f"{count} byte" if count == 1 else f"{count} bytes"


def guesses(tokens_BS: Tensor, experts: Sequence[Tensor], labels_BS: Tensor) -> dict[str, float]:
    """How often a label is guessed from so many bytes, from the experts, and from both."""
    nothing_BS = torch.zeros_like(tokens_BS)
    pairs = [chosen.sort(-1).values for chosen in experts]
    last_BS = pairs[-1][..., 0] * EXPERTS + pairs[-1][..., 1]
    all_BS = nothing_BS
    for pair in pairs:
        all_BS = (all_BS * EXPERTS + pair[..., 0]) * EXPERTS + pair[..., 1]
    keys: dict[str, tuple[Tensor, ...]] = {"nothing": (nothing_BS,)}
    shorter: tuple[Tensor, ...] = (nothing_BS,)
    for count in (1, 2, 3, 4):
        shorter = (last_bytes(tokens_BS, count), *shorter)
        keys[named(count)] = shorter
    keys["last layer's experts"] = (last_BS, nothing_BS)
    keys["all experts"] = (all_BS, last_BS, nothing_BS)
    for count in (1, 2, 3):
        key_BS = last_bytes(tokens_BS, count) * EXPERTS**2 + last_BS
        keys[f"{named(count)} and last layer's experts"] = (key_BS, *keys[named(count)])
    return {name: round(guessed(key, labels_BS), 4) for name, key in keys.items()}


def run(
    kind: str, seed: int, rate: float, steps: int, text: Corpus, sources: dict[str, str]
) -> dict[str, Any]:
    """Train one model with one seed, and say what came of it."""
    torch.manual_seed(seed)
    model = build(kind, EXPERTS, VOCABULARY)
    asked = kind == "sparse" and seed in SEEDS
    untrained = told(model, text, sources) if asked else None
    settings = Settings(
        steps=steps, batch_size=BATCH, length=LENGTH, learning_rate=rate, warm_up=steps // 20,
        seed=seed,
    )  # fmt: skip
    start = time.process_time()
    validation = measured(model, text, settings, sparse=kind == "sparse", per_token=flops(model))
    # The processor's seconds, which other programs do not lengthen, validation included.
    validation[-1]["seconds"] = round(time.process_time() - start, 1)
    found = {
        "model": kind,
        "seed": seed,
        "total_parameters": model.counted().total_parameters(),
        "active_parameters": model.counted().active_parameters(),
        "flops": flops(model),
        "settings": asdict(settings),
        "validation": validation,
    }
    if asked:
        found |= {"untrained": untrained, "trained": told(model, text, sources)}
    return found


def tables(text: Corpus) -> list[dict[str, float]]:
    """The loss of n-gram tables with contexts of 1 byte to LONGEST, by domain."""
    whole = count_table(text.training, LONGEST)
    return [
        {
            domain: round(loss, 4)
            for domain, loss in evaluate_ngrams(
                [whole[: longest + 1]], text.validation, 16, LENGTH
            ).items()
        }
        for longest in range(1, LONGEST + 1)
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is not stored yet, one after another, and store each when it is done."""
    options = parser(__doc__.splitlines()[0], RESULTS, 1000).parse_args(arguments)
    documents = code_documents()
    text, sources = corpus(documents), documents["python"]
    found = Runs(
        options.results,
        about(options.steps)
        | {
            "experts": EXPERTS,
            "text": [text.training.fingerprint(), text.validation.fingerprint()],
        },
        key="model",
        total=len(KINDS) * (len(RATES) + len(SEEDS)),
        minutes=options.minutes,
        more={
            "bytes": dict(
                zip(documents, torch.tensor(text.training.starts).diff().tolist(), strict=True)
            )
        },
    )

    def one(kind: str, seed: int, rate: float) -> dict[str, Any]:
        return run(kind, seed, rate, options.steps, text, sources)

    tune_and_train(found, KINDS, RATES, SEEDS, one)
    found.note("ngrams", lambda: tables(text))


if __name__ == "__main__":
    main()
