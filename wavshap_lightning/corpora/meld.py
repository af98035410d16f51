"""MELD: turns from a television series, labeled in one CSV file per split."""

from __future__ import annotations

from pathlib import Path

from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.folders import Layout, find_audio
from wavshap_lightning.corpora.labels import emotion_by_name
from wavshap_lightning.corpora.manifest import read_table

LAYOUT = Layout(
    "meld",
    "train_sent_emo.csv, dev_sent_emo.csv and test_sent_emo.csv with train_splits/dia0_utt0.wav and so on "
    "(one sound file per video: ffmpeg -i dia0_utt0.mp4 -ac 1 -ar 16000 dia0_utt0.wav)",
    "https://affective-meld.github.io",
)

SPLIT_OF = {"train_sent_emo.csv": "train", "dev_sent_emo.csv": "validation", "test_sent_emo.csv": "test"}
# The release's name of each split and the folder of its recordings.
AUDIO_FOLDERS = {
    "train": ("train", "train_splits"),
    "validation": ("dev", "dev_splits_complete"),
    "test": ("test", "output_repeated_splits_test"),
}
COLUMNS = ("Utterance", "Speaker", "Emotion", "Dialogue_ID", "Utterance_ID")

LABELS = emotion_by_name("neutral", "joy", "sadness", "anger", "fear", "disgust", "surprise")

# One video is damaged, the other is missing from the release. Ids repeat, so the split is part of the name.
BROKEN = frozenset({("train", "dia125_utt3"), ("validation", "dia110_utt7")})


def load_meld(root: Path | str) -> list[Clip]:
    """MELD in its official splits: 13706 turns, two broken ones left out by name.

    Dialogue and utterance numbers repeat from split to split. The official splits share speakers.

    Args:
        root: The folder that holds the CSV files, or one above. Recordings are looked for beside each
            table in the folders of the release, and next to a table that has its folder to itself.

    Raises:
        CorpusError: If no table is there, one is there twice, a label is unknown, or a turn has no
            recording.
    """
    tables = LAYOUT.find_tables(root, SPLIT_OF)
    homes = [table.parent for table in tables.values()]
    clips: list[Clip] = []
    for name, table in tables.items():
        audio = _find_recordings(SPLIT_OF[name], table, is_alone=homes.count(table.parent) == 1)
        clips += _load_split(root, SPLIT_OF[name], table, audio)
    return sorted(clips, key=lambda clip: clip.path)


def _load_split(root: Path | str, split: str, table: Path, audio: dict[str, Path]) -> list[Clip]:
    turns: list[tuple[str, Clip]] = []
    for line, row in read_table(table, required=COLUMNS).items():
        if not row["Emotion"]:
            what = f"line={line} of {table.name}: Emotion is empty; remove the row, or a table without labels"
            raise LAYOUT.error(root, what)
        text, dialogue = row["Utterance"] or None, f"{split}-dia{row['Dialogue_ID']}"
        name = f"dia{row['Dialogue_ID']}_utt{row['Utterance_ID']}"
        if (split, name) not in BROKEN:
            who = row["Speaker"]
            turn = Clip(table, row["Emotion"], who, LAYOUT.corpus, split, text=text, dialogue=dialogue)
            turns.append((name, turn))
    return LAYOUT.recorded_clips(root, table.name, turns, LABELS, audio)


def _find_recordings(split: str, table: Path, *, is_alone: bool) -> dict[str, Path]:
    """The recordings of the first folder that has any, by name without suffix."""
    home, (short, long) = table.parent, AUDIO_FOLDERS[split]
    folders = [home / name for name in (long, f"{short}/{long}", short, f"audio/{short}", f"wav/{short}")]
    for folder in [*folders, home] if is_alone else folders:
        found = {path.stem: path for path in find_audio(folder) if path.parent == folder}
        if found:
            return found
    return {}
