"""What a recommender has to beat: counts, means and factors, from the ratings before a cut alone.

Each baseline is a function from moments to scores, with a setting that the script tunes.
"""

from collections.abc import Callable

import numpy as np
import torch
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import svds
from torch import Tensor

from moe_tutorial.learning.ratings import LIKED, Moments, Ratings

Predict = Callable[[Moments], Tensor]
MEAN_SETTINGS = (1, 3, 10, 30)
FACTORS = (5, 10, 20, 40)
RIDGES = (100.0, 300.0, 1000.0)


def next_baselines(ratings: Ratings, end: int, training: Moments) -> dict[str, dict[str, Predict]]:
    """Baselines that score every film at every moment, each with its settings.

    Args:
        ratings: all of them.
        end: how many may be used; of the test users' earlier ratings, moments tell.
        training: the moments of those that may be used.
    """
    films, count = ratings.films_N[:end], len(ratings.titles)
    matrix = csr_matrix(
        (np.ones(end), (ratings.users_N[:end].numpy(), films.numpy())),
        shape=(len(ratings.people), count),
    )

    def popular(last: int) -> Predict:
        counts_I = torch.bincount(films[-last:], minlength=count).double()
        return lambda asked: counts_I.expand(len(asked.users_M), -1)

    def factors(number: int) -> Predict:
        # PureSVD (Cremonesi et al. 2010): a moment's films, through the factors and back.
        _, _, right = svds(matrix, k=number, random_state=np.random.default_rng(0))
        items_IF = torch.from_numpy(right.T.copy())
        return lambda asked: asked.seen_MI.double() @ items_IF @ items_IF.T

    def regression(ridge: float) -> Predict:
        # EASE (Steck 2019): each film from the others, by ridge regression in closed form.
        gram = (matrix.T @ matrix).toarray() + ridge * np.eye(count)
        inverse = np.linalg.inv(gram)
        weights = -inverse / np.diag(inverse)
        np.fill_diagonal(weights, 0)
        weights_II = torch.from_numpy(weights)
        return lambda asked: asked.seen_MI.double() @ weights_II

    def followed(latest: int) -> Predict:
        # How often each film came soon after each of the latest ones.
        before = indicator(training.films_MH[:, :latest], count)
        both = (before.T @ indicator(training.next_MA, count)).toarray()
        often_I1 = np.asarray(before.sum(0)).T + 10
        odds_II = torch.from_numpy(both / often_I1)

        def predict(asked: Moments) -> Tensor:
            shown = indicator(asked.films_MH[:, :latest], count).toarray()
            return torch.from_numpy(shown) @ odds_II + 1e-6 * times_I

        return predict

    times_I = torch.bincount(films, minlength=count).double()
    return {
        "popularity": {f"last {n}": popular(n) for n in (end, 20_000, 5_000)},
        "what followed": {f"latest {n}": followed(n) for n in (1, 5, 20)},
        "matrix factorisation": {f"{n} factors": factors(n) for n in FACTORS},
        "item regression": {f"ridge {it:g}": regression(it) for it in RIDGES},
    }


def indicator(films_MN: Tensor, count: int) -> csr_matrix:
    """Which of the films each row names, as a sparse matrix of zeros and ones."""
    rows, places = (films_MN >= 0).nonzero(as_tuple=True)
    entries = (np.ones(len(rows)), (rows.numpy(), films_MN[rows, places].numpy()))
    return csr_matrix(entries, shape=(len(films_MN), count))


def liked_baselines(ratings: Ratings, end: int) -> dict[str, dict[str, Predict]]:
    """Baselines that score every rating of a part, each with its settings.

    Args:
        ratings: all of them.
        end: how many may be used; of the test users' latest ratings, moments tell.
    """
    films, count = ratings.films_N[:end], len(ratings.titles)
    liked_N = (ratings.stars_N[:end] >= LIKED).double()
    mean = liked_N.mean()
    times_I = torch.bincount(films, minlength=count)
    total_I = torch.bincount(films, weights=liked_N - mean, minlength=count)

    def item(shrink: float) -> Tensor:
        return total_I / (times_I + shrink)

    def user(asked: Moments, item_I: Tensor, shrink: float) -> Tensor:
        # How a user's latest films were liked, more or less than others like them.
        there_MH = asked.films_MH >= 0
        more_MH = (asked.stars_MH >= LIKED).double() - mean - item_I[asked.films_MH.clamp_min(0)]
        return (more_MH * there_MH).sum(1) / (there_MH.sum(1) + shrink)

    def items_alone(shrink: float) -> Predict:
        return lambda asked: item(shrink)[asked.film_R]

    def users_alone(shrink: float) -> Predict:
        return lambda asked: user(asked, torch.zeros(count), shrink)[asked.moment_R]

    def both(shrink: float) -> Predict:
        item_I = item(5)
        return lambda asked: item_I[asked.film_R] + user(asked, item_I, shrink)[asked.moment_R]

    def factors(number: int, ridge: float) -> Predict:
        return factorised(ratings, end, number, ridge)

    return {
        "film's mean": {f"shrunk by {n}": items_alone(n) for n in MEAN_SETTINGS},
        "user's mean": {f"shrunk by {n}": users_alone(n) for n in MEAN_SETTINGS},
        "both means": {f"shrunk by {n}": both(n) for n in MEAN_SETTINGS},
        "matrix factorisation": {
            f"{n} factors, ridge {r:g}": factors(n, r)
            for n in (2, 5, 10)
            for r in (3.0, 10.0, 30.0)
        },
    }


def factorised(ratings: Ratings, end: int, number: int, ridge: float, rounds: int = 6) -> Predict:
    """Factors of what both means leave of the stars, by alternating least squares.

    At a moment the user's own factors are fitted anew to the films that it shows.
    """
    users, films = ratings.users_N[:end].numpy(), ratings.films_N[:end].numpy()
    stars = ratings.stars_N[:end].numpy() - ratings.stars_N[:end].double().mean().item()
    item = np.bincount(films, stars, len(ratings.titles)) / (
        np.bincount(films, minlength=len(ratings.titles)) + 5
    )
    rest = stars - item[films]
    generator = np.random.default_rng(0)
    # The first factor of every film is 1, so that a user's first one is their own mean.
    items = generator.normal(0, 0.1, (len(ratings.titles), number + 1))
    items[:, 0] = 1
    people = np.zeros((len(ratings.people), number + 1))

    def solved(vectors: np.ndarray, values: np.ndarray) -> np.ndarray:
        gram = vectors.T @ vectors + ridge * np.eye(vectors.shape[1])
        return np.asarray(np.linalg.solve(gram, vectors.T @ values))

    by_user = [np.flatnonzero(users == user) for user in range(len(people))]
    by_film = [np.flatnonzero(films == film) for film in range(len(items))]
    for _ in range(rounds):
        for user, rows in enumerate(by_user):
            people[user] = solved(items[films[rows]], rest[rows])
        for film, rows in enumerate(by_film):
            left = rest[rows] - people[users[rows], 0]
            items[film, 1:] = solved(people[users[rows], 1:], left)

    def predict(asked: Moments) -> Tensor:
        found = np.zeros((len(asked.users_M), number + 1))
        mean = ratings.stars_N[:end].double().mean().item()
        for row, (seen, given) in enumerate(zip(asked.films_MH, asked.stars_MH, strict=True)):
            there = (seen >= 0).numpy()
            shown = seen.numpy()[there]
            found[row] = solved(items[shown], given.numpy()[there] - mean - item[shown])
        film_R = asked.film_R.numpy()
        scores = item[film_R] + (found[asked.moment_R.numpy()] * items[film_R]).sum(1)
        return torch.from_numpy(scores)

    return predict
