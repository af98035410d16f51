"""MELD: turns from a television series, labelled in one CSV file per split."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.folders import Layout, find_audio, find_files, listed
from wavshap_lightning.corpora.manifest import Row, read_csv

LAYOUT = Layout(
    "meld",
    "train_sent_emo.csv, dev_sent_emo.csv and test_sent_emo.csv with train_splits/dia0_utt0.wav and so on "
    "(one sound file per video: ffmpeg -i dia0_utt0.mp4 -ac 1 -ar 16000 dia0_utt0.wav)",
    "https://affective-meld.github.io",
)

TABLES = {
    "train": "train_sent_emo.csv",
    "validation": "dev_sent_emo.csv",
    "test": "test_sent_emo.csv",
}
# Where each split's recordings may be, seen from its table.
AUDIO_FOLDERS = {
    "train": ("train_splits", "train/train_splits", "train", "audio/train", "wav/train"),
    "validation": ("dev_splits_complete", "dev/dev_splits_complete", "dev", "audio/dev", "wav/dev"),
    "test": (
        "output_repeated_splits_test",
        "test/output_repeated_splits_test",
        "test",
        "audio/test",
        "wav/test",
    ),
}
COLUMNS = ("Utterance", "Speaker", "Emotion", "Dialogue_ID", "Utterance_ID")

LABELS = {
    "neutral": "neutral",
    "joy": "happy",
    "sadness": "sad",
    "anger": "angry",
    "fear": "fearful",
    "disgust": "disgust",
    "surprise": "surprised",
}

# One video is damaged, the other is missing from the release. Ids repeat, so the split is part of the name.
BROKEN = frozenset({("train", "dia125_utt3"), ("validation", "dia110_utt7")})


def load_meld(root: Path | str) -> list[Clip]:
    """MELD in its official splits: 13706 turns, two broken ones left out by name.

    Dialogue and utterance numbers start anew in every split. The official splits share speakers.

    Args:
        root: The folder that holds the CSV files, or one above. Recordings are looked for beside each
            table in the folders of the release, and next to a table that has its folder to itself.

    Raises:
        CorpusError: If no table is there, one is there twice, a label is unknown, or a turn has no
            recording.
    """
    folder = LAYOUT.checked_folder(root)
    tables = {split: _find_table(root, folder, name) for split, name in TABLES.items()}
    present = {split: table for split, table in tables.items() if table}
    if not present:
        raise LAYOUT.complaint(root, f"none of {list(TABLES.values())} is below it")
    homes = [table.parent for table in present.values()]
    clips = [
        clip
        for split, table in present.items()
        for clip in _load_split(root, split, table, is_alone=homes.count(table.parent) == 1)
    ]
    return sorted(clips, key=lambda clip: clip.path)


def _find_table(root: Path | str, folder: Path, name: str) -> Path | None:
    found = find_files(folder, lambda path: path.name == name)
    if len(found) > 1:
        raise LAYOUT.complaint(
            root, f"{name} is there {len(found)} times ({listed(found)}); point root at one copy"
        )
    return found[0] if found else None


def _load_split(root: Path | str, split: str, table: Path, *, is_alone: bool) -> list[Clip]:
    wanted = [row for row in read_csv(table, required=COLUMNS) if (split, _stem(row)) not in BROKEN]
    unknown = sorted({row.cells["Emotion"] for row in wanted} - set(LABELS))
    if unknown:
        raise LAYOUT.complaint(root, f"{table}: Emotion={unknown} are none of {sorted(LABELS)}")
    audio = _find_recordings(split, table, is_alone=is_alone)
    silent = [_stem(row) for row in wanted if _stem(row) not in audio]
    if silent:
        raise LAYOUT.complaint(
            root, f"{len(silent)} of {len(wanted)} turns of {table.name} have no recording ({listed(silent)})"
        )
    return [_clip(audio[_stem(row)], split, row) for row in wanted]


def _stem(row: Row) -> str:
    return f"dia{row.cells['Dialogue_ID']}_utt{row.cells['Utterance_ID']}"


def _find_recordings(split: str, table: Path, *, is_alone: bool) -> Mapping[str, Path]:
    """The recordings of the first folder that has any, by name without suffix."""
    folders = [table.parent / name for name in AUDIO_FOLDERS[split]]
    for folder in [*folders, *([table.parent] if is_alone else [])]:
        found = {path.stem: path for path in find_audio(folder) if path.parent == folder}
        if found:
            return found
    return {}


def _clip(path: Path, split: str, row: Row) -> Clip:
    return Clip(
        path,
        label=LABELS[row.cells["Emotion"]],
        speaker=row.cells["Speaker"],
        corpus=LAYOUT.corpus,
        split=split,
        text=row.cells["Utterance"] or None,
        dialogue=f"{split}-dia{row.cells['Dialogue_ID']}",
    )
