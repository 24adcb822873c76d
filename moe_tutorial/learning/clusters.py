r"""Clusters: a small task on which experts can help, and a training run that watches the loads.

x = c_m + z / 2,  y = z A_m: every cluster m has a linear map of its own.            Chapter 08.
"""

import math
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal

import torch
from torch import Tensor

from moe_tutorial.layer.experts import Experts
from moe_tutorial.layer.moe import MoELayer
from moe_tutorial.learning.balance import (
    importance,
    smooth_load,
    squared_variation,
    switch_loss,
    z_loss,
)
from moe_tutorial.learning.loads import expert_load
from moe_tutorial.learning.selection_bias import updated_bias
from moe_tutorial.learning.settings import plain_seed
from moe_tutorial.routing.decision import Routing
from moe_tutorial.routing.probabilities import softmax
from moe_tutorial.routing.router import Router
from moe_tutorial.routing.scores import dot_scores
from moe_tutorial.validation import check_generator, check_size
from moe_tutorial.values import as_float

WIDTH, CLUSTERS, EXPERTS, HIDDEN, BATCH = 8, 8, 8, 16, 256
"""D, the number of clusters, E, F, and the tokens of one training step."""


@dataclass(frozen=True, eq=False)
class Task:
    """Clusters of tokens, as many as there are experts.

    Attributes:
        centres_MD: where each of the M clusters lies, float64.
        maps_MDD: what each does to a token's deviation from its centre, float64.
    """

    centres_MD: Tensor
    maps_MDD: Tensor

    def sample(self, tokens: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw tokens from random clusters.

        Returns:
            x_TD, y_TD: the tokens and what the layer should make of them, float64; the entries of
            y have mean 0 and variance about 1.
        """
        check_size("tokens", tokens)
        check_generator(generator, self.centres_MD)
        device = self.centres_MD.device
        cluster_T = torch.randint(CLUSTERS, (tokens,), generator=generator, device=device)
        deviation_TD = torch.randn(
            tokens, WIDTH, generator=generator, dtype=torch.float64, device=device
        )
        y_TD = torch.bmm(deviation_TD[:, None], self.maps_MDD[cluster_T]).squeeze(1)
        return self.centres_MD[cluster_T] + deviation_TD / 2, y_TD


@dataclass(frozen=True, eq=False)
class Run:
    """What a training run leaves behind.

    Attributes:
        layer: trained, in evaluation mode.
        load_NE: after each of N steps' choices, the tokens per expert, int64.
        error: on 4096 unseen tokens, the mean squared error over that of answering 0: a layer
            that learned nothing reads 1.
        load_E: on these tokens, the tokens per expert, int64.
    """

    layer: MoELayer
    load_NE: Tensor
    error: float
    load_E: Tensor


def make_task(seed: int) -> Task:
    """The clusters and maps that belong to a seed, on the CPU.

    Raises:
        ValueError: a seed that is no int from 0 to 2**63 - 1.
    """
    generator = torch.Generator("cpu").manual_seed(1000 + plain_seed("seed", seed))
    shape = (CLUSTERS, WIDTH)
    options: dict[str, Any] = {"generator": generator, "dtype": torch.float64, "device": "cpu"}
    return Task(torch.randn(*shape, **options), torch.randn(*shape, WIDTH, **options) / WIDTH**0.5)


def train_layer(
    seed: int,
    steps: int,
    *,
    learning_rate: float = 0.03,
    k: int = 1,
    frozen: bool = False,
    switch: float = 0.0,
    pieces: int = 1,
    by_subject: bool = False,
    shazeer: float = 0.0,
    z: float = 0.0,
    bias_rate: float = 0.0,
    rest: int = 0,
    selection: Literal["top_k", "sampled", "noisy_top_k"] = "top_k",
    temperature: float = 1.0,
) -> Run:
    """Train one layer by Adam; at K = 1 the gate is the probability, else gates are renormalised.

    The same seed gives the same task, first weights and batches, whatever the remedy.

    Args:
        seed: of the task, the weights and the tokens.
        steps: how many batches of 256 fresh tokens.
        learning_rate: of Adam.
        k: experts per token.
        frozen: the router keeps the random centroids that it starts with.
        switch: coefficient of :func:`~moe_tutorial.learning.balance.switch_loss`.
        pieces: into how many pieces of equal length a batch is cut for that loss, which is their
            mean.
        by_subject: sort each batch by the nearest cluster first, so that a piece is of one or two.
        shazeer: coefficient of the squared variation of importance, and for ``"noisy_top_k"`` of
            the smooth load too.
        z: coefficient of :func:`~moe_tutorial.learning.balance.z_loss`.
        bias_rate: gamma of :func:`~moe_tutorial.learning.selection_bias.updated_bias`; 0 for no
            bias.
        rest: for so many of the last steps the bias stays as it is.
        selection: as of :class:`~moe_tutorial.routing.router.Router`.
        temperature: of the draw, for ``"sampled"``.

    Returns:
        The trained layer with its loads; on unseen tokens a layer that samples goes on sampling.

    Raises:
        TypeError, ValueError: steps that are no positive int, a seed that is no int from 0 to
            2**63 - 1, a coefficient or a rate that is no finite number of at least 0, pieces that
            do not divide the 256 tokens, or what the router refuses.
    """
    check_size("steps", steps)
    seed = plain_seed("seed", seed)
    check_size("rest", rest, least=0)
    check_size("pieces", pieces)
    if BATCH % pieces:
        raise ValueError(f"pieces must divide the {BATCH} tokens of a batch, got {pieces}")
    for name, value in (
        ("learning_rate", learning_rate),
        ("switch", switch),
        ("shazeer", shazeer),
        ("z", z),
        ("bias_rate", bias_rate),
    ):
        _check_coefficient(name, value)
    task, generator = make_task(seed), torch.Generator("cpu").manual_seed(seed)
    # Draws of the router come from elsewhere, so that the tokens are the same without them.
    draws = torch.Generator("cpu").manual_seed(2000 + seed)
    layer = new_layer(generator, k, selection, temperature, bias_rate > 0)
    router = layer.router
    router.centroids_ED.requires_grad_(not frozen)
    optimizer = torch.optim.Adam(layer.parameters(), lr=learning_rate)
    loads = []
    for step in range(steps):
        x_TD, y_TD = task.sample(BATCH, generator)
        if by_subject:
            order_T = torch.cdist(x_TD, task.centres_MD).argmin(-1).argsort(stable=True)
            x_TD, y_TD = x_TD[order_T], y_TD[order_T]
        output = layer(x_TD, draws)
        loss = (output.y_TD - y_TD).square().mean()
        loss = loss + _balancing(router, x_TD, output.routing, switch, pieces, shazeer, z)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loads.append(expert_load(output.routing.experts_TK, EXPERTS))
        if bias_rate > 0 and step < steps - rest:
            assert router.bias_E is not None
            router.bias_E = updated_bias(router.bias_E, loads[-1], bias_rate)
    layer.eval()
    return Run(layer, torch.stack(loads), *judged(layer, seed))


def new_layer(
    generator: torch.Generator,
    k: int = 1,
    selection: Literal["top_k", "sampled", "noisy_top_k"] = "top_k",
    temperature: float = 1.0,
    selection_bias: bool = False,
) -> MoELayer:
    """A layer for the task before its training, on the CPU, in float64.

    Args:
        generator: of the first weights, which take the same numbers from it whatever else is set.
        k: experts per token. At K = 1 the gate is the probability; other gates are renormalised.
        selection: as of :class:`~moe_tutorial.routing.router.Router`.
        temperature: of the draw, for ``"sampled"``.
        selection_bias: whether the choice has a bias, 0 at the start.

    Raises:
        TypeError, ValueError: as the router's.
    """
    with torch.device("cpu"):  # whatever torch's default device is
        router = Router(
            WIDTH, EXPERTS, k, selection=selection, temperature=temperature, renormalise=k > 1,
            selection_bias=selection_bias,
        )  # fmt: skip
        experts = Experts(EXPERTS, WIDTH, HIDDEN, activation="gelu", bias=True)
    layer = MoELayer(router, experts).double()
    router.reset_parameters(generator)
    experts.reset_parameters(generator)
    return layer


def judged(layer: MoELayer, seed: int) -> tuple[float, Tensor]:
    """Error and load of a layer on 4096 tokens of a seed's task that no training saw.

    Args:
        layer: on the CPU, in float64.
        seed: of the task, and of the tokens and the draws.

    Returns:
        error: the mean squared error over that of answering 0.
        load_E: the tokens per expert, int64.

    Raises:
        ValueError: a seed that is no int from 0 to 2**63 - 1.
    """
    generator = torch.Generator("cpu").manual_seed(3000 + plain_seed("seed", seed))
    x_TD, y_TD = make_task(seed).sample(4096, generator)
    with torch.no_grad():
        output = layer(x_TD, generator)
    error = (output.y_TD - y_TD).square().mean() / y_TD.square().mean()
    return error.item(), expert_load(output.routing.experts_TK, EXPERTS)


def _balancing(
    router: Router,
    x_TD: Tensor,
    routing: Routing,
    switch: float,
    pieces: int,
    shazeer: float,
    z: float,
) -> Tensor:
    loss = routing.logits_TE.new_zeros(())
    if switch > 0:
        # The draw may be at a temperature; the loss looks at the router itself.
        probabilities_TE = softmax(routing.logits_TE)
        of_pieces = [
            switch_loss(*piece)
            for piece in zip(
                probabilities_TE.chunk(pieces), routing.experts_TK.chunk(pieces), strict=True
            )
        ]
        loss = loss + switch * torch.stack(of_pieces).mean()
    if shazeer > 0:
        weight_E = importance(routing.gates_TK, routing.experts_TK, EXPERTS)
        loss = loss + shazeer * squared_variation(weight_E)
    if shazeer > 0 and router.noise_ED is not None:
        logits_TE = dot_scores(x_TD, router.centroids_ED)
        noise_TE = dot_scores(x_TD, router.noise_ED)
        load_E = smooth_load(logits_TE, routing.logits_TE, noise_TE, router.config.k)
        loss = loss + shazeer * squared_variation(load_E)
    if z > 0:
        loss = loss + z * z_loss(routing.logits_TE)
    return loss


def _check_coefficient(name: str, value: Any) -> None:
    """Refuse what is no number, or one that is negative, infinite or NaN."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {value!r} of type {type(value).__name__}")
    if not 0 <= as_float(value) < math.inf:
        raise ValueError(f"{name} must be finite and at least 0, got {value}")
