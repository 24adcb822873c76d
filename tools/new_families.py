"""Name every family of the installed transformers whose router the zoo does not know.

python tools/new_families.py     prints one line for each, and fails if there is one

It reads the source of all models and imports none of them: a block is a class that makes itself
experts or a router, and its router is what it makes itself as gate or router.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from pathlib import Path

from moe_tutorial.models.families import UNSUPPORTED
from moe_tutorial.models.readers import READERS

# Its experts are a block of their own, which is known.
_OTHERWISE = {"JetMoeAttention"}


def blocks_with_experts(source: str) -> list[tuple[str, str]]:
    """Classes that have experts or a router, each with its router's class, or "" for none.

    Args:
        source: of a module.
    """
    if not re.search(r"self\.(experts|gate|router) = ", source):  # parsing takes long
        return []
    found = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef):
            made = _made_by(node)
            router = made.get("gate") or made.get("router") or ""
            if "experts" in made or router.endswith(("Router", "Gating")):
                found.append((node.name, router))
    return found


def _made_by(node: ast.ClassDef) -> dict[str, str]:
    """The attributes that a class calls some other class for, with these classes' names."""
    made: dict[str, str] = {}
    for it in ast.walk(node):
        if isinstance(it, ast.Assign) and isinstance(it.targets[0], ast.Attribute):
            for call in ast.walk(it.value):
                if isinstance(call, ast.Call):
                    name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
                    name = call.func.id if isinstance(call.func, ast.Name) else name
                    made.setdefault(it.targets[0].attr, name)
    return made


def unknown() -> list[str]:
    """A line for each block with experts whose router has no reader in the zoo."""
    spec = importlib.util.find_spec("transformers")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("transformers is not installed")
    lines = []
    for path in sorted((Path(spec.origin).parent / "models").glob("*/modeling_*.py")):
        for block, router in blocks_with_experts(path.read_text(encoding="utf-8")):
            if router not in READERS and block not in {*READERS, *UNSUPPORTED, *_OTHERWISE}:
                lines.append(f"{path.parent.name}: {block} has the router {router or 'of no name'}")
    return lines


def main() -> None:
    """Print the lines."""
    lines = unknown()
    print("\n".join(lines) or "The zoo knows the routers of all blocks with experts.")
    sys.exit(1 if lines else 0)


if __name__ == "__main__":
    main()
