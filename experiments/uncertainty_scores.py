"""What chapter 16's script measures of a guesser: its answers, its doubts, and what they detect."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from moe_tutorial.learning.documents import installed_documents
from moe_tutorial.learning.languages import ELSEWHERE, KNOWN, Guesser, three_splits
from moe_tutorial.learning.ngrams import count_table, ngram_odds
from moe_tutorial.learning.text import Batch, Text, fixed_windows
from moe_tutorial.routing.probabilities import entropy
from moe_tutorial.uncertainty.calibration import (
    brier_score,
    calibration_floor,
    debiased_calibration_error,
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
    paired_bootstrap,
)
from moe_tutorial.uncertainty.prediction import (
    auroc,
    disagreement,
    logit_variance,
    mutual_information,
    predictive,
)

LENGTH = 16  # bytes of a window
TEST, CALIBRATION, OUTSIDE = 300, 190, 360  # windows: of each language, and of each other place
BATCH = 500  # windows at a time
BOOTSTRAP = 200  # draws
Scores = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows of bytes ``[N, S]`` and the classes ``[N]`` they are from."""

    tokens_NS: Tensor
    labels_N: Tensor


@dataclass(frozen=True, eq=False)
class Data:
    """What to learn from, what to scale with, what to judge on, and what is from elsewhere."""

    training: Text
    calibration: Windows
    test: Windows
    elsewhere: dict[str, Tensor]

    def places(self) -> dict[str, Tensor]:
        """All windows that a model is asked about."""
        known = {"calibration": self.calibration.tokens_NS, "test": self.test.tokens_NS}
        return known | self.elsewhere


@cache
def data() -> Data:
    """The text of this installation; the same windows in every run."""
    others = sorted({it for domains in ELSEWHERE.values() for it in domains})
    languages = (*KNOWN, *(it for it in others if len(it) == 2))
    documents = installed_documents(languages)
    training, calibration, test = three_splits({it: documents[it] for it in KNOWN})
    elsewhere = {
        name: windows(
            three_splits({it: documents[it] for it in domains})[2], OUTSIDE // len(domains)
        ).tokens_NS
        for name, domains in ELSEWHERE.items()
    }
    return Data(training, windows(calibration, CALIBRATION), windows(test, TEST), elsewhere)


def windows(text: Text, number: int) -> Windows:
    """So many windows of each domain."""
    parts = [batch.tokens_BS for _, batch in fixed_windows(text, number, LENGTH)]
    labels_N = torch.arange(len(parts)).repeat_interleave(number)
    return Windows(torch.cat(parts), labels_N)


@torch.no_grad()
def passes(model: Guesser, tokens_NS: Tensor, draws: int) -> Scores:
    """Call a model so many times, with the same random numbers whatever the model.

    Returns:
        ``"logits"``, ``[M, N, C]``, and by name what its routers say of each window.
    """
    model.eval()
    found: list[Scores] = []
    for first in range(0, len(tokens_NS), BATCH):
        generator = torch.Generator().manual_seed(first)
        part_NS = tokens_NS[first : first + BATCH]
        guesses = [model(part_NS, generator) for _ in range(draws)]
        routings = [[it for it in guess.routings if it is not None] for guess in guesses]
        layers = list(zip(*routings, strict=True))

        def over(name: str, layers: list[Any] = layers) -> Tensor:  # [L, M, B, S, ..]
            return torch.stack([torch.stack([getattr(it, name) for it in one]) for one in layers])

        logits_LMBSE, experts_LMBSK = over("logits_TE"), over("experts_TK")
        said = {
            "logits": torch.stack([guess.logits_BC for guess in guesses]),
            "gate entropy": entropy(over("gates_TK")).mean((0, 1, 3)),
            "router energy": -logits_LMBSE.logsumexp(-1).mean((0, 1, 3)),
        }
        if draws > 1:
            num_experts = logits_LMBSE.shape[-1]
            said["logit variance"] = torch.stack([logit_variance(it) for it in logits_LMBSE]).mean(
                (0, 2)
            )
            said["disagreement"] = torch.stack(
                [disagreement(it, num_experts) for it in experts_LMBSK]
            ).mean((0, 2))
        found.append(said)
    return {
        name: torch.cat([it[name] for it in found], 1 if name == "logits" else 0)
        for name in found[0]
    }


def everywhere(model: Guesser, draws: int) -> dict[str, Scores]:
    """:func:`passes` over all windows that a model is asked about."""
    return {place: passes(model, tokens_NS, draws) for place, tokens_NS in data().places().items()}


def at_home(model: Guesser, draws: int) -> dict[str, Scores]:
    """:func:`passes` over the calibration and the test split."""
    splits = {"calibration": data().calibration, "test": data().test}
    return {split: passes(model, it.tokens_NS, draws) for split, it in splits.items()}


def metrics(probabilities_NC: Tensor, labels_N: Tensor) -> dict[str, float]:
    """How good forecasts are, in a few numbers."""
    right = (probabilities_NC.argmax(-1) == labels_N).double().mean().item()
    return few_digits(
        {
            "accuracy": right,
            "nll": negative_log_likelihood(probabilities_NC, labels_N),
            "ece": expected_calibration_error(probabilities_NC, labels_N),
            "squared ece, debiased": debiased_calibration_error(probabilities_NC, labels_N),
            "brier": brier_score(probabilities_NC, labels_N),
        }
    )


def few_digits(numbers: Mapping[str, float]) -> dict[str, float]:
    """Numbers as they are stored."""
    return {name: float(f"{number:.5g}") for name, number in numbers.items()}


def scaled(log_odds: Mapping[str, Tensor]) -> tuple[float, Tensor]:
    """The temperature of the calibration split, and the test split's forecasts at it."""
    temperature = fit_temperature(log_odds["calibration"], data().calibration.labels_N)
    return temperature, (log_odds["test"] / temperature).softmax(-1)


def log_odds_of(said: Mapping[str, Scores], *, of_probabilities: bool = True) -> dict[str, Tensor]:
    """The logarithm of the mean probability, or the mean logarithm, at each place."""
    if of_probabilities:
        return {place: predictive(it["logits"].double()).log() for place, it in said.items()}
    return {
        place: it["logits"].double().log_softmax(-1).mean(0).log_softmax(-1)
        for place, it in said.items()
    }


def answers(
    log_odds: Mapping[str, Tensor], reference: Mapping[str, Tensor] | None = None
) -> dict[str, Any]:
    """How good the forecasts are, as they are and scaled, and how much better than the plain model.

    Args:
        log_odds: at ``"calibration"`` and ``"test"``.
        reference: the plain model's; None leaves the comparison out.
    """
    labels_N = data().test.labels_N
    temperature, scaled_NC = scaled(log_odds)
    found: dict[str, Any] = {
        "calibration": metrics(log_odds["calibration"].exp(), data().calibration.labels_N),
        "test": metrics(log_odds["test"].exp(), labels_N),
        "scaled": metrics(scaled_NC, labels_N) | few_digits({"temperature": temperature}),
    }
    floor_R = calibration_floor(scaled_NC, draws=50, generator=torch.Generator().manual_seed(0))
    found["scaled"] |= few_digits({"ece floor": floor_R.mean().item()})
    if reference is None:
        return found
    pairs = {
        "test": (reference["test"].exp(), log_odds["test"].exp()),
        "scaled": (scaled(reference)[1], scaled_NC),
    }
    measures = {"nll": negative_log_likelihood, "ece": expected_calibration_error}
    for (name, (first_NC, second_NC)), measure in itertools.product(pairs.items(), measures):
        interval = paired_bootstrap(
            measures[measure], first_NC, second_NC, labels_N, draws=BOOTSTRAP,
            generator=torch.Generator().manual_seed(0),
        )  # fmt: skip
        found[f"{name} {measure} less the plain model's"] = few_digits(vars(interval))
    return found


def doubts(said: Mapping[str, Scores]) -> dict[str, Scores]:
    """What may tell that an answer is wrong, or a window from elsewhere: larger is odder."""
    found: dict[str, Scores] = {}
    for place, scores in said.items():
        here = {name: score for name, score in scores.items() if name != "logits"}
        odds_MNC = scores["logits"].double().softmax(-1)
        here["output entropy"] = entropy(odds_MNC.mean(0))
        if len(odds_MNC) > 1:
            here["mutual information"] = mutual_information(odds_MNC)
        found[place] = here
    return found


def detected(here: Mapping[str, Scores], log_odds: Mapping[str, Tensor]) -> dict[str, Any]:
    """The AUROC of each doubt, for the model's own errors and for each other place."""
    wrong_N = log_odds["test"].argmax(-1) != data().test.labels_N
    found: dict[str, Any] = {"errors": {}, "elsewhere": {}}
    for name, test_N in here["test"].items():
        found["errors"][name] = round(auroc(test_N.double(), wrong_N), 4)
        for place in data().elsewhere:
            both = torch.cat([test_N, here[place][name]]).double()
            is_other = torch.arange(len(both)) >= len(test_N)
            found["elsewhere"].setdefault(place, {})[name] = round(auroc(both, is_other), 4)
    return found


def bigram_surprise() -> dict[str, Scores]:
    """What a table of byte pairs, counted in the training text, thinks of windows: no network."""
    table = count_table(data().training, 1)
    found = {}
    for place, tokens_NS in data().places().items():
        whole = Batch(tokens_NS[:, :-1], tokens_NS[:, 1:], torch.zeros_like(tokens_NS[:, 1:]))
        found[place] = {"byte bigrams": -ngram_odds(table, whole).log().mean(-1)}
    return found
