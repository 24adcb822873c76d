"""Three lines give the X-ray of one's own text, whatever the family, the tokenizer and the loader.

with trace(model) as recording: model(**tokenizer(text, return_tensors="pt"))
xray(recording.trace(), tokenizer.decode)
"""

import functools
import inspect
import types
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers.integrations.finegrained_fp8 import FP8Experts
from transformers.integrations.mxfp4 import Mxfp4GptOssExperts, Mxfp4GptOssMLP

from moe_tutorial import trace
from moe_tutorial.explorers import xray
from moe_tutorial.models.moe_layers import moe_layers
from tests.oracles import same
from tests.test_inspection import Around, block_of, hooks_of, model_of, tokens
from tests.test_inspection import quiet as quiet
from tests.test_xray import config_of

TEXT = "A router chose two experts."
LATENT = {
    "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8,
    "v_head_dim": 8, "head_dim": 8, "num_key_value_heads": 4, "first_k_dense_replace": 1,
}  # fmt: skip
FAMILIES: dict[str, dict[str, Any]] = {
    "Mixtral": {},
    "Qwen2Moe": {"shared_expert_intermediate_size": 16},
    "Qwen3Moe": {"decoder_sparse_step": 1},
    "Olmoe": {},
    "GraniteMoe": {},
    "DeepseekV3": LATENT,
    "GptOss": {},
}


def tokenizer() -> transformers.PreTrainedTokenizerFast:
    """Letters as tokens, with spaces as Llama's and Mixtral's tokenizers write them."""
    letters = sorted(set(TEXT.replace(" ", "\N{LOWER ONE EIGHTH BLOCK}")))
    made = Tokenizer(models.BPE({"<pad>": 0} | {it: 3 + n for n, it in enumerate(letters)}, []))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    return transformers.PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=made, pad_token="<pad>"
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_the_x_ray_of_a_text_in_three_lines(name: str) -> None:
    model, tokenize = model_of(name, **FAMILIES[name]), tokenizer()
    with trace(model) as recording:
        model(**tokenize(TEXT, return_tensors="pt"))
    shown = xray(recording.trace(), tokenize.decode)
    config = config_of(shown)
    layers = 2 if name == "DeepseekV3" else 3  # its first one is dense
    assert (config["experts"], config["k"], len(config["ids"])) == (8, 3, layers)
    words = "".join(config["tokens"]).removeprefix("\N{MIDDLE DOT}").strip()
    assert words == TEXT  # with its spaces
    with trace(model) as recording:
        model(**tokenize([TEXT, "two"], padding=True, return_tensors="pt"))
    assert recording.trace().sequences_T.bincount().tolist() == [1 + len(TEXT), 4]
    assert hooks_of(model) == 0


def test_a_loader_that_wraps_forward_does_not_matter() -> None:
    """As accelerate does where ``device_map`` spreads a model."""
    model = model_of("Mixtral")
    before = [layer.name for layer in moe_layers(model)]
    for module in [*model.modules()]:
        # It binds the module to a call that has forgotten it: the signature lacks an argument.
        wrapped = functools.partial(
            lambda _, *inputs, old, **named: old(*inputs, **named), old=module.forward
        )
        functools.update_wrapper(wrapped, module.forward)
        module.forward = types.MethodType(wrapped, module)  # type: ignore[method-assign]
    with trace(model) as recording:
        model(tokens(1, 5))
    found = recording.trace()
    assert [*found.layers] == before
    same(found.tokens_T, tokens(1, 5)[0].int())


def test_embeddings_in_the_place_of_tokens() -> None:
    model, mask = model_of("Mixtral"), torch.tensor([[0, 1, 1, 1]])
    with trace(model) as recording:
        model(attention_mask=mask, inputs_embeds=torch.ones(1, 4, 32))
    same(recording.trace().tokens_T, torch.tensor([-1, -1, -1]).int())


def test_a_cache_of_fixed_size_is_refused_with_advice() -> None:
    model = model_of("Mixtral")
    options = {"max_new_tokens": 2, "do_sample": False, "cache_implementation": "static"}
    with pytest.raises(ValueError, match="no cache_implementation"), trace(model):
        model.generate(tokens(2, 4), **options)
    assert hooks_of(model) == 0


def test_quantised_experts() -> None:
    """All families share their classes, which name ids and weights as the others do."""
    block = block_of("laguna")
    kind = type("FP8Experts", (type(block.experts),), {"__module__": "transformers.integrations"})
    block.experts.__class__ = kind
    (layer,) = moe_layers(Around(block))
    assert layer.scale == pytest.approx(1.75)  # is the block's, and stays its own
    for real in (Mxfp4GptOssExperts, FP8Experts):
        assert [*inspect.signature(real.forward).parameters][2:] == ["top_k_index", "top_k_weights"]


def test_a_block_that_passes_its_experts_by() -> None:
    block = block_of("gpt_oss")
    block.__class__ = type("Mxfp4GptOssMLP", (type(block),), {})
    with pytest.raises(ValueError, match=r"Mxfp4GptOssMLP passes by.*dequantize=True"):
        moe_layers(Around(block))
    source = inspect.getsource(Mxfp4GptOssMLP)
    assert "self.experts.forward_routed(" in source  # no hook hears it
