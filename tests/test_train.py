"""The command that trains on many devices: its settings file, its words, and a rank that dies."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from moe_tutorial import switch_loss
from moe_tutorial.learning.documents import installed_documents
from moe_tutorial.learning.text import corpus
from moe_tutorial.learning.training import train
from moe_tutorial.parallel.launching import Plan, make_mesh, make_model, read_plan
from moe_tutorial.parallel.ranks import run_ranks
from moe_tutorial.parallel.saving import read_about, read_weights
from moe_tutorial.train import main

SMALL: dict[str, Any] = {
    "training": {"steps": 40, "batch_size": 4, "length": 16, "warm_up": 2},
    "model": {"layers": 1, "width": 8, "heads": 2, "experts": 4, "expert_width": 8},
    "save_every": 10,
    "time_out": 60,
}


def written(folder: Path, content: Any) -> Path:
    path = folder / "settings.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return path


def test_a_settings_file_is_read_and_what_it_leaves_out_has_its_usual_value(tmp_path: Path) -> None:
    plan = read_plan(written(tmp_path, {**SMALL, "languages": ["de"], "bias_rate": 0.01}))
    assert (plan.training.steps, plan.training.seed) == (40, 0)
    assert (plan.model.experts, plan.model.k, plan.copies) == (4, 2, 1)
    assert plan.languages == ("de",)
    assert isinstance(plan, Plan)
    router = make_model(plan).blocks[0].layer.router
    assert router.bias_E is not None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "settings.json must be JSON"),
        ([], "settings.json must hold names and values"),
        ({}, 'must have "training"'),
        ({**SMALL, "device": 3}, "must hold training, .* alone, got 'device'"),
        ({**SMALL, "model": {"expert": 3}}, "model must hold layers, .* alone, got 'expert'"),
        ({**SMALL, "model": {"experts": 0}}, r"model\.experts must be at least 1, got 0"),
        ({**SMALL, "training": {"steps": 0}}, "steps must be at least 1, got 0"),
        ({**SMALL, "training": 3}, "training must hold names and values, got 3"),
        ({**SMALL, "copies": 0}, "copies must be at least 1, got 0"),
        ({**SMALL, "balance_loss": -1}, "balance_loss must be a number of at least 0, got -1"),
        ({**SMALL, "bias_rate": "1"}, "bias_rate must be a number of at least 0, got '1'"),
        ({**SMALL, "time_out": 0}, "time_out must be seconds above 0, got 0"),
        ({**SMALL, "shard_rest": 1}, "shard_rest must be true or false, got 1"),
        ({**SMALL, "languages": "de"}, "languages must be a list such as"),
    ],
)
def test_a_settings_file_that_makes_no_sense_is_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: Any, words: str
) -> None:
    path = written(tmp_path, content)
    with pytest.raises((TypeError, ValueError), match=words):
        read_plan(path)
    assert main([str(path), str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err.startswith("rank 0: ")


def test_copies_must_divide_the_number_of_ranks() -> None:
    def attempt() -> tuple[tuple[int, ...], str]:
        with pytest.raises(ValueError, match="copies") as error:
            make_mesh(3, torch.device("cpu"))
        return tuple(make_mesh(1, torch.device("cpu")).mesh.shape), str(error.value)

    found = run_ranks(attempt, 2, time_out=60)
    assert found == [((1, 2), "copies must divide the number of ranks (2), got 3")] * 2


def workers(pid: int) -> list[int]:
    """The processes that a process started and that train."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            for child in map(int, (task / "children").read_text().split()):
                if b"moe_tutorial.train" in Path(f"/proc/{child}/cmdline").read_bytes():
                    found.append(child)
    return sorted(found)


@pytest.mark.skipif(sys.platform != "linux", reason="finds the workers in /proc")
def test_torchrun_starts_anew_when_a_rank_is_killed_and_nothing_is_lost(tmp_path: Path) -> None:
    path, folder = written(tmp_path, SMALL), tmp_path / "run"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", "--max-restarts", "1"]
    quiet = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*command, "-m", "moe_tutorial.train", str(path), str(folder)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **quiet},
    )  # fmt: skip
    end = time.monotonic() + 120
    try:
        while not list(folder.glob("step_*")):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end
            time.sleep(0.01)
        killed = workers(process.pid)
        os.kill(killed[0], signal.SIGKILL)
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert len(killed) == 2
    # The second attempt's first words: it began at a checkpoint.
    assert re.search(r"[123]0/40 \[00:00<\?", err)
    assert "steps 40, training loss" in out
    # One process, never killed, trains the same model.
    plan = read_plan(path)
    alone = make_model(plan)
    text = corpus(installed_documents(())).training
    history = train(
        alone,
        text,
        plan.training,
        penalty=lambda it: 0.01 * switch_loss(it.probabilities_TE, it.experts_TK),
    )
    about = read_about(folder)
    assert about is not None
    assert about["history"]["losses"] == pytest.approx(history.losses, abs=1e-4)
    for name, value in read_weights(folder).items():
        torch.testing.assert_close(value, alone.state_dict()[name], atol=1e-4, rtol=0)
