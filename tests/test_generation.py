"""Generated text: what a model that knows one thing writes, and that draws follow its odds."""

import pytest
import torch

from moe_tutorial import Attention, Block, FeedForward, LanguageModel
from moe_tutorial.learning.generation import continued


def build(vocabulary: int = 256) -> LanguageModel:
    torch.manual_seed(0)
    blocks = [Block(Attention(8, 2), FeedForward(8, 16))]
    return LanguageModel(blocks, vocabulary).double()


def test_it_is_the_model_asked_again_and_again() -> None:
    model = build()
    text = continued(model, b"ab", 9, window=4, generator=torch.Generator().manual_seed(3))
    assert text[:2] == b"ab"
    assert len(text) == 11
    draws = torch.Generator().manual_seed(3)
    by_hand = [97, 98]
    with torch.no_grad():
        for _ in range(9):
            odds_V = model(torch.tensor([by_hand[-4:]])).logits_BSV[0, -1].softmax(0)
            by_hand.append(int(torch.multinomial(odds_V, 1, generator=draws)))
    assert text == bytes(by_hand)


def test_a_low_temperature_takes_the_likeliest_byte() -> None:
    model = build()
    text = continued(model, b"a", 5, temperature=1e-3)
    for end in range(1, 6):
        logits_V = model(torch.tensor([list(text[:end])])).logits_BSV[0, -1]
        assert text[end] == int(logits_V.argmax())


def test_draws_follow_the_odds() -> None:
    model = build()
    odds_V = model(torch.tensor([[5]])).logits_BSV[0, -1].softmax(0)
    draws = torch.Generator().manual_seed(0)
    drawn = [continued(model, b"\5", 1, generator=draws)[1] for _ in range(2000)]
    counts_V = torch.bincount(torch.tensor(drawn), minlength=256)
    statistic = ((counts_V - 2000 * odds_V) ** 2 / (2000 * odds_V)).sum().item()
    assert statistic < 255 + 4 * (2 * 255) ** 0.5  # chi-squared: mean 255, variance 510


def test_the_mode_of_each_module_is_kept() -> None:
    model = build()
    model.norm.eval()
    continued(model, b"a", 1)
    assert model.training
    assert not model.norm.training


def test_wrong_arguments_are_named() -> None:
    model = build()
    with pytest.raises(ValueError, match="prompt must hold at least one byte"):
        continued(model, b"", 1)
    with pytest.raises(TypeError, match="prompt"):
        continued(model, "a", 1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="count"):
        continued(model, b"a", 0)
    with pytest.raises(ValueError, match="temperature"):
        continued(model, b"a", 1, temperature=0)
    with pytest.raises(ValueError, match="model must predict 256 bytes, got a vocabulary of 99"):
        continued(build(99), b"a", 1)
