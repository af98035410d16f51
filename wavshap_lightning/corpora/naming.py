"""Naming schemes: how a corpus writes label, speaker and text into its file names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.files import Layout, check_unique, find_audio, listed


@dataclass(frozen=True, slots=True)
class NamingScheme:
    """How to read one corpus's file names.

    Args:
        layout: Name of the corpus, a typical path and where to get it.
        pattern: What the whole file name without its suffix must match, or `FOLDER/NAME` where the name
            alone does not. Its groups are `label`, `speaker`, perhaps `text`, and those in `keep`.
        labels: Emotion of each label code, in lower case. No other code may occur.
        speakers: Name of each speaker code, in lower case; a code that is not here is the name itself.
        texts: What is said under each text code, in lower case; without any, the code is the text.
        keep: Values that groups must have for a clip to belong to the corpus; others are left out.
        broken: Names without suffix, in lower case, of files in the release that are no clips; left out.
        audio_folder: Folder below the root that holds the audio, where others hold copies of it.
    """

    layout: Layout
    pattern: re.Pattern[str]
    labels: Mapping[str, str]
    speakers: Mapping[str, str] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    keep: Mapping[str, str] = field(default_factory=dict)
    broken: frozenset[str] = frozenset()
    audio_folder: str = "."

    def parse(self, path: Path) -> dict[str, str] | None:
        """The groups of a file name, or None if it does not follow the scheme."""
        names = (path.stem, f"{path.absolute().parent.name}/{path.stem}")
        match = next((found for name in names if (found := self.pattern.fullmatch(name))), None)
        if match is None or match["label"].lower() not in self.labels:
            return None
        groups = match.groupdict()
        return groups if not self.texts or groups["text"].lower() in self.texts else None

    def keeps(self, path: Path, groups: Mapping[str, str]) -> bool:
        """Whether a file with these groups is a clip of the corpus."""
        wanted = all(groups[name] == value for name, value in self.keep.items())
        return wanted and path.stem.lower() not in self.broken

    def clip(self, path: Path, groups: Mapping[str, str]) -> Clip:
        """The clip that the groups of its file name describe."""
        text = groups.get("text")
        return Clip(
            path,
            label=self.labels[groups["label"].lower()],
            speaker=self.speakers.get(groups["speaker"].lower(), groups["speaker"]),
            corpus=self.layout.corpus,
            text=None if text is None else self.texts.get(text.lower(), text),
        )


def load_by_name(root: Path | str, scheme: NamingScheme) -> list[Clip]:
    """Every clip below a folder whose name follows the scheme, sorted by path.

    Raises:
        CorpusError: If the root is missing, no clip is there, an audio file has a name that the scheme
            does not know, or a recording is there twice.
    """
    folder = scheme.layout.checked_folder(root)
    audio_folder = folder / scheme.audio_folder
    parsed = {
        path: scheme.parse(path) for path in find_audio(audio_folder if audio_folder.is_dir() else folder)
    }
    strangers = [path for path, groups in parsed.items() if groups is None]
    if strangers:
        raise scheme.layout.complaint(
            root,
            f"{len(strangers)} of {len(parsed)} audio files have names that the corpus does not use "
            f"({listed(strangers)}); move them elsewhere",
        )
    clips = [
        scheme.clip(path, groups) for path, groups in parsed.items() if groups and scheme.keeps(path, groups)
    ]
    if not clips:
        raise scheme.layout.complaint(root, f"none of its {len(parsed)} audio files is a clip of the corpus")
    check_unique(clips)
    return clips
