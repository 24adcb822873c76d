"""The whole layer and the router are timed beside peers that compute the same, and no others."""

import dataclasses
import json
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks import whole_layer
from moe_tutorial import Router, Routing
from moe_tutorial.results import stored


def test_the_whole_layer_and_the_router_are_timed_beside_their_peers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "whole_layer.json"
    options = ["--threads", "1", "--seconds", "0", "--rounds", "2", "--json", str(path)]
    sizes, routers = [["1,16,32,4,2 S", "24,16,32,4,2 S"]], ["1,16,4,2", "24,16,4,2"]
    assert whole_layer.main(options, sizes=sizes, routers=routers) == 0
    record = json.loads(path.read_text(encoding="utf-8"))
    assert [cell["size"] for cell in record["layers"]] == sizes[0]
    for cell in record["layers"]:
        assert list(cell["implementations"]) == list(whole_layer.IMPLEMENTATIONS)
        for found in cell["implementations"].values():
            assert "skipped" not in found
            assert all(found[mode]["ours_to_this"] > 0 for mode in whole_layer.MODES)
    assert [cell["size"] for cell in record["routers"]] == routers
    for cell in record["routers"]:
        for mode in ("recorded", "not_recorded"):
            assert list(cell[mode]) == [whole_layer.OURS, whole_layer.PLAIN]
    assert whole_layer.text(record) in capsys.readouterr().out

    # What is there already is not measured again, and is kept for the same settings alone.
    record["routers"][0]["kept"] = True
    record["layers"].clear()
    path.write_text(json.dumps(record), encoding="utf-8")
    assert whole_layer.main([*options, "--go-on"], sizes=sizes, routers=routers) == 0
    again = json.loads(path.read_text(encoding="utf-8"))
    assert again["routers"] == record["routers"]
    assert [cell["size"] for cell in again["layers"]] == sizes[0]
    with pytest.raises(SystemExit):
        whole_layer.main([*options, "--go-on", "--rounds", "3"], sizes=sizes, routers=routers)
    assert "the same machine, versions and settings" in capsys.readouterr().err


class ForgetsTheRouter(whole_layer.MixtralBlock):
    def forward(self) -> Tensor:
        return super().forward() + (self.centroids_ED.detach() - self.centroids_ED).sum()


def test_a_block_whose_router_learns_something_else_is_caught() -> None:
    wrong = {
        **whole_layer.IMPLEMENTATIONS,
        "wrong": partial(ForgetsTheRouter, implementation="eager"),
    }
    (cell,) = whole_layer.measure_layers(
        ["24,16,32,4,2 S"], wrong, threads=torch.get_num_threads(), seconds=0, rounds=1
    )
    found = cell["implementations"]["wrong"]
    assert "differs from ours: gradient of the router" in found["skipped"]
    assert "forward" not in found


def test_a_router_that_decides_otherwise_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Doubles(Router):
        def forward(self, x_TD: Tensor, generator: torch.Generator | None = None) -> Routing:
            routing = super().forward(x_TD, generator)
            return dataclasses.replace(routing, gates_TK=2 * routing.gates_TK)

    monkeypatch.setattr(whole_layer, "Router", Doubles)
    with pytest.raises(ArithmeticError, match="the router differs"):
        whole_layer.measure_routers(
            ["24,16,4,2"], threads=torch.get_num_threads(), seconds=0, rounds=1
        )


def test_the_readme_shows_the_stored_results_of_every_size() -> None:
    record = stored("whole_layer")
    layers = [it["size"] for it in record["layers"]]
    assert layers == [size for sizes in whole_layer.SIZES for size in sizes]
    assert [it["size"] for it in record["routers"]] == whole_layer.ROUTERS
    for cell in record["layers"]:
        for found in cell["implementations"].values():
            assert "wrong" not in found
    readme = Path(whole_layer.__file__).with_name("README.md").read_text(encoding="utf-8")
    assert whole_layer.text(record) in readme
