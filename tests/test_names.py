"""Names in 32 languages: what is read, how it is split, and how it becomes tokens."""

import itertools
import re

import pytest
import torch

from moe_tutorial.learning.names import (
    END,
    EQUALS,
    GROUP,
    LANGUAGES,
    LONGEST,
    RARE,
    Names,
    Pair,
    Tokens,
    draw_pairs,
    names,
)

FEW = (Pair("de", "Greece", "Griechenland"), Pair("el", "Germany", "Γερμανία"))
SMALL = Names(FEW, (Pair("de", "Spain", "Spanien"),), "".join(sorted(set("".join(
    pair.english + pair.name for pair in FEW
)))))  # fmt: skip


@pytest.fixture(scope="module")
def data() -> Names:
    return names()


def test_no_english_name_is_on_both_sides(data: Names) -> None:
    sides = [{pair.english for pair in part} for part in (data.training, data.validation)]
    assert not sides[0] & sides[1]
    assert 0.07 < len(sides[1]) / (len(sides[0]) + len(sides[1])) < 0.13


def test_the_names_are_right_and_plain(data: Names) -> None:
    both = data.training + data.validation
    assert Pair("de", "Greece", "Griechenland") in both
    assert Pair("el", "Japanese Yen", "Γιεν Ιαπωνίας") in both
    assert all(0 < len(name) <= LONGEST for pair in both for name in (pair.english, pair.name))
    assert not any(re.search(r"[\d()\[\]]", pair.english + pair.name) for pair in both)


def test_rare_languages_have_few_names_to_learn_and_all_of_them_to_be_measured_on(
    data: Names,
) -> None:
    sizes = {
        language: [
            sum(pair.language == language for pair in part)
            for part in (data.training, data.validation)
        ]
        for language in LANGUAGES
    }
    for language, (training, validation) in sizes.items():
        assert 80 < validation < 130
        assert (80 < training < 160) if language in RARE else training > 700


def test_a_script_that_two_languages_write_is_the_same_one(data: Names) -> None:
    used: dict[str, set[str]] = {}
    for pair in data.training:
        used.setdefault(pair.language, set()).update(it for it in pair.name if it.isalpha())
    for one, other in itertools.combinations(LANGUAGES, 2):
        share = len(used[one] & used[other]) / min(len(used[one]), len(used[other]))
        assert (share > 0.4) == (LANGUAGES[one][0] == LANGUAGES[other][0]), (one, other, share)


def test_a_batch_by_hand() -> None:
    tokens = Tokens(SMALL)
    batch = tokens.batch(FEW)
    assert batch.tokens_BS.shape == (2, 1 + 6 + 1 + 12)
    assert batch.tokens_BS[:, 0].tolist() == [2, 2 + list(LANGUAGES).index("el")]
    assert torch.equal(batch.tokens_BS[:, 1:], batch.targets_BS[:, :-1])
    for row, pair in enumerate(FEW):
        answer = batch.targets_BS[row][batch.answer_BS[row]].tolist()
        assert tokens.read(answer) == pair.name
        assert answer[-1] == END
        before = batch.tokens_BS[row, : batch.answer_BS[row].int().argmax() + 1].tolist()
        assert before == tokens.question(pair.language, pair.english)
        assert before[-1] == EQUALS
        # The token END is not read by anything that counts.
        assert batch.filled_BS[row].sum() == len(pair.english) + len(pair.name) + 2
    assert batch.tokens_BS.max() < SMALL.vocabulary()


def test_unknown_characters_are_one_token() -> None:
    tokens = Tokens(SMALL)
    batch = tokens.batch([Pair("de", "Qzx", "Q")])
    assert batch.tokens_BS[0, 1:4].tolist() == [SMALL.vocabulary() - 1] * 3
    assert tokens.read([SMALL.vocabulary() - 1, END, 5]) == "\ufffd"


def test_batches_hold_names_of_one_length_and_all_names_come_equally_often() -> None:
    pairs = [Pair("de", "a" * (1 + i % 20), "b") for i in range(40)]
    drawn = list(itertools.islice(draw_pairs(pairs, 8, torch.Generator().manual_seed(0)), 1600))
    counts = torch.tensor([sum(pair is one for batch in drawn for one in batch) for pair in pairs])
    expected = 1600 * 8 / 40
    assert ((counts - expected).abs() < 5 * expected**0.5).all()
    spread = [max(len(p.english) for p in b) - min(len(p.english) for p in b) for b in drawn]
    assert sum(spread) / len(spread) < 20 * 2 / GROUP
    again = list(itertools.islice(draw_pairs(pairs, 8, torch.Generator().manual_seed(0)), 3))
    assert again == drawn[:3]


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="pairs must hold at least one pair, got none"):
        next(draw_pairs([], 4))
    with pytest.raises(ValueError, match="batch_size"):
        next(draw_pairs(FEW, 0))
    with pytest.raises(TypeError, match="data must be"):
        Tokens(FEW)  # type: ignore[arg-type]


def test_without_babel_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "babel", None)
    with pytest.raises(ModuleNotFoundError, match="pip install babel"):
        names()
