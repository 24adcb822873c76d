"""The language model: equal to a published one, blind to the future, counted to the last weight."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from transformers import MixtralConfig, MixtralForCausalLM

from moe_tutorial.layer.block import Attention, Block
from moe_tutorial.layer.experts import Experts
from moe_tutorial.layer.feed_forward import FeedForward
from moe_tutorial.layer.moe import MoELayer
from moe_tutorial.learning.language_model import LanguageModel, positions
from moe_tutorial.learning.text import Batch
from moe_tutorial.learning.training import cross_entropy
from moe_tutorial.routing.router import Router
from tests.oracles import generator, same

B, S, D, H, E, K, F, V = 2, 12, 32, 4, 6, 2, 24, 256


def dense() -> Block:
    return Block(Attention(D, H), FeedForward(D, K * F))


def sparse(**options: object) -> Block:
    return Block(Attention(D, H), MoELayer(Router(D, E, K, **options), Experts(E, D, F)))


def tokens(seed: int = 0, device: torch.device | str = "cpu") -> Tensor:
    return torch.randint(V, (B, S), generator=generator(seed)).to(device)


MODELS: dict[str, Callable[[], LanguageModel]] = {
    "dense": lambda: LanguageModel([dense(), dense()]),
    "sparse": lambda: LanguageModel([sparse(), sparse()]),
    "mixed": lambda: LanguageModel([dense(), sparse(selection="sampled", temperature=2.0)]),
}


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> LanguageModel:
    torch.manual_seed(0)
    return MODELS[request.param]()


@pytest.fixture
def float64_by_default() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_mixtral_with_its_positions_taken_away() -> None:
    config = MixtralConfig(
        vocab_size=V, hidden_size=D, intermediate_size=F, num_hidden_layers=2, num_local_experts=E,
        num_attention_heads=H, num_key_value_heads=H, num_experts_per_tok=K,
        rms_norm_eps=torch.finfo(torch.float32).eps, tie_word_embeddings=False,
    )  # fmt: skip
    torch.manual_seed(0)
    theirs = MixtralForCausalLM(config).eval()
    theirs.model.rotary_emb.inv_freq.zero_()  # every rotation is by the angle 0
    ours = LanguageModel([sparse(), sparse()])
    pairs = [
        (ours.head.weight, theirs.lm_head.weight),
        (ours.norm.weight, theirs.model.norm.weight),
    ]
    for block, layer in zip(ours.blocks, theirs.model.layers, strict=True):
        attention, sparse_half = layer.self_attn, layer.mlp
        projections = [attention.q_proj, attention.k_proj, attention.v_proj]
        pairs += [
            (
                torch.cat([p.weight for p in projections]),
                block.attention.queries_keys_values.weight,
            ),
            (attention.o_proj.weight, block.attention.out.weight),
            (sparse_half.gate.weight, block.layer.router.centroids_ED),
            (sparse_half.experts.gate_up_proj, block.layer.experts.in_EHD),
            (sparse_half.experts.down_proj, block.layer.experts.out_EDF),
            (layer.input_layernorm.weight, block.attention_norm.weight),
            (layer.post_attention_layernorm.weight, block.layer_norm.weight),
        ]
    with torch.no_grad():
        for index, (one, other) in enumerate(pairs):
            source, target = (other, one) if index < 2 else (one, other)
            target.copy_(source)
        # Norms that are not all 1, and an embedding as large as ours, on both sides.
        for module in (*ours.modules(), *theirs.modules()):
            if type(module).__name__.endswith("RMSNorm"):
                module.weight.copy_(torch.linspace(0.5, 1.5, D))
        x_BSD = ours.embedding(tokens()) + positions(S, D).float()
        prediction = ours(tokens())
        reference = theirs(inputs_embeds=x_BSD, output_router_logits=True)
    same(prediction.logits_BSV, reference.logits, atol=1e-5)
    for routing, logits in zip(prediction.routings, reference.router_logits, strict=True):
        same(routing.probabilities_TE.flatten(0, 1), logits.softmax(-1), atol=1e-5)


def test_positions_are_the_formula() -> None:
    for s, row in enumerate(positions(7, 6).tolist()):
        for i in range(3):
            angle = s / 10000 ** (2 * i / 6)
            assert row[2 * i] == pytest.approx(math.sin(angle), abs=1e-15)
            assert row[2 * i + 1] == pytest.approx(math.cos(angle), abs=1e-15)


def test_no_token_sees_a_later_one(model: LanguageModel, device: torch.device) -> None:
    model = model.double().to(device)
    before = tokens(device=device)
    logits = model(before, generator(1, device)).logits_BSV
    for place in range(1, S):
        after = before.clone()
        after[:, place] = (after[:, place] + 1) % V
        changed = model(after, generator(1, device)).logits_BSV
        same(changed[:, :place], logits[:, :place], atol=1e-12)
        assert (changed[:, place:] - logits[:, place:]).abs().amax(-1).min() > 1e-9


def test_every_token_sees_all_earlier_ones_and_their_order(model: LanguageModel) -> None:
    model = model.double()
    x = tokens().fill_(3)
    x[:, 0], x[:, 1] = 1, 2
    swapped = x.clone()
    swapped[:, 0], swapped[:, 1] = 2, 1
    last, other = (model(t, generator(1)).logits_BSV[:, -1] for t in (x, swapped))
    assert (last - other).abs().max() > 1e-6


def test_an_untrained_model_knows_nothing(model: LanguageModel) -> None:
    x = torch.randint(V, (8, 65), generator=generator(2))
    batch = Batch(x[:, :-1], x[:, 1:], torch.zeros_like(x[:, 1:]))
    surprise = cross_entropy(model(batch.tokens_BS, generator(1)), batch)
    assert surprise.shape == (8, 64)
    assert surprise.mean().item() == pytest.approx(math.log(256), abs=0.3)


def test_cross_entropy_is_minus_the_log_of_the_softmax(model: LanguageModel) -> None:
    batch = Batch(tokens(0), tokens(1), torch.zeros(B, S))
    prediction = model(batch.tokens_BS, generator(1))
    probabilities = prediction.logits_BSV.double().softmax(-1)
    by_hand = -probabilities.gather(-1, batch.targets_BS[..., None]).squeeze(-1).log()
    same(cross_entropy(prediction, batch).double(), by_hand, atol=1e-5)
    half = cross_entropy(replace(prediction, logits_BSV=prediction.logits_BSV.bfloat16()), batch)
    assert half.dtype == torch.float32


def test_gradients_reach_every_weight(model: LanguageModel, device: torch.device) -> None:
    model.to(device)
    x = torch.arange(V, device=device).view(4, 64)
    prediction = model(x, generator(1, device))
    cross_entropy(prediction, Batch(x, x.flip(1), x)).mean().backward()
    for name, parameter in model.named_parameters():
        gradient = parameter.grad
        assert gradient is not None, name
        stacked = name.endswith(("in_EHD", "out_EDF"))
        parts = gradient if stacked else gradient[None]
        assert all(part.abs().max() > 0 for part in parts), name


def test_every_sparse_layer_leaves_its_routing(model: LanguageModel) -> None:
    routings = model(tokens(), generator(1)).routings
    assert len(routings) == 2
    for block, routing in zip(model.blocks, routings, strict=True):
        if isinstance(block.layer, FeedForward):
            assert routing is None
        else:
            assert routing.experts_TK.shape == (B, S, K)


@pytest.mark.parametrize("activation", ["swiglu", "gelu"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("extras", [False, True])
def test_counted_to_the_last_weight(activation: str, bias: bool, extras: bool) -> None:
    form = {"activation": activation, "bias": bias}
    router = Router(
        D, E, K, scores="cosine", scale=nn.Parameter(torch.ones(())),
        selection="noisy_top_k",
    ) if extras else Router(D, E, K)  # fmt: skip
    shared = FeedForward(D, 20, **form) if extras else None
    layer = MoELayer(router, Experts(E, D, F, **form), shared=shared, shared_gate=extras)
    dense_layer = FeedForward(D, 40, **form)
    model = LanguageModel([Block(Attention(D, H), dense_layer), Block(Attention(D, H), layer)], 99)
    total = sum(p.numel() for p in model.parameters())
    one_expert = sum(p.numel() for p in layer.experts.parameters()) // E
    counted = model.counted()
    assert counted.total_parameters() == total
    assert counted.active_parameters() == total - (E - K) * one_expert


def test_dense_and_sparse_with_equal_active_parameters_differ_by_the_router() -> None:
    one, other = (MODELS[name]().counted() for name in ("dense", "sparse"))
    assert other.active_parameters() - one.active_parameters() == 2 * E * D
    assert other.flops() - one.flops() == 2 * 2 * E * D


def test_state_dict_gives_the_same_model(model: LanguageModel) -> None:
    torch.manual_seed(1)
    other = LanguageModel([*(type(b)(b.attention, b.layer) for b in model.blocks)])
    other.load_state_dict(model.state_dict())
    same(other(tokens(), generator(1)).logits_BSV, model(tokens(), generator(1)).logits_BSV)


@pytest.mark.usefixtures("float64_by_default")
def test_float64_by_default_and_by_conversion() -> None:
    for make in MODELS.values():
        model = make()
        assert {p.dtype for p in model.parameters()} == {torch.float64}
        prediction = model(tokens(), generator(1))
        assert prediction.logits_BSV.dtype == torch.float64
        narrow = model.bfloat16()(tokens(), generator(1)).logits_BSV
        assert narrow.dtype == torch.bfloat16


def test_a_longer_text_than_ever_seen_is_no_trouble() -> None:
    assert MODELS["sparse"]()(torch.zeros(1, 1000, dtype=torch.int64)).logits_BSV.shape[1] == 1000


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: LanguageModel([]), ValueError, "blocks must hold at least one"),
        (lambda: LanguageModel([FeedForward(D, F)]), TypeError, "blocks must hold Block modules"),
        (lambda: LanguageModel([dense()] * 2), ValueError, "blocks must be different"),
        (lambda: LanguageModel([dense()], 0), ValueError, "vocabulary must be at least 1"),
        (
            lambda: LanguageModel([dense(), Block(Attention(8, 2), FeedForward(8, 8))]),
            ValueError, "blocks must have one even width, got 8, 32",
        ),
        (
            lambda: LanguageModel([Block(Attention(9, 3), FeedForward(9, 8))]),
            ValueError, "blocks must have one even width, got 9",
        ),
        (lambda: LanguageModel([dense()])([[1]]), TypeError, "tokens_BS must hold int64 token ids"),
        (
            lambda: LanguageModel([dense()])(torch.ones(1, 2)),
            TypeError, "tokens_BS must hold int64 token ids, got torch.float32",
        ),
        (
            lambda: LanguageModel([dense()])(torch.ones(2, dtype=torch.int64)),
            ValueError, r"tokens_BS must have the shape \[B, S\], got \(2,\)",
        ),
        (
            lambda: LanguageModel([dense()])(torch.full((1, 2), 256)),
            ValueError, "tokens_BS must hold ids from 0 to 255, got 256",
        ),
        (
            lambda: LanguageModel([dense()])(torch.full((1, 2), -1)),
            ValueError, "tokens_BS must hold ids from 0 to 255, got -1",
        ),
        (
            lambda: LanguageModel([dense()])(torch.ones(1, 2, dtype=torch.int64, device="meta")),
            ValueError, "tokens_BS must be on the model's device, cpu, got one on meta",
        ),
        (
            lambda: LanguageModel([dense()])(tokens(), 3),
            TypeError, "generator must be a torch.Generator",
        ),
    ],
)  # fmt: skip
def test_bad_input_is_refused_by_name(
    make: Callable[[], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make()
