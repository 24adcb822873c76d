"""Two tasks: will a user like this film, and which one is next? Experts in common, a gate for each.

y_task = sum over e in S_task of g_task,e f_e(x).                                    Chapter 13.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from moe_tutorial.layer.experts import Experts
from moe_tutorial.layer.feed_forward import FeedForward
from moe_tutorial.learning.ratings import LIKED, NOBODY, Moments, Ratings
from moe_tutorial.routing.decision import Routing
from moe_tutorial.routing.router import Router

TASKS = ("liked", "next")
"""The tasks; a task's place here is its id."""


@dataclass(frozen=True, eq=False)
class Scores:
    """What the model says of M moments.

    Attributes:
        liked_MI: ``[M, films]``, logits of getting LIKED stars or more.
        next_MI: ``[M, films]``; its softmax is the odds of the film that is rated next.
        routings: one for each task, or none if both share one network.
    """

    liked_MI: Tensor
    next_MI: Tensor
    routings: tuple[Routing, ...]


class TwoTasks(nn.Module):
    """From what a user rated, and who they are, a vector for each task; films are scored with it.

    Args:
        ratings: films, genres and people, none of their stars.
        width: D, of all vectors.
        hidden_width: F, of the network, or of each expert.
        num_experts: E, or None for one network that both tasks share (a "shared bottom").
        k: K, how many experts the gate of each task chooses. With K = E these are the multi-gate
            experts of Ma et al. (2018).
    """

    def __init__(
        self,
        ratings: Ratings,
        width: int,
        hidden_width: int,
        num_experts: int | None = None,
        k: int = 1,
    ) -> None:
        super().__init__()
        films, num_genres = ratings.genres_IG.shape
        self.register_buffer("genres_IG", ratings.genres_IG.float())
        self.register_buffer("people_UP", described(ratings))
        self.film = nn.Embedding(films, width)
        self.genre = nn.Linear(num_genres, width, bias=False)
        nn.init.normal_(self.film.weight, std=0.1)
        people = self.get_buffer("people_UP").shape[1]
        self.into = nn.Linear(3 * width + people + 3, width)
        self.norm = nn.RMSNorm(width)
        self.network: FeedForward | Experts
        if num_experts is None:
            self.network, gates = FeedForward(width, hidden_width), 0
        else:
            self.network, gates = Experts(num_experts, width, hidden_width), len(TASKS)
        self.routers = nn.ModuleList(Router(width, num_experts or 1, k) for _ in range(gates))
        self.towers = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in TASKS)
        self.norms = nn.ModuleList(nn.RMSNorm(width) for _ in TASKS)
        self.biases = nn.ParameterList(torch.zeros(films) for _ in TASKS)

    def forward(self, users_M: Tensor, films_MH: Tensor, stars_MH: Tensor) -> Scores:
        """Score every film at M moments, which :class:`~moe_tutorial.learning.ratings.Moments` has.

        Args:
            users_M: int64, who; only age, gender and occupation are used.
            films_MH: int64, what they rated before.
            stars_MH: int64, how.
        """
        items_ID = self.film.weight + self.genre(self.get_buffer("genres_IG"))
        x_MD = self.norm(self.into(self._known(items_ID, users_M, films_MH, stars_MH)))
        routings: tuple[Routing, ...] = tuple(router(x_MD) for router in self.routers)
        if isinstance(self.network, FeedForward):
            each = [self.network(x_MD)] * len(TASKS)
        else:
            each = [self.network(x_MD, it.experts_TK, it.gates_TK) for it in routings]
        scores = []
        for y_MD, norm, tower, bias in zip(each, self.norms, self.towers, self.biases, strict=True):
            scores.append(tower(norm(x_MD + y_MD)) @ items_ID.T + bias)
        return Scores(scores[0], scores[1], routings)

    def _known(
        self, items_ID: Tensor, users_M: Tensor, films_MH: Tensor, stars_MH: Tensor
    ) -> Tensor:
        """What stands in a moment: its films, those of them that were liked, the last, the user."""
        there_MH = (films_MH != NOBODY).to(items_ID)
        liked_MH = (stars_MH >= LIKED).to(items_ID)
        vectors_MHD = nn.functional.embedding(films_MH.clamp_min(0), items_ID)

        def mean(weights_MH: Tensor) -> Tensor:
            total_M1 = weights_MH.sum(1, keepdim=True).clamp_min(1)
            return torch.einsum("mh,mhd->md", weights_MH, vectors_MHD) / total_M1

        number_M = there_MH.sum(1)
        numbers_M3 = torch.stack(
            [
                number_M / films_MH.shape[1],
                # What half a dozen more ratings of a usual kind would make of it.
                (liked_MH.sum(1) + 3) / (number_M + 6),
                (stars_MH.sum(1) + 6 * 3.5) / (number_M + 6) - 3.5,
            ],
            1,
        )
        last_MD = vectors_MHD[:, 0] * there_MH[:, :1]
        people_MP = self.get_buffer("people_UP")[users_M]
        return torch.cat([mean(there_MH), mean(liked_MH), last_MD, people_MP, numbers_M3], 1)


AGES = (18, 25, 35, 45, 56)
"""The ages at which a new group begins, as GroupLens groups them."""


def described(ratings: Ratings) -> Tensor:
    """Age group, gender and occupation of each user, float32 ``[U, P]`` of zeros and ones."""
    occupations = sorted({occupation for _, _, occupation in ratings.people})
    rows = []
    for age, gender, occupation in ratings.people:
        group = sum(age >= start for start in AGES)
        rows.append(
            [
                *(float(group == i) for i in range(len(AGES) + 1)),
                float(gender == "F"),
                *(float(occupation == it) for it in occupations),
            ]
        )
    return torch.tensor(rows)


def draw_ratings(
    moments: Moments, batch_size: int, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Draw ratings at random, and for each one of the films that come next at its moment.

    Args:
        moments: where from.
        batch_size: B.
        generator: the source of randomness, on the CPU.

    Returns:
        moments_B: places among the moments; films_B and liked_B: what was rated, and whether it was
        liked; next_B: one of the films from then on, which may be the same.
    """
    rows_B = torch.randint(len(moments.moment_R), (batch_size,), generator=generator)
    moments_B = moments.moment_R[rows_B]
    following_BA = moments.next_MA[moments_B]
    # From 0 to below the number of films that follow, all equally likely.
    draws_B = torch.rand(batch_size, generator=generator)
    places_B = (draws_B * (following_BA != NOBODY).sum(1)).long()
    next_B = following_BA.gather(1, places_B[:, None])[:, 0]
    return moments_B, moments.film_R[rows_B], moments.liked_R[rows_B], next_B


def two_losses(scores: Scores, films_B: Tensor, liked_B: Tensor, next_B: Tensor) -> Tensor:
    """The surprise at whether the film was liked, and at which film came next, in nats.

    Returns:
        losses_2: in the order of TASKS.
    """
    logits_B = scores.liked_MI.gather(1, films_B[:, None])[:, 0]
    liked = nn.functional.binary_cross_entropy_with_logits(logits_B, liked_B.to(logits_B))
    return torch.stack([liked, nn.functional.cross_entropy(scores.next_MI, next_B)])
