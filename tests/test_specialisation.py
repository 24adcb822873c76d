"""Specialisation: equal to entropies from SciPy, and to chance where there is only that."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from moe_tutorial.learning.specialisation import (
    BYTE_KINDS,
    byte_kinds,
    joint_counts,
    mutual_information,
    specialisation,
)
from tests.oracles import generator, same

tables = st.integers(1, 4).flatmap(
    lambda columns: st.lists(
        st.lists(st.integers(0, 30), min_size=columns, max_size=columns), min_size=1, max_size=4
    )
)


@given(tables.filter(lambda rows: sum(map(sum, rows)) > 0))
def test_mutual_information_by_three_entropies(rows: list[list[int]]) -> None:
    counts = torch.tensor(rows)
    by_entropies = (
        stats.entropy(counts.sum(1))
        + stats.entropy(counts.sum(0))
        - stats.entropy(counts.flatten())
    )
    information = mutual_information(counts).item()
    assert information == pytest.approx(by_entropies, abs=1e-12)
    assert information >= -1e-12
    assert mutual_information(counts.T).item() == pytest.approx(information, abs=1e-12)
    assert mutual_information(counts.flip(0, 1)).item() == pytest.approx(information, abs=1e-12)


def test_mutual_information_at_both_ends() -> None:
    assert mutual_information(torch.eye(4)).item() == pytest.approx(math.log(4))
    assert mutual_information(torch.ones(3, 5)).item() == pytest.approx(0, abs=1e-15)
    both = mutual_information(torch.stack([torch.eye(2), torch.ones(2, 2)]))
    same(both, torch.tensor([math.log(2), 0.0], dtype=torch.float64), atol=1e-12)


def test_counts_one_by_one() -> None:
    labels = torch.randint(3, (4, 5), generator=generator(0))
    experts = torch.stack([torch.randperm(6, generator=generator(i))[:2] for i in range(20)])
    counts = joint_counts(labels, experts.view(4, 5, 2), 3, 6)
    by_hand = torch.zeros(3, 6, dtype=torch.int64)
    for label, chosen in zip(labels.flatten().tolist(), experts.tolist(), strict=True):
        for expert in chosen:
            by_hand[label, expert] += 1
    same(counts, by_hand)
    assert counts.sum() == 40


def test_every_byte_has_the_kind_that_its_character_has(device: torch.device) -> None:
    text = "Aé 9_\n\0日" * 2
    kinds = byte_kinds(torch.tensor(list(text.encode()), device=device).view(2, -1))
    names = [BYTE_KINDS[kind] for kind in kinds[0].tolist()]
    assert names == [
        "letter", "start of a longer character", "rest of a longer character", "white space",
        "digit", "punctuation", "white space", "end of a document", "start of a longer character",
        "rest of a longer character", "rest of a longer character",
    ]  # fmt: skip
    assert kinds.device.type == device.type
    assert len(byte_kinds(torch.arange(256)).unique()) == len(BYTE_KINDS)


def draws(windows: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels, and experts that have nothing to do with them but are alike within a window."""
    labels = torch.randint(3, (60, 1) if windows else (60, 50), generator=generator(1))
    liked = torch.randint(4, (60, 1), generator=generator(2))
    other = torch.randint(4, (60, 50), generator=generator(3))
    often = torch.rand(60, 50, generator=generator(4)) < 0.8
    return labels.expand(60, 50), torch.where(often, liked, other)[..., None]


@pytest.mark.parametrize("windows", [True, False])
def test_chance_is_what_the_shuffles_say(windows: bool) -> None:
    labels, experts = draws(windows)
    found = specialisation(labels, experts, 3, 4, windows=windows, shuffles=200)
    assert found.information < 2.5 * found.shuffled
    assert found.shuffled > 0


def test_tokens_of_one_window_are_no_independent_draws() -> None:
    labels, experts = draws(windows=True)
    rightly = specialisation(labels, experts, 3, 4, windows=True, shuffles=200)
    wrongly = specialisation(labels, experts, 3, 4, windows=False, shuffles=200)
    # Without structure, (L - 1)(E - 1) / 2n is what chance gives.
    assert wrongly.shuffled == pytest.approx(2 * 3 / (2 * 3000), rel=0.3)
    assert rightly.shuffled > 10 * wrongly.shuffled


@pytest.mark.parametrize("windows", [True, False])
def test_every_tensor_names_its_device(windows: bool) -> None:
    labels, experts = draws(windows)
    text = torch.arange(256)
    expected = specialisation(labels, experts, 3, 4, windows=windows)
    kinds = byte_kinds(text)
    torch.set_default_device("meta")
    try:
        assert specialisation(labels, experts, 3, 4, windows=windows) == expected
        same(byte_kinds(text), kinds)
    finally:
        torch.set_default_device("cpu")


def test_an_expert_for_each_label_tells_all() -> None:
    labels = torch.randint(4, (40, 10), generator=generator(0))
    found = specialisation(labels, labels[..., None], 4, 4, windows=False)
    assert found.information == pytest.approx(found.label_entropy)
    assert found.label_entropy == pytest.approx(stats.entropy(labels.flatten().bincount()))
    assert found.shuffled < 0.05
    assert found == specialisation(labels, labels[..., None], 4, 4, windows=False)


def test_what_is_given_is_taken_away() -> None:
    # A byte decides the expert, and a domain decides which bytes there are, so that the domain
    # tells much about the expert, but nothing that the byte does not tell.
    domain = torch.randint(3, (400, 1), generator=generator(0)).expand(400, 20)
    byte = 2 * domain + torch.randint(4, (400, 20), generator=generator(1))
    experts = (byte % 5)[..., None]
    alone = specialisation(domain, experts, 3, 5, windows=True)
    beyond = specialisation(domain, experts, 3, 5, windows=True, given_BS=byte)
    assert alone.information > 10 * alone.shuffled
    assert beyond.information == pytest.approx(0, abs=1e-12)
    # Told the byte, one still does not know the domain.
    joint, given = (stats.entropy(ids.flatten().bincount()) for ids in (domain * 10 + byte, byte))
    assert beyond.label_entropy == pytest.approx(joint - given)
    assert beyond.label_entropy < alone.label_entropy


@pytest.mark.parametrize("windows", [True, False])
def test_what_adds_to_the_given_is_found_and_chance_is_not(windows: bool) -> None:
    labels, experts = draws(windows)
    byte = torch.randint(6, (60, 50), generator=generator(5))
    chance = specialisation(labels, experts, 3, 4, windows=windows, given_BS=byte, shuffles=200)
    assert 0 < chance.information < 2.5 * chance.shuffled
    both = ((byte + labels) % 4)[..., None]
    found = specialisation(labels, both, 3, 4, windows=windows, given_BS=byte)
    assert found.information == pytest.approx(found.label_entropy)
    assert found.shuffled < 0.2 * found.information


ONES, IDS = torch.ones(2, 3, dtype=torch.int64), torch.tensor([0, 1]).expand(2, 3, 2)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: joint_counts(ONES, IDS, 0, 2), ValueError, "num_labels must be at least 1"),
        (lambda: joint_counts(ONES, IDS, 1, 2), ValueError, "labels_T must hold ids from 0 to 0"),
        (lambda: joint_counts(-ONES, IDS, 2, 2), ValueError, "labels_T .* got -1"),
        (lambda: joint_counts(ONES[0], IDS, 2, 2), ValueError, "labels_T must have the tokens'"),
        (lambda: joint_counts(ONES.float(), IDS, 2, 2), TypeError, "labels_T must hold int64"),
        (lambda: joint_counts([1], IDS, 2, 2), TypeError, "labels_T must hold int64 ids, got list"),
        (lambda: joint_counts(ONES, IDS + 1, 2, 2), ValueError, "experts_TK must hold ids"),
        (lambda: joint_counts(ONES, IDS.float(), 2, 2), TypeError, "experts_TK must hold int64"),
        (lambda: mutual_information([[1]]), TypeError, "counts_LE must be a torch.Tensor"),
        (lambda: mutual_information(torch.ones(3)), ValueError, r"counts_LE .* \[L, E\]"),
        (lambda: mutual_information(torch.zeros(2, 2)), ValueError, "must not be all zeros"),
        (lambda: mutual_information(-torch.eye(2)), ValueError, "must not be negative, got -1"),
        (
            lambda: mutual_information(torch.full((2, 2), math.nan)),
            ValueError, "counts_LE must be finite, got nan",
        ),
        (
            lambda: specialisation(ONES, IDS, 2, 2, windows=True, given_BS=-ONES),
            ValueError, "given_BS must hold ids from 0 to",
        ),
        (
            lambda: specialisation(ONES, IDS, 2, 2, windows=True, given_BS=ONES[0]),
            ValueError, "given_BS must have the shape of labels_BS",
        ),
        (
            lambda: specialisation(2 * ONES, IDS, 2, 2, windows=True, given_BS=ONES),
            ValueError, "labels_BS must hold ids from 0 to 1, got 2",
        ),
        (
            lambda: specialisation(ONES, IDS, 2, 2, windows=True, shuffles=0),
            ValueError, "shuffles must be at least 1",
        ),
    ],
)  # fmt: skip
def test_bad_input_is_refused_by_name(
    call: Callable[[], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call()
