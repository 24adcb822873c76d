"""Ratings: who gave which film how many stars and when, split by time.

A moment knows what its user rated before; it asks what they will like, and what comes next.
                                                                                     Chapter 13.
"""

import csv
import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from moe_tutorial.validation import check_kind

HISTORY = 20
"""How many of a user's latest films a moment shows."""

AHEAD = 10
"""How many of a user's following films count as next."""

LIKED = 4
"""With so many stars or more, of 5, a film was liked."""

NOBODY = -1
"""The id that stands where there is no film."""


@dataclass(frozen=True, eq=False)
class Ratings:
    """N ratings in order of time.

    Attributes:
        users_N, films_N: int64 ids from 0.
        stars_N: int64, 1 to 5.
        seconds_N: int64, when.
        titles: of the films.
        genres: their names.
        genres_IG: bool ``[films, genres]``.
        people: for each user age, gender and occupation.
    """

    users_N: Tensor
    films_N: Tensor
    stars_N: Tensor
    seconds_N: Tensor
    titles: tuple[str, ...]
    genres: tuple[str, ...]
    genres_IG: Tensor
    people: tuple[tuple[int, str, str], ...]


@dataclass(frozen=True, eq=False)
class Moments:
    """What is asked of M moments, and what was known at each: nothing of its own second or later.

    Attributes:
        users_M: int64, whose moment it is.
        films_MH: int64 ``[M, HISTORY]``, the latest films before, the last one first; NOBODY fills.
        stars_MH: int64, the stars they got; 0 fills.
        next_MA: int64 ``[M, AHEAD]``, the films that follow in this part of the data; NOBODY fills.
        moment_R: int64, the moment of each of R ratings.
        film_R: int64, its film.
        liked_R: bool, whether it got LIKED stars or more.
        seen_MI: bool ``[M, films]``, what the user had rated before; no rows if not wanted.
    """

    users_M: Tensor
    films_MH: Tensor
    stars_MH: Tensor
    next_MA: Tensor
    moment_R: Tensor
    film_R: Tensor
    liked_R: Tensor
    seen_MI: Tensor


def movielens() -> Ratings:
    """MovieLens 100K (Harper and Konstan 2015), as the package recbole carries it.

    GroupLens allows research with a citation, and no redistribution: the data are read where they
    are installed. The package is not imported, so what it depends on need not be there.

    Raises:
        ModuleNotFoundError: recbole is not installed.
        FileNotFoundError: it is, and has no such data.
    """
    spec = importlib.util.find_spec("recbole")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(
            "the ratings come with the package recbole, whose other needs can be left out: "
            "pip install --no-deps recbole==1.2.1"
        )
    folder = Path(spec.origin).parent / "dataset_example" / "ml-100k"
    if not folder.is_dir():
        raise FileNotFoundError(f"the ratings should be in {folder}, and are not")
    films, people = _table(folder / "ml-100k.item"), _table(folder / "ml-100k.user")
    film_ids = {row["item_id"]: i for i, row in enumerate(films)}
    user_ids = {row["user_id"]: i for i, row in enumerate(people)}
    rows = sorted(
        (
            (
                int(float(row["timestamp"])),
                user_ids[row["user_id"]],
                film_ids[row["item_id"]],
                int(float(row["rating"])),
            )
            for row in _table(folder / "ml-100k.inter")
        ),
        # Many ratings of a user have the same second. Their order must tell nothing, as a film's
        # number, which says how popular it is, would.
        key=lambda row: (row[0], row[1], hashlib.sha256(f"{row[1]} {row[2]}".encode()).digest()),
    )
    seconds, users, ids, stars = torch.tensor(rows).T.contiguous()
    genres = sorted({genre for row in films for genre in row["class"].split()})
    genres_IG = torch.tensor([[genre in row["class"].split() for genre in genres] for row in films])
    return Ratings(
        users, ids, stars, seconds, tuple(row["movie_title"] for row in films), tuple(genres),
        genres_IG, tuple((int(it["age"]), it["gender"], it["occupation"]) for it in people),
    )  # fmt: skip


def _table(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as lines:
        reader = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        heads = [head.split(":")[0] for head in next(reader)]
        return [dict(zip(heads, row, strict=True)) for row in reader]


def cuts(ratings: Ratings, shares: tuple[float, ...] = (0.8, 0.9)) -> tuple[int, ...]:
    """Where the parts of a split by time begin: no second is on both sides of a cut.

    Args:
        ratings: what to split.
        shares: of all ratings, about how many are before each cut.

    Returns:
        Places among the ratings, one more than there are parts, the first 0 and the last N.
    """
    check_kind("ratings", ratings, Ratings)
    seconds_N = ratings.seconds_N
    places = [round(share * len(seconds_N)) for share in shares]
    at = [int(torch.searchsorted(seconds_N, seconds_N[place])) for place in places]
    return (0, *at, len(seconds_N))


def moments(ratings: Ratings, start: int, end: int, *, seen: bool = True) -> Moments:
    """The moments of one part: each second in which a user rated at least one film.

    Args:
        ratings: all of them; those before ``start`` are known, those from ``end`` on are not used.
        start: where the part begins among the ratings.
        end: where it ends.
        seen: whether ``seen_MI`` is wanted, which is large.

    Raises:
        ValueError: no ratings in the part, or a place outside.
    """
    check_kind("ratings", ratings, Ratings)
    if not 0 <= start < end <= len(ratings.users_N):
        raise ValueError(
            f"start and end must be places from 0 to {len(ratings.users_N)}, got {start} and {end}"
        )
    own: dict[int, list[int]] = {}
    for place, user in enumerate(ratings.users_N[:end].tolist()):
        own.setdefault(user, []).append(place)
    films, stars = ratings.films_N.tolist(), ratings.stars_N.tolist()
    seconds = ratings.seconds_N.tolist()
    users: list[int] = []
    histories: list[list[int]] = []
    given: list[list[int]] = []
    following: list[list[int]] = []
    of: list[int] = []
    film: list[int] = []
    liked: list[bool] = []
    seen_MI = torch.zeros(end - start if seen else 0, len(ratings.titles), dtype=torch.bool)
    for user, places in own.items():
        before = 0
        for i, place in enumerate(places):
            if i == 0 or seconds[place] != seconds[places[i - 1]]:
                before = i  # so many ratings were given in an earlier second
                if place >= start:
                    if seen:
                        seen_MI[len(users), [films[j] for j in places[:before]]] = True
                    users.append(user)
                    latest = places[max(0, before - HISTORY) : before][::-1]
                    histories.append(_filled([films[j] for j in latest], HISTORY, NOBODY))
                    given.append(_filled([stars[j] for j in latest], HISTORY, 0))
                    ahead = places[before : before + AHEAD]
                    following.append(_filled([films[j] for j in ahead], AHEAD, NOBODY))
            if place >= start:
                of.append(len(users) - 1)
                film.append(films[place])
                liked.append(stars[place] >= LIKED)
    return Moments(
        torch.tensor(users), torch.tensor(histories), torch.tensor(given), torch.tensor(following),
        torch.tensor(of), torch.tensor(film), torch.tensor(liked), seen_MI[: len(users)],
    )  # fmt: skip


def _filled(ids: list[int], length: int, filling: int) -> list[int]:
    return ids + [filling] * (length - len(ids))


def questions(moments: Moments) -> Tensor:
    """Moments to measure at: of each user the first, and one after every AHEAD ratings.

    Returns:
        int64 places among the moments, so far apart that what comes next is asked once.
    """
    check_kind("moments", moments, Moments)
    counts_M = torch.bincount(moments.moment_R, minlength=len(moments.users_M)).tolist()
    rated: dict[int, int] = {}
    due: dict[int, int] = {}
    chosen = []
    for place, user in enumerate(moments.users_M.tolist()):
        if rated.get(user, 0) >= due.get(user, 0):
            chosen.append(place)
            due[user] = rated.get(user, 0) + AHEAD
        rated[user] = rated.get(user, 0) + counts_M[place]
    return torch.tensor(chosen)
