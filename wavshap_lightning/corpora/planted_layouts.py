"""Reading the corpora that this package makes, wherever they lie."""

from __future__ import annotations

from pathlib import Path

from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.files import Layout
from wavshap_lightning.corpora.made import MANIFEST
from wavshap_lightning.corpora.manifest import read_manifest

PLANTED = Layout(
    "planted", MANIFEST, "wavshap_lightning.corpora.planted.write_planted_speech, which makes it"
)
PLANTED_IN = Layout(
    "planted-in",
    MANIFEST,
    "wavshap_lightning.corpora.planted_in.write_planted_in, which makes it from real recordings",
)


def load_planted(root: Path | str) -> list[Clip]:
    """PlantedSpeech as the package wrote it below a folder.

    Raises:
        CorpusError: If there is no manifest in the folder, or it does not hold together.
    """
    return _load_made(PLANTED, root)


def load_planted_in(root: Path | str) -> list[Clip]:
    """Real recordings with planted cues as the package wrote them below a folder.

    Raises:
        CorpusError: If there is no manifest in the folder, or it does not hold together.
    """
    return _load_made(PLANTED_IN, root)


def _load_made(layout: Layout, root: Path | str) -> list[Clip]:
    table = layout.checked_folder(root) / MANIFEST
    if not table.is_file():
        raise layout.complaint(root, f"there is no {MANIFEST} in it")
    return read_manifest(table)
