"""Making PlantedSpeech where a run asks for it, in the cache."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from lightning.pytorch.utilities import rank_zero_warn

from wavshap_lightning.corpora.files import listed
from wavshap_lightning.corpora.made import MANIFEST, SEAL
from wavshap_lightning.corpora.natural.provenance import SOURCES
from wavshap_lightning.corpora.planted import PlantedSettings, ensure_planted_speech
from wavshap_lightning.corpora.planted_in import (
    NAME,
    PlantedIn,
    PlantedInSettings,
    ensure_planted_in,
    open_source,
)
from wavshap_lightning.errors import SettingError
from wavshap_lightning.training.progress import progress_bar

_LISTS = ("labels", "source_labels")

Settings = TypeVar("Settings", PlantedSettings, PlantedInSettings)


def make_planted(options: Mapping[str, Any], cache_directory: Path) -> Path:
    """The folder of PlantedSpeech with these settings, made if it is not there.

    Raises:
        SettingError: If a setting is unknown or outside its range.
    """
    settings = _read(PlantedSettings, options)
    root = cache_directory / "planted" / _digest(settings.to_dict())
    num_clips = settings.num_speakers * len(settings.labels) * settings.clips_per_speaker_and_label
    with progress_bar("Making clips", num_clips) as on_progress:
        ensure_planted_speech(root, settings, on_progress=lambda done, _total: on_progress(done))
    return root


def make_planted_in(source_root: str, options: Mapping[str, Any], cache_directory: Path) -> Path:
    """The folder of a corpus of recordings with planted cues, made if it is not there.

    Warns of recordings that are left out.

    Args:
        source_root: Where the recordings lie.
        options: What [`PlantedInSettings`][wavshap_lightning.corpora.planted_in.PlantedInSettings] takes.
        cache_directory: Below it the folder is made.

    Raises:
        CorpusError: If the recordings are not there, or too few can be used.
        SettingError: If a setting is unknown or outside its range.
    """
    if not options.get("source"):
        table = Path(source_root).expanduser() / MANIFEST
        instead = f", or, for one already made, corpus=manifest and root={table}"
        raise SettingError(
            f"options={dict(options)}: corpus={NAME!r} needs a source, the corpus whose recordings lie in "
            f"root={source_root!r}; add, for example, source: ravdess"
            f"{instead if table.with_name(SEAL).is_file() else ''}"
        )
    settings = _read(PlantedInSettings, options)
    source = open_source(source_root, settings)
    root = cache_directory / NAME / _digest({**settings.to_dict(), "recordings": source.sha256})
    with progress_bar("Planting cues", 2 * len(source.clips)) as on_progress:
        made = ensure_planted_in(root, source, settings, on_progress=lambda done, _total: on_progress(done))
    _warn_of_left_out(made, root)
    return root


def _read(kind: Callable[..., Settings], options: Mapping[str, Any]) -> Settings:
    try:
        return kind(**{name: _frozen(name, value) for name, value in options.items()})
    except TypeError as error:
        raise SettingError(
            f"options={dict(options)}: {error}; see {kind.__name__} for what can be set"
        ) from error


def _frozen(name: str, value: object) -> object:
    """A list of labels as a tuple; one label alone may stand for its list."""
    if name == "source_labels" and isinstance(value, str):
        return (value,)
    return tuple(value) if name in _LISTS and isinstance(value, list) else value


def _digest(values: Mapping[str, Any]) -> str:
    return sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def _warn_of_left_out(made: PlantedIn, root: Path) -> None:
    if made.left_out:
        total = len(made.clips) + len(made.left_out)
        reasons = listed(
            (f"{one.path.name}: {one.reason}" for one in made.left_out), limit=3, separator=";\n  "
        )
        rank_zero_warn(
            f"{len(made.left_out)} of {total} recordings are left out, since no cue can be planted in them:\n"
            f"  {reasons}\nAll of them: {root / SOURCES}",
            stacklevel=2,
        )
