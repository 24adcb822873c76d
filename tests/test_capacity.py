"""Chapter 09's functions: who is kept, who decides, and what a limit lets through of the future."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from moe_tutorial import (
    Attention,
    Block,
    Experts,
    LimitedRouting,
    MoELayer,
    Router,
    Routing,
    dispatch,
    dispatch_kept,
    expected_drops,
    expert_capacity,
    expert_choice,
    future_leak,
    gumbel_top_k,
    inclusion_probabilities,
    limit_capacity,
    scatter_gates,
    softmax,
    top_k,
    within_capacity,
)
from moe_tutorial.learning.capacity import POLICIES, Policy
from tests.oracles import generator, normal, same

every_policy = pytest.mark.parametrize("policy", POLICIES)


def kept_by_loop(
    experts: list[list[int]], gates: list[list[float]], capacity: int, policy: str
) -> list[list[bool]]:
    """One assignment after another asks for a place; nothing here is sorted by expert."""
    pairs = [(t, k) for t in range(len(experts)) for k in range(len(experts[0]))]
    if policy == "first_choices":
        pairs.sort(key=lambda pair: (pair[1], pair[0]))
    if policy == "gate":
        pairs.sort(key=lambda pair: (-gates[pair[0]][pair[1]], pair))
    taken: dict[int, int] = {}
    kept = [[False] * len(row) for row in experts]
    for t, k in pairs:
        e = experts[t][k]
        if taken.get(e, 0) < capacity:
            taken[e] = taken.get(e, 0) + 1
            kept[t][k] = True
    return kept


@dataclasses.dataclass
class Case:
    experts_TK: Tensor
    gates_TK: Tensor
    num_experts: int
    capacity: int
    seed: int

    def kept(self, policy: Policy, **changes: Any) -> Tensor:
        case = dataclasses.replace(self, **changes)
        return within_capacity(
            case.experts_TK,
            case.gates_TK,
            case.num_experts,
            case.capacity,
            policy,
            generator=generator(case.seed),
        )

    @property
    def loads(self) -> list[int]:
        return [int((self.experts_TK == e).sum()) for e in range(self.num_experts)]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    num_experts = draw(st.integers(1, 6))
    k = draw(st.integers(1, num_experts))
    num_tokens = draw(st.integers(0, 20))
    seed = draw(st.integers(0, 1000))
    # Skewed logits: the first experts are wanted most.
    logits_TE = normal(num_tokens, num_experts, seed=seed) - torch.arange(num_experts) / 2
    experts_TK = top_k(logits_TE, k)
    # Coarse gates bring ties.
    gates_TK = (4 * softmax(logits_TE).gather(-1, experts_TK)).round() / 4
    return Case(experts_TK, gates_TK, num_experts, draw(st.integers(0, 12)), seed)


@given(cases(), st.sampled_from(["first_choices", "position", "gate"]))
def test_the_queue_is_that_of_a_loop(case: Case, policy: Policy) -> None:
    expected = kept_by_loop(case.experts_TK.tolist(), case.gates_TK.tolist(), case.capacity, policy)
    assert case.kept(policy).tolist() == expected


@given(cases(), st.sampled_from(POLICIES))
def test_every_assignment_is_kept_or_dropped_and_none_over_capacity(
    case: Case, policy: Policy
) -> None:
    kept_TK = case.kept(policy)
    assert kept_TK.dtype == torch.bool
    assert kept_TK.shape == case.experts_TK.shape
    kept_E = [int(kept_TK[case.experts_TK == e].sum()) for e in range(case.num_experts)]
    # So the number of drops is the same whatever the policy.
    assert kept_E == [min(load, case.capacity) for load in case.loads]
    assert kept_TK.sum() + (~kept_TK).sum() == sum(case.loads)


@given(cases(), st.sampled_from(POLICIES))
def test_room_for_all_tokens_drops_none(case: Case, policy: Policy) -> None:
    assert case.kept(policy, capacity=len(case.experts_TK)).all()


@given(cases(), st.sampled_from(POLICIES), st.randoms(use_true_random=False))
def test_the_experts_names_do_not_matter(case: Case, policy: Policy, random: Any) -> None:
    names = list(range(case.num_experts))
    random.shuffle(names)
    renamed_TK = torch.tensor(names)[case.experts_TK]
    same(case.kept(policy, experts_TK=renamed_TK), case.kept(policy))


@given(cases(), st.randoms(use_true_random=False))
def test_by_gate_the_tokens_order_does_not_matter(case: Case, random: Any) -> None:
    # Different gates, since ties are broken by the order.
    gates_TK = normal(*case.gates_TK.shape, seed=case.seed + 1)
    order = list(range(len(gates_TK)))
    random.shuffle(order)
    shuffled_TK = case.kept("gate", experts_TK=case.experts_TK[order], gates_TK=gates_TK[order])
    same(shuffled_TK, case.kept("gate", gates_TK=gates_TK)[order])


@given(cases())
def test_by_gate_keeps_the_largest_gates(case: Case) -> None:
    kept_TK = case.kept("gate")
    for e in range(case.num_experts):
        kept, dropped = (
            case.gates_TK[(case.experts_TK == e) & mask_TK] for mask_TK in (kept_TK, ~kept_TK)
        )
        if len(kept) and len(dropped):
            assert kept.min() >= dropped.max()


@every_policy
def test_the_number_dropped_grows_with_the_load_alone(policy: Policy) -> None:
    experts_TK = torch.zeros(10, 1, dtype=torch.int64)
    gates_TK = torch.ones(10, 1)
    assert within_capacity(experts_TK, gates_TK, 3, 4, policy).sum() == 4


def test_a_generator_decides_at_random() -> None:
    experts_TK = torch.zeros(40, 1, dtype=torch.int64)
    gates_TK = torch.ones(40, 1)

    def draw(seed: int) -> Tensor:
        return within_capacity(experts_TK, gates_TK, 2, 10, "random", generator=generator(seed))

    same(draw(3), draw(3))
    assert not torch.equal(draw(3), draw(4))
    torch.manual_seed(0)
    first = within_capacity(experts_TK, gates_TK, 2, 10, "random")
    torch.manual_seed(0)
    same(within_capacity(experts_TK, gates_TK, 2, 10, "random"), first)
    # Every position is kept a quarter of the time.
    kept_T = torch.stack([draw(seed)[:, 0] for seed in range(400)]).sum(0)
    assert stats.chisquare(kept_T.double() * 40 / 30).pvalue > 1e-6


@every_policy
def test_padding_takes_no_place(policy: Policy) -> None:
    logits_TE = normal(30, 4) - torch.arange(4)
    mask_T = torch.rand(30, generator=generator(1)) < 0.6
    experts_TK = top_k(logits_TE, 2)
    gates_TK = softmax(logits_TE).gather(-1, experts_TK)
    kept_TK = within_capacity(
        experts_TK, gates_TK, 4, 6, policy, mask_T=mask_T, generator=generator(2)
    )
    assert not kept_TK[~mask_T].any()
    kept_E = torch.bincount(experts_TK[kept_TK], minlength=4)
    load_E = torch.bincount(experts_TK[mask_T].flatten(), minlength=4)
    same(kept_E, load_E.clamp(max=6))
    if policy != "random":
        alone_TK = within_capacity(experts_TK[mask_T], gates_TK[mask_T], 4, 6, policy)
        same(kept_TK[mask_T], alone_TK)


@every_policy
def test_adding_padding_changes_nothing(policy: Policy) -> None:
    def routing_of(logits_TE: Tensor) -> Routing:
        experts_TK = top_k(logits_TE, 2)
        probabilities_TE = softmax(logits_TE)
        return Routing(
            logits_TE, probabilities_TE, experts_TK, probabilities_TE.gather(-1, experts_TK)
        )

    # The padding wants what is wanted most, with the largest gates.
    padded_TE = torch.cat([20 * torch.eye(4).double()[:1].expand(9, 4), normal(30, 4)])
    mask_T = torch.arange(39) >= 9
    if policy != "random":
        limited = limit_capacity(routing_of(padded_TE), 1.0, policy, mask_T=mask_T)
        alone = limit_capacity(routing_of(padded_TE[9:]), 1.0, policy)
        same(limited.kept_TK[9:], alone.kept_TK)
        same(limited.gates_TK[9:], alone.gates_TK)
        assert not torch.equal(
            limit_capacity(routing_of(padded_TE), 1.0).kept_TK[9:], alone.kept_TK
        )
    limited = expert_choice(padded_TE, 5, mask_T=mask_T)
    same(limited.kept_TK[9:], expert_choice(padded_TE[9:], 5).kept_TK)
    assert not limited.kept_TK[:9].any()


# --- the capacity itself --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "capacity"),
    [
        ((1024, 8, 1, 1.0), 128),
        ((1024, 8, 2, 1.25), 320),
        ((1000, 64, 1, 1.25), 20),
        ((10, 3, 1, 1.0), 4),
        ((7, 4, 3, 1.0), 6),
        ((0, 8, 2, 1.25), 0),
        ((1, 64, 1, 0.5), 1),
        # In floating point 1.1 * 10 and 0.07 * 100 lie a little above 11 and 7.
        ((10, 1, 1, 1.1), 11),
        ((100, 1, 1, 0.07), 7),
        ((12, 4, 2, 2), 12),
    ],
)
def test_capacity_by_hand(arguments: tuple[int, int, int, float], capacity: int) -> None:
    assert expert_capacity(*arguments) == capacity


@given(st.integers(0, 500), st.integers(1, 40), st.data())
def test_a_factor_of_one_suffices_for_equal_loads_and_e_over_k_for_any(
    num_tokens: int, num_experts: int, data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, num_experts))
    assert expert_capacity(num_tokens, num_experts, k, 1.0) >= num_tokens * k / num_experts
    # A float is not always as large as the fraction that it stands for.
    factor = math.nextafter(num_experts / k, math.inf)
    assert expert_capacity(num_tokens, num_experts, k, factor) >= num_tokens


# --- other people's rules ------------------------------------------------------------------


def test_megatrons_rule_by_probability() -> None:
    # Its "probs" takes the top C of each column of a matrix of gates, zero where not chosen.
    logits_TE = normal(60, 5)
    experts_TK = top_k(logits_TE, 2)
    gates_TK = softmax(logits_TE).gather(-1, experts_TK)
    gates_TE = scatter_gates(gates_TK, experts_TK, 5)
    top_CE = gates_TE.topk(15, dim=0).indices
    expected_TE = torch.zeros_like(gates_TE).scatter(0, top_CE, 1.0).bool() & (gates_TE > 0)
    kept_TK = within_capacity(experts_TK, gates_TK, 5, 15, "gate")
    same(scatter_gates(kept_TK.double(), experts_TK, 5).bool(), expected_TE)


def test_maxtexts_rule_by_position() -> None:
    # A running count over the tokens' choices, laid out token after token.
    experts_TK = top_k(normal(60, 5), 3)
    ones_RE = torch.nn.functional.one_hot(experts_TK.flatten(), 5)
    places_R = (ones_RE.cumsum(0) * ones_RE).sum(-1)
    kept_TK = within_capacity(experts_TK, torch.ones(60, 3), 5, 20, "position")
    same(kept_TK, (places_R <= 20).view(60, 3))


# --- the limited decision -------------------------------------------------------------------


def limited_layer(k: int = 2, activation: str = "swiglu") -> tuple[MoELayer, Tensor]:
    layer = MoELayer(
        Router(8, 4, k, renormalise=k > 1), Experts(4, 8, 12, activation=activation)
    ).double()
    layer.router.reset_parameters(generator(0))
    layer.experts.reset_parameters(generator(1))
    return layer, normal(2, 15, 8, seed=2)


@every_policy
@pytest.mark.parametrize("renormalise", [False, True])
def test_only_the_gates_of_what_is_dropped_change(policy: Policy, renormalise: bool) -> None:
    layer, x_BSD = limited_layer()
    routing = layer.router(x_BSD)
    limited = limit_capacity(routing, 0.8, policy, renormalise=renormalise, generator=generator(3))
    for name in ("logits_TE", "probabilities_TE", "experts_TK"):
        assert getattr(limited, name) is getattr(routing, name)
    assert (~limited.kept_TK).any()
    assert (limited.gates_TK[~limited.kept_TK] == 0).all()
    if not renormalise:
        same(limited.gates_TK[limited.kept_TK], routing.gates_TK[limited.kept_TK])
    else:
        some_T = limited.kept_TK.any(-1)
        sums_T = limited.gates_TK.sum(-1)
        same(sums_T, some_T.double(), atol=1e-15)
        both_T = limited.kept_TK.all(-1)
        same(limited.gates_TK[both_T], routing.gates_TK[both_T], atol=1e-15)
    assert dataclasses.is_dataclass(limited)
    with pytest.raises(dataclasses.FrozenInstanceError):
        limited.kept_TK = None


@pytest.mark.parametrize("renormalise", [False, True])
def test_gradients_reach_the_kept_alone(renormalise: bool) -> None:
    logits_TE = normal(12, 3).requires_grad_()

    def gates(rows_TE: Tensor) -> Tensor:
        probabilities_TE = softmax(rows_TE)
        experts_TK = top_k(rows_TE, 2)
        routing = Routing(
            rows_TE, probabilities_TE, experts_TK, probabilities_TE.gather(-1, experts_TK)
        )
        return limit_capacity(routing, 0.5, renormalise=renormalise).gates_TK

    assert torch.autograd.gradcheck(gates, logits_TE)
    nothing_T = (gates(logits_TE) == 0).all(-1)
    (gradient_TE,) = torch.autograd.grad(gates(logits_TE).square().sum(), logits_TE)
    assert nothing_T.any()
    assert (gradient_TE[nothing_T] == 0).all()


@pytest.mark.parametrize("activation", ["gelu", "swiglu"])
def test_computing_only_what_is_kept_gives_the_same_output_and_gradients(activation: str) -> None:
    layer, x_BSD = limited_layer(activation=activation)
    experts = layer.experts
    x_BSD.requires_grad_()
    limited = limit_capacity(layer.router(x_BSD), 0.8)
    all_BSD = dispatch(x_BSD, limited.experts_TK, limited.gates_TK, experts)
    kept_BSD = dispatch_kept(x_BSD, limited, experts)
    same(kept_BSD, all_BSD, atol=1e-14)
    inputs = [x_BSD, *layer.parameters()]
    gradients = [
        torch.autograd.grad(y.square().sum(), inputs, retain_graph=True)
        for y in (kept_BSD, all_BSD)
    ]
    for kept, every in zip(*gradients, strict=True):
        same(kept, every, atol=1e-12)


def test_a_token_that_loses_all_gets_nothing_and_the_residual_carries_it() -> None:
    layer, x_BSD = limited_layer(k=1)
    limited = limit_capacity(layer.router(x_BSD), 0.5)
    lost_BS = ~limited.kept_TK.any(-1)
    y_BSD = dispatch_kept(x_BSD, limited, layer.experts)
    assert (y_BSD[lost_BS] == 0).all()
    assert (y_BSD[~lost_BS].abs().amax(-1) > 0).all()

    block = Block(Attention(8, 2), layer).double()
    layer.router.register_forward_hook(lambda module, x, routing: limit_capacity(routing, 0.5))
    out_BSD, routing = block(x_BSD)
    assert isinstance(routing, LimitedRouting)
    h_BSD = x_BSD + block.attention(block.attention_norm(x_BSD))
    lost_BS = ~routing.kept_TK.any(-1)
    same(out_BSD[lost_BS], h_BSD[lost_BS])


def test_nothing_kept_and_no_tokens() -> None:
    layer, x_BSD = limited_layer()
    limited = limit_capacity(layer.router(x_BSD), 1.0)
    nothing = dataclasses.replace(
        limited,
        kept_TK=torch.zeros_like(limited.kept_TK),
        gates_TK=torch.zeros_like(limited.gates_TK),
    )
    same(dispatch_kept(x_BSD, nothing, layer.experts), torch.zeros_like(x_BSD))
    empty_BSD = x_BSD[:, :0]
    same(
        dispatch_kept(empty_BSD, limit_capacity(layer.router(empty_BSD), 1.0), layer.experts),
        empty_BSD,
    )


@pytest.mark.parametrize(("num_experts", "k"), [(1, 1), (3, 3)])
def test_one_expert_and_all_experts_fit_at_a_factor_of_one(num_experts: int, k: int) -> None:
    routing = Router(8, num_experts, k)(torch.randn(17, 8))
    assert limit_capacity(routing, 1.0).kept_TK.all()


# --- expert choice --------------------------------------------------------------------------


@given(st.integers(1, 12), st.integers(1, 5), st.integers(0, 15))
def test_each_expert_takes_its_best_tokens(num_tokens: int, num_experts: int, room: int) -> None:
    # Few different logits, so that scores tie.
    logits_TE = normal(num_tokens, num_experts, seed=room).round()
    limited = expert_choice(logits_TE, room)
    scores = softmax(logits_TE).T.tolist()
    for e in range(num_experts):
        order = sorted(range(num_tokens), key=lambda t: (-scores[e][t], t))
        assert limited.kept_TK[:, e].nonzero()[:, 0].tolist() == sorted(order[:room])
    same(limited.gates_TK, torch.where(limited.kept_TK, softmax(logits_TE), 0.0))
    same(limited.experts_TK, [list(range(num_experts))] * num_tokens)


def test_expert_choice_moves_with_tokens_and_experts() -> None:
    logits_TE = normal(20, 5)
    tokens, experts = torch.randperm(20, generator=generator(1)), torch.tensor([3, 0, 4, 1, 2])
    moved = expert_choice(logits_TE[tokens][:, experts], 6)
    same(moved.kept_TK, expert_choice(logits_TE, 6).kept_TK[tokens][:, experts])


def test_a_layer_with_expert_choice() -> None:
    layer, x_BSD = limited_layer()
    x_SD = x_BSD[0]
    limited = expert_choice(layer.router(x_SD).logits_TE, 6)
    same(limited.kept_TK.sum(0), [6] * 4)
    one_by_one_SD = torch.zeros_like(x_SD)
    for s in range(15):
        for e in range(4):
            if limited.kept_TK[s, e]:
                gate_up = layer.experts.in_EHD[e] @ x_SD[s]
                gate, up = gate_up.chunk(2)
                hidden = torch.nn.functional.silu(gate) * up
                one_by_one_SD[s] += limited.gates_TK[s, e] * (layer.experts.out_EDF[e] @ hidden)
    same(dispatch_kept(x_SD, limited, layer.experts), one_by_one_SD, atol=1e-14)
    layer.router.register_forward_hook(
        lambda module, x, routing: expert_choice(routing.logits_TE, 6)
    )
    same(layer(x_SD).y_TD, one_by_one_SD, atol=1e-14)


# --- leaks of the future --------------------------------------------------------------------

ROUNDING = 1e-12


def leak_of(rule: Callable[[Routing], Routing] | None, k: int = 2) -> float:
    layer, x_BSD = limited_layer(k)
    if rule is not None:
        limit = rule
        layer.router.register_forward_hook(lambda module, x, routing: limit(routing))
    return future_leak(lambda x_SD: layer(x_SD).y_TD, x_BSD[0], generator(4)).max().item()


def test_expert_choice_leaks_the_future_and_top_k_does_not() -> None:
    assert leak_of(None) < ROUNDING
    assert leak_of(lambda routing: expert_choice(routing.logits_TE, 6)) > 0.01


@pytest.mark.parametrize(
    ("policy", "k", "leaks"),
    [
        ("position", 1, False),
        ("position", 2, False),
        ("first_choices", 1, False),
        # A later token's first choice goes before an earlier token's second one.
        ("first_choices", 2, True),
        ("gate", 1, True),
        ("gate", 2, True),
        ("random", 1, True),
    ],
)
def test_which_policies_leak(policy: Policy, k: int, leaks: bool) -> None:
    leak = leak_of(lambda r: limit_capacity(r, 0.8, policy, generator=generator(5)), k)
    assert (leak > 0.01) if leaks else (leak < ROUNDING)


def test_no_gradient_shows_the_leak() -> None:
    layer, x_BSD = limited_layer()
    x_SD = x_BSD[0]

    def layer_with_expert_choice(rows_SD: Tensor) -> Tensor:
        return dispatch_kept(
            rows_SD, expert_choice(layer.router(rows_SD).logits_TE, 6), layer.experts
        )

    jacobian_SDSD = torch.autograd.functional.jacobian(layer_with_expert_choice, x_SD)
    earlier_SS = torch.ones(15, 15).tril(-1).T.bool()
    influence_SS = jacobian_SDSD.abs().amax((1, 3))
    assert (influence_SS[earlier_SS] == 0).all()
    assert (influence_SS.diagonal() > 0).any()
    assert future_leak(layer_with_expert_choice, x_SD, generator(4)).max() > 0.01


def test_the_leak_is_found_where_it_is() -> None:
    def next_token_added(x_SD: Tensor) -> Tensor:
        return x_SD + torch.cat([x_SD[1:], torch.zeros_like(x_SD[:1])])

    def last_token_added(x_SD: Tensor) -> Tensor:
        return x_SD + x_SD[-1:]

    x_SD = normal(5, 3)
    assert (future_leak(next_token_added, x_SD, generator(0)) > 0.1).tolist() == [False] + [
        True
    ] * 4
    assert (future_leak(last_token_added, x_SD, generator(0)) > 0.1).tolist() == [False] * 4 + [
        True
    ]
    same(future_leak(lambda rows: rows.cumsum(0), x_SD), torch.zeros(5).double())
    same(
        future_leak(last_token_added, x_SD, generator(0)),
        future_leak(last_token_added, x_SD, generator(0)),
    )


def test_attention_and_blocks_are_causal_until_experts_choose() -> None:
    torch.manual_seed(0)
    layer, x_BSD = limited_layer()
    block = Block(Attention(8, 2), layer).double()

    def output(x_SD: Tensor) -> Tensor:
        y_BSD: Tensor = block(x_SD[None])[0]
        return y_BSD[0]

    assert future_leak(output, x_BSD[0], generator(1)).max() < ROUNDING
    layer.router.register_forward_hook(lambda module, x, r: expert_choice(r.logits_TE, 6))
    assert future_leak(output, x_BSD[0], generator(1)).max() > 0.01


# --- how many are dropped -------------------------------------------------------------------


@pytest.mark.parametrize("capacity", [0, 1, 5, 12, 40, 60])
def test_expected_drops_are_those_of_the_binomial_distribution(capacity: int) -> None:
    shares = [0.0, 0.03, 0.25, 0.6, 1.0]
    expected = math.fsum(
        (n - capacity) * stats.binom.pmf(n, 40, share)
        for share in shares
        for n in range(capacity + 1, 41)
    )
    drops = expected_drops(torch.tensor(shares, dtype=torch.float64), 40, capacity)
    same(drops, expected, atol=1e-9)


def test_expected_drops_are_the_mean_of_many_batches() -> None:
    # Two of five experts drawn for each token: choices that depend on one another.
    logits_E = torch.tensor([2.0, 1.0, 0.5, 0.0, -1.0], dtype=torch.float64)
    batches, tokens = 2000, 30
    experts_BTK = gumbel_top_k(logits_E.expand(batches, tokens, 5), 2, generator=generator(0))
    load_BE = torch.stack([(experts_BTK == e).sum((1, 2)) for e in range(5)], -1)
    drops_B = (load_BE - 15).clamp(min=0).sum(-1).double()
    inclusion_E = inclusion_probabilities(logits_E[None], 2)[0]
    error = drops_B.std() / batches**0.5
    assert (expected_drops(inclusion_E, tokens, 15) - drops_B.mean()).abs() < 5 * error
    dropped = ~within_capacity(experts_BTK[0], torch.ones(tokens, 2), 5, 15)
    assert dropped.sum() == drops_B[0]


def test_expected_drops_of_a_large_batch() -> None:
    # The mean of a normal variable's positive part, for 100,000 tokens and 64 equal experts.
    tokens, share = 100_000, 1 / 64
    spread = math.sqrt(tokens * share * (1 - share))
    approximation = 64 * spread / math.sqrt(2 * math.pi)
    capacity = expert_capacity(tokens, 64, 1, 1.0)
    drops = expected_drops(torch.full((64,), share, dtype=torch.float64), tokens, capacity)
    assert abs(drops.item() / approximation - 1) < 0.02


# --- bugs that public code had --------------------------------------------------------------


def test_load_after_drops_reads_perfect_on_a_collapse() -> None:
    """Every token wants expert 0 and then expert 1."""
    logits_TE = torch.tensor([[3.0, 2.0, 0.0, 0.0]]).expand(100, 4)
    experts_TK = top_k(logits_TE, 2)
    routing = Routing(logits_TE, softmax(logits_TE), experts_TK, torch.ones(100, 2) / 2)
    limited = limit_capacity(routing, 0.5)

    def share_of_busiest(experts_R: Tensor) -> float:
        load_E = torch.bincount(experts_R.flatten(), minlength=4)
        in_use_E = load_E[load_E > 0]
        return (in_use_E.max() / in_use_E.double().mean()).item()

    def overload(experts_R: Tensor) -> float:
        """The largest load over the capacity."""
        return torch.bincount(experts_R.flatten(), minlength=4).max().item() / 25

    # Measured on what was kept, no expert is above its capacity, ever.
    assert overload(limited.experts_TK[limited.kept_TK]) == 1.0
    assert share_of_busiest(limited.experts_TK[limited.kept_TK]) == 1.0
    # Measured on what was wanted, which is what the record holds, the collapse shows.
    assert overload(limited.experts_TK) == 4.0


def test_second_choices_wait_for_all_first_choices() -> None:
    def in_token_order(experts_TK: Tensor, num_experts: int, capacity: int) -> Tensor:
        """The bug: one running count over the flattened choices."""
        ones_RE = torch.nn.functional.one_hot(experts_TK.flatten(), num_experts)
        return ((ones_RE.cumsum(0) * ones_RE).sum(-1) <= capacity).view(experts_TK.shape)

    # Token 0's second choice and token 1's first choice are the same expert, with one place.
    experts_TK = torch.tensor([[0, 1], [1, 2]])
    same(within_capacity(experts_TK, torch.ones(2, 2), 3, 1), [[True, False], [True, True]])
    same(in_token_order(experts_TK, 3, 1), torch.tensor([[True, True], [False, True]]))


def test_one_count_for_each_choice_overfills_the_experts() -> None:
    def counted_apart(experts_TK: Tensor, num_experts: int, capacity: int) -> Tensor:
        """The bug: second choices start counting at 0 again."""
        ones_TKE = torch.nn.functional.one_hot(experts_TK, num_experts)
        return (ones_TKE.cumsum(0) * ones_TKE).sum(-1) <= capacity

    experts_TK = top_k(normal(50, 4) - torch.arange(4), 2)
    kept_TK = within_capacity(experts_TK, torch.ones(50, 2), 4, 20)
    assert torch.bincount(experts_TK[kept_TK]).max() == 20
    buggy_TK = counted_apart(experts_TK, 4, 20)
    assert torch.bincount(experts_TK[buggy_TK]).max() > 20


def test_in_order_the_end_of_the_batch_pays() -> None:
    experts_TK = top_k(normal(400, 4) - torch.arange(4) / 2, 1)
    gates_TK = normal(400, 1, seed=1).sigmoid()
    dropped = {
        policy: ~within_capacity(experts_TK, gates_TK, 4, 100, policy, generator=generator(2))
        for policy in POLICIES
    }
    quarters = {policy: rows.view(4, 100).double().mean(-1) for policy, rows in dropped.items()}
    assert len({rows.sum().item() for rows in dropped.values()}) == 1
    for policy in ("first_choices", "position"):
        assert quarters[policy][0] == 0
        assert quarters[policy][3] > 0.3
    for policy in ("gate", "random"):
        assert quarters[policy].max() - quarters[policy].min() < 0.2


def test_gates_that_are_all_one_leave_only_the_order() -> None:
    router = Router(8, 4, 1)
    routing = router(normal(40, 8, dtype=torch.float32))
    same(
        limit_capacity(routing, 0.7, "gate").kept_TK,
        limit_capacity(routing, 0.7, "position").kept_TK,
    )


# --- bad input ------------------------------------------------------------------------------

IDS, GATES = torch.tensor([[0, 1], [1, 2]]), torch.tensor([[0.6, 0.4], [0.5, 0.5]])
LOGITS = torch.zeros(2, 3)


def routed() -> Routing:
    return Routing(LOGITS, softmax(LOGITS), IDS, GATES)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: expert_capacity(-1, 4, 1, 1.0), ValueError, "num_tokens must be at least 0"),
        (lambda: expert_capacity(8.0, 4, 1, 1.0), TypeError, "num_tokens must be an int"),
        (lambda: expert_capacity(8, 0, 1, 1.0), ValueError, "num_experts must be at least 1"),
        (lambda: expert_capacity(8, 4, 5, 1.0), ValueError, "k must be between 1 and"),
        (lambda: expert_capacity(8, 4, 1, 0.0), ValueError, "capacity_factor must be positive"),
        (
            lambda: expert_capacity(8, 4, 1, math.nan),
            ValueError,
            "capacity_factor must be positive",
        ),
        (lambda: expert_capacity(8, 4, 1, math.inf), ValueError, "capacity_factor must be finite"),
        (lambda: expert_capacity(8, 4, 1, "1"), TypeError, "capacity_factor must be a number"),
        (lambda: within_capacity(IDS.int(), GATES, 3, 1), TypeError, "experts_TK must hold int64"),
        (
            lambda: within_capacity([[0]], GATES, 3, 1),
            TypeError,
            "experts_TK must hold int64 expert ids, got list",
        ),
        (lambda: within_capacity(IDS[0], GATES[0], 3, 1), ValueError, "at least 2 dimensions"),
        (lambda: within_capacity(IDS, GATES, 2, 1), ValueError, "ids from 0 to 1, got 2"),
        (lambda: within_capacity(IDS, GATES, 1, 1), ValueError, "k must be between 1 and"),
        (lambda: within_capacity(IDS * 0, GATES, 3, 1), ValueError, "once per token, got 0 twice"),
        (lambda: within_capacity(IDS, GATES[:1], 3, 1), ValueError, "gates_TK must have the shape"),
        (lambda: within_capacity(IDS, IDS, 3, 1), TypeError, "gates_TK must have a floating"),
        (lambda: within_capacity(IDS, GATES / 0, 3, 1), ValueError, "gates_TK must be finite"),
        (lambda: within_capacity(IDS, GATES.to("meta"), 3, 1), ValueError, "on one device"),
        (lambda: within_capacity(IDS, GATES, 3, -1), ValueError, "capacity must be at least 0"),
        (lambda: within_capacity(IDS, GATES, 3, 1.5), TypeError, "capacity must be an int"),
        (lambda: within_capacity(IDS, GATES, 3, 1, "order"), ValueError, "policy must be one of"),
        (
            lambda: within_capacity(IDS, GATES, 3, 1, mask_T=torch.ones(2)),
            TypeError,
            "mask_T must be a bool tensor",
        ),
        (
            lambda: within_capacity(IDS, GATES, 3, 1, mask_T=torch.ones(3).bool()),
            ValueError,
            r"mask_T must have one entry per token of experts_TK, shape \(2,\)",
        ),
        (
            lambda: within_capacity(IDS, GATES, 3, 1, generator=0),
            TypeError,
            "generator must be a torch.Generator",
        ),
        (lambda: limit_capacity(routed(), 0), ValueError, "capacity_factor must be positive"),
        (
            lambda: limit_capacity(routed(), 1.0, mask_T=torch.zeros(2).bool()),
            ValueError,
            "mask_T must keep at least one token",
        ),
        (lambda: expert_choice(LOGITS, -1), ValueError, "capacity must be at least 0"),
        (lambda: expert_choice(LOGITS / 0, 1), ValueError, "logits_TE must be finite"),
        (lambda: expert_choice(LOGITS, 1, mask_T=IDS.bool()), ValueError, "mask_T must have one"),
        (
            lambda: dispatch_kept(
                torch.zeros(3, 8), limit_capacity(routed(), 1.0), Experts(3, 8, 4)
            ),
            ValueError,
            r"routing must decide for the tokens of x_TD, \(3,\), got \(2,\)",
        ),
        (lambda: expected_drops(LOGITS - 1, 4, 1), ValueError, "between 0 and 1, got -1.0"),
        (lambda: expected_drops(LOGITS + 2, 4, 1), ValueError, "between 0 and 1, got 2.0"),
        (lambda: expected_drops(LOGITS, 4.0, 1), TypeError, "num_tokens must be an int"),
        (lambda: expected_drops(LOGITS, 4, -1), ValueError, "capacity must be at least 0"),
        (lambda: future_leak(lambda x: x, LOGITS[None]), ValueError, "x_SD must be one sequence"),
        (lambda: future_leak(lambda x: x, LOGITS / 0), ValueError, "x_SD must be finite"),
        (lambda: future_leak(lambda x: x, LOGITS, 0), TypeError, "generator must be a torch"),
    ],
)
def test_bad_input_is_refused_by_name(
    call: Callable[[], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call()
