"""Documents: text in several languages, human and other, that is installed beside Python.

Each domain's documents by name; nothing is downloaded.                              Chapter 10.
"""

import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

LANGUAGES = ("de", "el", "fi", "fr", "ja", "ru")
"""The languages that :func:`installed_documents` gives unless told otherwise, by their codes."""


def installed_documents(languages: Sequence[str] = LANGUAGES) -> dict[str, dict[str, str]]:
    """Text that stands on every computer on which this package runs: nothing is downloaded.

    - ``"manual"``: Python's reference manual, as ``help()`` shows it: English prose.
    - ``"python"``: the source of the standard library's single-file modules.
    - ``"c++"``: the headers of torch's base library, c10.
    - a language's code, such as ``"de"``: names of languages, scripts, countries, cities,
      currencies and units in the Unicode CLDR, which the package Babel carries.

    What is read belongs to the versions installed, so it differs a little from one computer to
    the next: :meth:`Text.fingerprint() <moe_tutorial.learning.text.Text.fingerprint>` tells.

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
                lines.setdefault(letters(line), line)  # forms often differ in a kind of space alone
    return {name: "\n".join(lines.values()) for name, lines in sorted(documents.items()) if lines}


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key in sorted(value):
            yield from _strings(value[key])


def letters(text: str) -> str:
    """The text without its white space."""
    return "".join(text.split())
