"""Keep results: whole at any time, so that a run that is stopped loses what it was doing alone."""

import json
from pathlib import Path
from typing import Any


def store(path: Path, content: dict[str, Any], **form: Any) -> None:
    """Write a JSON file in one stroke; ``form`` is what ``json.dumps`` takes."""
    scratch = path.with_name(path.name + ".scratch")
    scratch.write_text(json.dumps(content, **form) + "\n", encoding="utf-8")
    scratch.replace(path)


def kept(path: Path, about: dict[str, Any]) -> dict[str, Any] | None:
    """What an earlier run left in a file, if there is one.

    Raises:
        SystemExit: the file holds something else than ``about``, under the same names.
    """
    if not path.exists():
        return None
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    other = [name for name, value in about.items() if content.get(name) != value]
    if other:
        raise SystemExit(f"{path} holds runs with other {', '.join(other)}: move it away first")
    return content
