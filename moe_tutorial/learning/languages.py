"""Languages: which of eight languages is a window of 16 bytes from? A task with real doubt in it.

logits = W mean_s norm(x_s), x = blocks(embed(bytes) + positions).                   Chapter 16.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from moe_tutorial.layer.block import Block
from moe_tutorial.learning.documents import letters
from moe_tutorial.learning.language_model import positions
from moe_tutorial.learning.text import VOCABULARY, Text, rank
from moe_tutorial.routing.decision import Routing
from moe_tutorial.validation import check_generator, check_size, check_tokens

KNOWN = ("es", "pt", "it", "fr", "de", "nl", "sv", "da")
"""The languages to tell apart, by their codes in the CLDR."""

ELSEWHERE = {
    "near languages": ("ca", "gl", "no"),
    "far languages": ("fi", "pl", "tr", "cs"),
    "English": ("manual",),
    "code": ("python",),
    "other letters": ("ru", "el"),
}
"""Domains of :func:`~moe_tutorial.learning.documents.installed_documents` that a guesser has never
seen, by how far they are from what it knows."""

SHARES = (0.1, 0.2, 0.7)
"""Of the documents, for training, for calibration and for the test. A tenth is so little that a
guesser becomes too sure of itself, which chapter 16 needs: its logits are best divided by about 1.8
(after 2000 steps), and by about 1.4 if a fifth is for training."""


@dataclass(frozen=True, eq=False)
class Guess:
    """What a guesser returns.

    Attributes:
        logits_BC: ``[B, C]``, one row for each window.
        features_BD: ``[B, D]``, what the logits are made from.
        routings: the decision of every layer, in order; None for a dense one.
    """

    logits_BC: Tensor
    features_BD: Tensor
    routings: tuple[Routing | None, ...]


class Guesser(nn.Module):
    """Blocks of chapter 06 over bytes, and one answer for the whole window, from their mean.

    Args:
        blocks: of one even width.
        classes: C.

    Raises:
        TypeError, ValueError: a number of classes that is no positive int, or no blocks.
    """

    def __init__(self, blocks: Sequence[Block], classes: int = len(KNOWN)) -> None:
        super().__init__()
        check_size("classes", classes)
        if not blocks:
            raise ValueError("blocks must hold at least one block, got none")
        width = blocks[0].attention.out.out_features
        self.embedding = nn.Embedding(VOCABULARY, width)
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.RMSNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, tokens_BS: Tensor, generator: torch.Generator | None = None) -> Guess:
        """Guess where windows ``[B, S]`` of bytes are from.

        Args:
            tokens_BS: int64, 0 to 255.
            generator: the source of randomness of routers that draw.

        Raises:
            TypeError, ValueError: tokens of another dtype, rank or device or out of range, or a
                generator elsewhere.
        """
        check_tokens("tokens_BS", tokens_BS, VOCABULARY, self.head.weight)
        check_generator(generator, tokens_BS)
        x_BSD = self.embedding(tokens_BS)
        x_BSD = x_BSD + positions(tokens_BS.shape[1], x_BSD.shape[2]).to(x_BSD)
        routings: list[Routing | None] = []
        for block in self.blocks:
            x_BSD, routing = block(x_BSD, generator)
            routings.append(routing)
        features_BD = self.norm(x_BSD).mean(1)
        return Guess(self.head(features_BD), features_BD, tuple(routings))


def three_splits(documents: Mapping[str, Mapping[str, str]]) -> tuple[Text, Text, Text]:
    """Put documents into a training, a calibration and a test split, by a hash of their names.

    In the CLDR's documents a thing has one name in all languages, so what a window is about tells
    nothing of where it is from, and no thing is in two splits. By position in a file, splits would
    differ in topic. A line that a language has twice stays in the first document that has it.

    Args:
        documents: for each domain its documents by name, as of
            :func:`~moe_tutorial.learning.documents.installed_documents`.

    Returns:
        Three texts with the domains in the order given, of :data:`SHARES` of the documents.

    Raises:
        ValueError: no domain, or one that leaves a split empty.
    """
    if not documents:
        raise ValueError("documents must hold at least one domain, got none")
    streams: list[list[bytes]] = [[], [], []]
    for domain, by_name in documents.items():
        seen: set[str] = set()
        parts = [b"", b"", b""]
        for name, text in by_name.items():
            lines = []
            for line in text.split("\n"):
                signature = letters(line)
                if signature and signature not in seen:
                    seen.add(signature)
                    lines.append(line)
            place = rank(name)
            which = 0 if place < SHARES[0] else 1 if place < SHARES[0] + SHARES[1] else 2
            if lines:
                parts[which] += "\n".join(lines).encode() + b"\0"
        if not all(parts):
            raise ValueError(f"documents[{domain!r}] must have some text for each of three splits")
        for stream, part in zip(streams, parts, strict=True):
            stream.append(part)
    training, calibration, test = (_joined(tuple(documents), stream) for stream in streams)
    return training, calibration, test


def _joined(domains: tuple[str, ...], streams: Sequence[bytes]) -> Text:
    starts = [0]
    for stream in streams:
        starts.append(starts[-1] + len(stream))
    bytes_N = torch.frombuffer(bytearray(b"".join(streams)), dtype=torch.uint8)
    return Text(domains, bytes_N, tuple(starts))
