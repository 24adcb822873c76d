"""What many devices cost: against sums by hand, chance, and what others have measured."""

import math
from typing import Any

import pytest
import torch

from moe_tutorial import expert_capacity, expert_load
from moe_tutorial.parallel.scaling import (
    Device,
    Row,
    bytes_across,
    bytes_per_token,
    exchange_over_compute,
    layer_time,
    nodes_visited,
    rows_sent,
    tokens_for,
)

# Mixtral, DeepSeek-V3, OLMoE: D and F; half of an H100's 989 TFLOP/s; 50 GB/s.
HALF_H100 = Device(flops=989e12 / 2, bandwidth=50e9)
MIXTRAL, DEEPSEEK, OLMOE = Row(4096, 14336), Row(7168, 2048), Row(2048, 1024)


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def chosen(*shape: int, experts: int, k: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, experts, generator=source(seed)).topk(k).indices


def test_exchange_over_compute_depends_on_the_experts_width_alone() -> None:
    for row, wanted in ((MIXTRAL, 0.46), (DEEPSEEK, 3.22), (OLMOE, 6.44)):
        assert exchange_over_compute(row, HALF_H100) == pytest.approx(wanted, abs=0.005)
        wider = Row(9 * row.model_width, row.hidden_width)
        assert exchange_over_compute(wider, HALF_H100) == pytest.approx(wanted, abs=0.005)


def test_deepseek_v3_reports_about_one_second_of_exchange_for_one_of_compute() -> None:
    """A row crosses once for each of at most 4 nodes: 4 crossings for 8 experts; float8 out."""
    row = Row(7168, 2048, bytes_out=1, bytes_back=2)
    assert 4 / 8 * exchange_over_compute(row, HALF_H100) == pytest.approx(1.0, abs=0.25)


# DeepEP's low-latency kernels on H800: 128 tokens a device, D = 7168, top 8, float8 out, bfloat16
# back: ranks, microseconds and GB/s out, microseconds and GB/s back.
DEEPEP = [
    (8, 77, 98, 114, 127), (16, 118, 63, 195, 74), (32, 155, 48, 273, 53),
    (64, 173, 43, 314, 46), (128, 192, 39, 369, 39), (256, 194, 39, 360, 40),
]  # fmt: skip


@pytest.mark.parametrize(("ranks", "out_us", "out_gbs", "back_us", "back_gbs"), DEEPEP)
def test_bytes_and_seconds_are_those_that_deepep_measured(
    ranks: int, out_us: float, out_gbs: float, back_us: float, back_gbs: float
) -> None:
    # Its bandwidth counts every row, at home or not; float8 has a 4-byte scale for 128 numbers.
    row = Row(7168, 2048, bytes_out=1 + 4 / 128, bytes_back=2)
    rows = 128 * 8
    assert rows * 7168 * row.bytes_out / out_gbs / 1e3 == pytest.approx(out_us, rel=0.03)
    assert rows * 7168 * row.bytes_back / back_gbs / 1e3 == pytest.approx(back_us, rel=0.03)
    # As a whole: the model's exchange with the measured bandwidth, experts anywhere.
    even = torch.full((ranks, ranks), rows // ranks)
    both = Device(
        1e15, row.bytes() / (row.bytes_out / out_gbs + row.bytes_back / back_gbs) / 7168 * 1e9
    )
    found = layer_time(even, row, both).exchange.item() * 1e6
    assert found == pytest.approx((out_us + back_us) * (1 - 1 / ranks), rel=0.03)


def test_bytes_of_a_token_are_what_random_choices_send() -> None:
    row, ranks, tokens, k = Row(16, 8, 1, 2), 4, 2000, 3
    rows_WW = rows_sent(chosen(ranks, tokens, experts=8, k=k), 8)
    away = rows_WW.sum() - rows_WW.trace()
    sent = away.item() * row.bytes() / (ranks * tokens)
    assert sent == pytest.approx(bytes_per_token(row, k, ranks), rel=0.02)
    assert bytes_per_token(row, k, 1) == 0


def test_rows_are_counted_as_one_by_one() -> None:
    experts = chosen(2, 4, 5, experts=8, k=3)
    rows = rows_sent(experts, 8)
    assert rows.shape == (2, 4, 4)
    for copy in range(2):
        for a in range(4):
            for b in range(4):
                wanted = sum(e // 2 == b for e in experts[copy, a].flatten().tolist())
                assert rows[copy, a, b] == wanted


def test_seconds_by_hand() -> None:
    # Two ranks; the first sends 3 rows and gets 10, so an exchange takes as long as 10 rows do.
    rows_WW = torch.tensor([[5, 3], [10, 2]])
    found = layer_time(rows_WW, Row(4, 3), Device(flops=72, bandwidth=16, latency=0.5))
    assert found.exchange.item() == 2 * 0.5 + 10 * 16 / 16
    assert found.compute_W.tolist() == [15.0, 5.0]
    assert found.waiting_W.tolist() == [0.0, 10.0]
    assert found.total.item() == 26.0


def test_imbalance_belongs_to_experts_and_not_to_copies() -> None:
    """Loads of experts differ; more copies add little to what the slowest copy needs."""
    weights_E = torch.linspace(1, 3, 16).log()
    noise_NE = -torch.log(-torch.log(torch.rand(4000, 16, generator=source())))
    experts_NK = (weights_E + noise_NE).topk(2).indices
    ratio = {}
    for ranks in (2, 4, 16):
        rows = rows_sent(tokens_for(experts_NK, (32, ranks), 200, source(1)), 16)
        total_C = layer_time(rows, OLMOE, HALF_H100).total
        arrived = rows.sum(-2).double()
        ratio[ranks] = (arrived.amax(-1) / arrived.mean(-1)).mean().item()
        assert 1 <= total_C.max() / total_C.mean() < 1.25
    assert 1.05 < ratio[2] < ratio[4] < ratio[16]


def test_stretches_are_neighbours_in_the_text() -> None:
    text_NK = torch.arange(10)[:, None]
    found = tokens_for(text_NK, (3, 2), 4, source())
    assert found.shape == (3, 2, 4, 1)
    assert bool(((found.diff(dim=-2) % 10) == 1).all())


def test_capacity_of_each_rank_alone_drops_more_on_more_ranks() -> None:
    """The same capacity factor, for the tokens of a rank: fewer tokens, larger swings."""
    experts_NK = chosen(4096, experts=16, k=2)
    share = []
    for ranks in (1, 16, 128):
        loads = [expert_load(it, 16) for it in experts_NK.view(ranks, -1, 2)]
        capacity = expert_capacity(4096 // ranks, 16, 2, 1.25)
        share.append(sum((it - capacity).clamp(min=0).sum().item() for it in loads) / 8192)
    assert share[0] == 0
    assert share[0] < share[1] < share[2]
    assert share[2] > 0.05


def test_a_row_that_crosses_once_pays_for_nodes() -> None:
    experts_TK = torch.tensor([[0, 1, 4], [2, 5, 6], [0, 2, 3]])  # nodes 0 0 2, 1 2 3, 0 1 1
    assert nodes_visited(experts_TK, 8, 4).tolist() == [2, 3, 2]
    assert bytes_across(experts_TK, 8, 4, 0, 10.0, once=False) == 10 * (1 + 3 + 2)
    assert bytes_across(experts_TK, 8, 4, 0, 10.0, once=True) == 10 * (1 + 3 + 1)
    assert bytes_across(experts_TK, 8, 4, 3, 10.0, once=True) == 10 * (2 + 2 + 2)
    # 8 of 64 experts at random visit 8 (1 - C(56, 8) / C(64, 8)) of 8 nodes.
    at_random = nodes_visited(chosen(20000, experts=64, k=8), 64, 8).double().mean()
    assert at_random == pytest.approx(8 * (1 - math.comb(56, 8) / math.comb(64, 8)), rel=0.01)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Device(0, 1), "flops must be positive"),
        (lambda: Device(1, -1), "bandwidth must be positive"),
        (lambda: Device(1, 1, -1), "latency must be at least 0, got -1"),
        (lambda: Row(0, 1), "model_width must be at least 1"),
        (lambda: Row(1, 1, bytes_back=0), "bytes_back must be positive"),
        (lambda: rows_sent(chosen(4, experts=8, k=2), 8), r"must have shape \[W, T, K\], got"),
        (lambda: rows_sent(chosen(3, 4, experts=8, k=2), 8), "multiple of 3 ranks, got 8"),
        (lambda: rows_sent(torch.zeros(2, 3, 2).long(), 8), "name an expert once"),
        (lambda: nodes_visited(chosen(4, experts=8, k=2), 8, 3), "multiple of 3 nodes, got 8"),
        (
            lambda: bytes_across(chosen(4, experts=8, k=2), 8, 4, 4, 1, once=True),
            "my_node must be from 0 to 3, got 4",
        ),
        (lambda: bytes_per_token(OLMOE, 0, 2), "k must be at least 1"),
        (lambda: tokens_for(torch.zeros(3, 1).long(), (2,), 0, source()), "tokens must be at"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(call: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()
