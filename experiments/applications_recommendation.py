"""Train the recommenders of chapter 13 and store them: moe_tutorial/results/recommendation.json.

Two tasks at once, on MovieLens 100K split by time: will a user like a film, and which film do they
rate next? Four kinds of model see the same batches with the same five seeds:

- ``narrow``: one network for both tasks, as wide as the experts that both gates choose.
- ``wide``: one network for both tasks, as wide as all experts.
- ``all experts``: a gate for each task, all experts with weight (Ma et al. 2018).
- ``sparse``: a gate for each task, which chooses K.

Each kind first tries RATES with another seed, and trains with the best. (Half as many steps would
mislead: they favour higher rates than the whole run does.)

Beside them stand what only counts and what only factorises. Everything is tuned on the ratings
after the first cut in time, and judged once on those after the second. A run that is stored is not
run again. It takes about a quarter of an hour on one core.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc
from torchmetrics.functional.retrieval import retrieval_normalized_dcg

from experiments.applications import SEEDS, about, parser, tune_and_train
from experiments.models import Runs
from experiments.recommendation_baselines import liked_baselines, next_baselines
from moe_tutorial.learning.balance import switch_loss
from moe_tutorial.learning.fitting import fit
from moe_tutorial.learning.ratings import (
    NOBODY,
    Moments,
    Ratings,
    cuts,
    moments,
    movielens,
    questions,
)
from moe_tutorial.learning.settings import Settings
from moe_tutorial.learning.specialisation import joint_counts, specialisation
from moe_tutorial.learning.two_tasks import TASKS, Scores, TwoTasks, draw_ratings, two_losses

RESULTS = Path(__file__).resolve().parent.parent / "moe_tutorial/results/recommendation.json"
WIDTH, EXPERT_WIDTH, EXPERTS, K = 32, 32, 8, 2
KINDS = {
    "narrow": (2 * K * EXPERT_WIDTH, None, 1),
    "wide": (EXPERTS * EXPERT_WIDTH, None, 1),
    "all experts": (EXPERT_WIDTH, EXPERTS, EXPERTS),
    "sparse": (EXPERT_WIDTH, EXPERTS, K),
}
"""For each kind the hidden width, the number of experts and how many a gate chooses."""
RATES = (0.003, 0.01, 0.03)  # the learning rates to choose from
BALANCE = 0.01
BATCH = 256
TOP = 10  # of the ranking, for NDCG
GENRES = ("Drama", "Comedy", "Action")  # of the last film, about which experts are asked
AT_LEAST = 8  # moments of a user, for what experts tell of users


def build(kind: str, ratings: Ratings) -> TwoTasks:
    """A model of one of the kinds, with weights from torch's global generator."""
    hidden_width, experts, k = KINDS[kind]
    return TwoTasks(ratings, WIDTH, hidden_width, experts, k)


@torch.no_grad()
def scored(model: TwoTasks, asked: Moments) -> Scores:
    """The model's scores of all moments."""
    found: Scores = model(asked.users_M, asked.films_MH, asked.stars_MH)
    return found


def losses(scores: Scores, asked: Moments) -> list[float]:
    """The surprise at every rating, and at the first film after every moment: two means."""
    rows = Scores(scores.liked_MI[asked.moment_R], scores.next_MI[asked.moment_R], ())
    next_R = asked.next_MA[asked.moment_R, 0]
    return two_losses(rows, asked.film_R, asked.liked_R, next_R).tolist()


def ranked(scores_MI: Tensor, asked: Moments, places: Tensor) -> dict[str, Any]:
    """How well a ranking of the films not yet rated finds the next ones: NDCG of its top."""
    rank_QI = scores_MI[places].masked_fill(asked.seen_MI[places], -torch.inf)
    users_Q = asked.users_M[places]
    each = []
    for row_I, ahead_A in zip(rank_QI, asked.next_MA[places], strict=True):
        target_I = torch.zeros(len(row_I), dtype=torch.bool)
        target_I[ahead_A[ahead_A != NOBODY]] = True
        each.append(retrieval_normalized_dcg(row_I.double(), target_I, top_k=TOP))
    ndcg_Q = torch.stack(each)
    users = torch.unique(users_Q)
    by_user = [round(ndcg_Q[users_Q == user].mean().item(), 4) for user in users]
    return {"ndcg": round(ndcg_Q.mean().item(), 4), "ndcg_by_user": by_user}


def judged(liked_R: Tensor, next_MI: Tensor, asked: Moments, places: Tensor) -> dict[str, Any]:
    """Both tasks' metrics: the area under the curve of liked, and the ranking of next."""
    area = binary_auroc(liked_R, asked.liked_R.int())
    return {"auc": round(area.item(), 4)} | ranked(next_MI, asked, places)


def told(model: TwoTasks, ratings: Ratings, known: Moments) -> dict[str, Any]:
    """What the chosen experts tell of the task, and in each task of the user and the last film."""
    rows: list[Tensor] = []
    for user in torch.unique(known.users_M):
        own = (known.users_M == user).nonzero()[1:, 0]  # at the first moment nothing is known
        if len(own) >= AT_LEAST:
            rows.append(own[torch.linspace(0, len(own) - 1, AT_LEAST).long()])
    places_US = torch.stack(rows)
    flat = places_US.flatten()
    with torch.no_grad():
        scores: Scores = model(known.users_M[flat], known.films_MH[flat], known.stars_MH[flat])
    experts = [it.experts_TK.view(*places_US.shape, -1) for it in scores.routings]
    people = [ratings.people[user] for user in known.users_M[places_US[:, 0]].tolist()]
    jobs = sorted({it[2] for it in people})
    last_US = known.films_MH[places_US, 0]
    labels = {
        "gender": (torch.tensor([it[1] == "F" for it in people]).long(), 2),
        "age": (torch.tensor([sum(it[0] >= start for start in (25, 35, 45)) for it in people]), 4),
        "occupation": (torch.tensor([jobs.index(it[2]) for it in people]), len(jobs)),
    }
    found: dict[str, Any] = {"moments": places_US.numel()}
    both = torch.cat(experts, 1)
    task_US = torch.cat([torch.full_like(places_US, task) for task in range(len(TASKS))], 1)
    found["task"] = asdict(specialisation(task_US, both, 2, EXPERTS, windows=False))
    counts_LE = joint_counts(task_US, both, 2, EXPERTS)
    found["task_counts"] = counts_LE.tolist()
    for task, chosen in zip(TASKS, experts, strict=True):
        for name, (label_U, count) in labels.items():
            label_US = label_U[:, None].expand(-1, AT_LEAST)
            it = specialisation(label_US, chosen, count, EXPERTS, windows=True)
            found[f"{name}, {task}"] = asdict(it)
        for genre in GENRES:
            label_US = ratings.genres_IG[:, ratings.genres.index(genre)][last_US].long()
            it = specialisation(label_US, chosen, 2, EXPERTS, windows=False)
            found[f"last film is {genre}, {task}"] = asdict(it)
    return {
        key: {k: round(v, 5) for k, v in value.items()} if isinstance(value, dict) else value
        for key, value in found.items()
    }


def run(
    kind: str, seed: int, rate: float, steps: int, ratings: Ratings, parts: Sequence[Moments]
) -> dict[str, Any]:
    """Train one model with one seed, and say what came of it."""
    training, validation, test = parts
    torch.manual_seed(seed)
    model = build(kind, ratings)
    asked = seed in SEEDS
    settings = Settings(
        steps=steps, batch_size=BATCH, learning_rate=rate, warm_up=steps // 20, seed=seed
    )
    draws = torch.Generator().manual_seed(seed)

    def objective() -> Tensor:
        moments_B, films_B, liked_B, next_B = draw_ratings(training, BATCH, draws)
        scores = model(
            training.users_M[moments_B], training.films_MH[moments_B], training.stars_MH[moments_B]
        )
        loss = two_losses(scores, films_B, liked_B, next_B).sum()
        for routing in scores.routings if kind != "all experts" else ():
            loss = loss + BALANCE * switch_loss(routing.probabilities_TE, routing.experts_TK)
        return loss

    untrained = told(model, ratings, training) if asked and kind == "sparse" else None
    on_the_way: list[dict[str, Any]] = []

    def validate(step: int) -> None:
        if step * 3 % steps == 0:
            both = losses(scored(model, validation), validation)
            on_the_way.append(
                {
                    "step": step,
                    "loss": round(sum(both), 4),
                    "by_task": dict(zip(TASKS, [round(it, 4) for it in both], strict=True)),
                }
            )

    seconds = fit(model, objective, settings, validate)
    on_the_way[-1]["seconds"] = round(seconds, 1)
    total = sum(it.numel() for it in model.parameters())
    unused = EXPERTS - 2 * K if kind == "sparse" else 0
    found: dict[str, Any] = {
        "model": kind,
        "seed": seed,
        "total_parameters": total,
        "active_parameters": total - unused * 3 * WIDTH * EXPERT_WIDTH,
        "settings": asdict(settings),
        "validation": on_the_way,
    }
    if asked:
        scores = scored(model, test)
        liked_R = scores.liked_MI[test.moment_R, test.film_R]
        found["test"] = judged(liked_R, scores.next_MI, test, questions(test))
        if kind == "sparse":
            found["untrained"], found["told"] = untrained, told(model, ratings, training)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is not stored yet, one after another, and store each when it is done."""
    options = parser(__doc__.splitlines()[0], RESULTS, 600).parse_args(arguments)
    ratings = movielens()
    places = cuts(ratings)
    parts = [moments(ratings, *places[i : i + 2], seen=i > 0) for i in range(3)]
    found = Runs(
        options.results,
        about(options.steps) | {"rates": list(RATES), "experts": EXPERTS, "cuts": list(places)},
        key="model",
        total=len(KINDS) * (len(RATES) + len(SEEDS)),
        minutes=options.minutes,
        more={
            "ratings": [len(part.moment_R) for part in parts],
            "users": [torch.unique(part.users_M).numel() for part in parts],
            "questions": [len(questions(part)) for part in parts],
        },
    )
    found.note("baselines", lambda: baselines(ratings, places, parts))

    def one(kind: str, seed: int, rate: float) -> dict[str, Any]:
        return run(kind, seed, rate, options.steps, ratings, parts)

    tune_and_train(found, KINDS, RATES, SEEDS, one)


def baselines(ratings: Ratings, places: Sequence[int], parts: Sequence[Moments]) -> dict[str, Any]:
    """What each baseline reaches, with the setting that did best on the middle part."""
    training, validation, test = parts
    found: dict[str, Any] = {"liked": {}, "next": {}}
    for name, options in liked_baselines(ratings, places[1]).items():
        areas = {
            option: binary_auroc(predict(validation), validation.liked_R.int()).item()
            for option, predict in options.items()
        }
        best = max(areas, key=areas.__getitem__)
        area = binary_auroc(options[best](test), test.liked_R.int()).item()
        found["liked"][name] = {
            "setting": best, "tuned_on": round(areas[best], 4), "test": round(area, 4)
        }  # fmt: skip
    # Only the moments that are asked about, so that no table of all others is made.
    few = [only(part, questions(part)) for part in (validation, test)]
    everything = [torch.arange(len(it.users_M)) for it in few]
    for name, options in next_baselines(ratings, places[1], training).items():
        values = {
            option: ranked(predict(few[0]), few[0], everything[0])["ndcg"]
            for option, predict in options.items()
        }
        best = max(values, key=values.__getitem__)
        found["next"][name] = {
            "setting": best, "tuned_on": values[best],
            "test": ranked(options[best](few[1]), few[1], everything[1]),
        }  # fmt: skip
    return found


def only(asked: Moments, places: Tensor) -> Moments:
    """Some of the moments, without their ratings."""
    none = torch.zeros(0, dtype=torch.long)
    return replace(
        asked, users_M=asked.users_M[places], films_MH=asked.films_MH[places],
        stars_MH=asked.stars_MH[places], next_MA=asked.next_MA[places],
        seen_MI=asked.seen_MI[places], moment_R=none, film_R=none, liked_R=none.bool(),
    )  # fmt: skip


if __name__ == "__main__":
    main()
