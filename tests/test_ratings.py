"""Ratings: a split by time without a leak, and moments that know nothing of their own second."""

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from moe_tutorial.learning.ratings import (
    AHEAD,
    HISTORY,
    NOBODY,
    Ratings,
    cuts,
    moments,
    movielens,
    questions,
)


def made_up(seed: int = 0, number: int = 400, users: int = 6, films: int = 90) -> Ratings:
    """Ratings in sessions, several in one second, no film twice by one user."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for user in range(users):
        order = torch.randperm(films, generator=generator)[: number // users]
        second = int(torch.randint(50, (1,), generator=generator))
        for film in order.tolist():
            second += int(torch.randint(3, (1,), generator=generator))
            stars = 1 + int(torch.randint(5, (1,), generator=generator))
            rows.append((second, user, film, stars))
    seconds, who, what, stars_N = torch.tensor(sorted(rows)).T.contiguous()
    genres = torch.arange(films)[:, None] % 2 == torch.arange(2)
    people = tuple((20 + 9 * user, "FM"[user % 2], f"job {user % 3}") for user in range(users))
    return Ratings(
        who, what, stars_N, seconds, tuple(map(str, range(films))), ("a", "b"), genres, people
    )


def test_a_cut_separates_seconds() -> None:
    ratings = made_up()
    places = cuts(ratings)
    assert places[0] == 0
    assert places[-1] == len(ratings.users_N)
    for place, share in zip(places[1:-1], (0.8, 0.9), strict=True):
        assert ratings.seconds_N[place - 1] < ratings.seconds_N[place]
        assert abs(place - share * len(ratings.users_N)) < 12


def test_a_moment_knows_what_was_before_its_second_and_nothing_else() -> None:
    ratings = made_up()
    start, end = cuts(ratings)[1:3]
    found = moments(ratings, start, end)
    everything = list(zip(
        ratings.users_N.tolist(), ratings.films_N.tolist(),
        ratings.stars_N.tolist(), ratings.seconds_N.tolist(), strict=True,
    ))  # fmt: skip
    part = everything[start:end]
    assert len(found.moment_R) == len(part)
    assert len(found.users_M) == len({(user, second) for user, _, _, second in part})
    when = {}
    for moment, film in zip(found.moment_R.tolist(), found.film_R.tolist(), strict=True):
        user = int(found.users_M[moment])
        second = next(s for u, f, _, s in part if (u, f) == (user, film))
        assert when.setdefault(moment, second) == second
    for moment, second in when.items():
        user = int(found.users_M[moment])
        before = [(f, stars) for u, f, stars, s in everything if u == user and s < second]
        after = [f for u, f, _, s in part if u == user and s >= second]
        films = [it for it in found.films_MH[moment].tolist() if it != NOBODY]
        stars = found.stars_MH[moment].tolist()[: len(films)]
        assert sorted(zip(films, stars, strict=True)) == sorted(before[-HISTORY:])
        assert set(found.seen_MI[moment].nonzero()[:, 0].tolist()) == {f for f, _ in before}
        ahead = [it for it in found.next_MA[moment].tolist() if it != NOBODY]
        assert ahead == after[:AHEAD]
    liked = [stars >= 4 for _, _, stars, _ in part]
    assert sorted(found.liked_R.tolist()) == sorted(liked)


def test_what_comes_later_changes_no_moment() -> None:
    ratings = made_up()
    start, end = cuts(ratings)[:2]
    changed = made_up()
    changed.stars_N[end:] = 1
    changed.films_N[end:] = 0
    one, other = (moments(it, start, end) for it in (ratings, changed))
    for name in ("users_M", "films_MH", "stars_MH", "next_MA", "film_R", "liked_R", "seen_MI"):
        assert torch.equal(getattr(one, name), getattr(other, name))
    assert moments(ratings, start, end, seen=False).seen_MI.shape == (0, 90)


def test_questions_ask_for_no_film_twice() -> None:
    found = moments(made_up(), 0, 396)
    asked = questions(found)
    for user in range(6):
        own = [place for place in asked.tolist() if found.users_M[place] == user]
        films = found.next_MA[own].flatten()
        films = films[films != NOBODY]
        assert len(torch.unique(films)) >= len(films) - 3 * len(own)
        assert own[0] == int((found.users_M == user).nonzero()[0])
        assert len(own) == pytest.approx(66 / AHEAD, abs=1.5)


@pytest.mark.parametrize(("start", "end"), [(-1, 5), (5, 5), (0, 10_000)])
def test_bad_parts_are_refused(start: int, end: int) -> None:
    with pytest.raises(ValueError, match="start and end must be places from 0 to 396"):
        moments(made_up(), start, end)


def test_without_recbole_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ModuleNotFoundError, match="pip install --no-deps recbole"):
        movielens()


def test_the_files_are_read_as_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "dataset_example" / "ml-100k"
    spec = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: spec)
    with pytest.raises(FileNotFoundError, match="ml-100k"):
        movielens()
    folder.mkdir(parents=True)
    (folder / "ml-100k.item").write_text(
        'item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n'
        '7\tA "B\t1995\tComedy Drama\n9\tC\t\tDrama\n'
    )  # fmt: skip
    (folder / "ml-100k.user").write_text(
        "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n"
        "3\t24\tM\twriter\t1\n1\t53\tF\tother\t2\n"
    )
    (folder / "ml-100k.inter").write_text(
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
        "1\t9\t3\t20\n3\t7\t5\t10\n1\t7\t4\t30\n"
    )
    found = movielens()
    assert found.users_N.tolist() == [0, 1, 1]
    assert found.films_N.tolist() == [0, 1, 0]
    assert found.stars_N.tolist() == [5, 3, 4]
    assert found.titles == ('A "B', "C")
    assert found.genres == ("Comedy", "Drama")
    assert found.genres_IG.tolist() == [[True, True], [False, True]]
    assert found.people[1] == (53, "F", "other")
    assert "recbole" not in sys.modules
