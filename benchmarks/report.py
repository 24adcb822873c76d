"""The tables: what ``python -m benchmarks.layer`` prints, made from what its JSON file holds."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.measure import table

MODES = ("forward", "forward_backward")


def text(record: dict[str, Any], ours: str, limits: tuple[str, str]) -> str:
    """All tables, one row a size; "a/b" is forward / forward+backward.

    Args:
        record: the JSON file.
        ours: the name of this package's row.
        limits: the names of the dense chain and of the segmented limit.
    """
    dense, segmented = limits
    parts = [
        _heading(record),
        f"Time as a multiple of the {dense}'s (medians of paired ratios):",
        _all(record, lambda it: f"{it['to_dense']:.2f}", without=dense),
        f"Time as a multiple of the {segmented} limit's:",
        _all(record, lambda it: f"{it['to_segmented']:.2f}", without=segmented),
        "Shortest time in ms:",
        _all(record, lambda it: f"{it['min_ms']:.3g}"),
        "Peak extra memory in MiB:",
        _all(record, lambda it: f"{it['peak_extra_mib']:.3g}"),
        *_resident(record),
        "Ours beside the fastest and the leanest peer, and the rate of its matmuls:",
        _verdict(record, ours, limits),
    ]
    waits = [cell for cell in record["cells"] if "waits_of_the_host" in cell]
    parts += [
        f"{cell['size']}: the layer's forward "
        + (
            f"waits in {', '.join(found)}"
            if (found := cell["waits_of_the_host"])
            else "never waits"
        )
        for cell in waits
    ]
    parts += _skipped(record)
    return "\n\n".join(parts)


def _resident(record: dict[str, Any]) -> list[str]:
    found = [it for cell in record["cells"] for it in cell["implementations"].values()]
    if all("skipped" in it or it["forward"]["peak_resident_mib"] is None for it in found):
        return []
    return [
        "Peak memory that the system gave in MiB:",
        _all(record, lambda it: f"{it['peak_resident_mib']:.3g}"),
    ]


def _heading(record: dict[str, Any]) -> str:
    hardware, settings = record["hardware"], record["settings"]
    machine = hardware.get("gpu") or f"{hardware['processor']}, {hardware['threads']} threads"
    where = ", ".join([machine, *hardware["preloaded"]])
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    return (
        f"{where}; {settings['dtype']}; {versions}.\n"
        f"All agree with ours within {settings['tolerance']:.0e} of the largest number."
    )


def _all(
    record: dict[str, Any], show: Callable[[dict[str, Any]], str], without: str | None = None
) -> str:
    names = [name for name in record["cells"][0]["implementations"] if name != without]
    rows = [["T,D,F,E,K", *names]]
    for cell in record["cells"]:
        found = cell["implementations"]
        rows.append(
            [
                cell["size"],
                *(
                    "-" if "skipped" in found[name]
                    else "/".join(show(found[name][mode]) for mode in MODES)
                    for name in names
                ),
            ]
        )  # fmt: skip
    return table(rows)


def _verdict(record: dict[str, Any], ours: str, limits: tuple[str, str]) -> str:
    rows = [
        [
            "T,D,F,E,K", "", "fastest peer", "ours / its time", "leanest peer", "ours / its MiB",
            "GFLOP/s of ours", "of one matmul's",
        ]
    ]  # fmt: skip
    for cell in record["cells"]:
        found = cell["implementations"]
        peers = {
            name: it
            for name, it in found.items()
            if "skipped" not in it and name not in limits and not name.startswith(ours)
        }
        for mode in MODES if peers and "skipped" not in found[ours] else ():
            fastest = max(peers, key=lambda name: peers[name][mode]["ours_to_this"])
            leanest = min(peers, key=lambda name: peers[name][mode]["peak_extra_mib"])
            mine, its = found[ours][mode], peers[leanest][mode]
            rows.append(
                [
                    cell["size"],
                    mode.replace("_", "+"),
                    fastest,
                    f"{peers[fastest][mode]['ours_to_this']:.2f}",
                    leanest,
                    f"{mine['peak_extra_mib']:.3g} / {its['peak_extra_mib']:.3g}",
                    f"{mine['gflop_per_s']:.4g}",
                    f"{mine['gflop_per_s'] / cell['matmul_gflop_per_s']:.0%}",
                ]
            )
    return table(rows)


def _skipped(record: dict[str, Any]) -> list[str]:
    lines: dict[str, list[str]] = {}
    for cell in record["cells"]:
        for name, it in cell["implementations"].items():
            if "skipped" in it:
                lines.setdefault(f"{name}: {it['skipped']}", []).append(cell["size"])
    every = len(record["cells"])
    return [
        f"- {reason} ({'at every size' if len(sizes) == every else '; '.join(sizes)})"
        for reason, sizes in lines.items()
    ]


if __name__ == "__main__":
    print(
        text(
            json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")),
            ours="ours",
            limits=("dense chain", "segmented"),
        )
    )
