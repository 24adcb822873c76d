"""Train the translators of chapter 13 and store them: moe_tutorial/results/translation.json.

One small model writes the names of countries, languages and currencies in 32 languages, a
character at a time, after it has read the language and the name in English. Three kinds of model
see the same batches with the same five seeds:

- ``dense``: every layer has one feed-forward network.
- ``sparse``: EXPERTS experts of which 2 are chosen, together as wide as that network.
- ``dense, wide``: one network as wide as all experts together.

Each kind first tries RATES with another seed, at full length, and trains with the best. A run that
is stored is not run again: stop this script whenever you like, and start it again. It takes about
half an hour on one core.
"""

import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

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
from experiments.models import Runs
from moe_tutorial import LanguageModel
from moe_tutorial.learning.balance import switch_loss
from moe_tutorial.learning.fitting import fit
from moe_tutorial.learning.names import (
    END,
    LANGUAGES,
    LONGEST,
    RARE,
    Names,
    Pair,
    Tokens,
    draw_pairs,
    names,
)
from moe_tutorial.learning.settings import Settings
from moe_tutorial.learning.specialisation import joint_counts, specialisation

RESULTS = Path(__file__).resolve().parent.parent / "moe_tutorial/results/translation.json"
EXPERTS = 16
BALANCE = 0.01
BATCH = 32
POINTS = 2  # at which the validation loss is measured on the way
FIRST = 6  # characters of an answer, whose experts are looked at
PART = 4  # one validation name in so many is written out, which is slow


def surprise(model: LanguageModel, pairs: Sequence[Pair], tokens: Tokens) -> tuple[Tensor, Tensor]:
    """Nats of every answer and its characters, END included."""
    nats, characters = [], []
    with torch.no_grad():
        for i in range(0, len(pairs), 256):
            batch = tokens.batch(pairs[i : i + 256])
            logits_BSV = model(batch.tokens_BS).logits_BSV
            each_BS = nn.functional.cross_entropy(
                logits_BSV.transpose(1, 2), batch.targets_BS, reduction="none"
            )
            nats.append((each_BS * batch.answer_BS).sum(1).double())
            characters.append(batch.answer_BS.sum(1))
    return torch.cat(nats), torch.cat(characters)


def by_language(pairs: Sequence[Pair], values: Tensor, weights: Tensor) -> dict[str, float]:
    """The quotient of two sums, for each language."""
    found = {}
    for language in LANGUAGES:
        rows = torch.tensor([pair.language == language for pair in pairs])
        found[language] = round((values[rows].sum() / weights[rows].sum()).item(), 4)
    return found


def written(model: LanguageModel, pairs: Sequence[Pair], tokens: Tokens) -> list[str]:
    """The model's own answers, each time its most likely character."""
    answers = [""] * len(pairs)
    questions = [tokens.question(pair.language, pair.english) for pair in pairs]
    # Questions of one length at a time, so that no row has filling before its answer.
    for length in sorted({len(question) for question in questions}):
        rows = [i for i, question in enumerate(questions) if len(question) == length]
        tokens_BS = torch.tensor([questions[i] for i in rows])
        with torch.no_grad():
            for _ in range(LONGEST + 1):
                next_B = model(tokens_BS).logits_BSV[:, -1].argmax(-1)
                tokens_BS = torch.cat([tokens_BS, next_B[:, None]], 1)
                if (tokens_BS[:, length:] == END).any(1).all():
                    break
        for i, row in zip(rows, tokens_BS[:, length:].tolist(), strict=True):
            answers[i] = tokens.read(row)
    return answers


def told(model: LanguageModel, pairs: Sequence[Pair], tokens: Tokens) -> list[dict[str, Any]]:
    """For every layer, what its experts tell of language, script and family."""
    long = [pair for pair in pairs if len(pair.name) >= FIRST]
    batch = tokens.batch(long)
    with torch.no_grad():
        routings = model(batch.tokens_BS).routings
    places_BF = batch.answer_BS.int().argmax(1)[:, None] + torch.arange(FIRST)
    tokens_BF = batch.tokens_BS.gather(1, places_BF)
    scripts = sorted({script for script, _ in LANGUAGES.values()})
    families = sorted({family for _, family in LANGUAGES.values()})
    script_L = torch.tensor([scripts.index(script) for script, _ in LANGUAGES.values()])
    family_L = torch.tensor([families.index(family) for _, family in LANGUAGES.values()])
    language_BF = batch.languages_B[:, None].expand_as(tokens_BF)
    script_BF, family_BF = script_L[language_BF], family_L[language_BF]
    questions = {
        "character": (tokens_BF, tokens.unknown + 1, False, None),
        "script": (script_BF, len(scripts), True, None),
        "family": (family_BF, len(families), True, None),
        "language": (language_BF, len(LANGUAGES), True, None),
        "family, given the script": (family_BF, len(families), True, script_BF),
        "script, given the family": (script_BF, len(scripts), True, family_BF),
        "language, given the character": (language_BF, len(LANGUAGES), True, tokens_BF),
    }
    layers = []
    for routing in routings:
        if routing is None:
            continue
        experts_BFK = routing.experts_TK.gather(
            1, places_BF[..., None].expand(-1, -1, routing.experts_TK.shape[-1])
        )
        tells = {}
        for name, (labels, count, windows, given) in questions.items():
            it = specialisation(
                labels, experts_BFK, count, EXPERTS, windows=windows, given_BS=given, shuffles=5
            )
            tells[name] = {key: round(value, 4) for key, value in asdict(it).items()}
        counts_LE = joint_counts(language_BF, experts_BFK, len(LANGUAGES), EXPERTS)
        layers.append({"tells": tells, "language_counts": counts_LE.tolist()})
    return layers


def run(kind: str, seed: int, rate: float, steps: int, data: Names) -> dict[str, Any]:
    """Train one model with one seed, and say what came of it."""
    torch.manual_seed(seed)
    tokens = Tokens(data)
    model = build(kind, EXPERTS, data.vocabulary())
    asked = seed in SEEDS  # of a trial, only the loss is needed
    untrained = told(model, data.validation, tokens) if asked else []
    settings = Settings(
        steps=steps, batch_size=BATCH, learning_rate=rate, warm_up=steps // 20, seed=seed
    )
    batches = draw_pairs(data.training, BATCH, torch.Generator().manual_seed(seed))
    points = {steps * (i + 1) // POINTS for i in range(POINTS)} if asked else {steps}
    validation: list[dict[str, Any]] = []

    def objective() -> Tensor:
        batch = tokens.batch(next(batches))
        prediction = model(batch.tokens_BS)
        loss = nn.functional.cross_entropy(
            prediction.logits_BSV[batch.answer_BS], batch.targets_BS[batch.answer_BS]
        )
        for routing in prediction.routings:
            if routing is not None:
                loss = loss + BALANCE * switch_loss(
                    routing.probabilities_TE, routing.experts_TK, batch.filled_BS
                )
        return loss

    def validate(step: int) -> None:
        if step in points:
            losses = by_language(data.validation, *surprise(model, data.validation, tokens))
            mean = round(statistics.mean(losses.values()), 4)
            validation.append({"step": step, "loss": mean, "by_language": losses})

    seconds = fit(model, objective, settings, validate)
    validation[-1]["seconds"] = round(seconds, 1)
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
        some = data.training[:: len(data.training) // len(data.validation)]
        nats, characters = surprise(model, some, tokens)
        found["training_loss"] = round((nats.sum() / characters.sum()).item(), 4)
        pairs = data.validation[::PART]
        answers = written(model, pairs, tokens)
        right = [answer == pair.name for answer, pair in zip(answers, pairs, strict=True)]
        found["right"] = by_language(pairs, torch.tensor(right).double(), torch.ones(len(right)))
        found["untrained_layers"] = untrained
        found["layers"] = told(model, data.validation, tokens)
        if seed == 0:
            found["answers"] = [
                [pair.language, pair.english, pair.name, answer]
                for pair, answer in zip(pairs, answers, strict=True)
            ][::8]
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is not stored yet, one after another, and store each when it is done."""
    options = parser(__doc__.splitlines()[0], RESULTS, 2500).parse_args(arguments)
    data = names()
    asked = data.validation[::PART]
    found = Runs(
        options.results,
        about(options.steps) | {"experts": EXPERTS, "rare": list(RARE), "text": data.fingerprint()},
        key="model",
        total=len(KINDS) * (len(RATES) + len(SEEDS)),
        minutes=options.minutes,
        more={
            "pairs": {
                language: [
                    sum(pair.language == language for pair in part)
                    for part in (data.training, data.validation)
                ]
                for language in LANGUAGES
            },
            "copied": by_language(
                asked,
                torch.tensor([pair.english == pair.name for pair in asked]).double(),
                torch.ones(len(asked)),
            ),
        },
    )

    def one(kind: str, seed: int, rate: float) -> dict[str, Any]:
        return run(kind, seed, rate, options.steps, data)

    tune_and_train(found, KINDS, RATES, SEEDS, one)


if __name__ == "__main__":
    main()
