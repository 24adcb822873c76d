"""Pack the built site into one archive that opens without a server, with the same bytes each time.

Unpacked anywhere, its index.html opens in a browser, offline.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import moe_tutorial
from tools.site.site_host import BOOK

NAME = f"moe-routing-book-{moe_tutorial.__version__}"
PATH = BOOK.parent / f"{NAME}.zip"

# The earliest day that the format knows, for every file: when it was built is no part of the book.
DAY = (1980, 1, 1, 0, 0, 0)
READABLE = 0o100644 << 16
# Asks for a font ahead of time, which a browser refuses without a server and reports as an error.
PRELOAD = re.compile(rb'<link rel="preload"[^>]*>\n?')


def pack(book: Path, path: Path) -> None:
    """Write every file of a built site into an archive, in a folder of the archive's name.

    Args:
        book: the built site's folder.
        path: where the archive goes; one that is there is replaced.

    Raises:
        FileNotFoundError: there is no built site.
    """
    if not (book / "index.html").exists():
        raise FileNotFoundError(f"there is no book in {book}: run make book first")
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(book.rglob("*")):
            inside = file.relative_to(book)
            # Sphinx keeps notes for its next build in files with a dot.
            if file.is_dir() or any(part.startswith(".") for part in inside.parts):
                continue
            entry = zipfile.ZipInfo(f"{path.stem}/{inside.as_posix()}", DAY)
            entry.external_attr = READABLE
            entry.compress_type = zipfile.ZIP_DEFLATED
            content = file.read_bytes()
            archive.writestr(
                entry, PRELOAD.sub(b"", content) if file.suffix == ".html" else content
            )


if __name__ == "__main__":
    pack(BOOK, PATH)
    print(f"The book is in {PATH} ({PATH.stat().st_size / 1e6:.1f} MB)")
