"""Published models as shapes, each with the sizes that its makers give.

One entry is a model as :mod:`moe_tutorial.layer.counting` counts it.               Chapter 06.
"""

from dataclasses import dataclass, replace
from typing import Any

from moe_tutorial.layer.counting import (
    AttentionShape,
    BlockShape,
    Embeddings,
    FeedForwardShape,
    LatentAttentionShape,
    ModelShape,
    MoEShape,
    check_parts,
    decoder_only,
)


@dataclass(frozen=True)
class Published:
    """A model, and its size in billions with the digits that its makers give.

    Attributes:
        total: of all parameters.
        active: of those that one token uses, or None where no number is given.
        embeddings: those that are active in the makers' count.
        source: of the sizes.
        model: its shape.
    """

    total: str
    active: str | None
    embeddings: Embeddings
    source: str
    model: ModelShape


def encoder_decoder(
    vocabulary: int,
    attention: AttentionShape,
    encoder: tuple[FeedForwardShape | MoEShape, ...],
    decoder: tuple[FeedForwardShape | MoEShape, ...],
    *,
    relative_buckets: int = 32,
    tied: bool = True,
) -> ModelShape:
    """A T5: relative positions in the first layer of each stack, cross-attention in the decoder."""
    if not isinstance(attention, AttentionShape):
        raise TypeError(f"attention must be an AttentionShape, got {attention!r}")
    check_parts("encoder", encoder)
    check_parts("decoder", decoder)
    first = replace(attention, relative_buckets=relative_buckets)
    blocks: list[BlockShape] = []
    for layer, last in enumerate(encoder):
        blocks += [attention if layer else first, last]
    for layer, last in enumerate(decoder):
        blocks += [attention if layer else first, attention, last]
    return ModelShape(vocabulary, tuple(blocks), tied=tied, final_norms=2)


def _moe(
    width: int, hidden: int, num_experts: int, k: int, shared: int = 0, **options: Any
) -> MoEShape:
    shared_expert = FeedForwardShape(width, shared) if shared else None
    return MoEShape(FeedForwardShape(width, hidden), num_experts, k, shared_expert, **options)


_SWITCH_C = (MoEShape(FeedForwardShape(2080, 6144, gated=False), 2048, 1),) * 15
_GPT_OSS = AttentionShape(2880, 64, 64, 8, input_bias=True, output_bias=True, sinks=True)
_GPT_OSS_EXPERT = FeedForwardShape(2880, 2880, bias=True)

# The convention is the makers' own for gpt-oss and DeepSeek-V3 ("36.6B, including 0.9B for the
# output head"), and for the others the one that comes to their number. Two of these numbers are
# cut off and not rounded: DeepSeek-V2-Lite has 2.451 active and Qwen3-30B-A3B 3.353.
# fmt: off
PUBLISHED: dict[str, Published] = {
    "Switch-C": Published("1571", None, "both", "Fedus et al. 2021, table 9", encoder_decoder(
        32128, AttentionShape(2080, 32, 64, 32), _SWITCH_C, _SWITCH_C)),
    "Mixtral 8x7B": Published("46.7", "12.9", "both", "Mistral AI, December 2023", decoder_only(
        32000, AttentionShape(4096, 32, 128, 8), (_moe(4096, 14336, 8, 2),) * 32)),
    "Mixtral 8x22B": Published("141", "39", "both", "Mistral AI, April 2024", decoder_only(
        32000, AttentionShape(6144, 48, 128, 8), (_moe(6144, 16384, 8, 2),) * 56)),
    "DeepSeekMoE 16B": Published("16.4", "2.8", "both", "Dai et al. 2024", decoder_only(
        102400, AttentionShape(2048, 16, 128, 16),
        (FeedForwardShape(2048, 10944), *(_moe(2048, 1408, 64, 6, 2 * 1408),) * 27))),
    "DeepSeek-V2-Lite": Published("15.7", "2.4", "output", "DeepSeek-V2, 2024", decoder_only(
        102400, LatentAttentionShape(2048, 16, None, 512, 128, 64, 128),
        (FeedForwardShape(2048, 10944), *(_moe(2048, 1408, 64, 6, 2 * 1408),) * 26))),
    "DeepSeek-V2": Published("236", "21", "output", "DeepSeek-V2, 2024", decoder_only(
        102400, LatentAttentionShape(5120, 128, 1536, 512, 128, 64, 128),
        (FeedForwardShape(5120, 12288), *(_moe(5120, 1536, 160, 6, 2 * 1536),) * 59))),
    "DeepSeek-V3": Published("671", "37", "output", "DeepSeek-V3, 2024", decoder_only(
        129280, LatentAttentionShape(7168, 128, 1536, 512, 128, 64, 128),
        (FeedForwardShape(7168, 18432),) * 3 + (_moe(7168, 2048, 256, 8, 2048),) * 58)),
    "DBRX": Published("132", "36", "both", "Databricks, March 2024", decoder_only(
        100352, AttentionShape(6144, 48, 128, 8), (_moe(6144, 10752, 16, 4),) * 40)),
    "Qwen1.5-MoE-A2.7B": Published("14.3", "2.7", "both", "Qwen team, March 2024", decoder_only(
        151936, AttentionShape(2048, 16, 128, 16, input_bias=True),
        (_moe(2048, 1408, 60, 4, 5632, shared_gate=True),) * 24)),
    "Qwen2-57B-A14B": Published("57", "14", "both", "Qwen2, 2024", decoder_only(
        151936, AttentionShape(3584, 28, 128, 4, input_bias=True),
        (_moe(3584, 2560, 64, 8, 20480, shared_gate=True),) * 28)),
    "Phi-3.5-MoE": Published("42", "6.6", "both", "Microsoft, August 2024", decoder_only(
        32064, AttentionShape(4096, 32, 128, 8, input_bias=True, output_bias=True),
        (_moe(4096, 6400, 16, 2),) * 32, norm_bias=True, output_bias=True)),
    "OLMoE-1B-7B": Published("6.9", "1.3", "both", "Muennighoff et al. 2024", decoder_only(
        50304, AttentionShape(2048, 16, 128, 16, norms="all"), (_moe(2048, 1024, 64, 8),) * 16)),
    "Granite-3.1-3B-A800M": Published("3.3", "0.8", "none", "IBM, December 2024", decoder_only(
        49155, AttentionShape(1536, 24, 64, 8), (_moe(1536, 512, 40, 8),) * 32, tied=True)),
    "Qwen3-30B-A3B": Published("30.5", "3.3", "both", "Qwen3, 2025", decoder_only(
        151936, AttentionShape(2048, 32, 128, 4, norms="head"), (_moe(2048, 768, 128, 8),) * 48)),
    "Qwen3-235B-A22B": Published("235", "22", "both", "Qwen3, 2025", decoder_only(
        151936, AttentionShape(4096, 64, 128, 4, norms="head"), (_moe(4096, 1536, 128, 8),) * 94)),
    "gpt-oss-20b": Published("20.9", "3.6", "output", "OpenAI, August 2025", decoder_only(
        201088, _GPT_OSS, (MoEShape(_GPT_OSS_EXPERT, 32, 4, router_bias=True),) * 24)),
    "gpt-oss-120b": Published("116.8", "5.1", "output", "OpenAI, August 2025", decoder_only(
        201088, _GPT_OSS, (MoEShape(_GPT_OSS_EXPERT, 128, 4, router_bias=True),) * 36)),
}
# fmt: on
