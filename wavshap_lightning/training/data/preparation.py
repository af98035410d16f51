"""From the name of a corpus to its clips and their measurements; planted corpora are made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from lightning.pytorch.utilities import rank_zero_warn

from wavshap_lightning.audio.io import hash_audio_file
from wavshap_lightning.corpora.audit import ClipFacts, measure_clip
from wavshap_lightning.corpora.catalogue import corpus_named, load_corpus
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.folders import listed
from wavshap_lightning.corpora.protocols import Split
from wavshap_lightning.errors import AudioError, SettingError
from wavshap_lightning.files import digest_of
from wavshap_lightning.planted.corpus import MANIFEST, RECORD, PlantedSettings, ensure_planted_speech
from wavshap_lightning.planted.into_recordings import (
    NAME,
    SOURCES,
    PlantedInSettings,
    ensure_planted_in,
    open_source,
    read_left_out,
)
from wavshap_lightning.progress import progress_bars
from wavshap_lightning.training.data.cache import TensorCache

Settings = TypeVar("Settings", PlantedSettings, PlantedInSettings)

FOLDER_DIGITS = 16
OWN_SETTINGS = {"labels", "must_occur", "label_map", "no_agreement", "max_samples", "seed"}


class KeyedClip(NamedTuple):
    """A clip with its content key and its length.

    Args:
        clip: The clip.
        key: Hash of the audio file with the span of the clip; see `clip_key`.
        duration_s: Length in seconds.
    """

    clip: Clip
    key: str
    duration_s: float


def clip_key(file_sha256: str, clip: Clip) -> str:
    """Content key of a clip: the hash of its file with its span, independent of its name."""
    return f"{file_sha256}@{clip.start_s}-{clip.end_s}"


def list_clips(
    corpus: str,
    root: str | None,
    options: Mapping[str, Any] | None,
    cache_directory: Path,
    **selection: Any,  # noqa: ANN401 - those of `load_corpus`, with its types
) -> list[Clip]:
    """Labeled clips of a corpus, before any audio is read; planted corpora are made in the cache first.

    Args:
        corpus: Name of the corpus in the catalog.
        root: Folder or table of the corpus; PlantedSpeech is made in the cache if None.
        options: Further arguments of the corpus's loader, or settings of what is planted.
        cache_directory: Folder below which planted corpora are made.
        **selection: Which clips to keep (`label_map`, `labels`, `no_agreement`, `must_occur`, `max_samples`,
            `seed`), as `load_corpus` takes them.

    Raises:
        CorpusError: If the corpus is not there or its labels do not fit.
        SettingError: If an option is unknown or the root is missing.
    """
    name, options = corpus_named(corpus).name, dict(options or {})
    if name == "planted" and root is None:
        root, options = str(_make_planted(options, cache_directory)), {}
    if root is None:
        raise SettingError(f"root=None: corpus={name!r} needs its folder: --data.root, or explain.py --root")
    if name == NAME:
        root, options = str(_plant_into(root, options, cache_directory)), {}
    taken = sorted(options.keys() & OWN_SETTINGS)
    if taken:
        raise SettingError(f"options={taken} are settings of the data: give them next to options, not inside")
    return load_corpus(name, root, **selection, **options)


def measure_split(split: Split, cache_directory: Path) -> dict[Clip, ClipFacts]:
    """Measured facts of every clip; those of known content are read from the cache.

    Args:
        split: The clips.
        cache_directory: Folder in which facts are kept from run to run.
    """
    clips = [clip for members in split.values() for clip in members]
    cache = TensorCache(cache_directory / "facts" / "v5")

    def measure(clip: Clip) -> ClipFacts:
        with suppress(AudioError):  # told by measure_clip
            if (key := clip_key(hash_audio_file(clip.path), clip)) in cache:
                return ClipFacts(**json.loads(cache.read(key)["facts"].numpy().tobytes()))
        return measure_clip(clip)

    facts: dict[Clip, ClipFacts] = {}
    with progress_bars() as bar, ThreadPoolExecutor() as pool:
        on_progress = bar("Checking clips")
        for clip, found in zip(clips, pool.map(measure, clips), strict=True):
            facts[clip] = found
            on_progress(len(facts), len(clips))
    by_key = {clip_key(found.sha256, clip): found for clip, found in facts.items() if found.error is None}
    new = {key: json.dumps(asdict(by_key[key])).encode() for key in cache.missing(by_key)}
    cache.write({key: {"facts": torch.tensor([*text], dtype=torch.uint8)} for key, text in new.items()})
    return facts


def cut_and_key(clip: Clip, facts: ClipFacts, max_duration_s: float | None) -> KeyedClip:
    """The clip, cut to `max_duration_s` if longer, with its content key."""
    duration_s = facts.duration_s
    if max_duration_s is not None and duration_s > max_duration_s:
        clip = replace(clip, end_s=(clip.start_s or 0.0) + max_duration_s)
        duration_s = max_duration_s
    return KeyedClip(clip, clip_key(facts.sha256, clip), duration_s)


def _make_planted(options: Mapping[str, Any], cache_directory: Path) -> Path:
    """Folder of PlantedSpeech with these settings, made if it is not there."""
    settings = _read(PlantedSettings, options)
    root = cache_directory / "planted" / digest_of(settings.to_dict())[:FOLDER_DIGITS]
    with progress_bars() as bar:
        ensure_planted_speech(root, settings, on_progress=bar("Making clips"))
    return root


def _plant_into(source_root: str, options: Mapping[str, Any], cache_directory: Path) -> Path:
    """Folder of a corpus of recordings with planted cues, made if it is not there."""
    if not options.get("source"):
        table = Path(source_root).expanduser() / MANIFEST
        made = f", or, for one already made, corpus=manifest and root={table}"
        raise SettingError(
            f"corpus={NAME!r} needs a source, the corpus of the recordings in root={source_root!r}; add, for "
            "example, source: ravdess" + (made if table.with_name(RECORD).is_file() else "")
        )
    settings = _read(PlantedInSettings, options)
    source = open_source(source_root, settings)
    digest = digest_of({**settings.to_dict(), "recordings": source.sha256})
    root = cache_directory / NAME / digest[:FOLDER_DIGITS]
    with progress_bars() as bar:
        ensure_planted_in(root, source, settings, on_progress=bar("Planting cues"))
    left_out = read_left_out(root)
    if left_out:
        reasons = listed((f"{path.name}: {reason}" for path, reason in left_out), limit=3, separator=";\n  ")
        rank_zero_warn(
            f"{len(left_out)} of {len(source.clips)} recordings are left out, since no cue can be planted in "
            f"them:\n  {reasons}\nAll of them: {root / SOURCES}",
            stacklevel=2,
        )
    return root


def _read(kind: type[Settings], options: Mapping[str, Any]) -> Settings:
    """Settings from options; lists of labels become tuples, and a single label becomes a tuple of one."""
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
    if isinstance(values.get("source_labels"), str):
        values["source_labels"] = (values["source_labels"],)
    try:
        return kind(**values)
    except TypeError as error:
        raise SettingError(f"options={dict(options)}: {error}; see {kind.__name__}") from error
