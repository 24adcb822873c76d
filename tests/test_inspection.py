"""What is recorded of a model is what it did, whatever the model and however it runs."""

import importlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

import moe_tutorial as moe
from moe_tutorial.models.inspection import PART, trace
from moe_tutorial.models.moe_layers import moe_layers
from moe_tutorial.models.traces import NO_EXPERT, Trace
from tests.oracles import same

SMALL = {
    "vocab_size": 97, "hidden_size": 32, "intermediate_size": 16, "moe_intermediate_size": 16,
    "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
    "num_experts": 8, "num_local_experts": 8, "n_routed_experts": 8, "num_experts_per_tok": 3,
    "n_group": 2, "topk_group": 1, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


def model_of(name: str, **options: Any) -> Any:
    """A small model of one of transformers' families, with random weights."""
    config = getattr(transformers, f"{name}Config")(**SMALL | options)
    torch.manual_seed(0)
    model = getattr(transformers, f"{name}ForCausalLM")(config)
    for name_, parameter in model.named_parameters():
        if "norm" not in name_:
            nn.init.normal_(parameter, std=0.3)
    return model.eval()


def book_model() -> moe.LanguageModel:
    torch.manual_seed(0)

    def block() -> moe.Block:
        layer = moe.MoELayer(moe.Router(32, 8, 3), moe.Experts(8, 32, 16))
        return moe.Block(moe.Attention(32, 4), layer)

    return moe.LanguageModel(
        [block(), moe.Block(moe.Attention(32, 4), moe.FeedForward(32, 16)), block()], 97
    )


def tokens(*shape: int, seed: int = 1) -> Tensor:
    return torch.randint(3, 97, shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def mixtral() -> Any:
    return model_of("Mixtral")


def hooks_of(model: nn.Module) -> int:
    return sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()
    )


def by_token(found: Trace) -> Tensor:
    """Gates scattered over the experts: no order of experts matters."""
    gates = found.gates_LTK
    assert gates is not None
    ids = found.experts_LTK.long()
    row = torch.zeros(*ids.shape[:2], found.num_experts + 1, dtype=torch.float64)
    return row.scatter(-1, ids.where(ids >= 0, found.num_experts), gates.double())[..., :-1]


# --- against transformers' own outputs ---


@pytest.mark.parametrize(
    ("name", "renormalised"),
    [
        ("Mixtral", True),
        ("GraniteMoe", True),
        ("Olmoe", False),
        ("Qwen3Moe", False),
        ("GptOss", True),
    ],
)
def test_ids_and_gates_are_those_of_the_routers_logits(name: str, renormalised: bool) -> None:
    options = {"decoder_sparse_step": 1} if name == "Qwen3Moe" else {}
    model, ids = model_of(name, **options), tokens(2, 9)
    with trace(model) as recording:
        # In gpt-oss the router's logits have a place of their own in the output.
        output = model(input_ids=ids, output_router_logits=True)
    found = recording.trace()
    assert (len(found.layers), found.k, found.num_experts, len(found)) == (3, 3, 8, 18)
    for place, logits_TE in enumerate(output.router_logits):
        probabilities_TE = logits_TE.double().softmax(-1)
        gates_TK, experts_TK = probabilities_TE.topk(3)
        if renormalised:
            gates_TK = gates_TK / gates_TK.sum(-1, keepdim=True)
        expected_TE = torch.zeros(18, 8, dtype=torch.float64).scatter(-1, experts_TK, gates_TK)
        torch.testing.assert_close(by_token(found)[place], expected_TE, atol=1e-6, rtol=0)
    same(found.tokens_T, ids.flatten().int())
    same(found.positions_T, torch.arange(9).repeat(2).int())
    same(found.sequences_T, torch.arange(2).repeat_interleave(9).int())


def test_the_books_own_model() -> None:
    model, ids = book_model(), tokens(2, 9)
    with trace(model) as recording:
        prediction = model(ids)
    found = recording.trace()
    routings = [it for it in prediction.routings if it is not None]
    assert found.layers == ("blocks.0.layer", "blocks.2.layer")
    for place, routing in enumerate(routings):
        same(found.experts_LTK[place].long(), routing.experts_TK.flatten(0, 1))
        assert found.gates_LTK is not None
        same(found.gates_LTK[place], routing.gates_TK.detach().flatten(0, 1))
    same(found.tokens_T, ids.flatten().int())


# Blocks of transformers and the configuration of each: five that scale afterwards come first.
BLOCKS = {
    "beam": "BeamMoE",
    "laguna": "LagunaSparseMoeBlock",
    "minimax_m3_vl": "MiniMaxM3VLSparseMoeBlock",
    "openai_privacy_filter": "OpenAIPrivacyFilterMLP",
    "step3p7": "Step3p7SparseMoeBlock",
    "zaya": "ZayaSparseMoeBlock",
    "longcat_flash": "LongcatFlashMoE",
    "gpt_oss": "GptOssMLP",
    "deepseek_v3": "DeepseekV3MoE",
    "deepseek_v2": "DeepseekV2Moe",
    "qwen2_moe": "Qwen2MoeSparseMoeBlock",
    "phimoe": "PhimoeSparseMoeBlock",
    "inkling": "InklingMoE",
    "cohere2_moe": "Cohere2MoeSparseMoeBlock",
    "lfm2_moe": "Lfm2MoeSparseMoeBlock",
    "nemotron_h": "NemotronHMoE",
}


def block_of(family: str) -> nn.Module:
    """One block with random weights, small, from whichever of its configurations builds it."""
    folder = f"transformers.models.{family}"
    code = importlib.import_module(f"{folder}.modeling_{family}")
    configs = vars(importlib.import_module(f"{folder}.configuration_{family}"))
    small = SMALL | {"expert_ffn_hidden_size": 16, "ffn_hidden_size": 16, "num_experts_per_tok": 2}
    for name, kind in configs.items():
        if not name.endswith("Config") or kind.__module__ != f"{folder}.configuration_{family}":
            continue
        for place in ((), (1,)):
            config = kind()
            for key, value in small.items():
                if hasattr(config, key):
                    setattr(config, key, value)
            for key in ("routed_scaling_factor", "moe_routed_scaling_factor"):
                if hasattr(config, key):
                    setattr(config, key, 1.75)
            config._experts_implementation = "eager"
            try:
                block = getattr(code, BLOCKS[family])(config, *place)
            except (AttributeError, TypeError, RuntimeError):
                continue
            torch.manual_seed(0)
            for parameter in block.parameters():
                nn.init.normal_(parameter, std=0.3)
            return block.eval()
    raise AssertionError(family)


class Around(nn.Module):
    """A model that is one block, on hidden states."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.mlp = block

    def forward(self, x_BSD: Tensor) -> Tensor:
        y = self.mlp(x_BSD)
        return y[0] if isinstance(y, tuple) else y


@pytest.mark.parametrize("family", BLOCKS)
@torch.no_grad()
def test_gates_are_those_that_are_finally_applied(family: str) -> None:
    """The experts' part of a block's output is the sum of gate times expert, gates as recorded."""
    model = Around(block_of(family))
    x_BSD = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(2))
    with trace(model) as recording:
        y_BSD = model(x_BSD.clone())
    found = recording.trace()
    seen: list[tuple[Tensor, ...]] = []
    experts = model.mlp.experts
    handle = experts.register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
    model(x_BSD.clone())
    handle.remove()
    handle = experts.register_forward_hook(lambda _, __, output: torch.zeros_like(output))
    rest_BSD = model(x_BSD.clone())
    handle.remove()
    u_TD = seen[0][0]
    ids_TK, gates_LTK = found.experts_LTK[0].long(), found.gates_LTK
    assert gates_LTK is not None
    expected = experts(u_TD, ids_TK.clamp(min=0), gates_LTK[0].to(u_TD.dtype))
    assert bool((gates_LTK[0][ids_TK == NO_EXPERT] == 0).all())
    torch.testing.assert_close((y_BSD - rest_BSD).flatten(0, 1), expected, atol=2e-5, rtol=2e-4)
    same(found.tokens_T, torch.full((10,), -1).int())


def test_no_other_family_scales_after_its_experts() -> None:
    folder = Path(transformers.__file__).parent / "models"
    scaled = set()
    for path in folder.glob("*/modeling_*.py"):
        code = path.read_text(encoding="utf-8")
        for found in re.finditer(r"= self\.experts\((?:.*\n){1,6}", code):
            if re.search(r"\* self\.(routed_scaling_factor|num_experts|\w*scal\w*)\b", found[0]):
                scaled.add(path.parent.name)
    assert scaled == {"beam", "laguna", "minimax_m3_vl", "openai_privacy_filter", "step3p7"}


# --- however it runs ---


def test_outputs_stay_the_same_to_the_bit(mixtral: Any) -> None:
    ids = tokens(3, 11)
    before = mixtral(input_ids=ids).logits
    with trace(mixtral):
        during = mixtral(input_ids=ids).logits
    same(before, during)
    with trace(mixtral):
        drawn = mixtral.generate(ids, max_new_tokens=4, do_sample=False)
    same(drawn, mixtral.generate(ids, max_new_tokens=4, do_sample=False))


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_is_left_out(mixtral: Any, side: str) -> None:
    ids, mask = tokens(2, 8), torch.ones(2, 8, dtype=torch.int64)
    empty = slice(0, 3) if side == "left" else slice(5, 8)
    ids[0, empty], mask[0, empty] = 0, 0
    with trace(mixtral) as recording:
        mixtral(input_ids=ids, attention_mask=mask)
    found = recording.trace()
    same(found.sequences_T, torch.tensor([0] * 5 + [1] * 8).int())
    same(found.positions_T, torch.cat([torch.arange(5), torch.arange(8)]).int())
    same(found.tokens_T, ids[mask == 1].int())
    with trace(mixtral) as alone:
        mixtral(input_ids=ids[:1, mask[0] == 1])
    close(alone.trace(), found.cut(found.sequences_T == 0))


def close(first: Trace, second: Trace) -> None:
    torch.testing.assert_close(by_token(first), by_token(second), atol=1e-5, rtol=0)


def test_generate_gives_the_trace_of_a_whole_forward(mixtral: Any) -> None:
    ids, mask = tokens(2, 6), torch.ones(2, 6, dtype=torch.int64)
    ids[1, :2], mask[1, :2] = 0, 0
    mixtral.generation_config.eos_token_id = None
    with trace(mixtral) as recording:
        whole = mixtral.generate(ids, attention_mask=mask, max_new_tokens=5, do_sample=False)
    found = recording.trace()
    # The last token is not fed back.
    same(found.positions_T, torch.cat([torch.arange(10), torch.arange(8)]).int())
    same(found.tokens_T, torch.cat([whole[0, :10], whole[1, 2:10]]).int())
    with trace(mixtral) as alone:
        mixtral(input_ids=whole[1:, 2:10])
    close(alone.trace(), found.cut(found.sequences_T == 1))


def test_passes_without_a_cache_are_sequences_of_their_own(mixtral: Any) -> None:
    with trace(mixtral) as recording:
        for seed in range(3):
            mixtral(input_ids=tokens(2, 4, seed=seed))
    assert recording.trace().sequences_T.tolist() == [s for s in range(6) for _ in range(4)]


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_records_once(reentrant: bool) -> None:
    ids, gradients, traces = tokens(2, 7), [], []
    for recorded in (False, True):
        model = model_of("Mixtral").train()
        model.gradient_checkpointing_enable({"use_reentrant": reentrant})
        if reentrant:
            model.enable_input_require_grads()
        if recorded:
            with trace(model) as recording:
                model(input_ids=ids, labels=ids).loss.backward()
            traces.append(recording.trace())
        else:
            model(input_ids=ids, labels=ids).loss.backward()
        gradients.append(
            torch.cat([it.grad.flatten() for it in model.parameters() if it.grad is not None])
        )
    assert len(traces[0]) == 14
    same(*gradients)


def test_the_books_training_can_be_recorded() -> None:
    from moe_tutorial.learning.settings import Settings
    from moe_tutorial.learning.text import corpus
    from moe_tutorial.learning.training import train

    text = corpus({"numbers": [" ".join(map(str, range(i, i + 200))) for i in range(9)]}).training
    layer = moe.MoELayer(moe.Router(16, 4, 2), moe.Experts(4, 16, 8))
    model = moe.LanguageModel([moe.Block(moe.Attention(16, 2), layer)])
    with trace(model) as recording:
        train(model, text, Settings(steps=3, batch_size=2, length=8, warm_up=0))
    assert len(recording.trace()) == 3 * 2 * 8


def test_some_layers_alone(mixtral: Any) -> None:
    ids = tokens(1, 5)
    with trace(mixtral, layers=[2]) as recording:
        mixtral(input_ids=ids)
    with trace(mixtral) as everything:
        mixtral(input_ids=ids)
    found = recording.trace()
    assert found.layers == ("model.layers.2.mlp",)
    same(found.experts_LTK, everything.trace().experts_LTK[2:])


# --- memory and hooks ---


def test_a_file_takes_what_memory_should_not_hold(
    mixtral: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moe_tutorial.models.inspection.PART", 40)
    held = []
    with trace(mixtral, file=tmp_path / "trace.npz") as recording:
        for seed in range(9):
            mixtral(input_ids=tokens(3, 6, seed=seed))
            held.append(recording._waiting)
    assert max(held) < 40
    assert [path.name for path in tmp_path.iterdir()] == ["trace.npz"]
    with trace(mixtral) as memory:
        for seed in range(9):
            mixtral(input_ids=tokens(3, 6, seed=seed))
    first, second = recording.trace(), memory.trace()
    same(first.experts_LTK, second.experts_LTK)
    assert first.gates_LTK is not None
    assert second.gates_LTK is not None
    same(first.gates_LTK, second.gates_LTK)
    same(first.sequences_T, second.sequences_T)
    assert PART > 1000


class OopsError(Exception):
    """Somebody else's mistake."""


def test_hooks_are_gone_whatever_happens(mixtral: Any, tmp_path: Path) -> None:
    before = hooks_of(mixtral)

    def fail(*_: Any) -> None:
        raise OopsError

    def stop_half_way() -> None:
        with trace(mixtral, file=tmp_path / "trace.npz"):
            mixtral(input_ids=tokens(1, 4))
            raise OopsError

    with pytest.raises(OopsError):
        stop_half_way()
    assert list(tmp_path.iterdir()) == []
    handle = mixtral.model.layers[1].register_forward_hook(fail)
    with trace(mixtral) as recording:
        with pytest.raises(OopsError):
            mixtral(input_ids=tokens(1, 4))
        handle.remove()
        mixtral(input_ids=tokens(1, 5))  # of the pass that failed, nothing is kept
    assert len(recording.trace()) == 5
    assert hooks_of(mixtral) == before
    with pytest.raises(FileNotFoundError), trace(mixtral, file=tmp_path / "no" / "where"):
        pass
    assert hooks_of(mixtral) == before


# --- what is refused ---


def t5() -> nn.Module:
    config = transformers.SwitchTransformersConfig(
        vocab_size=97, d_model=16, d_ff=16, d_kv=8, num_layers=2, num_heads=2, num_experts=4
    )
    return transformers.SwitchTransformersForConditionalGeneration(config)


def llama4() -> nn.Module:
    code = importlib.import_module("transformers.models.llama4.modeling_llama4")
    return Around(
        code.Llama4TextMoe(transformers.Llama4TextConfig(hidden_size=16, intermediate_size=16))
    )


def jetmoe() -> nn.Module:
    code = importlib.import_module("transformers.models.jetmoe.modeling_jetmoe")
    return Around(code.JetMoeMoE(transformers.JetMoeConfig(hidden_size=16, intermediate_size=16)))


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (t5, "SwitchTransformersExperts does not take"),
        (llama4, "Llama4TextExperts does not take"),
        (jetmoe, "JetMoeParallelExperts does not take"),
        (lambda: nn.Linear(3, 3), "Linear has none that is known"),
        (
            lambda: moe.LanguageModel([moe.Block(moe.Attention(8, 2), moe.FeedForward(8, 8))]),
            "LanguageModel has none",
        ),
    ],
)
def test_models_whose_routing_cannot_be_seen(build: Callable[[], nn.Module], words: str) -> None:
    model = build()
    with pytest.raises(ValueError, match=words), trace(model):
        pass
    assert hooks_of(model) == 0


def test_calls_that_cannot_be_recorded(mixtral: Any) -> None:
    with pytest.raises(TypeError, match="model must be a Module, got str"), trace("mixtral"):  # type: ignore[arg-type]
        pass
    with trace(mixtral) as recording:
        mixtral.model(input_ids=tokens(1, 4))
    with pytest.raises(ValueError, match="call the MixtralForCausalLM that was given"):
        recording.trace()
    with pytest.raises(ValueError, match=r"attention_mask must have the shape"), trace(mixtral):
        mixtral(input_ids=tokens(1, 4), attention_mask=torch.ones(1, 1, 4, 4))
    compiled = torch.compile(mixtral)
    with pytest.raises(ValueError, match="_orig_mod"), trace(compiled):  # type: ignore[arg-type]
        pass
    two = nn.ModuleList([
        moe.MoELayer(moe.Router(8, e, 1), moe.Experts(e, 8, 4)) for e in (2, 3)
    ])  # fmt: skip
    with pytest.raises(ValueError, match="0: 2, 1: 3"), trace(two):
        pass


def test_a_layer_that_does_not_run_is_named() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used = moe.MoELayer(moe.Router(8, 2, 1), moe.Experts(2, 8, 4))
            self.unused = moe.MoELayer(moe.Router(8, 2, 1), moe.Experts(2, 8, 4))

        def forward(self, x_TD: Tensor) -> Tensor:
            return self.used(x_TD).y_TD  # type: ignore[no-any-return]

    model, x_TD = Half(), torch.ones(3, 8)
    with pytest.raises(ValueError, match="unused did not"), trace(model):
        model(x_TD)
    with trace(model, layers=[0]) as recording:
        model(x_TD)
    assert len(recording.trace()) == 3


def test_dropped_choices_are_no_choices() -> None:
    layer = moe.MoELayer(moe.Router(8, 4, 2), moe.Experts(4, 8, 4))

    class Dropping(moe.Router):
        def forward(self, *inputs: Any) -> moe.LimitedRouting:
            return moe.limit_capacity(super().forward(*inputs), 2)

    layer.router = Dropping(8, 4, 2)
    x_TD = torch.randn(9, 8, generator=torch.Generator().manual_seed(0))
    with trace(layer) as recording:
        routing = layer(x_TD).routing
    found = recording.trace()
    same(found.experts_LTK[0].long() == NO_EXPERT, ~routing.kept_TK)
    assert [it.num_experts for it in moe_layers(layer)] == [4]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    before = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    yield
    transformers.logging.set_verbosity(before)
