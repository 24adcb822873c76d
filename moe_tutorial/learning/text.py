"""Text: real bytes in several domains and languages, from what is installed beside Python.

A token is a byte, 0 to 255; a document's name decides its split.                    Chapter 10.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from moe_tutorial.learning.documents import letters
from moe_tutorial.validation import check_generator, check_kind, check_size
from moe_tutorial.values import as_float

VOCABULARY = 256
"""How many tokens there are, one for each value of a byte."""

_END = b"\0"  # ends each document; UTF-8 text holds this byte for no other character


@dataclass(frozen=True, eq=False)
class Text:
    """The text of several domains, one after another.

    Attributes:
        domains: their names; a domain's place here is its id.
        bytes_N: every byte, uint8; each document ends with a byte 0.
        starts: where each domain starts in ``bytes_N``, and where the last one ends.
    """

    domains: tuple[str, ...]
    bytes_N: Tensor
    starts: tuple[int, ...]

    def fingerprint(self) -> str:
        """Name these very bytes, in 12 hexadecimal digits: other versions hold other text."""
        digest = hashlib.sha256(repr((self.domains, self.starts)).encode())
        digest.update(self.bytes_N.cpu().numpy().tobytes())
        return digest.hexdigest()[:12]


@dataclass(frozen=True, eq=False)
class Corpus:
    """Text to learn from, and text to be measured on, with no paragraph in common.

    Attributes:
        training: what a model may learn from.
        validation: the same domains, other documents.
    """

    training: Text
    validation: Text


@dataclass(frozen=True, eq=False)
class Batch:
    """Windows of text, each within one domain.

    Attributes:
        tokens_BS: int64 ``[B, S]``, what the model sees.
        targets_BS: int64 ``[B, S]``, the byte after each token.
        domains_BS: int64 ``[B, S]``, the domain's id, for each token.
    """

    tokens_BS: Tensor
    targets_BS: Tensor
    domains_BS: Tensor

    def part(self, windows: slice) -> "Batch":
        """Some of the windows."""
        return Batch(self.tokens_BS[windows], self.targets_BS[windows], self.domains_BS[windows])


def corpus(
    documents: Mapping[str, Mapping[str, str] | Sequence[str]], validation_share: float = 0.1
) -> Corpus:
    """Put documents into two splits that share none of their text.

    A hash of its name decides where a document goes, so neither the order of the files nor other
    documents matter; documents of the same name go together, in whatever domain. Then no
    paragraph is kept twice: of those that differ in white space at most, only the first stays,
    wherever the others are. A validation loss thus measures unseen text, not memory.

    Args:
        documents: for each domain its documents, by name or as a list, in which case their text
            is their name: your own, or those of
            :func:`~moe_tutorial.learning.documents.installed_documents`.
        validation_share: what part of the documents, about, is kept for validation. A domain with
            none there gives one nevertheless.

    Returns:
        The training and the validation text, with the domains in the order given.

    Raises:
        TypeError: documents that are no such mapping, or hold something else than str.
        ValueError: no domain, a domain with fewer than two different documents, a byte 0 in a
            document, or a share that is not between 0 and 1.
    """
    _check_share("validation_share", validation_share)
    if not isinstance(documents, Mapping):
        raise TypeError(f"documents must map domains to texts, got {type(documents).__name__}")
    if not documents:
        raise ValueError("documents must hold at least one domain, got none")
    seen: set[str] = set()
    splits: tuple[list[bytes], list[bytes]] = ([], [])
    for domain, texts in documents.items():
        kept = {
            name: text
            for name, whole in _named(domain, texts).items()
            if (text := _without(seen, whole))
        }
        if len(kept) < 2:
            raise ValueError(
                f"documents[{domain!r}] must hold at least two different documents, one for each "
                f"split, got {len(kept)}"
            )
        ranks = {name: rank(name) for name in kept}
        chosen = {name for name, rank in ranks.items() if rank < validation_share}
        chosen = chosen or {min(ranks, key=ranks.__getitem__)}
        if len(chosen) == len(kept):
            chosen.remove(max(ranks, key=ranks.__getitem__))
        for split, held_out in zip(splits, (False, True), strict=True):
            split.append(
                b"".join(
                    text.encode() + _END
                    for name, text in kept.items()
                    if (name in chosen) == held_out
                )
            )
    return Corpus(*(_joined(tuple(documents), split) for split in splits))


def _named(domain: str, texts: Mapping[str, str] | Sequence[str]) -> dict[str, str]:
    if isinstance(texts, str) or not isinstance(texts, Mapping | Sequence):
        raise TypeError(
            f"documents[{domain!r}] must be a list of texts or a mapping from names to texts, got "
            f"{type(texts).__name__}"
        )
    pairs = texts.items() if isinstance(texts, Mapping) else zip(texts, texts, strict=True)
    named = {}
    for name, text in pairs:
        for value in (name, text):
            if not isinstance(value, str):
                raise TypeError(f"documents[{domain!r}] must hold str, got {type(value).__name__}")
        named[name] = text
        if "\0" in text:
            raise ValueError(
                f"documents[{domain!r}] must not hold the character 0, which ends a document, got "
                f"one in {name[:40]!r}"
            )
    return named


def _without(seen: set[str], text: str) -> str:
    """The text without the paragraphs that were seen, and remember the others."""
    new = []
    for paragraph in re.split(r"\n\s*\n", text):
        signature = letters(paragraph)
        if signature and signature not in seen:
            seen.add(signature)
            new.append(paragraph.rstrip())
    return "\n\n".join(new)


def rank(name: str) -> float:
    """A number from 0 to 1 that looks random and depends on the name alone, by which to split."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big") / 2**48


def _joined(domains: tuple[str, ...], streams: Sequence[bytes]) -> Text:
    starts = [0]
    for stream in streams:
        starts.append(starts[-1] + len(stream))
    bytes_N = torch.frombuffer(bytearray(b"".join(streams)), dtype=torch.uint8)
    return Text(domains, bytes_N, tuple(starts))


def draw_batch(
    text: Text,
    batch_size: int,
    length: int,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> Batch:
    """Draw windows at random: a domain first, all equally likely, then a place within it.

    Args:
        text: where from.
        batch_size: B, the number of windows.
        length: S, the tokens in each.
        generator: the source of randomness, on the CPU, so that a seed gives the same windows
            whatever device they go to.
        device: where the batch is wanted.

    Returns:
        The windows, the bytes to predict and the domains.

    Raises:
        TypeError, ValueError: a text that is none, a size that is no positive int, a generator
            elsewhere, or a domain that is shorter than one window and the byte after it.
    """
    check_kind("text", text, Text)
    check_size("batch_size", batch_size)
    check_size("length", length)
    check_generator(generator, text.bytes_N)
    starts = torch.tensor(text.starts, device="cpu")
    rooms = starts.diff() - length  # the places at which a window may start
    shortest = int(rooms.argmin())
    if rooms[shortest] < 1:
        raise ValueError(
            f"length must be below the {int(rooms[shortest]) + length} bytes of the domain "
            f"{text.domains[shortest]!r}, got {length}"
        )
    domains_B = torch.randint(len(text.domains), (batch_size,), generator=generator, device="cpu")
    places_B = torch.rand(batch_size, dtype=torch.float64, generator=generator, device="cpu")
    first_B = starts[domains_B] + (places_B * rooms[domains_B]).long()
    window_BS = (
        text.bytes_N[first_B[:, None] + torch.arange(length + 1, device="cpu")].long().to(device)
    )
    domains_BS = domains_B[:, None].expand(-1, length).to(device)
    return Batch(window_BS[:, :-1], window_BS[:, 1:], domains_BS)


def fixed_windows(
    text: Text, windows: int, length: int, device: torch.device | str = "cpu"
) -> Iterator[tuple[str, Batch]]:
    """Each domain with windows of it, which are the same in every call.

    Whatever predicts the same text can be measured on the same bytes so.

    Args:
        text: where from.
        windows: how many, from each domain.
        length: S, the tokens in each.
        device: where the batches are wanted.

    Raises:
        TypeError, ValueError: as :func:`draw_batch`.
    """
    check_kind("text", text, Text)
    for domain, (start, end) in zip(text.domains, pairwise(text.starts), strict=True):
        one = Text((domain,), text.bytes_N[start:end], (0, end - start))
        yield (
            domain,
            draw_batch(one, windows, length, torch.Generator("cpu").manual_seed(0), device),
        )


def _check_share(name: str, value: Any) -> None:
    """Refuse what is no number strictly between 0 and 1."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {value!r} of type {type(value).__name__}")
    if not 0 < as_float(value) < 1:
        raise ValueError(f"{name} must be between 0 and 1, got {value}")
