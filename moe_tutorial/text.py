"""Text: real bytes in several domains and languages, from what is installed beside Python.

A token is a byte, 0 to 255; a document's name decides its split.                    Chapter 10.
"""

import hashlib
import re
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from moe_tutorial.validation import check_generator, check_share, check_size

VOCABULARY = 256
"""How many tokens there are, one for each value of a byte."""

LANGUAGES = ("de", "el", "fi", "fr", "ja", "ru")
"""The languages that :func:`installed_documents` gives unless told otherwise, by their codes."""

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
        digest.update(self.bytes_N.numpy().tobytes())
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


def installed_documents(languages: Sequence[str] = LANGUAGES) -> dict[str, dict[str, str]]:
    """Text that stands on every computer on which this package runs: nothing is downloaded.

    - ``"manual"``: Python's reference manual, as ``help()`` shows it: English prose.
    - ``"python"``: the source of the standard library's single-file modules.
    - ``"c++"``: the headers of torch's base library, c10.
    - a language's code, such as ``"de"``: names of languages, scripts, countries, cities,
      currencies and units in the Unicode CLDR, which the package Babel carries.

    What is read belongs to the versions installed, so it differs a little from one computer to
    the next: :meth:`Text.fingerprint` tells.

    Args:
        languages: codes of CLDR languages; none leaves them out, and Babel is not needed.

    Returns:
        For each domain its documents by name. In the languages a thing has one name everywhere,
        so that no model is measured on the translation of a name that it has learnt.

    Raises:
        ModuleNotFoundError: languages were asked for, and Babel is not installed.
        ValueError: a language that Babel has no data for.
        FileNotFoundError: a source that this installation lacks.
    """
    documents = {"manual": _manual(), "python": _standard_library(), "c++": _torch_headers()}
    return documents | {language: _names(language) for language in languages}


def _manual() -> dict[str, str]:
    try:
        from pydoc_data.topics import topics
    except ModuleNotFoundError as error:
        raise FileNotFoundError(
            "Python's manual (the module pydoc_data.topics) is not installed: on Debian and Ubuntu "
            "it is in the package libpython3-stdlib"
        ) from error
    return dict(sorted(topics.items()))


def _standard_library() -> dict[str, str]:
    # _sysconfigdata records how and where this one Python was built.
    folder = Path(sysconfig.get_path("stdlib"))
    files = (file for file in folder.glob("*.py") if not file.name.startswith("_sysconfigdata"))
    return _read("the standard library's source", folder, files)


def _torch_headers() -> dict[str, str]:
    folder = Path(torch.__file__).parent / "include" / "c10"
    return _read("torch's headers", folder, folder.rglob("*.h"))


def _read(what: str, folder: Path, files: Iterator[Path]) -> dict[str, str]:
    by_name = {file.relative_to(folder).as_posix(): file for file in files}
    if not by_name:
        raise FileNotFoundError(f"{what} should be in {folder}, and is not")
    return {name: by_name[name].read_text(encoding="utf-8") for name in sorted(by_name)}


_THINGS = {
    "languages": "language",
    "scripts": "script",
    "territories": "territory",
    "time_zones": "city",
    "meta_zones": "time",
    "currency_names": "currency",
    "currency_names_plural": "currency",
    "unit_display_names": "unit",
    "unit_patterns": "unit",
}


def _names(language: str) -> dict[str, str]:
    try:
        from babel import localedata
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"the language {language!r} comes from the package Babel: pip install babel, or pass "
            "languages=()"
        ) from error
    if not localedata.exists(language):
        raise ValueError(
            f"languages must be codes that Babel knows, such as 'fr', got {language!r}"
        )
    # What is inherited would be the root's, in no language.
    data = localedata.load(language, merge_inherited=False)
    documents: dict[str, dict[str, str]] = {}
    for kind, thing in _THINGS.items():
        for key, value in data.get(kind, {}).items():
            lines = documents.setdefault(f"{thing}/{key}", {})
            for line in _strings(value):
                lines.setdefault(
                    _letters(line), line
                )  # forms often differ in a kind of space alone
    return {name: "\n".join(lines.values()) for name, lines in sorted(documents.items()) if lines}


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key in sorted(value):
            yield from _strings(value[key])


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
            is their name: those of :func:`installed_documents`, or your own.
        validation_share: what part of the documents, about, is kept for validation. A domain with
            none there gives one nevertheless.

    Returns:
        The training and the validation text, with the domains in the order given.

    Raises:
        TypeError: documents that are no such mapping, or hold something else than str.
        ValueError: no domain, a domain with fewer than two different documents, a byte 0 in a
            document, or a share that is not between 0 and 1.
    """
    check_share("validation_share", validation_share)
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
        ranks = {name: _rank(name) for name in kept}
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
        letters = _letters(paragraph)
        if letters and letters not in seen:
            seen.add(letters)
            new.append(paragraph.rstrip())
    return "\n\n".join(new)


def _letters(text: str) -> str:
    """The text without its white space."""
    return "".join(text.split())


def _rank(name: str) -> float:
    """A number from 0 to 1 that looks random and depends on the name alone."""
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
        TypeError, ValueError: a size that is no positive int, a generator elsewhere, or a domain
            that is shorter than one window and the byte after it.
    """
    check_size("batch_size", batch_size)
    check_size("length", length)
    check_generator(generator, text.bytes_N)
    starts = torch.tensor(text.starts)
    rooms = starts.diff() - length  # the places at which a window may start
    shortest = int(rooms.argmin())
    if rooms[shortest] < 1:
        raise ValueError(
            f"length must be below the {int(rooms[shortest]) + length} bytes of the domain "
            f"{text.domains[shortest]!r}, got {length}"
        )
    domains_B = torch.randint(len(text.domains), (batch_size,), generator=generator)
    places_B = torch.rand(batch_size, dtype=torch.float64, generator=generator)
    first_B = starts[domains_B] + (places_B * rooms[domains_B]).long()
    window_BS = text.bytes_N[first_B[:, None] + torch.arange(length + 1)].long().to(device)
    domains_BS = domains_B[:, None].expand(-1, length).to(device)
    return Batch(window_BS[:, :-1], window_BS[:, 1:], domains_BS)
