"""The X-ray says what the trace says, and is whole in itself."""

import json
import re
from dataclasses import replace
from typing import Any

import pytest
import torch
from bs4 import BeautifulSoup

from moe_tutorial import Trace, explorers
from moe_tutorial.explorers import xray
from moe_tutorial.explorers.xray import by_gate, split
from moe_tutorial.models.questions import favourite_tokens
from moe_tutorial.models.traces import NO_EXPERT, id_dtype

TEXT = 'The import statement <finds> a module & "binds" it.\n\tÜber 日本\0 '


def made(num_experts: int = 16, k: int = 2, layers: int = 3, repeat: int = 3) -> Trace:
    tokens = list(TEXT.encode()) * repeat
    source = torch.Generator().manual_seed(num_experts)
    shape = (layers, len(tokens), num_experts)
    ids = torch.rand(shape, generator=source).argsort(-1)[..., :k]
    gates = torch.rand(ids.shape, generator=source)
    ids[0, 4], gates[0, 4] = NO_EXPERT, 0
    numbers = torch.arange(len(tokens))
    length = len(tokens) // repeat
    return Trace(
        ids.to(id_dtype(num_experts)), gates, torch.tensor(tokens).int(),
        (numbers % length).int(), (numbers // length).int(), num_experts,
        tuple(f"layer {place}" for place in range(layers)),
    )  # fmt: skip


def config_of(explorer: explorers.Explorer) -> dict[str, Any]:
    root = BeautifulSoup(explorer.html, "html.parser").select_one("[data-explorer=xray]")
    assert root is not None
    config: dict[str, Any] = json.loads(str(root["data-config"]))
    return config


@pytest.mark.parametrize("num_experts", [4, 12, 16, 200])
def test_it_is_given_what_the_trace_says(num_experts: int) -> None:
    trace = made(num_experts)
    config = config_of(xray(trace))
    length = len(TEXT.encode())
    assert len(config["tokens"]) == length
    assert "".join(config["tokens"]).replace("\N{MIDDLE DOT}", "") == TEXT
    shown = by_gate(trace.cut(slice(0, length)))
    assert config["ids"] == shown.experts_LTK.flatten(1).tolist()
    assert shown.gates_LTK is not None
    gates = torch.tensor(config["gates"]).view(3, length, 2) / 100
    torch.testing.assert_close(gates, shown.gates_LTK, atol=0.00501, rtol=0)
    for hues in config["hues"]:
        assert len(hues) == min(12, num_experts)
        assert hues == sorted(set(hues))
    if num_experts <= 12:
        assert config["hues"] == [list(range(num_experts))] * 3
    favourites = favourite_tokens(trace, 8)
    for layer in range(3):
        for expert in range(num_experts):
            words = [config["vocabulary"][place] for place in config["favourites"][layer][expert]]
            assert len(words) == len(favourites[layer][expert])
            assert "\N{REPLACEMENT CHARACTER}" not in "".join(words)


def test_the_busiest_experts_have_the_colours() -> None:
    trace = made(16, k=1)
    trace.experts_LTK[:] = 15
    config = config_of(xray(trace))
    assert config["hues"] == [[15]] * 3


def test_the_strongest_expert() -> None:
    trace = made()
    found = by_gate(trace)
    assert trace.gates_LTK is not None
    for layer in range(3):
        for token in range(len(trace)):
            best = int(trace.gates_LTK[layer, token].argmax())
            assert found.experts_LTK[layer, token, 0] == trace.experts_LTK[layer, token, best]
    assert found.experts_LTK[0, 4].tolist() == [NO_EXPERT, NO_EXPERT]


def test_it_is_whole_in_itself() -> None:
    first, second = xray(made(), layer=1), xray(made(), layer=1)
    assert first.html == second.html
    assert first.html.count("</script") == 1
    assert not re.search(r"https?:", re.sub("<img[^>]*>", "", first.html))
    assert first.alt.startswith("Layer 2: a passage of ")
    counts = re.findall(r"expert \d+ of (\d+)", first.alt)
    assert len(counts) == 12
    captioned = xray(made()).captioned("12.1", "A token has its experts.")
    assert "Figure 12.1." in captioned.html


def test_characters_of_several_tokens() -> None:
    def decode(ids: list[int]) -> str:
        return bytes(ids).decode("utf-8", "replace")

    dot = "\N{MIDDLE DOT}"
    assert split(list("aü日b".encode()), decode) == ["a", "ü", dot, "日", dot, dot, "b"]
    assert split([0xE6, 97], decode) == ["\N{REPLACEMENT CHARACTER}", "a"]
    assert split(list("🙂".encode()), decode) == ["🙂", dot, dot, dot]


def test_a_decoder_that_drops_the_space_at_the_start() -> None:
    pieces = {3: "\u2581", 4: "\u2581Once", 5: "\u2581up", 6: "on", 7: "\u2581a", 8: "\n"}

    def decode(ids: list[int]) -> str:  # as tokenizers of Llama and Mixtral do
        return "".join(pieces[it] for it in ids).replace("\u2581", " ").removeprefix(" ")

    assert split([4, 5, 6, 7, 8, 7], decode) == ["Once", " up", "on", " a", "\n", " a"]
    assert split([3, 6, 3], decode) == ["\N{MIDDLE DOT}", "on", " "]


def test_a_long_text_is_cut_and_says_so() -> None:
    trace = made(layers=1, repeat=9)
    long = replace(trace, sequences_T=torch.zeros_like(trace.sequences_T))
    config = config_of(xray(long))
    assert len(config["tokens"]) == 400
    assert (
        config["note"] == f"These are the first 400 of {len(long)} tokens; passage= chooses others."
    )
    assert config_of(xray(long, passage=slice(5, 9)))["note"] == ""
    assert config_of(xray(trace))["note"] == ""
    deep = long.cut(layers=[0] * 600)  # more ids a token than any page could hold for 400
    assert len(config_of(xray(deep))["tokens"]) == 300_000 // 1200


def test_a_tokenizer_of_words() -> None:
    trace = made()
    words = {token: f" w{token}" for token in range(256)}
    config = config_of(xray(trace, lambda ids: "".join(words[it] for it in ids)))
    assert config["tokens"][0] == f" w{TEXT.encode()[0]}"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"layer": 3}, "layer must be below 3, got 3"),
        ({"layer": -1}, "layer must be at least 0"),
        ({"passage": slice(0, 0)}, "passage must have from 1 to 600 tokens"),
    ],
)
def test_what_cannot_be_shown(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        xray(made(), **options)
    with pytest.raises(ValueError, match="from 1 to 600 tokens"):
        xray(made(repeat=20), passage=slice(None))
    big = made()
    big.tokens_T[0] = 256
    with pytest.raises(ValueError, match="decode must be given where tokens are no bytes, got 256"):
        xray(big)
    with pytest.raises(TypeError, match="trace must be a Trace"):
        xray(3)  # type: ignore[arg-type]
