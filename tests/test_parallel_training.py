"""Training on many ranks gives the weights of one process, whether it was interrupted or not."""

import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from moe_tutorial import LanguageModel, Prediction, Routing, expert_load, switch_loss, updated_bias
from moe_tutorial.learning.settings import Settings
from moe_tutorial.learning.training import evaluate, train
from moe_tutorial.parallel.balancing import global_switch_loss, total_load
from moe_tutorial.parallel.ranks import RankError, run_ranks
from moe_tutorial.parallel.saving import load_checkpoint, read_weights
from moe_tutorial.parallel.spread import shard_rest, spread_experts
from moe_tutorial.parallel.training import train_parallel
from tests.parallel_cases import TEXTS, TIME_OUT, furthest, mesh_of, model, whole

SETTINGS = Settings(5, batch_size=8, length=12, warm_up=2)


def loss_of_all(routing: Routing) -> torch.Tensor:
    return 0.05 * global_switch_loss(routing)


def loss_of_one(routing: Routing) -> torch.Tensor:
    return 0.05 * switch_loss(routing.probabilities_TE, routing.experts_TK)


def move_biases(trained: LanguageModel, load_of: Any, prediction: Prediction) -> None:
    for block, routing in zip(trained.blocks, prediction.routings, strict=True):
        router = block.layer.router
        router.bias_E = updated_bias(router.bias_E, load_of(routing), 0.01)


def biased() -> LanguageModel:
    return model(selection_bias=True)


@pytest.fixture(scope="module")
def alone() -> tuple[dict[str, torch.Tensor], list[float], dict[str, float]]:
    trained = biased()
    move = partial(move_biases, trained, lambda it: expert_load(it.experts_TK, 4))
    history = train(trained, TEXTS.training, SETTINGS, penalty=loss_of_one, after_step=move)
    losses = evaluate(trained, TEXTS.validation, 3, 12)
    return trained.state_dict(), history.losses, losses


def together(
    copies: int, shard: bool = False, folder: Path | None = None, until: int | None = None,
    killed_after: int | None = None,
) -> tuple[dict[str, torch.Tensor], list[float], dict[str, float]]:  # fmt: skip
    trained, mesh, steps = biased(), mesh_of(copies), 0
    spread_experts(trained, mesh)
    if shard:
        shard_rest(trained, mesh)

    def after_step(prediction: Prediction) -> None:
        nonlocal steps
        steps += 1
        move_biases(trained, total_load, prediction)
        if steps == killed_after and dist.get_rank() == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    history = train_parallel(
        trained, TEXTS.training, SETTINGS, mesh, penalty=loss_of_all, after_step=after_step,
        folder=folder, save_every=2, until=until,
    )  # fmt: skip
    losses = evaluate(trained, TEXTS.validation, 3, 12)
    return {name: whole(it) for name, it in trained.state_dict().items()}, history.losses, losses


# Four, two and one rank without FSDP2 take turns below.
@pytest.mark.torch_from(2, 8, reason="no fully_shard that leaves parameters out")
@pytest.mark.parametrize(("ranks", "copies", "shard"), [(2, 1, True), (4, 2, True)])
def test_ranks_train_the_model_that_one_process_trains(
    alone: tuple[Any, list[float], dict[str, float]], ranks: int, copies: int, shard: bool
) -> None:
    weights, losses, validation = alone
    for found in run_ranks(together, ranks, copies, shard, time_out=TIME_OUT):
        assert furthest(found[0], weights) < 1e-12
        assert found[1] == pytest.approx(losses, abs=1e-12)
        assert found[2] == pytest.approx(validation, abs=1e-12)


def test_a_killed_rank_ends_all_and_training_goes_on_to_the_bit(tmp_path: Path) -> None:
    whole_run = run_ranks(together, 2, 1, time_out=TIME_OUT)[0]
    with pytest.raises(RankError, match="rank 1: ended without a result, exit code -9") as error:
        run_ranks(together, 2, 1, False, tmp_path, None, 3, time_out=TIME_OUT)
    assert set(error.value.errors) == {1}  # the other one only lost its partner
    assert [it.name for it in tmp_path.iterdir()] == ["step_2"]
    for weights, losses, _ in run_ranks(together, 2, 1, False, tmp_path, time_out=TIME_OUT):
        assert all(torch.equal(weights[name], it) for name, it in whole_run[0].items())
        assert losses == whole_run[1]
    assert [it.name for it in tmp_path.iterdir()] == ["step_5"]
    # A process of its own reads the whole model.
    plain = biased()
    plain.load_state_dict(read_weights(tmp_path))
    assert all(torch.equal(whole_run[0][name], it) for name, it in plain.state_dict().items())


@pytest.mark.torch_from(2, 8, reason="no fully_shard that leaves parameters out")
def test_other_numbers_of_ranks_go_on_from_a_checkpoint_with_fsdp_and_without(
    tmp_path: Path, alone: tuple[Any, list[float], Any]
) -> None:
    run_ranks(together, 4, 1, False, tmp_path, 2, time_out=TIME_OUT)
    for _, losses, _ in run_ranks(together, 2, 1, True, tmp_path, 4, time_out=TIME_OUT):
        assert losses == pytest.approx(alone[1][:4], abs=1e-12)
    (found,) = run_ranks(together, 1, 1, False, tmp_path, time_out=TIME_OUT)
    assert furthest(found[0], alone[0]) < 1e-12
    # A model without memory, which is spread before it has any.
    for weights in run_ranks(from_nothing, 2, tmp_path, time_out=TIME_OUT):
        assert all(torch.equal(weights[name], it) for name, it in found[0].items())


def from_nothing(folder: Path) -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        empty = biased()
    spread_experts(empty, mesh_of(1))
    empty.to_empty(device="cpu")
    load_checkpoint(folder, empty)
    return {name: whole(it) for name, it in empty.state_dict().items()}


def refused(folder: Path) -> list[str]:
    mesh, words = mesh_of(1), []
    for settings, place in [
        (Settings(5, batch_size=9, length=12, warm_up=2), None),
        (Settings(5, batch_size=8, length=12, warm_up=2, seed=dist.get_rank()), None),
        (Settings(5, batch_size=8, length=12, warm_up=2, learning_rate=1e300), None),
        (Settings(6, batch_size=8, length=12, warm_up=2), folder),
    ]:
        trained = biased()
        spread_experts(trained, mesh)
        with pytest.raises(ValueError, match=r"must|written") as error:
            train_parallel(trained, TEXTS.training, settings, mesh, folder=place)
        words.append(str(error.value))
    return words


def test_all_ranks_refuse_alike(tmp_path: Path) -> None:
    trained = run_ranks(together, 2, 1, False, tmp_path, 2, time_out=TIME_OUT)
    assert len(trained) == 2
    first, second = run_ranks(refused, 2, tmp_path, time_out=TIME_OUT)
    assert first == second
    assert "batch_size must be divisible by the number of ranks (2), got 9" in first[0]
    assert "all ranks must have the same seed, got 0 on rank 0 and 1 on rank 1" in first[1]
    assert "must stay finite" in first[2]
    assert "was written with another steps" in first[3]
