"""The scripts of chapter 13 go on where they were stopped, judge rightly, and leak nothing."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from experiments import applications_code, applications_recommendation, applications_translation
from experiments import recommendation_baselines as simple
from experiments.applications_recommendation import KINDS, build, losses, only, ranked, scored
from experiments.recommendation_baselines import (
    factorised,
    indicator,
    liked_baselines,
    next_baselines,
)
from moe_tutorial.learning.names import LANGUAGES, Names, Pair, Tokens
from moe_tutorial.learning.ratings import cuts, moments, questions
from moe_tutorial.learning.text import corpus
from tests.test_experiments import StoppedError, stop_after
from tests.test_ratings import made_up

RATINGS = made_up()
PLACES = cuts(RATINGS)
PARTS = [moments(RATINGS, *PLACES[i : i + 2]) for i in range(3)]
WORDS = [f"name {chr(97 + i)}{chr(97 + i // 3)}" for i in range(24)]
PAIRS = tuple(
    Pair(language, word, word.upper()) for word in WORDS for language in list(LANGUAGES)[:5]
)
FEW = Names(
    PAIRS[20:], PAIRS[:20], "".join(sorted(set("".join(WORDS + [w.upper() for w in WORDS]))))
)
SOURCES = {f"{i}.py": f"def f_{i}():  # {i}\n    return 'some {i}'\n\n" * 9 for i in range(40)}


def few_languages(_: Any, values: torch.Tensor, weights: torch.Tensor) -> dict[str, float]:
    return {"all": round((values.sum() / weights.sum()).item(), 4)}


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (applications_translation, applications_recommendation, applications_code):
        monkeypatch.setattr(module, "SEEDS", range(1))
        monkeypatch.setattr(module, "RATES", (0.01,))
    monkeypatch.setattr(applications_translation, "names", lambda: FEW)
    monkeypatch.setattr(applications_translation, "by_language", few_languages)
    monkeypatch.setattr(applications_recommendation, "movielens", lambda: RATINGS)
    monkeypatch.setattr(applications_recommendation, "baselines", lambda *_: {})
    monkeypatch.setattr(applications_recommendation, "GENRES", RATINGS.genres)
    documents = {"python": SOURCES, "c++": {k: v.upper() for k, v in SOURCES.items()}}
    monkeypatch.setattr(applications_code, "code_documents", lambda: documents)
    monkeypatch.setattr(applications_code, "corpus", lambda it: corpus(it, 0.3))
    monkeypatch.setattr(applications_code, "WINDOWS", 12)
    monkeypatch.setattr(applications_code, "LENGTH", 24)
    monkeypatch.setattr(applications_code, "tables", lambda _: [])


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(
    ("module", "kinds"),
    [
        (applications_translation, 3),
        (applications_recommendation, 4),
        (applications_code, 3),
    ],
)
def test_stopped_applications_go_on(
    module: ModuleType, kinds: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--steps", "6" if kinds == 4 else "8", "--results", str(tmp_path / "it.json")]
    with monkeypatch.context() as patch:
        stop_after(kinds + 1, patch, module, "run")
        with pytest.raises(StoppedError):
            module.main(options)
    first = json.loads((tmp_path / "it.json").read_text())
    assert (len(first["trials"]), len(first["runs"])) == (kinds, 1)
    with monkeypatch.context() as patch:
        stop_after(kinds - 1, patch, module, "run")
        module.main(options)
        module.main(options)  # nothing is left to do
    content = json.loads((tmp_path / "it.json").read_text())
    assert content["trials"] == first["trials"]
    assert content["runs"][:1] == first["runs"]
    assert len({run["model"] for run in content["runs"]}) == len(content["runs"]) == kinds
    assert all(run["validation"][-1]["seconds"] >= 0 for run in content["runs"])
    # What a script stores now has the form of what the book shows.
    name = module.RESULTS.stem
    if module.RESULTS.exists():
        book = json.loads(module.RESULTS.read_text())
        of = {(run["model"], run["seed"]): run for run in book["runs"]}
        for new in content["runs"]:
            assert set(new) == set(of[new["model"], new["seed"]]), name


def test_what_is_written_stops_at_its_end() -> None:
    """A model that always names the same token, after every question of whatever length."""
    tokens = Tokens(FEW)

    class Always(torch.nn.Module):
        def __init__(self, token: int) -> None:
            super().__init__()
            self.token = token

        def forward(self, tokens_BS: torch.Tensor) -> Any:
            logits = torch.zeros(*tokens_BS.shape, FEW.vocabulary())
            logits[..., self.token] = 1
            return type("Prediction", (), {"logits_BSV": logits})

    assert applications_translation.written(Always(0), PAIRS[:7], tokens) == [""] * 7  # type: ignore[arg-type]
    letter = tokens.ids["a"]
    answers = applications_translation.written(Always(letter), PAIRS[:2], tokens)  # type: ignore[arg-type]
    assert answers == ["a" * 25] * 2


def test_the_ranking_leaves_out_what_was_seen_and_finds_what_comes() -> None:
    part = PARTS[2]
    places = questions(part)
    best = torch.zeros(len(part.users_M), 90)
    rows = torch.arange(len(part.users_M))[:, None].expand_as(part.next_MA)
    there = part.next_MA >= 0
    best[rows[there], part.next_MA[there]] = 1
    # What was seen would stand first.
    assert ranked(best + 9 * part.seen_MI, part, places)["ndcg"] == 1.0
    assert ranked(-best, part, places)["ndcg"] < 0.2
    assert len(ranked(best, part, places)["ndcg_by_user"]) == len(torch.unique(part.users_M))
    few = only(part, places)
    assert ranked(best[places], few, torch.arange(len(places)))["ndcg"] == 1.0


def test_the_losses_are_means_over_ratings() -> None:
    torch.manual_seed(0)
    found = scored(build("narrow", RATINGS), PARTS[1])
    liked, ahead = losses(found, PARTS[1])
    own = found.liked_MI[PARTS[1].moment_R, PARTS[1].film_R]
    signs = torch.where(PARTS[1].liked_R, 1.0, -1.0)
    assert liked == pytest.approx(-torch.nn.functional.logsigmoid(signs * own).mean().item())
    p_R = found.next_MI.log_softmax(-1)[PARTS[1].moment_R, PARTS[1].next_MA[PARTS[1].moment_R, 0]]
    assert ahead == pytest.approx(-p_R.mean().item())


def test_kinds_are_equal_in_what_they_claim() -> None:
    size = {
        kind: sum(it.numel() for it in build(kind, RATINGS).network.parameters()) for kind in KINDS
    }
    assert size["wide"] == size["all experts"] == size["sparse"] == 2 * size["narrow"]


@pytest.fixture
def two_factors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simple, "FACTORS", (2,))  # there are but six people


@pytest.mark.usefixtures("two_factors")
def test_baselines_learn_from_nothing_after_the_cut() -> None:
    end = PLACES[1]
    changed = made_up()
    changed.stars_N[end:] = 6 - changed.stars_N[end:]
    changed.films_N[end:] = changed.films_N[end:].flip(0)
    few = only(PARTS[1], questions(PARTS[1]))
    for baselines, asked in (
        (lambda it: next_baselines(it, end, PARTS[0]), few),
        (lambda it: liked_baselines(it, end), PARTS[1]),
    ):
        one, other = baselines(RATINGS), baselines(changed)
        for name, options in one.items():
            for option in list(options)[:1]:
                found = [it[name][option](asked) for it in (one, other)]
                assert torch.allclose(*found, atol=1e-9), name


@pytest.mark.usefixtures("two_factors")
def test_what_followed_counts_pairs() -> None:
    predict = next_baselines(RATINGS, PLACES[1], PARTS[0])["what followed"]["latest 1"]
    few = only(PARTS[1], questions(PARTS[1])[:3])
    scores = predict(few)
    film = int(few.films_MH[0, 0])
    after = torch.zeros(90, dtype=torch.float64)
    times = 0
    for history, ahead in zip(PARTS[0].films_MH, PARTS[0].next_MA, strict=True):
        if history[0] == film:
            times += 1
            after[ahead[ahead >= 0]] += 1
    popular = torch.bincount(RATINGS.films_N[: PLACES[1]], minlength=90)
    assert torch.allclose(scores[0], after / (times + 10) + 1e-6 * popular)


def test_an_indicator_is_one_where_a_film_is() -> None:
    found = indicator(torch.tensor([[2, 0], [-1, 1]]), 3).toarray()
    assert np.array_equal(found, [[1, 0, 1], [0, 1, 0]])


def test_factors_find_two_tastes() -> None:
    """Half of the people like even films and half odd ones: means see nothing, factors do."""
    ratings = made_up(users=40, number=1600, films=60)
    fits = (ratings.users_N % 2) == (ratings.films_N % 2)
    ratings.stars_N[:] = torch.where(fits, 5, 1)
    end = cuts(ratings)[1]
    part = moments(ratings, end, 1600)
    scores = factorised(ratings, end, 3, 1.0)(part)
    assert scores[part.liked_R].mean() - scores[~part.liked_R].mean() > 1
