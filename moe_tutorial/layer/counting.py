"""Counting: how many parameters has a model, how many of them and how many FLOPs does a token use?

active = total - (E - K) * one expert, in every MoE layer.                          Chapter 06.
"""

from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from moe_tutorial.validation import check_choice, check_k, check_size


def _check_fields(shape: Any) -> None:
    """Refuse a size that is no positive int, and any other field of a wrong type, by its name."""
    for field in fields(shape):
        value = getattr(shape, field.name)
        kinds = get_args(field.type) or (field.type,)
        if value is None and type(None) in kinds:
            continue
        if int in kinds:
            check_size(field.name, value)
        for kind in (bool, FeedForwardShape):
            if kind in kinds and not isinstance(value, kind):
                raise TypeError(f"{field.name} must be a {kind.__name__}, got {value!r}")


def check_parts(name: str, parts: Any) -> None:
    """Refuse what is no sequence of shapes that stand in a model one after the other."""
    if not isinstance(parts, tuple | list) or not all(isinstance(it, BlockShape) for it in parts):
        raise TypeError(f"{name} must hold attention and feed-forwards, got {parts!r}")


def _check_widths(*parts: Any) -> None:
    widths = sorted({part.model_width for part in parts})
    if len(widths) > 1:
        raise ValueError(f"model_width must be the same in every part, got {widths}")


@dataclass(frozen=True)
class FeedForwardShape:
    """A dense feed-forward network, or one expert.

    Attributes:
        model_width: D.
        hidden_width: F.
        gated: three matrices, as in SwiGLU, or two, as with GELU and ReLU.
        bias: whether each matrix has a bias.
    """

    model_width: int
    hidden_width: int
    gated: bool = True
    bias: bool = False

    def __post_init__(self) -> None:
        _check_fields(self)

    def total_parameters(self) -> int:
        """Every weight and bias."""
        first = self.hidden_width * (1 + self.gated)
        biases = first + self.model_width if self.bias else 0
        return self.model_width * (first + self.hidden_width) + biases

    def flops(self) -> int:
        """FLOPs of the matrix products, forward, per token: 2 for each multiply-add."""
        return 2 * self.model_width * self.hidden_width * (3 if self.gated else 2)


@dataclass(frozen=True)
class MoEShape:
    """A router and E experts of which every token uses K, with an optional shared expert.

    Several shared experts of width F are one feed-forward of that many times F. The bias that
    DeepSeek-V3 adds for the choice alone is not counted: a rule moves it, and no gradient.

    Attributes:
        expert: one of the experts.
        num_experts: E.
        k: experts per token, from 1 to E.
        shared: what every token uses besides, or None.
        shared_gate: whether one more output gates the shared expert (Qwen2-MoE).
        router_bias: whether the router has a bias that is trained.
        noisy: whether the router has a second matrix, for its noise (Shazeer et al. 2017).
        learned_scale: whether the scale of a cosine router is trained.
    """

    expert: FeedForwardShape
    num_experts: int
    k: int
    shared: FeedForwardShape | None = None
    shared_gate: bool = False
    router_bias: bool = False
    noisy: bool = False
    learned_scale: bool = False

    def __post_init__(self) -> None:
        _check_fields(self)
        check_k(self.k, self.num_experts)
        _check_widths(self.expert, self.shared or self.expert)
        if self.shared_gate and self.shared is None:
            raise ValueError("shared_gate needs a shared expert: pass shared=FeedForwardShape(...)")

    @property
    def model_width(self) -> int:
        """D."""
        return self.expert.model_width

    def total_parameters(self) -> int:
        """The router, the shared expert and all E experts."""
        a_centroid = self.model_width * (1 + self.noisy) + self.router_bias
        shared = self.shared.total_parameters() if self.shared else 0
        always = self.learned_scale + shared + self.shared_gate * self.model_width
        return always + self.num_experts * (a_centroid + self.expert.total_parameters())

    def active_parameters(self) -> int:
        """The router, the shared expert and K experts: what one token uses."""
        unused = (self.num_experts - self.k) * self.expert.total_parameters()
        return self.total_parameters() - unused

    def flops(self) -> int:
        """FLOPs of the matrix products, forward, per token, the router's included.

        The noise matrix is not: it is unused in evaluation.
        """
        router = 2 * self.model_width * (self.num_experts + self.shared_gate)
        return router + (self.shared.flops() if self.shared else 0) + self.k * self.expert.flops()


@dataclass(frozen=True)
class AttentionShape:
    """Attention whose query heads may share keys and values in groups.

    Attributes:
        model_width: D.
        num_heads: of the queries.
        head_dim: the width of a head.
        key_value_heads: a divisor of num_heads.
        input_bias: whether queries, keys and values have a bias.
        output_bias: whether the output projection has one.
        norms: of queries and keys: ``"none"``, one ``"head"`` wide (Qwen3), or ``"all"`` (OLMoE).
        sinks: whether each head has a learned logit that attends to nothing (gpt-oss).
        relative_buckets: distances for which each head has a learned bias (T5), or None.
    """

    model_width: int
    num_heads: int
    head_dim: int
    key_value_heads: int
    input_bias: bool = False
    output_bias: bool = False
    norms: Literal["none", "head", "all"] = "none"
    sinks: bool = False
    relative_buckets: int | None = None

    def __post_init__(self) -> None:
        _check_fields(self)
        check_choice("norms", self.norms, ("none", "head", "all"))
        if self.num_heads % self.key_value_heads:
            raise ValueError(
                f"key_value_heads must divide num_heads ({self.num_heads}), "
                f"got {self.key_value_heads}"
            )

    def total_parameters(self) -> int:
        """Matrices, biases, norms, sinks and relative positions."""
        queries, keys = (n * self.head_dim for n in (self.num_heads, self.key_value_heads))
        biases = self.input_bias * (queries + 2 * keys) + self.output_bias * self.model_width
        norms = {"none": 0, "head": 2 * self.head_dim, "all": queries + keys}[self.norms]
        logits = self.num_heads * ((self.relative_buckets or 0) + self.sinks)
        return self.flops() // 2 + biases + norms + logits

    def flops(self) -> int:
        """FLOPs of the four projections, forward, per token."""
        return 4 * self.model_width * self.head_dim * (self.num_heads + self.key_value_heads)


@dataclass(frozen=True)
class LatentAttentionShape:
    """Multi-head latent attention (DeepSeek-V2, 2024): projections through narrow, normed layers.

    Attributes:
        model_width: D.
        num_heads: as many for keys and values as for queries.
        query_rank: the width that queries pass through, or None.
        key_value_rank: the width that keys and values pass through together.
        plain_dim: the part of a head without positions.
        rotary_dim: the part with rotary positions, whose keys all heads share.
        value_dim: the width of a head's values.
    """

    model_width: int
    num_heads: int
    query_rank: int | None
    key_value_rank: int
    plain_dim: int
    rotary_dim: int
    value_dim: int

    def __post_init__(self) -> None:
        _check_fields(self)

    def total_parameters(self) -> int:
        """Matrices, and the norm of each narrow layer."""
        return self.flops() // 2 + (self.query_rank or 0) + self.key_value_rank

    def flops(self) -> int:
        """FLOPs of the projections, forward, per token."""
        queries = self.num_heads * (self.plain_dim + self.rotary_dim)
        keys_values = self.num_heads * (self.plain_dim + self.value_dim)
        query = self.model_width * queries
        if self.query_rank is not None:
            query = self.query_rank * (self.model_width + queries)
        key_value = self.key_value_rank * (self.model_width + keys_values)
        others = self.model_width * (self.rotary_dim + self.num_heads * self.value_dim)
        return 2 * (query + key_value + others)


BlockShape = FeedForwardShape | MoEShape | AttentionShape | LatentAttentionShape
Embeddings = Literal["both", "output", "none"]


@dataclass(frozen=True)
class ModelShape:
    """A residual stream: an embedding, blocks that each read it through a norm, an output matrix.

    Attributes:
        vocabulary: tokens in the embedding, padding included.
        blocks: in order, attention and feed-forward alike; an encoder's before its decoder's.
        tied: whether the output matrix is the embedding.
        final_norms: 1, or 2 for an encoder and a decoder.
        norm_bias: whether the blocks' and the final norms have a bias besides their weight.
        output_bias: whether the output matrix has a bias.

    Raises:
        TypeError, ValueError: here and in every part of a model: a size that is no positive int,
            k > E, parts that do not fit; the message names the argument.
    """

    vocabulary: int
    blocks: tuple[BlockShape, ...]
    tied: bool = False
    final_norms: int = 1
    norm_bias: bool = False
    output_bias: bool = False

    def __post_init__(self) -> None:
        _check_fields(self)
        check_parts("blocks", self.blocks)
        if not self.blocks:
            raise ValueError("blocks must hold at least one block, got none")
        _check_widths(*self.blocks)

    def _outside_blocks(self, embeddings: Embeddings) -> int:
        width = self.blocks[0].model_width
        norms = width * (len(self.blocks) + self.final_norms) * (1 + self.norm_bias)
        copies = {"none": 0, "output": 1, "both": 1 if self.tied else 2}[embeddings]
        return norms + copies * self.vocabulary * width + self.output_bias * self.vocabulary

    def total_parameters(self) -> int:
        """Every trained number, each once; buffers are none."""
        return self._outside_blocks("both") + sum(b.total_parameters() for b in self.blocks)

    def active_parameters(self, embeddings: Embeddings = "both") -> int:
        """What one token uses; with two stacks, one token in each.

        Args:
            embeddings: which matrices to count: ``"both"``; ``"output"``, since of the input a
                token reads one row only; or ``"none"``. A tied matrix is the output's.
        """
        check_choice("embeddings", embeddings, ("both", "output", "none"))
        return self._outside_blocks(embeddings) + sum(
            b.active_parameters() if isinstance(b, MoEShape) else b.total_parameters()
            for b in self.blocks
        )

    def flops(self) -> int:
        """FLOPs of all products with weights, forward, per token (with two stacks, one in each).

        The products of queries with keys and of weights with values are not: they grow with the
        context (4 * num_heads * head_dim for each position and layer).
        """
        output = 2 * self.vocabulary * self.blocks[0].model_width
        return output + sum(block.flops() for block in self.blocks)


def decoder_only(
    vocabulary: int,
    attention: AttentionShape | LatentAttentionShape,
    feed_forwards: tuple[FeedForwardShape | MoEShape, ...],
    **options: Any,
) -> ModelShape:
    """A model of layers with one shape of attention: ``feed_forwards`` has one entry per layer.

    ``(dense,) * 3 + (moe,) * 58`` starts with dense layers, ``(dense, moe) * 12`` alternates. The
    options are those of :class:`ModelShape`.
    """
    check_parts("attention", (attention,))
    check_parts("feed_forwards", feed_forwards)
    blocks = tuple(block for last in feed_forwards for block in (attention, last))
    return ModelShape(vocabulary, blocks, **options)
