"""N-gram odds beside dictionaries, and that they are odds."""

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from moe_tutorial.learning.ngrams import count_table, evaluate_ngrams, mixture_odds, ngram_odds
from moe_tutorial.learning.text import Batch, Text, fixed_windows


def text_of(content: bytes) -> Text:
    return Text(("one",), torch.tensor(list(content), dtype=torch.uint8), (0, len(content)))


def batch_of(window: bytes) -> Batch:
    window_BS = torch.tensor([list(window)])
    return Batch(window_BS[:, :-1], window_BS[:, 1:], torch.zeros_like(window_BS[:, 1:]))


def odds_with_dictionaries(content: bytes, context: bytes, byte: int, longest: int) -> float:
    odds = 1 / 256
    for n in range(min(longest, len(context)) + 1):
        end = context[len(context) - n :]
        after = Counter(
            content[i + n] for i in range(len(content) - n) if content[i : i + n] == end
        )
        if after:
            total = sum(after.values())
            odds = (after[byte] + len(after) * odds) / (total + len(after))
    return odds


@given(st.binary(min_size=12, max_size=60), st.binary(min_size=2, max_size=9), st.integers(0, 6))
def test_odds_are_those_of_dictionaries(content: bytes, window: bytes, longest: int) -> None:
    window = window + content[:4]  # something that the table knows
    found_S = ngram_odds(count_table(text_of(content), longest), batch_of(window))[0]
    for s, odds in enumerate(found_S.tolist()):
        expected = odds_with_dictionaries(content, window[: s + 1], window[s + 1], longest)
        assert odds == pytest.approx(expected, rel=1e-12)


@given(st.lists(st.integers(0, 255), min_size=9, max_size=40), st.integers(0, 6))
def test_the_odds_of_all_bytes_sum_to_1(content: list[int], longest: int) -> None:
    table = count_table(text_of(bytes(content)), longest)
    context_BS = torch.tensor([content[:7]]).expand(256, -1)
    targets_BS = torch.cat([context_BS[:, 1:], torch.arange(256)[:, None]], 1)
    odds_BS = ngram_odds(table, Batch(context_BS, targets_BS, torch.zeros_like(targets_BS)))
    assert odds_BS[:, -1].sum().item() == pytest.approx(1)
    assert (odds_BS > 0).all()


def test_it_is_measured_on_the_windows_of_a_model() -> None:
    text = text_of(bytes(range(200)) * 3)
    table = count_table(text, 2)
    ((_, batch),) = fixed_windows(text, 5, 16)
    expected = -ngram_odds(table, batch).log().mean().item()
    assert evaluate_ngrams([table], text, 5, 16) == {"one": pytest.approx(expected)}


def test_a_mixture_follows_the_table_that_fits() -> None:
    tables = [count_table(text_of(line * 9), 2) for line in (b"one two three ", b"eins zwei drei ")]
    batch = batch_of(b"two three one two")
    alone_TS = torch.cat([ngram_odds(table, batch) for table in tables])
    mixed_S = mixture_odds(tables, batch)[0]
    for s in range(len(mixed_S)):  # Bayes' rule in its other form: p(all so far) over p(all before)
        so_far, before = (alone_TS[:, :end].prod(1).mean() for end in (s + 1, s))
        assert mixed_S[s].item() == pytest.approx((so_far / before).item())
    assert torch.allclose(mixed_S[5:], alone_TS[0, 5:], rtol=0.01)
    assert torch.equal(mixture_odds(tables[:1], batch), ngram_odds(tables[0], batch))


def test_wrong_arguments_are_named() -> None:
    text = text_of(b"abcabc")
    with pytest.raises(ValueError, match="longest must be at most 6, got 7"):
        count_table(text, 7)
    with pytest.raises(ValueError, match="longest"):
        count_table(text, -1)
    with pytest.raises(ValueError, match="text must hold more than 6 bytes, got 6"):
        count_table(text, 6)
    with pytest.raises(ValueError, match="tables must hold at least one table, got none"):
        mixture_odds([], batch_of(b"abc"))
    with pytest.raises(TypeError, match="text"):
        count_table(b"abc", 2)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="batch"):
        ngram_odds(count_table(text, 2), b"abc")  # type: ignore[arg-type]
