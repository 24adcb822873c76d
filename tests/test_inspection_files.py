"""Traces in files: what is written is read, in any form, and what is damaged is refused by line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from moe_tutorial.models.engines import (
    read_llama_cpp,
    read_megatron,
    write_llama_cpp,
    write_megatron,
)
from moe_tutorial.models.trace_files import TraceWriter, load, load_parts, save
from moe_tutorial.models.traces import NO_EXPERT, Trace, from_ids, id_dtype, joined
from moe_tutorial.models.vllm_arrays import from_vllm, to_vllm
from tests.oracles import same


def choices(layers: int, tokens: int, k: int, num_experts: int, seed: int = 0) -> Tensor:
    """Different experts for each token: int64 ``[L, T, K]``."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(layers, tokens, num_experts, generator=generator).argsort(-1)[..., :k]


def made(
    seed: int = 0, *, layers: int = 3, tokens: int = 20, dtype: torch.dtype = torch.float32
) -> Trace:
    ids = choices(layers, tokens, 2, 7, seed)
    gates = torch.rand(ids.shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
    numbers = torch.arange(tokens)
    return Trace(
        ids.to(id_dtype(7)), gates, (numbers * 5 % 97).int(), (numbers % 10).int(),
        (numbers // 10).int(), 7, tuple(f"model.layers.{it}.mlp" for it in range(layers)), "Made",
    )  # fmt: skip


def equal(first: Trace, second: Trace) -> None:
    for name in ("experts_LTK", "tokens_T", "positions_T", "sequences_T"):
        same(getattr(first, name), getattr(second, name))
    assert (first.gates_LTK is None) == (second.gates_LTK is None)
    if first.gates_LTK is not None and second.gates_LTK is not None:
        same(first.gates_LTK, second.gates_LTK)
    assert (first.layers, first.model, first.num_experts) == (
        second.layers,
        second.model,
        second.num_experts,
    )


# --- the record ---


def test_cuts() -> None:
    whole = made()
    part = whole.cut(slice(4, 9), [2, 0])
    same(part.experts_LTK, whole.experts_LTK[[2, 0], 4:9])
    same(part.tokens_T, whole.tokens_T[4:9])
    assert part.layers == ("model.layers.2.mlp", "model.layers.0.mlp")
    equal(whole.cut(whole.sequences_T == 1), whole.cut(slice(10, None)))
    equal(whole.cut(torch.arange(20)), whole)
    with pytest.raises(IndexError):
        whole.cut(layers=[3])


def test_a_trace_prints_as_what_it_is() -> None:
    assert repr(made()).splitlines() == [
        "Trace",
        "  model: Made",
        "  tokens: 20 in 2 sequences",
        "  experts: 2 of 7, in 3 layers",
        "  layers: model.layers.0.mlp, model.layers.1.mlp, model.layers.2.mlp",
        "  gates: float32",
    ]
    assert "<td" in made()._repr_html_()


@given(st.permutations(range(4)))
def test_parts_in_any_order_are_one_trace(order: list[int]) -> None:
    whole = made()
    parts = [whole.cut(slice(5 * place, 5 * place + 5)) for place in order]
    equal(joined(parts), whole)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"experts_LTK": torch.zeros(3, 20)}, "experts_LTK must hold integers"),
        (
            {"experts_LTK": torch.full((3, 20, 2), 7)},
            "between 0 and 6, or be -1 for none, got ids from 7",
        ),
        ({"experts_LTK": torch.full((3, 20, 2), -2)}, "got ids from -2"),
        ({"tokens_T": torch.zeros(19).int()}, r"tokens_T must have the shape \(20,\), got \(19,\)"),
        ({"gates_LTK": torch.zeros(3, 20, 1)}, "gates_LTK must have the shape"),
        ({"layers": ("a",)}, "layers must name each of 3 layers, got 1"),
        ({"num_experts": 0}, "num_experts must be at least 1"),
    ],
)
def test_records_that_do_not_fit(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Trace(**(vars(made()) | change))


def test_parts_of_different_models() -> None:
    with pytest.raises(ValueError, match="parts must agree in layers"):
        joined([made(), made(layers=2)])
    with pytest.raises(ValueError, match="at least one trace"):
        joined([])
    without = Trace(**(vars(made()) | {"gates_LTK": None}))
    with pytest.raises(ValueError, match="all have gates, or none"):
        joined([made(), without])


# --- our own files ---


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_file_holds_the_trace_to_the_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    save(made(dtype=dtype), tmp_path / "one.npz")
    save(made(dtype=dtype), tmp_path / "two.npz")
    equal(load(tmp_path / "one.npz"), made(dtype=dtype))
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()


def test_parts_are_read_one_by_one(tmp_path: Path) -> None:
    path, whole = tmp_path / "parts.npz", made()
    with TraceWriter(path) as writer:
        for first in (10, 0):
            writer.add(whole.cut(slice(first, first + 10)))
            assert not path.exists()
    assert [len(part) for part in load_parts(path)] == [10, 10]
    equal(load(path), whole)

    def add_another_model() -> None:
        with TraceWriter(path) as writer:
            writer.add(made())
            writer.add(made(layers=2))

    with pytest.raises(ValueError, match="of the same model"):
        add_another_model()
    equal(load(path), whole)  # the file that was there stays


@settings(max_examples=60)
@given(st.data())
def test_damaged_files_are_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("files") / "trace.npz"
    save(made(), path)
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    try:
        found = load(path)
    except ValueError as error:
        assert "trace.npz is damaged, or no trace" in str(error)  # noqa: PT017
    else:
        equal(found, made())  # a flag or a date that changes nothing


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(ValueError, match="is damaged, or no trace"):
        load(tmp_path / "other.npz")
    with pytest.raises(TypeError, match="trace must be a Trace, got int"):
        save(3, tmp_path / "no.npz")  # type: ignore[arg-type]


# --- llama.cpp ---

# As llama-moe-trace writes a prompt of three tokens and one more: layers 1 and 2, K = 2. In the
# prompt's pass, the last layer computes the last token alone.
LLAMA = "1,4 1,0 1,3 1,4 1,0 1,1 2,5 2,2 1,2 1,3 2,0 2,4".replace(" ", "\n") + "\n"


def test_llama_cpp(tmp_path: Path) -> None:
    path = tmp_path / "moe_trace.csv"
    path.write_text(LLAMA)
    found = read_llama_cpp(path, 2, 6)
    none = [NO_EXPERT, NO_EXPERT]
    assert found.experts_LTK.tolist() == [
        [[4, 0], [3, 4], [0, 1], [2, 3]],
        [none, none, [5, 2], [0, 4]],
    ]
    assert found.layers == ("layer 1", "layer 2")
    assert found.positions_T.tolist() == [0, 1, 2, 3]
    assert found.gates_LTK is None
    with pytest.raises(ValueError, match="a token with fewer"):
        write_llama_cpp(found, path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (LLAMA.replace("1,3\n", "1;3\n", 1), "line 3: it must read layer,expert, got '1;3'"),
        (LLAMA.replace("2,5", "2,6"), "line 7: expert must be from 0 to 5, got 6"),
        (LLAMA.replace("1,3\n", "", 1), "line 5: layer 1 has 5 ids, no multiple of 2"),
        (
            LLAMA.replace("1,3\n1,4", "1,3\n1,3", 1),
            r"line 3: a token must have different experts, got \[3, 3\]",
        ),
        (LLAMA[:-1], "line 12: it breaks off"),
        (LLAMA[:-8], r"line 10: a pass must have \['layer 1', 'layer 2'\], got \['layer 1'\]"),
        (
            "1,0\n1,1\n2,0\n2,1\n2,2\n2,3\n3,0\n3,1\n3,2\n3,3\n",
            "line 2: layer 1 must have 2 tokens, got 1",
        ),
        ("layer,expert\n", "line 1: it must read"),
        ("", "line 1: there is no line"),
    ],
)
def test_damaged_csv_is_refused_by_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "moe_trace.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=words):
        read_llama_cpp(path, 2, 6)


def test_all_experts_in_turn_are_no_choices(tmp_path: Path) -> None:
    """What the program wrote that copied rows of all sorted experts instead of the first K."""
    path = tmp_path / "moe_trace.csv"
    orders = choices(2, 9, 8, 8)  # nine tokens' experts, sorted; K = 2 of them are chosen
    wrong = [orders[layer].flatten()[: 2 * 12] for layer in range(2)]  # 12 tokens
    path.write_text("".join(f"{layer},{e}\n" for layer in range(2) for e in wrong[layer].tolist()))
    with pytest.raises(ValueError, match="names every expert once, again and again"):
        read_llama_cpp(path, 2, 8)


@settings(max_examples=40)
@given(st.integers(1, 4), st.integers(1, 30), st.integers(0, 99), st.booleans())
def test_engines_read_what_they_write(
    tmp_path_factory: pytest.TempPathFactory, layers: int, tokens: int, seed: int, megatron: bool
) -> None:
    path = tmp_path_factory.mktemp("engines") / "file"
    ids = choices(layers, tokens, 3, 9, seed)
    trace = from_ids(ids, 9, [f"model.layers.{place + 2}.mlp" for place in range(layers)])
    if megatron:
        write_megatron(trace, path)
        found = read_megatron(path, 9)
        assert found.layers == tuple(f"decoder.layers.{place + 2}" for place in range(layers))
    else:
        write_llama_cpp(trace, path)
        found = read_llama_cpp(path, 3, 9)
        assert found.layers == tuple(f"layer {place + 2}" for place in range(layers))
    same(found.experts_LTK.long(), ids)


# --- Megatron ---


def megatron_lines(changes: dict[int, dict[str, Any]] | None = None) -> list[dict[str, Any]]:
    lines = []
    for step in range(2):
        for layer in (1, 3):
            ids = choices(1, 4 + step, 2, 6, seed=10 * step + layer)[0].tolist()
            lines.append({
                "step": step, "stage": "pre_dispatch", "block": "decoder", "layer": layer,
                "rank": 0, "num_tokens": 4 + step, "topk": 2, "top_indices": ids,
            })  # fmt: skip
    lines.append(lines[-1] | {"block": "mtp", "layer": 0, "mtp_idx": 0, "step": 1})
    lines.append(lines[0] | {"block": "mtp", "layer": 0, "mtp_idx": 0, "step": 0})
    for place, change in (changes or {}).items():
        lines[place] |= change
    return lines


def write(path: Path, lines: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_megatron(tmp_path: Path) -> None:
    write(tmp_path / "trace.jsonl", megatron_lines())
    found = read_megatron(tmp_path / "trace.jsonl", 6)
    assert found.layers == ("decoder.layers.1", "decoder.layers.3", "mtp.0.mtp.layers.0")
    assert len(found) == 9
    same(found.experts_LTK[1, 4:].long(), choices(1, 5, 2, 6, seed=13)[0])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({2: {"top_indices": [[0, 1]]}}, r"line 3: top_indices must be \(5, 2\) integers"),
        (
            {1: {"top_indices": [[0, 1], [2, 6], [0, 1], [0, 1]]}},
            "line 2: ids must be from 0 to 5, got 6",
        ),
        (
            {1: {"top_indices": [[0, 1], [2, 2], [0, 1], [0, 1]]}},
            r"line 2: a token .* got \[2, 2\]",
        ),
        ({1: {"top_indices": [[0, 1], [2], [0, 1], [0, 1]]}}, "line 2: it is no record of a layer"),
        ({3: {"layer": "x"}}, "line 4: it is no record of a layer"),
        ({1: {"layer": 1}}, "line 2: step 0 has decoder.layers.1 twice"),
        ({3: {"layer": 2}}, "line 5: a pass must have"),
        (
            {0: {"num_tokens": 3, "top_indices": [[0, 1]] * 3}},
            "line 1: decoder.layers.1 must have 4 tokens",
        ),
    ],
)
def test_damaged_jsonl_is_refused_by_line(
    tmp_path: Path, changes: dict[int, dict[str, Any]], words: str
) -> None:
    write(tmp_path / "trace.jsonl", megatron_lines(changes))
    with pytest.raises(ValueError, match=words):
        read_megatron(tmp_path / "trace.jsonl", 6)


def test_jsonl_that_breaks_off(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    write(path, megatron_lines())
    path.write_text(path.read_text()[:-20])
    with pytest.raises(ValueError, match="line 6: it breaks off"):
        read_megatron(path, 6)
    path.write_text("{}\n")
    with pytest.raises(ValueError, match="line 1: it is no record of a layer: KeyError"):
        read_megatron(path, 6)


# --- vLLM ---


def test_vllm() -> None:
    arrays = [
        choices(5, tokens, 2, 9, seed=tokens).transpose(0, 1).numpy().astype(np.uint8)
        for tokens in (4, 7)
    ]
    for array in arrays:
        array[:, [0, 3]] = 0  # dense layers
    found = from_vllm(arrays, 9, tokens=[range(4), range(7)])
    assert found.layers == ("layer 1", "layer 2", "layer 4")
    assert found.sequences_T.tolist() == [0] * 4 + [1] * 7
    assert found.tokens_T.tolist() == [*range(4), *range(7)]
    back = to_vllm(found)
    for array, other in zip(arrays, back, strict=True):
        assert other.dtype == np.uint8
        np.testing.assert_array_equal(array[:, [1, 2, 4]], other)


def change_array(change: Callable[[np.ndarray], Any]) -> list[Any]:
    array = choices(2, 5, 2, 9).transpose(0, 1).numpy().astype(np.int32)
    changed = change(array)
    return [array if changed is None else changed]


def put(place: tuple[int, ...], value: int) -> Callable[[np.ndarray], None]:
    return lambda array: array.__setitem__(place, value)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        (change_array(put((3, 1, 0), 9)), "for token 3 in layer 1"),
        (change_array(put((3, 1, 0), -1)), "for token 3 in layer 1"),
        (change_array(put((2, 0), 4)), r"got \[4, 4\] for token 2 in layer 0"),
        (change_array(lambda array: array[0]), r"shape \[tokens, layers, K\]"),
        (change_array(lambda array: array * 1.0), "NumPy array of integers"),
        (
            [*change_array(lambda _: None), *change_array(lambda array: array[:, :1])],
            "must have 2 layers, got 1",
        ),
    ],
)
def test_damaged_arrays_are_refused(arrays: list[Any], words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        from_vllm(arrays, 9)
    with pytest.raises(ValueError, match=r"tokens\[0\] must be 5 ids, got \(3,\)"):
        from_vllm(change_array(lambda _: None), 9, tokens=[range(3)])
