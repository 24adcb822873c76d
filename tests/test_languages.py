"""Which language is a window from: splits that share nothing, and a guesser that learns."""

from typing import Any

import pytest
import torch

from moe_tutorial import Attention, Block, Experts, MoELayer, Router
from moe_tutorial.learning.documents import installed_documents
from moe_tutorial.learning.fitting import fit
from moe_tutorial.learning.languages import ELSEWHERE, KNOWN, Guesser, three_splits
from moe_tutorial.learning.settings import Settings
from moe_tutorial.learning.text import draw_batch, rank
from tests.oracles import generator, same


def lines_of(text: Any, domain: int) -> set[str]:
    part = text.bytes_N[text.starts[domain] : text.starts[domain + 1]]
    return set(bytes(part.tolist()).decode().replace("\0", "\n").split("\n")) - {""}


def test_splits_share_no_line_and_follow_the_name() -> None:
    documents = {
        code: {f"thing/{i}": f"{code} {i}\nsame {i % 40}\n{code}x{i % 30}" for i in range(90)}
        for code in ("aa", "bb")
    }
    splits = three_splits(documents)
    for domain, code in enumerate(documents):
        found = [lines_of(split, domain) for split in splits]
        assert sum(map(len, found)) == len(found[0] | found[1] | found[2]) == 90 + 40 + 30
        for i in range(90):
            place = rank(f"thing/{i}")
            which = 0 if place < 0.1 else 1 if place < 0.3 else 2
            assert f"{code} {i}" in found[which]
    assert [split.domains for split in splits] == [("aa", "bb")] * 3


def test_the_real_languages_have_enough_text_in_each_split() -> None:
    splits = three_splits(installed_documents(KNOWN[:2]))
    for split in splits:
        assert split.domains == ("manual", "python", "c++", "es", "pt")
        lengths = torch.tensor(split.starts).diff()
        assert lengths.min() > 3000
    domains = [domain for some in ELSEWHERE.values() for domain in some]
    assert len(set(domains)) == len(domains)
    assert not set(domains) & set(KNOWN)


def small(classes: int = 2) -> Guesser:
    torch.manual_seed(0)
    return Guesser([Block(Attention(8, 2), MoELayer(Router(8, 4, 2), Experts(4, 8, 8)))], classes)


def test_a_guesser_learns_and_says_how_it_routed() -> None:
    documents = {
        "ab": {str(i): f"abba{i}" * 9 for i in range(60)},
        "xy": {str(i): f"xyyx{i}" * 9 for i in range(60)},
    }
    training, _, test = three_splits(documents)
    model, draws = small(), generator(0)

    def objective() -> torch.Tensor:
        batch = draw_batch(training, 16, 6, draws)
        logits_BC = model(batch.tokens_BS).logits_BC
        return torch.nn.functional.cross_entropy(logits_BC, batch.domains_BS[:, 0])

    fit(model, objective, Settings(steps=30, learning_rate=0.02, warm_up=2))
    batch = draw_batch(test, 50, 6, draws)
    guess = model(batch.tokens_BS)
    right = (guess.logits_BC.argmax(-1) == batch.domains_BS[:, 0]).float().mean().item()
    assert right > 0.9
    assert guess.routings[0].experts_TK.shape == (50, 6, 2)
    same(model.head(guess.features_BD), guess.logits_BC)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: three_splits({}), ValueError, "documents must hold at least one domain"),
        (lambda: three_splits({"a": {"b": "c"}}), ValueError, "some text for each of three split"),
        (lambda: Guesser([], 2), ValueError, "blocks must hold at least one block"),
        (lambda: small(0), ValueError, "classes must be at least 1, got 0"),
        (lambda: small()(torch.ones(2, 3)), TypeError, "tokens_BS must hold int64 token ids"),
        (lambda: small()(torch.full((2, 3), 256)), ValueError, "ids from 0 to 255, got 256"),
        (lambda: small()(torch.ones(2, 3).long(), 3), TypeError, "generator must be a torch.Gen"),
    ],
)
def test_bad_input_is_refused_by_name(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
