"""The stored benchmark in words: sizes, rows for each expert, and who was fastest."""

import pytest

from moe_tutorial.results import stored
from moe_tutorial.results.layers import KINDS, MeasuredLayer, measured_layers

LAYERS = measured_layers()


def layer(words: str) -> MeasuredLayer:
    return next(it for it in LAYERS if it.words == words)


def test_every_size_is_there_once_under_words_of_its_own() -> None:
    assert len({it.words for it in LAYERS}) == len(LAYERS) == len(stored("layer")["cells"])
    tokens = [it.tokens for it in LAYERS]
    assert tokens == sorted(tokens)


def test_rows_are_shared_by_the_experts_that_have_any() -> None:
    assert layer("1 token, 8 small").rows_per_expert == pytest.approx(1)
    assert layer("1 token, 64 medium").busy_experts == pytest.approx(8)
    assert layer("65536 tokens, 8 small").rows_per_expert == pytest.approx(65536 * 2 / 8)
    assert layer("64 tokens, 8 large").expert_weights == 3 * 512 * 1792


def test_every_other_implementation_belongs_to_one_kind() -> None:
    named = [name for names in KINDS.values() for name in names]
    limits = {"dense chain", "segmented", "ours", "ours, loop", "ours, grouped"}
    assert len(named) == len(set(named))
    assert set(named) == set(LAYERS[0].implementations) - limits


def test_the_fastest_is_the_one_beside_which_ours_takes_longest() -> None:
    found = layer("1 token, 8 small")
    name, ratio = found.fastest("all") or ("", 0)
    assert name == "torchtitan style"
    assert (
        ratio
        == found.ratio(name)
        == max(found.ratio(it) for names in KINDS.values() for it in names if found.took_part(it))
    )
    last = layer("65536 tokens, 8 small")
    assert last.fastest("one-hot or copies") is None
    assert not last.took_part("st-moe-pytorch")
    assert found.rate("ours") > 0
    with pytest.raises(ValueError, match=r"kind must be one of all, masks, .* got 'loops'"):
        found.fastest("loops")
