"""Training: it learns, it repeats itself to the bit, and an interruption leaves no trace."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from moe_tutorial.layer.block import Attention, Block
from moe_tutorial.layer.experts import Experts
from moe_tutorial.layer.feed_forward import FeedForward
from moe_tutorial.layer.moe import MoELayer
from moe_tutorial.learning.language_model import LanguageModel, Prediction
from moe_tutorial.learning.text import Batch, Corpus, Text, corpus, draw_batch
from moe_tutorial.learning.training import History, Settings, cross_entropy, evaluate, train
from moe_tutorial.routing.decision import Routing
from moe_tutorial.routing.router import Router
from tests.oracles import generator, same

D, SETTINGS = 16, Settings(steps=12, batch_size=3, length=10, warm_up=3, seed=5)


def model(device: torch.device | str = "cpu", selection: str = "sampled") -> LanguageModel:
    torch.manual_seed(0)
    sparse = MoELayer(Router(D, 4, 2, selection=selection), Experts(4, D, 16))
    blocks = [Block(Attention(D, 2), FeedForward(D, 32)), Block(Attention(D, 2), sparse)]
    return LanguageModel(blocks).to(device)


@pytest.fixture(scope="module")
def small() -> Corpus:
    lines = [f"the {i}th line of some text, number {i * i}" for i in range(40)]
    return corpus({"lines": lines, "upper": [line.upper() for line in lines]})


def weights(one: LanguageModel) -> list[Tensor]:
    return [tensor.clone() for tensor in one.state_dict().values()]


def equal(one: LanguageModel, other: LanguageModel) -> bool:
    return all(map(torch.equal, weights(one), weights(other)))


def test_one_batch_is_learnt_by_heart(device: torch.device) -> None:
    one_window = Text(("x",), torch.arange(40, 73, dtype=torch.uint8), (0, 33))
    learner = model(device, "top_k")
    settings = Settings(steps=120, batch_size=1, length=32, learning_rate=1e-2, warm_up=5)
    history = train(learner, one_window, settings)
    assert history.losses[0] == pytest.approx(math.log(256), abs=0.6)
    assert history.losses[-1] < 0.05


def test_a_seed_gives_the_same_run_and_another_does_not(small: Corpus) -> None:
    one, again, other = model(), model(), model()
    losses = train(one, small.training, SETTINGS).losses
    assert train(again, small.training, SETTINGS).losses == losses
    assert equal(one, again)
    train(other, small.training, Settings(**{**vars(SETTINGS), "seed": 6}))
    assert not equal(one, other)


@pytest.mark.parametrize("stop", [1, 4, 11])
def test_an_interruption_leaves_no_trace(
    small: Corpus, tmp_path: Path, stop: int, device: torch.device
) -> None:
    if device.type == "cuda":
        pytest.skip("a GPU's attention may add in another order")
    whole, interrupted = model(), model()
    expected = train(whole, small.training, SETTINGS)
    file = tmp_path / "checkpoint.pt"
    train(interrupted, small.training, SETTINGS, checkpoint=file, until=stop)
    assert not equal(whole, interrupted)
    fresh = model()
    with torch.no_grad():
        for parameter in fresh.parameters():
            parameter.zero_()  # everything has to come from the file
    torch.manual_seed(99)  # and nothing from torch's global generator
    history = train(fresh, small.training, SETTINGS, checkpoint=file)
    assert equal(whole, fresh)
    assert history.losses == expected.losses
    assert history.seconds == sorted(history.seconds)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_what_was_saved_before_a_crash_is_enough(small: Corpus, tmp_path: Path) -> None:
    calls = 0

    def crashes(routing: Routing) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 8:
            raise KeyboardInterrupt
        return routing.gates_TK.sum() * 0

    file = tmp_path / "checkpoint.pt"
    with pytest.raises(KeyboardInterrupt):
        train(model(), small.training, SETTINGS, penalty=crashes, checkpoint=file, save_every=3)
    whole, resumed = model(), model()
    train(whole, small.training, SETTINGS)
    before = calls
    train(resumed, small.training, SETTINGS, penalty=crashes, checkpoint=file)
    assert calls - before == SETTINGS.steps - 6
    assert equal(whole, resumed)


def test_a_finished_run_is_not_run_again(small: Corpus, tmp_path: Path) -> None:
    file = tmp_path / "checkpoint.pt"
    done, again = model(), model()
    first = train(done, small.training, SETTINGS, checkpoint=file)
    second = train(again, small.training, SETTINGS, checkpoint=file)
    assert second == first
    assert equal(done, again)


def test_another_run_does_not_take_up_a_checkpoint(small: Corpus, tmp_path: Path) -> None:
    file = tmp_path / "checkpoint.pt"
    train(model(), small.training, SETTINGS, checkpoint=file, until=2)
    other = Settings(**{**vars(SETTINGS), "seed": 6, "learning_rate": 1.0})
    with pytest.raises(ValueError, match=r"checkpoint.pt was written .* learning_rate, seed:"):
        train(model(), small.training, other, checkpoint=file)
    with pytest.raises(ValueError, match=r"checkpoint.pt was written with another text:"):
        train(model(), small.validation, SETTINGS, checkpoint=file)


def test_a_step_is_adamw_with_a_clipped_gradient(small: Corpus) -> None:
    """The same step by hand: a formula for the first step of AdamW, written out."""
    settings = Settings(
        steps=2, batch_size=3, length=10, warm_up=0, largest_gradient=0.1, learning_rate=1e-2
    )
    trained, by_hand = model(selection="top_k"), model(selection="top_k")
    train(trained, small.training, settings, until=1)
    batch = draw_batch(small.training, 3, 10, generator(settings.seed))
    cross_entropy(by_hand(batch.tokens_BS), batch).mean().backward()
    norm = math.sqrt(sum(p.grad.double().square().sum().item() for p in by_hand.parameters()))
    assert norm > 0.1
    for new, old in zip(trained.parameters(), by_hand.parameters(), strict=True):
        gradient = old.grad * 0.1 / norm
        decay = 0.1 if old.ndim > 1 else 0.0
        expected = old * (1 - 1e-2 * decay) - 1e-2 * gradient / (gradient.abs() + 1e-8)
        # Where the gradient is as small as AdamW's 1e-8, its own rounding shows.
        clear = gradient.abs() > 1e-6
        same(new[clear], expected[clear], atol=1e-5)


def test_weight_decay_acts_by_meaning_and_not_by_rank(small: Corpus) -> None:
    """With a rate so small that a step moves nothing else, what has decayed is smaller."""
    form = {"activation": "gelu", "bias": True}
    scale = torch.nn.Parameter(torch.ones(1, 1))
    router = Router(D, 4, 2, selection="noisy_top_k", scores="cosine", scale=scale)
    layer = MoELayer(
        router, Experts(4, D, 16, **form), shared=FeedForward(D, 8, **form), shared_gate=True
    )
    one = LanguageModel([Block(Attention(D, 2), layer)])
    with torch.no_grad():
        for parameter in one.parameters():
            parameter.fill_(1.0)
    settings = replace(SETTINGS, steps=1, warm_up=0, learning_rate=1e-3, weight_decay=500.0)
    train(one, small.training, settings)
    decayed = {name for name, it in one.named_parameters() if it.mean() < 0.9}
    assert decayed == {
        "embedding.weight", "head.weight", "blocks.0.attention.queries_keys_values.weight",
        "blocks.0.attention.out.weight", "blocks.0.layer.router.centroids_ED",
        "blocks.0.layer.router.noise_ED", "blocks.0.layer.experts.in_EHD",
        "blocks.0.layer.experts.out_EDF", "blocks.0.layer.shared.into.weight",
        "blocks.0.layer.shared.out.weight", "blocks.0.layer.shared_gate.weight",
    }  # fmt: skip


def test_the_penalty_is_added_layer_by_layer(small: Corpus) -> None:
    seen: list[Routing] = []

    def flat(routing: Routing) -> Tensor:
        seen.append(routing)
        return 10 * routing.logits_TE.square().mean()

    plain, flattened = model(selection="top_k"), model(selection="top_k")
    without = train(plain, small.training, SETTINGS)
    with_penalty = train(flattened, small.training, SETTINGS, penalty=flat)
    assert len(seen) == SETTINGS.steps  # one sparse layer
    assert with_penalty.losses[0] == without.losses[0]  # losses are reported without it
    assert flattened.blocks[1].layer.router.centroids_ED.norm() < (
        plain.blocks[1].layer.router.centroids_ED.norm()
    )


def test_after_each_step_the_routing_can_be_acted_upon(small: Corpus, tmp_path: Path) -> None:
    """A buffer that only this function moves is kept across an interruption, too."""

    def counting() -> tuple[LanguageModel, Callable[[Prediction], None]]:
        counted = model()
        counted.register_buffer("load_E", torch.zeros(4, dtype=torch.int64))

        def count(prediction: Prediction) -> None:
            assert not any(p.grad is None for p in counted.parameters())
            dense, sparse = prediction.routings
            assert dense is None
            counted.load_E += torch.bincount(sparse.experts_TK.flatten(), minlength=4)

        return counted, count

    (whole, count), (first, count_first), (second, count_second) = (counting() for _ in range(3))
    train(whole, small.training, SETTINGS, after_step=count)
    assert whole.load_E.sum() == SETTINGS.steps * SETTINGS.batch_size * SETTINGS.length * 2
    file = tmp_path / "checkpoint.pt"
    train(first, small.training, SETTINGS, after_step=count_first, checkpoint=file, until=5)
    train(second, small.training, SETTINGS, after_step=count_second, checkpoint=file)
    assert equal(whole, second)


def test_evaluation_is_the_mean_by_domain_and_changes_nothing(
    small: Corpus, device: torch.device
) -> None:
    judged = model(device, "top_k").train()
    before = weights(judged)
    losses = evaluate(judged, small.validation, 7, 9, batch_size=3)
    assert judged.training
    assert all(map(torch.equal, before, weights(judged)))
    assert losses == evaluate(judged, small.validation, 7, 9, batch_size=3)
    together = evaluate(judged, small.validation, 7, 9)
    assert losses == pytest.approx(together, rel=1e-5)
    assert list(losses) == ["lines", "upper"]
    start, end = small.validation.starts[1:]
    upper = Text(("upper",), small.validation.bytes_N[start:end], (0, end - start))
    batch = draw_batch(upper, 7, 9, generator(0), device)
    loss = cross_entropy(judged(batch.tokens_BS), Batch(*vars(batch).values())).mean().item()
    assert losses["upper"] == pytest.approx(loss, rel=1e-5)


def test_progress_goes_to_the_error_stream(
    small: Corpus, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    train(model(), small.training, SETTINGS)
    assert capsys.readouterr() == ("", "")
    file = tmp_path / "checkpoint.pt"
    train(model(), small.training, SETTINGS, progress=True, checkpoint=file, until=4)
    out, err = capsys.readouterr()
    assert out == ""
    assert " 0/12" in err
    assert " 4/12" in err.splitlines()[-1]
    history = train(model(), small.training, SETTINGS, progress=True, checkpoint=file)
    out, err = capsys.readouterr()
    assert out == ""
    assert " 0/12" not in err  # it goes on where it was
    assert " 12/12" in err
    assert f"loss={history.losses[-1]:.3f}" in err


def test_a_loss_that_is_not_finite_moves_no_weight(small: Corpus) -> None:
    broken = model()
    before = weights(broken)
    with pytest.raises(ValueError, match="the loss must stay finite, got nan in step 0"):
        train(broken, small.training, SETTINGS, penalty=lambda r: r.gates_TK.sum() * math.nan)
    assert all(map(torch.equal, before, weights(broken)))


@pytest.mark.parametrize("name", ["save_every", "until"])
def test_bad_numbers_of_steps_are_refused_by_name(small: Corpus, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 1"):
        train(model(), small.training, SETTINGS, **{name: 0})


@pytest.mark.parametrize("call", ["evaluate", "failing evaluate", "train", "failing train"])
def test_each_module_comes_back_in_its_own_mode(small: Corpus, call: str) -> None:
    one = model().eval()
    one.blocks[0].train()
    one.blocks[1].layer.router.train()
    modes = [module.training for module in one.modules()]
    seen: list[set[bool]] = []
    one.norm.register_forward_hook(lambda *_: seen.append({m.training for m in one.modules()}))
    if call == "evaluate":
        evaluate(one, small.validation, 2, 9)
    elif call == "failing evaluate":
        with pytest.raises(ValueError, match="length must be below"):
            evaluate(one, small.validation, 1, 10**7)
    elif call == "train":
        train(one, small.training, SETTINGS)
    else:
        with pytest.raises(ValueError, match="the loss must stay finite"):
            train(one, small.training, SETTINGS, penalty=lambda r: r.gates_TK.sum() * math.nan)
    assert [module.training for module in one.modules()] == modes
    assert all(modes == {"train" in call} for modes in seen)


def test_evaluation_names_its_device(small: Corpus) -> None:
    judged = model()
    expected = evaluate(judged, small.validation, 3, 9)
    torch.set_default_device("meta")
    try:
        assert evaluate(judged, small.validation, 3, 9) == expected
    finally:
        torch.set_default_device("cpu")


def test_a_history_starts_empty() -> None:
    assert History() == History([], [])
