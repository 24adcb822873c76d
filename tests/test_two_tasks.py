"""Two tasks: the model by hand, what it may see, and its losses."""

import math

import pytest
import torch

from moe_tutorial.learning.ratings import NOBODY, Moments, moments
from moe_tutorial.learning.two_tasks import (
    AGES,
    Scores,
    TwoTasks,
    described,
    draw_ratings,
    two_losses,
)
from tests.test_ratings import made_up

RATINGS = made_up()
FOUND = moments(RATINGS, 0, 300)


def scores(model: TwoTasks, found: Moments = FOUND) -> Scores:
    with torch.no_grad():
        answer: Scores = model(found.users_M, found.films_MH, found.stars_MH)
    return answer


@pytest.mark.parametrize(("experts", "k"), [(None, 1), (4, 4), (4, 2)])
def test_shapes_and_routings(experts: int | None, k: int) -> None:
    answer = scores(TwoTasks(RATINGS, 8, 6, experts, k))
    assert answer.liked_MI.shape == answer.next_MI.shape == (len(FOUND.users_M), 90)
    assert [it.experts_TK.shape[1] for it in answer.routings] == ([k, k] if experts else [])


def test_all_experts_are_a_weighted_sum_for_each_task() -> None:
    """The formula of Ma et al. (2018), equations 6 and 7, with one loop over experts."""
    torch.manual_seed(0)
    model = TwoTasks(RATINGS, 8, 6, 3, 3).double()
    heard = {}
    for name, module in (("x", model.routers[0]), ("y", model.norms[1])):
        module.register_forward_pre_hook(lambda _, given, name=name: heard.update({name: given[0]}))
    scores(model)
    x_MD = heard["x"]
    gates_ME = torch.softmax(x_MD @ model.routers[1].centroids_ED.T, -1)
    expected = x_MD.clone()
    for e in range(3):
        gate, up = (x_MD @ model.network.in_EHD[e].T).chunk(2, -1)
        out = (torch.nn.functional.silu(gate) * up) @ model.network.out_EDF[e].T
        expected += gates_ME[:, e, None] * out
    assert torch.allclose(heard["y"], expected, atol=1e-12)


def test_both_tasks_share_one_network_if_there_are_no_experts() -> None:
    model = TwoTasks(RATINGS, 8, 6)
    names = [name for name, _ in model.network.named_parameters()]
    assert names == ["into.weight", "out.weight"]


def test_only_the_history_and_the_person_count() -> None:
    torch.manual_seed(0)
    model = TwoTasks(RATINGS, 8, 6, 4, 2)
    one = torch.tensor([0, 0])
    films = torch.full((2, 20), NOBODY)
    stars = torch.zeros(2, 20, dtype=torch.long)
    assert torch.allclose(*model(one, films, stars).next_MI, atol=1e-6)
    films[0, :2], stars[0, :2] = torch.tensor([3, 5]), torch.tensor([5, 1])
    films[1, :2], stars[1, :2] = torch.tensor([3, 5]), torch.tensor([1, 5])
    assert not torch.allclose(*model(one, films, stars).next_MI)
    stars[1] = stars[0]
    assert torch.allclose(*model(one, films, stars).next_MI, atol=1e-6)
    # Two people who differ in gender alone.
    two = TwoTasks(RATINGS, 8, 6)
    described_UP = two.get_buffer("people_UP")
    described_UP[1] = described_UP[0]
    described_UP[1, len(AGES) + 1] = 1 - described_UP[0, len(AGES) + 1]
    assert not torch.allclose(*two(torch.tensor([0, 1]), films[:1].expand(2, -1), stars).liked_MI)


def test_people_are_described_by_ones_and_zeros() -> None:
    rows = described(RATINGS)
    assert rows.shape == (6, len(AGES) + 1 + 1 + 3)
    assert rows[0].nonzero()[:, 0].tolist() == [1, 6, 7]  # 20 years, a woman, job 0
    assert rows[5].nonzero()[:, 0].tolist() == [5, 9]  # 65 years, a man, job 2


def test_the_losses_are_surprises() -> None:
    liked_MI = torch.zeros(2, 4, dtype=torch.float64)
    liked_MI[0, 1] = math.log(3)
    next_MI = torch.zeros(2, 4, dtype=torch.float64)
    films, liked = torch.tensor([1, 0]), torch.tensor([True, False])
    found = two_losses(Scores(liked_MI, next_MI, ()), films, liked, torch.tensor([3, 2]))
    assert found[0].item() == pytest.approx((math.log(4 / 3) + math.log(2)) / 2)
    assert found[1].item() == pytest.approx(math.log(4))


def test_draws_are_ratings_with_films_that_come_from_then_on() -> None:
    generator = torch.Generator().manual_seed(0)
    places, films, liked, ahead = draw_ratings(FOUND, 4000, generator)
    known = set(zip(FOUND.moment_R.tolist(), FOUND.film_R.tolist(), FOUND.liked_R.tolist(),
                    strict=True))  # fmt: skip
    assert set(zip(places.tolist(), films.tolist(), liked.tolist(), strict=True)) == known
    assert (ahead[:, None] == FOUND.next_MA[places]).any(1).all()
    assert (ahead != NOBODY).all()
    full = (FOUND.next_MA[places] != NOBODY).all(1)
    where = (ahead[:, None] == FOUND.next_MA[places])[full].float().mean(0)
    assert (where - 0.1).abs().max() < 0.03
