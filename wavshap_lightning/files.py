"""Writing files so that each appears whole or not at all; every ring may use it."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import uuid4


def write_atomically(path: Path, content: bytes) -> None:
    """Write a whole file or nothing, making its folder.

    The bytes go to disk beside the place and are then renamed: a reader, and whoever comes after a crash,
    meets the old file or the new one. Threads and processes that write the same file do not disturb
    each other; the last one stays.

    Raises:
        OSError: If the disk refuses; what was there before is left as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{uuid4().hex}.unfinished")
    try:
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
