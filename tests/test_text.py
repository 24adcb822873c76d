"""Real text: found without a network, split without a leak, drawn with the right labels."""

import hashlib
import itertools
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from scipy import stats

from moe_tutorial.learning.documents import LANGUAGES, installed_documents
from moe_tutorial.learning.text import VOCABULARY, Corpus, Text, corpus, draw_batch
from tests.oracles import ALPHA, generator


@pytest.fixture(scope="module")
def installed() -> dict[str, dict[str, str]]:
    return installed_documents()


@pytest.fixture(scope="module")
def whole(installed: dict[str, dict[str, str]]) -> Corpus:
    return corpus(installed)


def streams(text: Text) -> dict[str, bytes]:
    return {
        domain: bytes(text.bytes_N[start:end].tolist())
        for domain, (start, end) in zip(text.domains, itertools.pairwise(text.starts), strict=True)
    }


def documents_of(text: Text) -> dict[str, list[str]]:
    return {d: stream.decode().split("\0")[:-1] for d, stream in streams(text).items()}


def paragraphs_of(text: Text) -> list[str]:
    """Every paragraph, without its white space."""
    return [
        re.sub(r"\s", "", paragraph)
        for documents in documents_of(text).values()
        for document in documents
        for paragraph in re.split(r"\n\s*\n", document)
    ]


def test_every_domain_has_text_in_both_splits(whole: Corpus) -> None:
    assert whole.training.domains == ("manual", "python", "c++", *LANGUAGES)
    assert whole.validation.domains == whole.training.domains
    for domain, stream in streams(whole.training).items():
        held_out = len(streams(whole.validation)[domain])
        assert len(stream) > 30_000, domain
        assert 0.03 < held_out / (held_out + len(stream)) < 0.25, domain


@pytest.mark.parametrize(
    ("domain", "words"),
    [
        ("manual", "the statement"),
        ("python", "def __init__(self"),
        ("c++", "#include <c10/"),
        ("de", "Deutschland"),
        ("el", "Ελλάδα"),
        ("fi", "Suomi"),
        ("fr", "français"),
        ("ja", "日本"),
        ("ru", "Россия"),
    ],
)
def test_a_domain_holds_what_its_name_says(
    whole: Corpus, installed: dict[str, dict[str, str]], domain: str, words: str
) -> None:
    assert any(words in text for text in installed[domain].values())
    both = streams(whole.training)[domain] + streams(whole.validation)[domain]
    assert words.encode() in both


def test_no_paragraph_stands_in_both_splits_or_twice_in_one(whole: Corpus) -> None:
    training, validation = paragraphs_of(whole.training), paragraphs_of(whole.validation)
    assert not set(training) & set(validation)
    assert len(training) == len(set(training))
    assert len(validation) == len(set(validation))


def test_the_manual_repeats_itself_so_the_rule_is_needed(
    installed: dict[str, dict[str, str]],
) -> None:
    topics = installed["manual"]
    assert topics["customization"].strip().splitlines()[-1] in topics["specialnames"]


def test_a_thing_is_on_the_same_side_in_every_language(
    installed: dict[str, dict[str, str]], whole: Corpus
) -> None:
    training, validation = documents_of(whole.training), documents_of(whole.validation)
    sides: dict[str, set[bool]] = {}
    for language in LANGUAGES:
        learnt, held_out = set(training[language]), set(validation[language])
        things = Counter("".join(text.split()) for text in installed[language].values())
        for name, text in installed[language].items():
            # What two things are called alike is kept once, on the side of the first.
            if things["".join(text.split())] == 1 and (text in learnt or text in held_out):
                sides.setdefault(name, set()).add(text in held_out)
    assert len(sides) > 1500
    assert all(len(side) == 1 for side in sides.values())


def test_a_document_of_a_language_holds_each_form_once(
    installed: dict[str, dict[str, str]],
) -> None:
    assert installed["de"]["currency/EUR"].splitlines()[0] == "Euro"
    for text in installed["fr"].values():
        forms = [" ".join(line.split()) for line in text.splitlines()]
        assert len(forms) == len(set(forms))


def test_the_order_of_files_does_not_matter(monkeypatch: pytest.MonkeyPatch, whole: Corpus) -> None:
    glob = {name: getattr(Path, name) for name in ("glob", "rglob")}
    for name in glob:

        def backwards(self: Path, pattern: str, name: str = name) -> Iterator[Path]:
            return iter(sorted(glob[name](self, pattern), reverse=True))

        monkeypatch.setattr(Path, name, backwards)
    again = corpus(installed_documents())
    assert again.training.fingerprint() == whole.training.fingerprint()
    assert again.validation.fingerprint() == whole.validation.fingerprint()


def test_nothing_that_names_this_computer_is_read(installed: dict[str, dict[str, str]]) -> None:
    assert not any(name.startswith("_sysconfigdata") for name in installed["python"])
    assert not any(sys.prefix in text for text in installed["python"].values())


def test_the_fingerprint_changes_with_every_byte_and_every_name() -> None:
    def text(domains: str, content: bytes, *starts: int) -> Text:
        return Text(tuple(domains), torch.tensor(list(content), dtype=torch.uint8), starts)

    different = [
        text("ab", b"onetwo", 0, 3, 6),
        text("ab", b"onetwO", 0, 3, 6),
        text("aB", b"onetwo", 0, 3, 6),
        text("ab", b"onetwo", 0, 2, 6),
    ]
    assert len({one.fingerprint() for one in different}) == 4
    assert text("ab", b"onetwo", 0, 3, 6).fingerprint() == different[0].fingerprint()


def test_without_babel_the_message_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "babel", None)
    with pytest.raises(ModuleNotFoundError, match=r"'de' .* pip install babel.*languages=\(\)"):
        installed_documents(("de",))
    assert list(installed_documents(())) == ["manual", "python", "c++"]


def test_without_the_manual_the_message_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(FileNotFoundError, match="libpython3-stdlib"):
        installed_documents(())


def test_without_headers_the_message_names_their_place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch, "__file__", str(tmp_path / "__init__.py"))
    with pytest.raises(FileNotFoundError, match=r"torch's headers should be in .*c10"):
        installed_documents(())


# --- text of one's own ---------------------------------------------------------------------------


def test_own_text_by_list_and_by_name() -> None:
    letters = [f"letter {i}" for i in range(200)]
    own = corpus({"letters": letters, "named": {f"n{i}": f"text {i}" for i in range(200)}})
    documents = documents_of(own.training)
    held_out = documents_of(own.validation)
    assert sorted(documents["letters"] + held_out["letters"]) == sorted(letters)
    # The document's rule of its side, worked out here once more.
    for text in letters:
        rank = int(hashlib.sha256(text.encode()).hexdigest()[:12], 16) / 16**12
        assert (text in held_out["letters"]) == (rank < 0.1)
    for i in range(200):
        rank = int(hashlib.sha256(f"n{i}".encode()).hexdigest()[:12], 16) / 16**12
        assert (f"text {i}" in held_out["named"]) == (rank < 0.1)


def test_more_documents_move_no_document() -> None:
    some = [f"letter {i}" for i in range(100)]
    before = set(documents_of(corpus({"x": some}).validation)["x"])
    after = set(documents_of(corpus({"x": [*reversed(some), "one more"]}).validation)["x"])
    assert before == after - {"one more"}


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("share", [0.001, 0.5, 0.999])
def test_few_documents_still_give_both_splits(count: int, share: float) -> None:
    few = corpus({"x": [f"document {i}" for i in range(count)]}, share)
    training, validation = (documents_of(t)["x"] for t in (few.training, few.validation))
    assert training
    assert validation
    assert len(training) + len(validation) == count


def test_a_repeated_paragraph_is_kept_once_whatever_its_white_space() -> None:
    repeated = ["one two\n\nthree", " one\ttwo \n \n\nfour\n", "one two"]
    kept = corpus({"x": repeated, "y": ["four", "five", "six"]})
    paragraphs = sorted(paragraphs_of(kept.training) + paragraphs_of(kept.validation))
    assert paragraphs == ["five", "four", "onetwo", "six", "three"]


@pytest.mark.parametrize(
    ("documents", "share", "error", "message"),
    [
        (["text"], 0.1, TypeError, "documents must map domains to texts, got list"),
        ({}, 0.1, ValueError, "documents must hold at least one domain"),
        ({"x": "text"}, 0.1, TypeError, r"documents\['x'\] must be a list .* got str"),
        ({"x": 3}, 0.1, TypeError, r"documents\['x'\] must be a list .* got int"),
        ({"x": [b"text", b"more"]}, 0.1, TypeError, r"documents\['x'\] must hold str, got bytes"),
        ({"x": [["text"]]}, 0.1, TypeError, r"documents\['x'\] must hold str, got list"),
        ({"x": {1: "text"}}, 0.1, TypeError, r"documents\['x'\] must hold str, got int"),
        ({"x": ["a", "b\0"]}, 0.1, ValueError, "must not hold the character 0"),
        ({"x": ["a", "a "]}, 0.1, ValueError, r"documents\['x'\] must hold at least two .* got 1"),
        ({"x": []}, 0.1, ValueError, "got 0"),
        ({"x": ["a", "b"]}, 0, ValueError, "validation_share must be between 0 and 1, got 0"),
        ({"x": ["a", "b"]}, 1.0, ValueError, "validation_share must be between 0 and 1"),
        ({"x": ["a", "b"]}, float("nan"), ValueError, "validation_share must be between 0 and 1"),
        ({"x": ["a", "b"]}, "0.1", TypeError, "validation_share must be a number"),
    ],
)
def test_bad_documents_are_refused_by_name(
    documents: object, share: object, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        corpus(documents, share)  # type: ignore[arg-type]


def test_an_unknown_language_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"languages must be codes that Babel knows.*'xx'"):
        installed_documents(("xx",))


# --- batches -------------------------------------------------------------------------------------


def test_a_batch_holds_windows_of_one_domain_each_and_the_bytes_after(
    whole: Corpus, device: torch.device
) -> None:
    batch = draw_batch(whole.training, 32, 100, generator(3), device)
    by_domain = streams(whole.training)
    for name in ("tokens_BS", "targets_BS", "domains_BS"):
        tensor = getattr(batch, name)
        assert (tensor.shape, tensor.dtype, tensor.device.type) == (
            (32, 100), torch.int64, device.type
        )  # fmt: skip
    for tokens, targets, domains in zip(
        batch.tokens_BS.tolist(), batch.targets_BS.tolist(), batch.domains_BS.tolist(), strict=True
    ):
        assert len(set(domains)) == 1
        assert tokens[1:] == targets[:-1]
        assert bytes([*tokens, targets[-1]]) in by_domain[whole.training.domains[domains[0]]]
        assert max(tokens) < VOCABULARY


def test_domains_are_equally_likely_however_long(whole: Corpus) -> None:
    domains = draw_batch(whole.training, 9000, 1, generator(0)).domains_BS[:, 0]
    counts = torch.bincount(domains, minlength=len(whole.training.domains))
    assert stats.chisquare(counts.tolist()).pvalue > ALPHA


def test_every_place_is_reached_and_none_beyond() -> None:
    text = corpus({"x": ["abcdefg", "hij"]}, 0.001).training
    size = text.starts[-1]
    drawn = draw_batch(text, 500, size - 2, generator(0))
    assert {bytes(row) for row in drawn.tokens_BS.tolist()} == {
        bytes(text.bytes_N[start : start + size - 2].tolist()) for start in (0, 1)
    }


def test_a_seed_gives_the_same_windows(whole: Corpus) -> None:
    first, again, other = (
        draw_batch(whole.training, 4, 50, generator(seed)).tokens_BS for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1"),
        ({"length": 2.0}, TypeError, "length must be an int"),
        ({"length": 8}, ValueError, "length must be below the 8 bytes of the domain 'x', got 8"),
        ({"generator": 3}, TypeError, "generator must be a torch.Generator"),
    ],
)
def test_bad_batches_are_refused_by_name(
    arguments: dict, error: type[Exception], message: str
) -> None:
    text = Text(("x",), torch.zeros(8, dtype=torch.uint8), (0, 8))
    with pytest.raises(error, match=message):
        draw_batch(text, **({"batch_size": 1, "length": 3} | arguments))


def test_windows_name_their_device(whole: Corpus) -> None:
    expected = draw_batch(whole.training, 4, 50, generator(1))
    torch.set_default_device("meta")
    try:
        here = draw_batch(whole.training, 4, 50, generator(1))
        text = corpus({"x": ["one", "two"]}).training
        fingerprint = text.fingerprint()
    finally:
        torch.set_default_device("cpu")
    for a, b in zip(vars(here).values(), vars(expected).values(), strict=True):
        assert torch.equal(a, b)
    assert fingerprint == corpus({"x": ["one", "two"]}).training.fingerprint()
