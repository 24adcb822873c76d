"""Names: countries, languages and currencies in many languages, a small parallel text.

loss = -sum over the answer of ln p(character | language, English name, answer so far). Chapter 13.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from moe_tutorial.learning.text import rank
from moe_tutorial.validation import check_kind, check_size

LANGUAGES = {
    "de": ("Latin", "Germanic"),
    "nl": ("Latin", "Germanic"),
    "sv": ("Latin", "Germanic"),
    "da": ("Latin", "Germanic"),
    "no": ("Latin", "Germanic"),
    "fr": ("Latin", "Romance"),
    "es": ("Latin", "Romance"),
    "it": ("Latin", "Romance"),
    "pt": ("Latin", "Romance"),
    "gl": ("Latin", "Romance"),
    "pl": ("Latin", "Slavic"),
    "cs": ("Latin", "Slavic"),
    "sk": ("Latin", "Slavic"),
    "sr_Latn": ("Latin", "Slavic"),
    "sr": ("Cyrillic", "Slavic"),
    "ru": ("Cyrillic", "Slavic"),
    "uk": ("Cyrillic", "Slavic"),
    "bg": ("Cyrillic", "Slavic"),
    "mk": ("Cyrillic", "Slavic"),
    "lt": ("Latin", "Baltic"),
    "fi": ("Latin", "Uralic"),
    "et": ("Latin", "Uralic"),
    "hu": ("Latin", "Uralic"),
    "tr": ("Latin", "Turkic"),
    "kk": ("Cyrillic", "Turkic"),
    "el": ("Greek", "Greek"),
    "ka": ("Georgian", "Kartvelian"),
    "hy": ("Armenian", "Armenian"),
    "ar": ("Arabic", "Semitic"),
    "fa": ("Arabic", "Iranian"),
    "ur": ("Arabic", "Indic"),
    "hi": ("Devanagari", "Indic"),
}
"""The languages to translate into, by their codes in the CLDR, with script and family."""

RARE = ("no", "gl", "sk", "mk", "et", "ur", "ka", "hy")
"""Those that get few names to learn from. All but the last two have a relative in their script."""

LONGEST = 24
"""Longer names, English or other, are left out. Most are lists such as "A, B and C"."""

GROUP = 8
"""How many batches :func:`draw_pairs` draws together."""

END, EQUALS = 0, 1
"""The tokens that end an answer (and fill up a row), and that stand before it."""


@dataclass(frozen=True)
class Pair:
    """One name in English and in another language.

    Attributes:
        language: the other language's code.
        english: the name in English.
        name: the same in that language.
    """

    language: str
    english: str
    name: str


@dataclass(frozen=True)
class Names:
    """Pairs to learn from and to be measured on, with no English name in common.

    Attributes:
        training: what a model may learn from.
        validation: names that no language's training part holds.
        characters: all characters of the training part, in order.
    """

    training: tuple[Pair, ...]
    validation: tuple[Pair, ...]
    characters: str

    def vocabulary(self) -> int:
        """How many tokens there are: two signs, one for each language, the characters, unknown."""
        return 2 + len(LANGUAGES) + len(self.characters) + 1

    def fingerprint(self) -> str:
        """Name these very pairs, in 12 hexadecimal digits: other versions hold other names."""
        return hashlib.sha256(repr((self.training, self.validation)).encode()).hexdigest()[:12]


@dataclass(frozen=True, eq=False)
class NameBatch:
    """Rows of one language token, an English name, the sign EQUALS, the answer and END.

    Attributes:
        tokens_BS: int64 ``[B, S]``, what the model sees; rows are filled up with END.
        targets_BS: int64 ``[B, S]``, the token after each.
        answer_BS: bool ``[B, S]``, whether that is a part of the answer or the END after it.
        filled_BS: bool ``[B, S]``, whether a token is a part of the row, and no filling.
        languages_B: int64 ``[B]``, a language's place in LANGUAGES.
    """

    tokens_BS: Tensor
    targets_BS: Tensor
    answer_BS: Tensor
    filled_BS: Tensor
    languages_B: Tensor


def names(rare: Iterable[str] = RARE, rare_share: float = 1 / 8) -> Names:
    """Read the names of the Unicode CLDR from the package Babel and split them.

    A hash of the English name decides whether all its translations are for validation (one in
    ten). Of the rare languages' training pairs a share is kept, which another hash chooses.
    Names with a digit or a bracket are left out: most repeat another one with years added.

    Args:
        rare: codes of the languages with few names to learn from.
        rare_share: what part of their training pairs they keep.

    Raises:
        ModuleNotFoundError: Babel is not installed.
    """
    try:
        from babel import localedata
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("the names come from the package Babel: pip install babel") from (
            error
        )
    english = _named(localedata.load("en"))
    training, validation = [], []
    for language in LANGUAGES:
        # Inherited names would be the root's, in no language.
        known = _named(localedata.load(language, merge_inherited=False))
        pairs = {
            Pair(language, english[key], name)
            for key, name in known.items()
            if key in english and _plain(english[key]) and _plain(name)
        }
        for pair in sorted(pairs, key=lambda it: (it.english, it.name)):
            if rank(pair.english) < 0.1:
                validation.append(pair)
            elif language not in rare or rank(f"{language} {pair.english}") < rare_share:
                training.append(pair)
    characters = {it for pair in training for it in pair.english + pair.name}
    return Names(tuple(training), tuple(validation), "".join(sorted(characters)))


def _named(data: Mapping[str, Mapping[str, str]]) -> dict[tuple[str, str], str]:
    kinds = ("territories", "languages", "currency_names")
    return {
        (kind, key): name
        for kind in kinds
        for key, name in data.get(kind, {}).items()
        if isinstance(name, str)
    }


def _plain(name: str) -> bool:
    return 0 < len(name) <= LONGEST and not any(it.isdigit() or it in "()[]" for it in name)


class Tokens:
    """What turns pairs into tokens, and tokens into names.

    Args:
        data: its characters are the vocabulary; others become one token that stands for unknown.
    """

    def __init__(self, data: Names) -> None:
        check_kind("data", data, Names)
        self.first = 2 + len(LANGUAGES)
        self.characters = data.characters
        self.ids = {it: self.first + i for i, it in enumerate(data.characters)}
        self.unknown = self.first + len(data.characters)
        self.languages = {language: i for i, language in enumerate(LANGUAGES)}

    def question(self, language: str, english: str) -> list[int]:
        """The tokens before an answer."""
        return [2 + self.languages[language], *self._spelled(english), EQUALS]

    def batch(self, pairs: Sequence[Pair]) -> NameBatch:
        """Rows for these pairs, as long as the longest of them."""
        questions = [self.question(pair.language, pair.english) for pair in pairs]
        answers = [[*self._spelled(pair.name), END] for pair in pairs]
        length = max(len(q) + len(a) for q, a in zip(questions, answers, strict=True))
        rows_BS = torch.full((len(pairs), length), END)
        ends = torch.tensor([len(q) + len(a) for q, a in zip(questions, answers, strict=True)])
        starts = torch.tensor([len(q) for q in questions])
        for row, question, answer in zip(rows_BS, questions, answers, strict=True):
            row[: len(question) + len(answer)] = torch.tensor(question + answer)
        places_S = torch.arange(length - 1)
        filled_BS = places_S < ends[:, None] - 1
        return NameBatch(
            rows_BS[:, :-1],
            rows_BS[:, 1:],
            filled_BS & (places_S >= starts[:, None] - 1),
            filled_BS,
            torch.tensor([self.languages[pair.language] for pair in pairs]),
        )

    def read(self, tokens: Iterable[int]) -> str:
        """The characters up to the first END."""
        found = []
        for token in tokens:
            if token == END:
                break
            place = token - self.first
            found.append(self.characters[place] if 0 <= place < len(self.characters) else "\ufffd")
        return "".join(found)

    def _spelled(self, name: str) -> list[int]:
        return [self.ids.get(it, self.unknown) for it in name]


def draw_pairs(
    pairs: Sequence[Pair], batch_size: int, generator: torch.Generator | None = None
) -> Iterator[list[Pair]]:
    """Draw batches without end, all pairs equally likely: a rare language comes rarely.

    GROUP batches are drawn together, and pairs of about one length go into the same one, so that
    few tokens are filling; then the batches come in random order.

    Args:
        pairs: what to draw from, with replacement.
        batch_size: B, the pairs of a batch.
        generator: the source of randomness, on the CPU.

    Raises:
        TypeError, ValueError: a size that is no positive int, or no pairs.
    """
    check_size("batch_size", batch_size)
    if not pairs:
        raise ValueError("pairs must hold at least one pair, got none")
    while True:
        drawn = torch.randint(len(pairs), (GROUP * batch_size,), generator=generator).tolist()
        drawn.sort(key=lambda i: len(pairs[i].english) + len(pairs[i].name))
        for i in torch.randperm(GROUP, generator=generator).tolist():
            yield [pairs[j] for j in drawn[i * batch_size : (i + 1) * batch_size]]
