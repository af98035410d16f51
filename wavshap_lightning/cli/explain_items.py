"""What `explain.py` is asked to explain: files, folders and manifests as clips, each under a name."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from wavshap_lightning.audio.io import AUDIO_SUFFIXES
from wavshap_lightning.corpora.clip import Clip, Span
from wavshap_lightning.corpora.files import find_audio
from wavshap_lightning.corpora.manifest import SUFFIXES, read_manifest
from wavshap_lightning.errors import SettingError

LONGEST_STEM_BYTES = 120
"""File systems take names of 255 bytes, and suffixes come after."""

FORBIDDEN = '<>:"/\\|?*'
"""Signs that some file systems refuse, or that mean something in a shell or a page."""


@dataclass(frozen=True)
class Item:
    """One clip to explain.

    Args:
        path: Its file.
        stem: What its files are called, different for every item.
        clip: Its row in a manifest; None where it came as a file.
    """

    path: Path
    stem: str = ""
    clip: Clip | None = None

    @property
    def recording(self) -> Path | Clip:
        """What is explained."""
        return self.path if self.clip is None else self.clip

    @property
    def label(self) -> str | None:
        """What it was annotated as, if that is known."""
        return None if self.clip is None else self.clip.label

    @property
    def evidence(self) -> tuple[Span, ...]:
        """Spans known to carry the label."""
        return () if self.clip is None else self.clip.evidence

    @property
    def span_s(self) -> tuple[float | None, float | None]:
        """Where in its file it begins and ends; None for the file's own."""
        return (None, None) if self.clip is None else (self.clip.start_s, self.clip.end_s)

    @property
    def name(self) -> str:
        """Its path as it was given, with where in the file it begins if it is a part of it."""
        start_s = self.span_s[0]
        return str(self.path) if start_s is None else f"{self.path}@{start_s:.3f}"


def find_items(names: Sequence[str], out: Path) -> list[Item]:
    """Files as given, folders searched for audio, manifests row by row; each clip once.

    Args:
        names: What was given.
        out: What lies below is output of ours, and is not searched.

    Raises:
        SettingError: If a folder holds no audio.
        CorpusError: If a manifest does not hold together.
    """
    items = [item for name in names for item in _items_of(Path(name), out)]
    return name_items(list({(item.path, item.span_s): item for item in items}.values()))


def audio_below(path: Path, out: Path | None = None) -> list[Path]:
    """A file as it is, or the audio below a folder.

    Raises:
        SettingError: If a folder holds no audio.
    """
    if not path.is_dir():
        return [path]
    ours = None if out is None else out.resolve()
    found = [one for one in find_audio(path) if ours is None or ours not in one.resolve().parents]
    if not found:
        raise SettingError(f"audio={path} holds no audio file ({', '.join(sorted(AUDIO_SUFFIXES))})")
    return found


def _items_of(path: Path, out: Path) -> list[Item]:
    if path.suffix.lower() in SUFFIXES and not path.is_dir():
        return [Item(clip.path, clip=clip) for clip in read_manifest(path, must_exist=False)]
    return [Item(one) for one in audio_below(path, out)]


def name_items(items: Sequence[Item]) -> list[Item]:
    """The items, each under a name for its files.

    Those that would share one have a digest of their path added, so that none depends on which
    others are explained beside it, or in which order.
    """
    stems = [safe_stem(Path(item.name).name if item.span_s[0] else item.path.stem) for item in items]
    taken = Counter(stem.casefold() for stem in stems)
    return [
        replace(item, stem=stem if taken[stem.casefold()] == 1 else f"{stem}-{_digest(item.name)}")
        for item, stem in zip(items, stems, strict=True)
    ]


def safe_stem(stem: str) -> str:
    r"""A name that every file system takes: forbidden and invisible signs replaced, cut where too long.

    >>> safe_stem("a <b>\nc"), len(safe_stem("long" * 100))
    ('a _b__c', 119)
    """
    composed = unicodedata.normalize("NFC", stem)
    shown = "".join(sign if sign.isprintable() and sign not in FORBIDDEN else "_" for sign in composed)
    shown = shown.strip(" .") or "clip"
    encoded = shown.encode()
    if len(encoded) <= LONGEST_STEM_BYTES:
        return shown
    digest = _digest(stem)
    kept = encoded[: LONGEST_STEM_BYTES - len(digest) - 2].decode(errors="ignore")
    return f"{kept}-{digest}"


def _digest(text: str) -> str:
    return sha256(text.encode(errors="surrogateescape")).hexdigest()[:8]
