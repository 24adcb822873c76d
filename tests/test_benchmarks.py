"""The benchmarks run, find the same numbers everywhere, and notice a peer that does not.

Nothing here asserts a time: on a shared machine that would test the machine.
"""

import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks import layer, measure, report, routing, tracing
from benchmarks.peers import MaskLoop, Ours
from benchmarks.problem import Problem, Size
from moe_tutorial.results import stored

BENCHMARKS = Path(layer.__file__).parent
OPTIONS = ["--device", "cpu", "--seconds", "0", "--rounds", "2"]
TINY = ["--size", "9,16,32,4,3,gelu"]


class AddsSomething(MaskLoop):
    def forward(self) -> Tensor:
        return super().forward() + 0.01 * self.x_TD


class LosesAGradient(Ours):
    def forward(self) -> Tensor:
        return super().forward() + (self.gates_TK.detach() - self.gates_TK).sum()


class GivesNoNumber(Ours):
    def forward(self) -> Tensor:
        return super().forward() * torch.nan


def test_every_implementation_agrees_and_is_timed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "layer.json"
    assert layer.main([*OPTIONS, *TINY, "--json", str(path)]) == 0
    record = json.loads(path.read_text(encoding="utf-8"))
    assert record["hardware"]["threads"] == torch.get_num_threads()
    assert record["versions"]["torch"] == torch.__version__
    assert [cell["size"] for cell in record["cells"]] == ["9,16,32,4,3 G"]
    may_be_missing = {"st-moe-pytorch"}
    if not hasattr(torch.nn.functional, "grouped_mm"):
        may_be_missing |= {"ours, grouped", "torchtitan style"}
    for cell in record["cells"]:
        assert list(cell["implementations"]) == list(layer.IMPLEMENTATIONS)
        for name, found in cell["implementations"].items():
            if "skipped" in found:
                assert name in may_be_missing, found["skipped"]
                continue
            for mode in ("forward", "forward_backward"):
                assert 1 <= found[mode]["rounds"] <= 2
                assert 0 < found[mode]["min_ms"] <= found[mode]["median_ms"]
                assert found[mode]["peak_extra_mib"] > 0
                assert "peak_resident_mib" in found[mode]
    printed = capsys.readouterr().out
    for name in layer.IMPLEMENTATIONS:
        assert name in printed


def test_an_implementation_that_computes_something_else_is_caught(tmp_path: Path) -> None:
    right = {name: layer.IMPLEMENTATIONS[name] for name in ("dense chain", "segmented", "ours")}
    wrong = {
        "output": AddsSomething,
        "gradient of the gates": LosesAGradient,
        "nan": GivesNoNumber,
    }
    path = tmp_path / "layer.json"
    options = [*OPTIONS, "--size", "24,16,32,4,2,swiglu", "--json", str(path)]
    assert layer.main(options, {**right, **wrong}) == 1
    found = json.loads(path.read_text(encoding="utf-8"))["cells"][0]["implementations"]
    for what in wrong:
        assert "differs from ours" in found[what]["skipped"]
        assert what in found[what]["skipped"]
        assert "forward" not in found[what]


def test_bfloat16_agrees_too() -> None:
    problem = Problem(Size.parse("24,16,32,4,2 S"), torch.device("cpu"), torch.bfloat16)
    few = {name: layer.IMPLEMENTATIONS[name] for name in list(layer.IMPLEMENTATIONS)[:7]}
    layers, results = layer.agreeing(problem, few)
    assert list(layers) == list(few), results


def test_all_start_from_the_same_numbers_and_keep_none_of_their_gradients() -> None:
    problem = Problem(Size.parse("24,16,32,4,2 S"), torch.device("cpu"), torch.float32)
    for name in ("ours", "HF eager", "mask loop"):
        implementation = layer.IMPLEMENTATIONS[name](problem)
        implementation.forward_backward()
        assert all(leaf.grad is not None for leaf in implementation.leaves())
        implementation.clear()
        assert all(leaf.grad is None for leaf in implementation.leaves())


def test_stored_results_are_those_of_every_size_and_of_everybody() -> None:
    record = stored("layer")
    assert [cell["size"] for cell in record["cells"]] == layer.SIZES["all"]
    for cell in record["cells"]:
        assert list(cell["implementations"]) == list(layer.IMPLEMENTATIONS)
        for found in cell["implementations"].values():
            assert "wrong" not in found
            assert found.get("difference") is None or (
                found["difference"] <= record["settings"]["tolerance"]
            )
    sizes = [(cell["tokens"], cell["experts"], cell["k"]) for cell in stored("routing")["cells"]]
    assert sizes == routing.SIZES


def test_the_readme_says_where_ours_is_behind_and_holds_more() -> None:
    readme = (BENCHMARKS / "README.md").read_text(encoding="utf-8")
    cells = {cell["size"]: cell["implementations"] for cell in stored("layer")["cells"]}

    def behind(tokens: range, *modes: str, of: Sequence[str]) -> list[float]:
        return [
            found[name][mode]["ours_to_this"]
            for size, found in cells.items()
            if int(size.split(",")[0]) in tokens
            for name in of
            for mode in modes
        ]

    both = ("forward", "forward_backward")
    one = behind(range(1, 2), "forward_backward", of=("mask loop",))
    low, high = (100 * (ratio - 1) for ratio in (min(one), max(one)))
    assert f"loses to the mask loop by {low:.0f} to {high:.0f} %" in readme
    limits = [
        1 / found["mask loop"]["forward_backward"]["to_segmented"]
        for size, found in cells.items()
        if size.startswith("1,")
    ]
    assert f"{min(limits):.2f} to {max(limits):.2f} times as long as the mask loop" in readme

    unchecked = ("torchtitan style", "sorted modules")
    few = {
        (tokens, mode): max(behind(range(tokens, tokens + 1), mode, of=unchecked))
        for tokens in (1, 8, 64)
        for mode in both
    }
    assert (
        f"up to {few[1, both[0]]:.2f} times as long at one token, {few[8, both[0]]:.2f} at 8 and "
        f"{few[64, both[0]]:.2f} at 64 (in forward+backward {few[1, both[1]]:.2f}, idle gradients "
        f"left out, {few[8, both[1]]:.2f} and {few[64, both[1]]:.2f})" in readme
    )
    first, second = sorted(behind(range(256, 257), *both, of=unchecked))[:-3:-1]
    assert f"{first:.2f} times as long as sorted modules" in readme
    assert f"up to {second:.2f} elsewhere" in readme
    many = max(behind(range(4096, 65537), *both, of=unchecked))
    assert f"with more tokens {many:.2f} at most" in readme
    again = cells["4096,1024,512,128,8 S"]["ours, loop"]["forward"]
    assert again["rounds"] == 4
    noise = 100 * (1 - again["ours_to_this"])
    said = f"on four rounds, in which the very same code, timed twice, differs by {noise:.0f} %"
    assert said in readme

    for count, words in [
        ("peak_extra_mib", "{:.0f} and {:.0f} % above the mask loop's with D = 1024"),
        ("peak_resident_mib", "{:.0f} % above and {:.0f} % below it"),
    ]:
        more = [
            100 * (found["ours"][both[1]][count] / found["mask loop"][both[1]][count] - 1)
            for size, found in cells.items()
            if size.startswith("4096,1024,")
        ]
        assert words.format(*(abs(percent) for percent in more)) in readme


def test_the_readme_says_what_the_stored_results_say() -> None:
    others = ["HF eager", "HF grouped_mm", "HF batched_mm", "mask loop", "st-moe-pytorch"]
    readme = (BENCHMARKS / "README.md").read_text(encoding="utf-8")
    under_tcmalloc = json.loads((BENCHMARKS / "layer_tcmalloc.json").read_text(encoding="utf-8"))

    def said(record: dict[str, Any], tokens: range, mode: str, *without: str) -> str:
        ratios = [
            max(it[name][mode]["ours_to_this"] for name in others if mode in it[name])
            for cell in record["cells"]
            if int(cell["size"].split(",")[0]) in tokens and cell["size"] not in without
            for it in [cell["implementations"]]
        ]
        return f"{min(ratios):.2f} to {max(ratios):.2f}"

    default = stored("layer")
    for tokens, mode, without in [
        (range(4096, 65537), "forward", []),
        (range(4096, 65537), "forward_backward", []),
        (range(256, 257), "forward", []),
        (range(256, 257), "forward_backward", ["256,512,1792,8,2 S"]),
        (range(65), "forward", []),
        (range(64, 65), "forward_backward", []),
        (range(8, 9), "forward_backward", []),
    ]:
        assert said(default, tokens, mode, *without) in readme
    few_busy = "8,512,256,64,8 S"
    assert said(under_tcmalloc, range(2, 257), "forward", few_busy) in readme
    assert said(under_tcmalloc, range(2, 257), "forward_backward", few_busy) in readme
    assert "libtcmalloc_minimal" in report.text(
        under_tcmalloc, ours=layer.OURS, limits=(layer.DENSE, layer.SEGMENTED)
    )


def test_sizes_are_read_and_counted() -> None:
    for names in layer.SIZES.values():
        assert [str(Size.parse(name)) for name in names] == names
    assert Size.parse("10,3,5,4,2,gelu").flops == 2 * 20 * (3 * 5 + 5 * 3)
    assert Size.parse("10,3,5,4,2,swiglu").flops == 2 * 20 * (3 * 10 + 5 * 3)
    with pytest.raises(ValueError, match="a size is"):
        Size.parse("10,3,5,4")


def test_peak_memory_counts_what_is_held_at_once() -> None:
    x = torch.zeros(1000)
    run = measure.Run(lambda: x.exp().exp())
    assert measure.peak_extra_bytes(run, torch.device("cpu")) == 8000
    run = measure.Run(lambda: x.exp().exp_())
    assert measure.peak_extra_bytes(run, torch.device("cpu")) == 4000


def test_resident_memory_is_what_is_touched() -> None:
    touched = measure.peak_resident_bytes(measure.Run(lambda: torch.ones(2**24)))
    untouched = measure.peak_resident_bytes(measure.Run(lambda: torch.empty(2**24)))
    if platform.system() == "Linux":
        assert touched is not None
        assert untouched is not None
        assert untouched < 2**23 < 2**25 < touched < 2**27  # the system counts in lumps
    else:
        assert touched is untouched is None


def test_slow_runs_sit_rounds_out_but_not_the_first() -> None:
    runs = {
        "fast": measure.Run(lambda: torch.zeros(10)),
        "slow": measure.Run(lambda: torch.linalg.svd(torch.ones(100, 100))),
    }
    samples = measure.interleave(runs, ["fast"], seconds=0.1, rounds=3, device=torch.device("cpu"))
    assert 0 in samples["slow"]
    assert 3 <= len(samples["slow"]) < len(samples["fast"])
    assert measure.paired_ratio(samples["slow"], samples["fast"]) > 1


def test_routing_is_timed_beside_torch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "routing.json"
    assert routing.main([*OPTIONS, "--small", "--json", str(path)]) == 0
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        found = cell["implementations"]
        names = [routing.TORCH, routing.OURS, routing.MULTINOMIAL, routing.GUMBEL]
        assert list(found) == names
        assert all(it["peak_extra_bytes_per_token"] > 0 for it in found.values())
    assert "gumbel_top_k" in capsys.readouterr().out


def test_tracing_is_timed_beside_the_model_alone(tmp_path: Path) -> None:
    path = tmp_path / "tracing.json"
    assert tracing.main(["--small", *OPTIONS, "--json", str(path)]) == 0
    (cell,) = json.loads(path.read_text(encoding="utf-8"))["cells"]
    for work in ("pass", "generate"):
        assert cell[work]["traced_to_alone"] > 0
        assert cell[work]["rounds"] >= 2
