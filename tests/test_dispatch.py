"""Dispatch against a loop over tokens in float64, forward and every gradient."""

from typing import Any
from unittest import mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from moe_tutorial.layer.assignments import (
    expert_blocks,
    gather_rows,
    run_blocks,
    sort_assignments,
    sum_rows,
)
from moe_tutorial.layer.dispatch import chosen_method, dispatch
from moe_tutorial.layer.feed_forward import ExpertWeights, activate
from moe_tutorial.layer.memory import FEW_ROWS, empty, gradient_of, zeros

ACTIVATIONS = ["gelu", "swiglu"]
# One row of a matrix product may be calculated by another kernel than many rows.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 1e-2}

OURS = "grouped with our backward"
"""Small float32 weights leave the backward to autograd; this asks for ours all the same."""

GROUPED = ["grouped", OURS] if hasattr(torch.nn.functional, "grouped_mm") else []
METHODS = ["loop", *GROUPED]
needs_grouped = pytest.mark.skipif(not GROUPED, reason="this torch has no grouped_mm")


def one_token_at_a_time(
    x_TD: Tensor,
    gates_TK: Tensor,
    in_EHD: Tensor,
    out_EDF: Tensor,
    in_bias_EH: Tensor | None = None,
    out_bias_ED: Tensor | None = None,
    *,
    experts_TK: Tensor,
    activation: str,
) -> Tensor:
    """The formula, written for a reader and not for a machine."""
    y_TD = []
    for t, u in enumerate(x_TD):
        y = torch.zeros_like(u)
        for k, e in enumerate(experts_TK[t].tolist()):
            hidden = in_EHD[e] @ u
            if in_bias_EH is not None:
                hidden = hidden + in_bias_EH[e]
            output = out_EDF[e] @ activate(hidden[None], activation)[0]  # type: ignore[arg-type]
            if out_bias_ED is not None:
                output = output + out_bias_ED[e]
            y = y + gates_TK[t, k] * output
        y_TD.append(y)
    return torch.stack(y_TD) if y_TD else x_TD * 1


def problem(
    T: int,
    E: int,
    K: int,
    *,
    activation: str = "gelu",
    bias: bool = False,
    dtype: torch.dtype = torch.float64,
    D: int = 16,
    F: int = 24,
    seed: int = 0,
) -> tuple[Tensor, list[Tensor], Tensor]:
    """Expert ids, the differentiable arguments (tokens, gates, weights) and an output gradient."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    H = F if activation == "gelu" else 2 * F
    experts_TK = torch.rand(T, E, generator=generator).argsort(-1)[:, :K]
    arguments = [draw(T, D), draw(T, K), draw(E, H, D) / D**0.5, draw(E, D, F) / F**0.5]
    if bias:
        arguments += [draw(E, H), draw(E, D)]
    return experts_TK, [a.requires_grad_() for a in arguments], draw(T, D)


def outputs_and_gradients(
    experts_TK: Tensor, arguments: list[Tensor], grad_y_TD: Tensor, activation: Any, method: Any
) -> list[Tensor]:
    y_TD = run(experts_TK, arguments, activation, method)
    return [y_TD.detach(), *torch.autograd.grad(y_TD, arguments, grad_y_TD)]


def run(experts_TK: Tensor, arguments: list[Tensor], activation: Any, method: Any) -> Tensor:
    x_TD, gates_TK, *weights = arguments
    if method == OURS:
        with mock.patch("moe_tutorial.layer.dispatch.autograd_serves", return_value=False):
            return run(experts_TK, arguments, activation, "grouped")
    experts = ExpertWeights(weights[0], weights[1], activation, *weights[2:])
    return dispatch(x_TD, experts_TK, gates_TK, experts, method=method)


def expected(
    experts_TK: Tensor, arguments: list[Tensor], grad_y_TD: Tensor, activation: str
) -> list[Tensor]:
    exact = [a.detach().double().requires_grad_() for a in arguments]
    y_TD = one_token_at_a_time(*exact, experts_TK=experts_TK, activation=activation)
    gradients = torch.autograd.grad(y_TD, exact, grad_y_TD.double(), allow_unused=True)
    filled = [
        torch.zeros_like(a) if g is None else g for a, g in zip(exact, gradients, strict=True)
    ]
    return [y_TD.detach(), *filled]


def relative_error(found: Tensor, exact: Tensor) -> float:
    if exact.numel() == 0:
        return float(found.numel())
    return ((found.double() - exact).norm() / exact.norm().clamp(min=1e-30)).item()


def methods(dtype: torch.dtype, bias: bool) -> list[str]:
    return ["loop"] if bias or dtype == torch.float64 else METHODS


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(
    ("T", "E", "K"), [(60, 6, 2), (60, 6, 6), (60, 1, 1), (5, 32, 4), (2, 6, 2), (0, 6, 2)]
)
def test_outputs_and_every_gradient(
    T: int, E: int, K: int, activation: str, bias: bool, dtype: torch.dtype
) -> None:
    experts_TK, arguments, grad_y_TD = problem(
        T, E, K, activation=activation, bias=bias, dtype=dtype
    )
    exact = expected(experts_TK, arguments, grad_y_TD, activation)
    for method in methods(dtype, bias):
        found = outputs_and_gradients(experts_TK, arguments, grad_y_TD, activation, method)
        for mine, theirs in zip(found, exact, strict=True):
            assert mine.dtype == dtype
            assert relative_error(mine, theirs) < TOLERANCE[dtype]


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_all_tokens_to_one_expert_and_none_to_the_others(
    method: str, large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if large:
        monkeypatch.setattr("moe_tutorial.layer.memory.LARGE", 1)
    experts_TK, arguments, grad_y_TD = problem(40, 5, 1, dtype=torch.float32)
    experts_TK = torch.full_like(experts_TK, 3)
    found = outputs_and_gradients(experts_TK, arguments, grad_y_TD, "gelu", method)
    exact = expected(experts_TK, arguments, grad_y_TD, "gelu")
    for mine, theirs in zip(found, exact, strict=True):
        assert relative_error(mine, theirs) < 2e-6
    idle = [0, 1, 2, 4]
    assert found[3][idle].abs().max() == found[4][idle].abs().max() == 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(3, 5, 7), (1,), (0, 4)])
def test_zeros_are_those_of_torch(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    memory = zeros(torch.empty(1, dtype=dtype), *shape)
    assert torch.equal(memory, torch.zeros(shape, dtype=dtype))
    assert memory.dtype == dtype
    assert memory.data_ptr() % 64 == 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("large", [False, True])
def test_memory_is_as_asked_for(
    large: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    if large:
        monkeypatch.setattr("moe_tutorial.layer.memory.LARGE", 1)
    memory = empty(torch.empty(1, dtype=dtype), 3, 5, 7)
    assert memory.shape == (3, 5, 7)
    assert memory.dtype == dtype
    assert memory.is_contiguous()
    assert memory.data_ptr() % 64 == 0
    assert torch.equal(memory.fill_(2), torch.full((3, 5, 7), 2, dtype=dtype))


@pytest.mark.parametrize("rows", [9, 9 * FEW_ROWS])
@pytest.mark.parametrize("transposed", [False, True])
@given(st.permutations(range(9)), st.integers(0, 9))
def test_gradients_of_idle_experts_are_zero_in_used_memory(
    transposed: bool, rows: int, ids: list[int], num_idle: int
) -> None:
    idle, busy = ids[:num_idle], ids[num_idle:]
    weight_EHD = torch.empty(9, 4, 6).mT if transposed else torch.empty(9, 6, 4)

    def used(like: Tensor, *shape: int) -> Tensor:
        return like.new_full(shape, torch.nan)

    large_pages = mock.Mock(side_effect=used)
    name = "moe_tutorial.layer.memory.empty"
    with mock.patch(name, large_pages), mock.patch.object(Tensor, "new_empty", used):
        gradient_EHD = gradient_of(weight_EHD, [(e, slice(0, rows)) for e in sorted(busy)])
    assert large_pages.called == (num_idle <= 2 and rows < 9 * FEW_ROWS)
    assert gradient_EHD.shape == weight_EHD.shape
    assert gradient_EHD.stride() == weight_EHD.stride()
    for e in idle:
        assert gradient_EHD[e].count_nonzero() == 0


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("bias", [False, True])
def test_gradcheck(activation: Any, bias: bool) -> None:
    experts_TK, arguments, _ = problem(5, 4, 2, activation=activation, bias=bias, D=3, F=4)

    def run(x_TD: Tensor, gates_TK: Tensor, *weights: Tensor) -> Tensor:
        experts = ExpertWeights(weights[0], weights[1], activation, *weights[2:])
        return dispatch(x_TD, experts_TK, gates_TK, experts)

    assert torch.autograd.gradcheck(run, arguments)
    assert torch.autograd.gradgradcheck(run, arguments)


@given(st.integers(0, 30), st.integers(1, 9), st.integers(0, 2**31))
def test_permuting_experts_or_tokens_permutes_the_result(T: int, E: int, seed: int) -> None:
    K = 1 + seed % E
    experts_TK, (x_TD, gates_TK, in_EHD, out_EDF), _ = problem(T, E, K, seed=seed, D=4, F=4)
    y_TD = dispatch(x_TD, experts_TK, gates_TK, ExpertWeights(in_EHD, out_EDF, "gelu"))
    generator = torch.Generator().manual_seed(seed)
    new_id_E, token_T = (
        torch.randperm(E, generator=generator),
        torch.randperm(T, generator=generator),
    )
    old_id_E = new_id_E.argsort()
    renamed = dispatch(
        x_TD,
        new_id_E[experts_TK],
        gates_TK,
        ExpertWeights(in_EHD[old_id_E], out_EDF[old_id_E], "gelu"),
    )
    assert torch.allclose(renamed, y_TD, rtol=1e-12, atol=1e-12)
    shuffled = dispatch(
        x_TD[token_T],
        experts_TK[token_T],
        gates_TK[token_T],
        ExpertWeights(in_EHD, out_EDF, "gelu"),
    )
    assert torch.allclose(shuffled, y_TD[token_T], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_two_runs_give_the_same_bits(method: str) -> None:
    experts_TK, arguments, grad_y_TD = problem(300, 8, 3, dtype=torch.float32, D=64, F=64)
    first = outputs_and_gradients(experts_TK, arguments, grad_y_TD, "gelu", method)
    second = outputs_and_gradients(experts_TK, arguments, grad_y_TD, "gelu", method)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_leading_dimensions_and_strides_do_not_matter() -> None:
    experts_TK, (x_TD, gates_TK, in_EHD, out_EDF), _ = problem(12, 4, 2)
    y_TD = dispatch(x_TD, experts_TK, gates_TK, ExpertWeights(in_EHD, out_EDF, "gelu"))
    batch = dispatch(
        x_TD.reshape(3, 4, 16), experts_TK.reshape(3, 4, 2), gates_TK.reshape(3, 4, 2),
        ExpertWeights(in_EHD.mT.contiguous().mT, out_EDF.mT.contiguous().mT, "gelu"),
    )  # fmt: skip
    assert torch.allclose(batch.reshape(12, 16), y_TD, rtol=1e-13, atol=1e-13)
    strided = dispatch(
        x_TD.T.contiguous().T, experts_TK, gates_TK, ExpertWeights(in_EHD, out_EDF, "gelu")
    )
    assert torch.allclose(strided, y_TD, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("method", METHODS)
def test_weights_may_lie_transposed_in_memory(
    method: str, activation: str, large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if large:  # every result then comes from pages of its own
        monkeypatch.setattr("moe_tutorial.layer.memory.LARGE", 1)
    experts, arguments, grad = problem(40, 5, 2, activation=activation, dtype=torch.float32)
    expected = outputs_and_gradients(experts, arguments, grad, activation, method)
    turned = [weight.detach().mT.contiguous().mT.requires_grad_() for weight in arguments[2:]]
    found = outputs_and_gradients(experts, arguments[:2] + turned, grad, activation, method)
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-6)
    # A gradient that lies otherwise than its weight would be copied by autograd.
    for gradient, weight in zip(found[3:], turned, strict=True):
        assert gradient.stride() == weight.stride() != gradient.contiguous().stride()
    for gradient in expected[3:]:
        assert gradient.is_contiguous()


@pytest.mark.parametrize("method", METHODS)
def test_a_graph_may_be_kept_for_another_backward(method: Any) -> None:
    experts, arguments, grad = problem(20, 4, 2, dtype=torch.float32)
    y = run(experts, arguments, "gelu", method)
    first = torch.autograd.grad(y, arguments, grad, retain_graph=True)
    assert all(map(torch.equal, first, torch.autograd.grad(y, arguments, grad)))
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(y, arguments, grad)


@needs_grouped
def test_without_grouped_mm_the_loop_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    experts_TK, arguments, grad_y_TD = problem(4, 6, 2, dtype=torch.float32)
    x_TD, _, in_EHD, out_EDF = arguments
    assert chosen_method(x_TD, experts_TK, ExpertWeights(in_EHD, out_EDF, "gelu")) == "grouped"
    with_it = outputs_and_gradients(experts_TK, arguments, grad_y_TD, "gelu", None)
    monkeypatch.delattr(torch.nn.functional, "grouped_mm")
    assert chosen_method(x_TD, experts_TK, ExpertWeights(in_EHD, out_EDF, "gelu")) == "loop"
    without = outputs_and_gradients(experts_TK, arguments, grad_y_TD, "gelu", None)
    for a, b in zip(with_it, without, strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="method='grouped' needs"):
        outputs_and_gradients(experts_TK, arguments, grad_y_TD, "gelu", "grouped")


@needs_grouped
@pytest.mark.parametrize(
    ("T", "dtype", "width", "method"),
    [
        (64, torch.float32, 16, "grouped"),
        (4096, torch.float32, 16, "loop"),
        (64, torch.float64, 16, "loop"),
        (64, torch.float32, 18, "loop"),
        (64, torch.bfloat16, 16, "grouped"),
    ],
)
def test_the_rule(T: int, dtype: torch.dtype, width: int, method: str) -> None:
    experts_TK, (x_TD, _, in_EHD, out_EDF), _ = problem(T, 8, 2, dtype=dtype, D=width, F=16)
    assert chosen_method(x_TD, experts_TK, ExpertWeights(in_EHD, out_EDF, "gelu")) == method


@needs_grouped
@pytest.mark.parametrize(
    ("dtype", "num_experts", "ours"),
    [(torch.float32, 8, False), (torch.bfloat16, 8, True), (torch.float32, 2**14, True)],
)
def test_whose_backward(dtype: torch.dtype, num_experts: int, ours: bool) -> None:
    experts_TK, arguments, _ = problem(3, num_experts, 2, dtype=dtype, F=32)
    y_TD = run(experts_TK, arguments, "gelu", "grouped")
    assert y_TD.grad_fn is not None
    source = y_TD.grad_fn.next_functions[0][0]
    assert (source is not None and source.name() == "GroupedBackward") == ours


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x_TD": torch.ones(5, 3)}, ValueError, r"in_EHD must have shape|x_TD must have shape"),
        ({"x_TD": torch.ones(5, 16, dtype=torch.int64)}, TypeError, "x_TD must have a floating"),
        ({"gates_TK": torch.ones(5, 3)}, ValueError, r"gates_TK must have shape \(5, 2\)"),
        ({"gates_TK": torch.full((5, 2), torch.nan)}, ValueError, "gates_TK must be finite"),
        (
            {"experts_TK": torch.ones(5, 2)},
            TypeError,
            "experts_TK must hold int64 expert ids, got torch.float32",
        ),
        ({"experts_TK": torch.tensor([[0, 9]] * 5)}, ValueError, "from 0 to 5, got 9"),
        ({"in_EHD": torch.ones(6, 25, 16)}, ValueError, r"in_EHD must have shape \(6, 24, 16\)"),
        ({"activation": "relu"}, ValueError, "activation must be one of 'gelu', 'swiglu'"),
        ({"in_bias_EH": torch.ones(6, 24)}, ValueError, "must both be given, or neither"),
        ({"out_EDF": torch.ones(6, 16, 24, device="meta")}, ValueError, "out_EDF on meta"),
    ],
)
def test_bad_input_is_refused_by_name(
    change: dict[str, Any], error: type[Exception], message: str
) -> None:
    experts_TK, (x_TD, gates_TK, in_EHD, out_EDF), _ = problem(5, 6, 2, dtype=torch.float32)
    arguments: dict[str, Any] = {
        "x_TD": x_TD,
        "experts_TK": experts_TK,
        "gates_TK": gates_TK,
        "in_EHD": in_EHD,
        "out_EDF": out_EDF,
        "activation": "gelu",
        "in_bias_EH": None,
    } | change
    weights = {name: arguments.pop(name) for name in list(arguments)[3:]}
    with pytest.raises(error, match=message):
        dispatch(**arguments, experts=ExpertWeights(**weights))


def test_without_gradients_no_hidden_numbers_are_kept() -> None:
    experts_TK, (x_TD, gates_TK, in_EHD, out_EDF), _ = problem(
        900, 8, 2, dtype=torch.float32, F=512
    )
    peaks = []
    for enabled in (True, False):
        with (
            torch.set_grad_enabled(enabled),
            torch.profiler.profile(profile_memory=True) as profile,
        ):
            dispatch(
                x_TD, experts_TK, gates_TK, ExpertWeights(in_EHD, out_EDF, "gelu"), method="loop"
            )
        largest = max(abs(event.cpu_memory_usage) for event in profile.events())
        peaks.append(largest)
    all_hidden = 4 * 900 * 2 * 512
    assert peaks[0] >= all_hidden > 2 * peaks[1]


@given(st.integers(0, 12), st.integers(1, 6), st.booleans(), st.integers(0, 2**31))
def test_the_steps_one_by_one_are_dispatch(T: int, E: int, bias: bool, seed: int) -> None:
    K = 1 + seed % E
    experts_TK, (x_TD, gates_TK, *weights), _ = problem(T, E, K, bias=bias, seed=seed, D=4, F=4)
    experts = ExpertWeights(weights[0], weights[1], "gelu", *weights[2:])
    assignments = sort_assignments(experts_TK, E)
    rows_RD = gather_rows(x_TD, assignments)
    outputs_RD = run_blocks(rows_RD, assignments.ends_E, experts)
    y_TD = sum_rows(outputs_RD, assignments, gates_TK)
    assert torch.allclose(y_TD, dispatch(x_TD, experts_TK, gates_TK, experts), atol=1e-12)
    # Rows may be exchanged between the steps: any order of the experts' owners is the same sum.
    for e, block in expert_blocks(assignments.ends_E, T * K):
        assert (experts_TK.flatten()[assignments.order_R[block]] == e).all()
    assert torch.equal(assignments.order_R // K, assignments.token_R)
    assert torch.equal(assignments.order_R[assignments.slot_TK.flatten()], torch.arange(T * K))


@pytest.mark.parametrize("experts", [3, None, torch.ones(2, 2), (torch.ones(2, 2, 2),) * 2])
def test_what_is_no_expert_is_refused_by_name(experts: Any) -> None:
    experts_TK, (x_TD, gates_TK, *_), _ = problem(5, 6, 2)
    with pytest.raises(TypeError, match="experts must be an Experts module or ExpertWeights, got"):
        dispatch(x_TD, experts_TK, gates_TK, experts)
