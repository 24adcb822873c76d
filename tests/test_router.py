"""The Router is the functions of chapters 01 to 05 in a row, for every configuration."""

import copy
import dataclasses
import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from moe_tutorial import (
    Router,
    Routing,
    combine,
    cosine_scores,
    dot_scores,
    gumbel_top_k,
    keep,
    noisy_logits,
    renormalise,
    sigmoid,
    softmax,
    top_k,
)
from tests.oracles import generator, normal, same

D, E, K = 8, 6, 3
FIELDS = [field.name for field in dataclasses.fields(Routing)]
SELECTIONS = ["top_k", "sampled", "noisy_top_k"]
selections = pytest.mark.parametrize("selection", SELECTIONS)


def router_of(*, k: int = K, dtype: torch.dtype = torch.float64, **options: Any) -> Router:
    torch.manual_seed(0)
    router = Router(D, E, k, **options).to(dtype)
    if router.noise_ED is not None:
        nn.init.normal_(router.noise_ED)
    return router


def same_routing(actual: Routing, expected: Routing, atol: float = 0.0) -> None:
    for field in FIELDS:
        same(getattr(actual, field), getattr(expected, field), atol=atol)


def routing_from_functions(router: Router, x_TD: Tensor, seed: int) -> Routing:
    """The chapters' functions, composed as the Router's docstring says."""
    if router.scores == "cosine":
        logits_TE = cosine_scores(x_TD, router.centroids_ED, router.scale)
    else:
        logits_TE = dot_scores(x_TD, router.centroids_ED)
    if router.config.selection == "sampled":
        experts_TK = gumbel_top_k(
            logits_TE, router.config.k, router.config.temperature, generator(seed)
        )
    else:
        if router.config.selection == "noisy_top_k":
            noise_TE = dot_scores(x_TD, router.noise_ED)
            logits_TE = noisy_logits(logits_TE, noise_TE, generator(seed))
        experts_TK = top_k(logits_TE, router.config.k)
    if router.config.probability == "sigmoid":
        probabilities_TE = gate_scores_TE = sigmoid(logits_TE)
    else:
        probabilities_TE = softmax(logits_TE, router.config.temperature)
        tempered = router.config.gates == "tempered"
        gate_scores_TE = probabilities_TE if tempered else softmax(logits_TE)
    gates_TK = (renormalise if router.config.renormalise else keep)(gate_scores_TE, experts_TK)
    return Routing(logits_TE, probabilities_TE, experts_TK, gates_TK)


@pytest.mark.parametrize(
    ("selection", "gates", "normalised", "scores"),
    list(itertools.product(SELECTIONS, ["original", "tempered"], [True, False], ["dot", "cosine"])),
)
def test_router_is_the_composition_of_the_functions(
    selection: str, gates: str, normalised: bool, scores: str
) -> None:
    router = router_of(
        selection=selection, gates=gates, renormalise=normalised, scores=scores,
        scale=5.0, temperature=0.4,
    )  # fmt: skip
    x_BSD = normal(2, 5, D)
    actual = router(x_BSD, generator(7))
    same_routing(actual, routing_from_functions(router, x_BSD, seed=7), atol=1e-15)
    assert actual.gates_TK.shape == (2, 5, K)
    if normalised:
        same(actual.gates_TK.sum(-1), torch.ones(2, 5).double(), atol=1e-15)


@pytest.mark.parametrize("normalised", [True, False])
@pytest.mark.parametrize("scores", ["dot", "cosine"])
@pytest.mark.parametrize("gates", ["original", "tempered"])
def test_sigmoid_router_is_the_composition_of_the_functions(
    normalised: bool, scores: str, gates: str
) -> None:
    router = router_of(probability="sigmoid", renormalise=normalised, scores=scores, gates=gates)
    x_TD = normal(5, D)
    same_routing(router(x_TD), routing_from_functions(router, x_TD, seed=0), atol=1e-15)


def test_router_by_hand(device: torch.device) -> None:
    router = Router(2, 3, 2, temperature=0.5, gates="tempered").to(device)
    with torch.no_grad():
        router.centroids_ED.copy_(torch.tensor([[0.0, 0.0], [math.log(2), 0], [0, math.log(3)]]))
    routing = router(torch.ones(1, 2, device=device))
    same(routing.logits_TE, [[0.0, math.log(2), math.log(3)]], atol=1e-7)
    same(routing.probabilities_TE, [[1 / 14, 4 / 14, 9 / 14]], atol=1e-6)
    same(routing.experts_TK, [[2, 1]])
    same(routing.gates_TK, [[9 / 13, 4 / 13]], atol=1e-6)
    router.config = dataclasses.replace(router.config, gates="original")
    same(router(torch.ones(1, 2, device=device)).gates_TK, [[3 / 5, 2 / 5]], atol=1e-6)


def test_the_temperature_moves_the_draw_but_not_the_original_gates() -> None:
    x_TD = normal(2000, D)
    cool = router_of(selection="sampled", temperature=0.2)
    hot = router_of(selection="sampled", temperature=5.0)
    best_TK = top_k(dot_scores(x_TD, cool.centroids_ED), K)
    hits = []
    for router in (cool, hot):
        routing = router(x_TD, generator(1))
        same(routing.gates_TK, renormalise(softmax(routing.logits_TE), routing.experts_TK), 1e-15)
        hits.append((routing.experts_TK[..., None] == best_TK[:, None]).any(-1).double().mean())
    assert hits[0] > 0.8 > 0.6 > hits[1] > 0.5  # chance is K / E = 0.5


def test_noise_is_off_in_evaluation_and_sampling_is_not() -> None:
    x_TD = normal(50, D)
    noisy = router_of(selection="noisy_top_k")
    assert not torch.equal(noisy(x_TD).experts_TK, noisy(x_TD).experts_TK)
    same_routing(noisy.eval()(x_TD), router_of()(x_TD))
    sampled = router_of(selection="sampled").eval()
    assert not torch.equal(sampled(x_TD).experts_TK, sampled(x_TD).experts_TK)


@selections
def test_a_seed_repeats_the_routing(selection: str) -> None:
    router, x_TD = router_of(selection=selection), normal(50, D)
    same_routing(router(x_TD, generator(3)), router(x_TD, generator(3)))


def test_noisy_router_starts_with_equal_noise_and_learns_it() -> None:
    router = Router(D, E, K, selection="noisy_top_k")
    same(router.noise_ED.data, torch.zeros(E, D))
    router(normal(4, D), generator(0)).gates_TK[:, 0].sum().backward()
    assert router.noise_ED.grad is not None
    assert (router.noise_ED.grad.abs().sum(-1) > 0).any()
    assert router.noise_ED.grad.isfinite().all()


def test_a_learned_scale_is_a_parameter_and_gets_a_gradient() -> None:
    scale = nn.Parameter(torch.tensor(3.0))
    router = Router(D, E, K, scores="cosine", scale=scale)
    assert any(parameter is scale for parameter in router.parameters())
    assert "scale" in router.state_dict()
    router(normal(4, D)).gates_TK[:, 0].sum().backward()
    assert scale.grad is not None
    assert scale.grad.abs() > 1e-4
    assert list(dict(Router(D, E, K).named_parameters())) == ["centroids_ED"]


def test_centroids_give_unit_logits_at_the_start() -> None:
    torch.manual_seed(1)
    centroids_ED = Router(512, 256, 1).centroids_ED
    # 131 072 normal numbers: six standard errors of their deviation are 1.2 %.
    same(centroids_ED.std() * 512**0.5, 1.0, atol=0.012)
    same(centroids_ED.mean(), 0.0, atol=6 / 512 / 16)
    logits_TE = Router(512, 256, 1)(normal(64, 512)).logits_TE
    same(logits_TE.std(), 1.0, atol=0.1)


@pytest.mark.parametrize("k", [1, 2, E])
@pytest.mark.parametrize("normalised", [True, False])
def test_what_reaches_the_centroids_through_the_gates(k: int, normalised: bool) -> None:
    router = router_of(k=k, renormalise=normalised)
    routing = router(normal(5, D))
    combine(normal(5, k, 4), routing.gates_TK).square().sum().backward()
    assert router.centroids_ED.grad is not None
    norm = router.centroids_ED.grad.norm().item()
    if k == 1 and normalised:
        assert norm == 0.0
    else:
        assert norm > 0.1


def test_the_gradient_reaches_the_chosen_only_unless_the_gates_are_kept() -> None:
    for normalised in (True, False):
        router = router_of(k=2, renormalise=normalised)
        routing = router(normal(1, D))
        routing.gates_TK[0, 0].backward()
        assert router.centroids_ED.grad is not None
        touched = router.centroids_ED.grad.norm(dim=-1) > 0
        chosen = sorted(routing.experts_TK[0].tolist()) if normalised else list(range(E))
        assert touched.nonzero().flatten().tolist() == chosen


@selections
def test_state_dict_and_deepcopy_give_the_same_router(selection: str) -> None:
    options: dict[str, Any] = {"selection": selection, "scores": "cosine"}
    router = router_of(**options, scale=nn.Parameter(torch.tensor(2.0)))
    x_TD = normal(5, D)
    expected = router(x_TD, generator(1))
    torch.manual_seed(99)
    other = Router(D, E, K, **options, scale=nn.Parameter(torch.tensor(1.0))).double()
    assert not torch.equal(other(x_TD, generator(1)).logits_TE, expected.logits_TE)
    other.load_state_dict(router.state_dict())
    same_routing(other(x_TD, generator(1)), expected)
    twin = copy.deepcopy(router)
    same_routing(twin(x_TD, generator(1)), expected)
    twin.reset_parameters()
    same_routing(router(x_TD, generator(1)), expected)


@selections
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_router_of_any_dtype_calculates_in_float32_at_least(
    selection: str, dtype: torch.dtype
) -> None:
    router, x_TD = router_of(selection=selection, dtype=dtype), normal(5, D, dtype=dtype)
    routing = router(x_TD, generator(1))
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    same_routing(routing, copy.deepcopy(router).to(wide)(x_TD.to(wide), generator(1)))
    assert {routing.logits_TE.dtype, routing.probabilities_TE.dtype, routing.gates_TK.dtype} == {
        wide
    }


@pytest.mark.parametrize(("num_experts", "k"), [(1, 1), (E, E)])
@selections
def test_all_experts_can_be_chosen(selection: str, num_experts: int, k: int) -> None:
    routing = Router(D, num_experts, k, selection=selection)(normal(4, D))  # type: ignore[arg-type]
    same(routing.experts_TK.sort(-1).values, torch.arange(k).expand(4, k))
    same(routing.gates_TK.sum(-1), [1.0] * 4, atol=1e-6)


def test_routing_is_frozen() -> None:
    routing = router_of()(normal(2, D))
    assert FIELDS == ["logits_TE", "probabilities_TE", "experts_TK", "gates_TK"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        routing.gates_TK = routing.gates_TK * 2


@pytest.mark.parametrize(
    "options",
    [{}, {"scores": "cosine"}, {"probability": "sigmoid"}, {"renormalise": False}],
    ids=str,
)
def test_router_compiles_as_one_graph(options: dict[str, Any]) -> None:
    router, x_TD = router_of(dtype=torch.float32, **options), normal(5, D, dtype=torch.float32)
    compiled = torch.compile(router, fullgraph=True, backend="aot_eager")
    same_routing(compiled(x_TD), router(x_TD), atol=1e-6)


def test_print_shows_the_configuration() -> None:
    text = repr(Router(8, 4, 2, selection="sampled", temperature=0.5, renormalise=False))
    for part in ("model_width=8", "num_experts=4", "k=2", "scores='dot'", "selection='sampled'"):
        assert part in text
    assert "temperature=0.5" in text
    assert "renormalise=False" in text


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"model_width": 0}, ValueError, "model_width must be at least 1, got 0"),
        ({"model_width": 8.0}, TypeError, r"model_width must be an int, got 8\.0"),
        ({"num_experts": 0}, ValueError, "num_experts must be at least 1, got 0"),
        ({"num_experts": True}, TypeError, "num_experts must be an int, got True"),
        ({"scores": "euclid"}, ValueError, "scores must be one of 'dot', 'cosine', got 'euclid'"),
        ({"probability": "relu"}, ValueError, "probability must be one of .* got 'relu'"),
        ({"selection": "top_p"}, ValueError, "selection must be one of 'top_k', .* got 'top_p'"),
        ({"gates": None}, ValueError, "gates must be one of 'original', 'tempered', got None"),
        ({"temperature": 0}, ValueError, "temperature must be positive, got 0"),
        ({"temperature": math.nan}, ValueError, "temperature must be positive, got nan"),
        ({"temperature": torch.ones(2)}, TypeError, "temperature must be a number, got Tensor"),
        ({"scale": -1.0}, ValueError, r"scale must be positive, got -1\.0"),
        ({"scale": math.inf}, ValueError, "scale must be finite, got inf"),
        ({"scale": nn.Parameter(torch.ones(2))}, ValueError, "scale must have one element"),
        (
            {"probability": "sigmoid", "selection": "sampled"},
            ValueError,
            "probability='sigmoid' needs selection='top_k' .* got selection='sampled'",
        ),
        (
            {"probability": "sigmoid", "temperature": 0.5},
            ValueError,
            r"probability='sigmoid' needs .*temperature=1, got .* temperature=0\.5",
        ),
    ],
)
def test_router_refuses_bad_configurations(
    changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Router(**({"model_width": 8, "num_experts": 4, "k": 2} | changes))


def test_router_refuses_tokens_of_another_width() -> None:
    with pytest.raises(ValueError, match="x_TD and centroids_ED must have the same width D, got 7"):
        router_of()(normal(2, 7))


def test_a_generator_makes_the_centroids_repeatable() -> None:
    first, second = (Router(4, 6, 2), Router(4, 6, 2))
    for router in (first, second):
        router.reset_parameters(torch.Generator().manual_seed(5))
    assert torch.equal(first.centroids_ED, second.centroids_ED)
