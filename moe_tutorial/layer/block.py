"""The block: attention mixes tokens, then a feed-forward or MoE layer transforms each.

h = x + attention(norm(x));  y = h + layer(norm(h)).                                Chapter 06.
"""

import torch
from torch import Tensor, nn

from moe_tutorial.layer.feed_forward import FeedForward
from moe_tutorial.layer.moe import MoELayer
from moe_tutorial.routing.decision import Routing
from moe_tutorial.validation import check_floating, check_kind, check_size


class Attention(nn.Module):
    """Causal self-attention with several heads (Vaswani et al. 2017): no token sees a later one.

    Args:
        model_width: D.
        num_heads: how many heads share D; it must divide D.

    Raises:
        TypeError, ValueError: a size that is no positive int, or a width that does not divide.
    """

    def __init__(self, model_width: int, num_heads: int) -> None:
        super().__init__()
        check_size("model_width", model_width)
        check_size("num_heads", num_heads)
        if model_width % num_heads:
            raise ValueError(f"num_heads must divide model_width {model_width}, got {num_heads}")
        self.num_heads = num_heads
        self.queries_keys_values = nn.Linear(model_width, 3 * model_width, bias=False)
        self.out = nn.Linear(model_width, model_width, bias=False)

    def forward(self, x_BSD: Tensor) -> Tensor:
        """Mix the tokens of each sequence, ``[B, S, D]`` to ``[B, S, D]``."""
        parts = self.queries_keys_values(x_BSD).chunk(3, dim=-1)
        q, k, v = (p.unflatten(-1, (self.num_heads, -1)).transpose(-3, -2) for p in parts)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        y_BSD: Tensor = self.out(mixed.transpose(-3, -2).flatten(-2))
        return y_BSD


class Block(nn.Module):
    """A pre-norm transformer block whose second half is dense or sparse.

    The MoE layer's output is added to the layer's own input h, not to another network's output:
    the residual goes around the layer and nothing else.

    Args:
        attention: the first half.
        layer: the second half, a :class:`~moe_tutorial.layer.feed_forward.FeedForward` or a
            :class:`~moe_tutorial.layer.moe.MoELayer` of the same width.

    Raises:
        TypeError: a half that is something else.
        ValueError: halves of different widths.
    """

    def __init__(self, attention: Attention, layer: FeedForward | MoELayer) -> None:
        super().__init__()
        check_kind("attention", attention, Attention)
        if not isinstance(layer, FeedForward | MoELayer):
            raise TypeError(
                f"layer must be a FeedForward or a MoELayer, got {type(layer).__name__}"
            )
        model_width = attention.out.out_features
        width = (
            layer.out.out_features if isinstance(layer, FeedForward) else layer.router.model_width
        )
        if width != model_width:
            raise ValueError(f"layer must have width {model_width} as attention, got {width}")
        self.attention = attention
        self.layer = layer
        self.attention_norm = nn.RMSNorm(model_width)
        self.layer_norm = nn.RMSNorm(model_width)

    def forward(
        self, x_BSD: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Routing | None]:
        """Transform sequences ``[B, S, D]``.

        Args:
            x_BSD: the sequences.
            generator: the source of randomness of a router that draws.

        Returns:
            The block's output ``[B, S, D]``, and the routing if the layer is sparse, else None.
        """
        check_floating("x_BSD", x_BSD, rank=3)
        h_BSD = x_BSD + self.attention(self.attention_norm(x_BSD))
        normed_BSD = self.layer_norm(h_BSD)
        if isinstance(self.layer, MoELayer):
            output = self.layer(normed_BSD, generator)
            return h_BSD + output.y_TD, output.routing
        return h_BSD + self.layer(normed_BSD), None
