"""What corpora that this package makes have in common: parts by speaker, and whether one is there, whole."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.manifest import read_manifest, save_manifest
from wavshap_lightning.corpora.tables import write_table
from wavshap_lightning.errors import CorpusError, SettingError

MANIFEST, SEAL = "manifest.jsonl", "planted.json"


def part_of(index: int, num_speakers: int) -> str:
    """The part of a speaker by number: the last sixth tests, the sixth before validates, the others train.

    >>> [part_of(index, 4) for index in range(4)]
    ['train', 'train', 'validation', 'test']
    """
    held_out = max(1, num_speakers // 6)
    if index < num_speakers - 2 * held_out:
        return "train"
    return "validation" if index < num_speakers - held_out else "test"


def break_seal(root: Path) -> None:
    """Say that what lies below a root is not whole, before anything of it changes."""
    (root / SEAL).unlink(missing_ok=True)


def seal(root: Path, fields: Mapping[str, Any], clips: Sequence[Clip], beside: Sequence[str] = ()) -> None:
    """Write the manifest and then, last of all, what the corpus is made of and a hash of its files.

    Args:
        root: Folder of the corpus.
        fields: What it is made of, in plain JSON types.
        clips: Those that were written.
        beside: Names of further files below the root that belong to it.

    Raises:
        CorpusError: If a file cannot be written.
    """
    save_manifest(root / MANIFEST, clips)
    write_table(root / SEAL, _record(root, fields, clips, beside))


def sealed_clips(root: Path, fields: Mapping[str, Any], beside: Sequence[str] = ()) -> list[Clip] | None:
    """The clips below a root if they are complete, as they were written, and made of just this; else None."""
    with suppress(CorpusError, OSError):  # a file is gone or damaged, so the corpus is not complete
        stored = (root / SEAL).read_bytes()
        clips = read_manifest(root / MANIFEST)
        if stored == _record(root, fields, clips, beside).encode():
            return clips
    return None


def check_at_least(name: str, value: int, smallest: int) -> None:
    """Raise SettingError unless a value is large enough."""
    if value < smallest:
        raise SettingError(f"{name}={value!r} must be at least {smallest}")


def check_labels(labels: Sequence[str]) -> None:
    """Raise SettingError unless there are two labels or more, all different."""
    if len(set(labels)) != len(labels) or len(labels) < 2:
        raise SettingError(f"labels={labels!r} must be at least two different labels")


def _record(root: Path, fields: Mapping[str, Any], clips: Sequence[Clip], beside: Sequence[str]) -> str:
    """One hash of the bytes of the manifest, of every clip and of what lies beside them."""
    hashes = sha256()
    for path in (root / MANIFEST, *(clip.path for clip in clips), *(root / name for name in beside)):
        hashes.update(sha256(path.read_bytes()).digest())
    return json.dumps({**fields, "sha256": hashes.hexdigest()}, indent=2) + "\n"
