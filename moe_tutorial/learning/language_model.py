"""A small language model: from the bytes so far, the odds of the next one.

x = embed(tokens) + positions;  x = block(x), for each block;  logits = W norm(x).  Chapter 10.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from moe_tutorial.layer import counting
from moe_tutorial.layer.block import Attention, Block
from moe_tutorial.layer.feed_forward import FeedForward
from moe_tutorial.layer.moe import MoELayer
from moe_tutorial.routing.decision import Routing
from moe_tutorial.validation import check_generator, check_size, check_tokens


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a language model returns.

    Attributes:
        logits_BSV: ``[B, S, V]``; the softmax of a row is the odds of the token after that one.
        routings: the decision of every layer, in order; None for a dense one.
    """

    logits_BSV: Tensor
    routings: tuple[Routing | None, ...]


class LanguageModel(nn.Module):
    r"""A decoder-only transformer out of the blocks of chapter 06.

    .. math:: x_0 = \operatorname{embed}(t) + p, \qquad x_l = \operatorname{block}_l(x_{l-1}),
              \qquad \text{logits} = W \operatorname{norm}(x_L)

    The positions p are sines and cosines (Vaswani et al. 2017, section 3.5): nothing is learned in
    them, and no length is too long. The output matrix W is not tied to the embedding: with 256
    tokens, a matrix of its own costs next to nothing.

    Args:
        blocks: of one even width D, each with weights of its own, dense or sparse in any order.
        vocabulary: V, how many tokens there are; the 256 bytes unless told otherwise.

    Raises:
        TypeError, ValueError: what is no block, none, one that is there twice, blocks that differ
            in width, an odd width, or a vocabulary that is no positive int.
    """

    def __init__(self, blocks: Sequence[Block], vocabulary: int = 256) -> None:
        super().__init__()
        check_size("vocabulary", vocabulary)
        if not blocks:
            raise ValueError("blocks must hold at least one block, got none")
        for block in blocks:
            if not isinstance(block, Block):
                raise TypeError(f"blocks must hold Block modules, got {type(block).__name__}")
        if len(set(blocks)) < len(blocks):
            raise ValueError("blocks must be different modules, got one that is there twice")
        widths = sorted({block.attention.out.out_features for block in blocks})
        if len(widths) > 1 or widths[0] % 2:
            raise ValueError(f"blocks must have one even width, got {', '.join(map(str, widths))}")
        self.embedding = nn.Embedding(vocabulary, widths[0])
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.RMSNorm(widths[0])
        self.head = nn.Linear(widths[0], vocabulary, bias=False)

    def forward(self, tokens_BS: Tensor, generator: torch.Generator | None = None) -> Prediction:
        """Predict the token after each token from it and those before it.

        Args:
            tokens_BS: int64 ids ``[B, S]`` from 0 to V - 1, on the model's device.
            generator: the source of randomness of routers that draw, on the same device.

        Returns:
            The logits, in the weights' dtype, and the routing of each layer.

        Raises:
            TypeError, ValueError: tokens of another dtype, rank or device or out of range, or a
                generator elsewhere.
        """
        check_tokens("tokens_BS", tokens_BS, self.head.out_features, self.head.weight)
        check_generator(generator, tokens_BS)
        x_BSD = self.embedding(tokens_BS)
        x_BSD = x_BSD + positions(tokens_BS.shape[1], x_BSD.shape[2]).to(x_BSD)
        routings: list[Routing | None] = []
        for block in self.blocks:
            x_BSD, routing = block(x_BSD, generator)
            routings.append(routing)
        return Prediction(self.head(self.norm(x_BSD)), tuple(routings))

    def counted(self) -> counting.ModelShape:
        """The model's shape, which counts total and active parameters and FLOPs (chapter 06)."""
        parts: list[counting.BlockShape] = []
        for block in self.blocks:
            assert isinstance(block, Block)
            parts += [_attention(block.attention), _second_half(block.layer)]
        return counting.ModelShape(self.head.out_features, tuple(parts))


def positions(length: int, model_width: int) -> Tensor:
    r"""What tells a position from another one: waves of D / 2 lengths, from 2 pi to 20000 pi.

    .. math:: p_{s,2i} = \sin(s / 10000^{2i / D}), \qquad p_{s,2i+1} = \cos(s / 10000^{2i / D})

    (Vaswani et al. 2017, section 3.5.)

    Args:
        length: S.
        model_width: D, even.

    Returns:
        ``[S, D]``, float64, on the CPU: some accelerators know no float64.
    """
    even = torch.arange(0, model_width, 2, dtype=torch.float64, device="cpu")
    places = torch.arange(length, dtype=torch.float64, device="cpu")
    angles = places[:, None] * 10000 ** -(even / model_width)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)


def training_flops(model: LanguageModel, length: int) -> int:
    """FLOPs of one token in training: forward once, and backward twice as many.

    What the model counts, and attention's own products: queries times keys and weights times
    values, over half of the window on average, with 2 FLOPs for each multiply-add.

    Args:
        model: has its head as wide as its blocks.
        length: of the windows, in tokens.
    """
    attention = len(model.blocks) * 2 * 2 * model.head.in_features * (length + 1) // 2
    return 3 * (model.counted().flops() + attention)


def _attention(attention: Attention) -> counting.AttentionShape:
    model_width, heads = attention.out.out_features, attention.num_heads
    return counting.AttentionShape(model_width, heads, model_width // heads, heads)


def _feed_forward(layer: FeedForward) -> counting.FeedForwardShape:
    hidden_width, gated = layer.out.in_features, layer.activation == "swiglu"
    return counting.FeedForwardShape(
        layer.out.out_features, hidden_width, gated, layer.out.bias is not None
    )


def _second_half(layer: FeedForward | MoELayer) -> counting.FeedForwardShape | counting.MoEShape:
    if isinstance(layer, FeedForward):
        return _feed_forward(layer)
    router, experts = layer.router, layer.experts
    num_experts, model_width, hidden_width = experts.out_EDF.shape
    gated, bias = experts.activation == "swiglu", experts.out_bias_ED is not None
    return counting.MoEShape(
        counting.FeedForwardShape(model_width, hidden_width, gated, bias),
        num_experts,
        router.config.k,
        shared=None if layer.shared is None else _feed_forward(layer.shared),
        shared_gate=layer.shared_gate is not None,
        noisy=router.noise_ED is not None,
        learned_scale=isinstance(router.scale, nn.Parameter),
    )
