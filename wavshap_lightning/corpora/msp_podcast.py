"""MSP-Podcast: turns from podcasts, labelled by many raters in `labels_consensus.csv`."""

from __future__ import annotations

from pathlib import Path

from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.folders import Layout, audio_by_stem, find_files, listed
from wavshap_lightning.corpora.labels import NO_AGREEMENT, OTHER
from wavshap_lightning.corpora.manifest import Row, read_csv
from wavshap_lightning.errors import CorpusError

LAYOUT = Layout(
    "msp-podcast",
    "Labels/labels_consensus.csv with Audios/MSP-PODCAST_0001_0008.wav",
    "https://ecs.utdallas.edu/research/researchlabs/msp-lab/MSP-Podcast.html (signed licence)",
)
TABLE = "labels_consensus.csv"
COLUMNS = ("FileName", "EmoClass", "SpkrID", "Split_Set")
AUDIO_FOLDERS = ("Audios", "Audio", "audios", "audio")

LABELS = {
    "N": "neutral",
    "H": "happy",
    "S": "sad",
    "A": "angry",
    "F": "fearful",
    "D": "disgust",
    "U": "surprised",
    "C": "contempt",
    "O": OTHER,
    "X": NO_AGREEMENT,
}
TEST_SETS = ("Test1", "Test2", "Test3")
# Older releases write Validation.
SPLITS_OF = {"Train": "train", "Development": "validation", "Validation": "validation"}


def load_msp_podcast(root: Path | str, *, test_set: str = "Test1") -> list[Clip]:
    """MSP-Podcast in its official splits, with one of its test sets.

    "Other" and "no agreement" keep labels of their own; the default label map leaves them out. Turns of
    one podcast may belong to several splits, which are made by speaker, so no dialogue is given.

    Args:
        root: The folder that holds `Labels` and `Audios`, or one above.
        test_set: Which test set becomes the split `test`; the other two are left out.

    Raises:
        CorpusError: If the table is missing or there twice, a label or split is unknown, or a turn has no
            recording.
    """
    folder = LAYOUT.checked_folder(root)
    if test_set not in TEST_SETS:
        raise CorpusError(f"test_set={test_set!r} must be one of {', '.join(TEST_SETS)}")
    found = find_files(folder, lambda path: path.name == TABLE)
    if len(found) != 1:
        raise LAYOUT.complaint(
            root, f"{TABLE} is there {len(found)} times ({listed(found)}), and once is needed"
        )
    split_of = SPLITS_OF | {test_set: "test"}
    rows = read_csv(found[0], required=COLUMNS)
    _check_values(root, rows)
    kept = [row for row in rows if row.cells["Split_Set"] in split_of]
    audio = _find_recordings(found[0])
    silent = [row.cells["FileName"] for row in kept if _stem(row) not in audio]
    if silent:
        raise LAYOUT.complaint(
            root, f"{len(silent)} of {len(kept)} turns have no recording ({listed(silent)})"
        )
    clips = [_clip(audio[_stem(row)], row, split_of[row.cells["Split_Set"]]) for row in kept]
    return sorted(clips, key=lambda clip: clip.path)


def _check_values(root: Path | str, rows: list[Row]) -> None:
    for column, known in (("EmoClass", set(LABELS)), ("Split_Set", {*SPLITS_OF, *TEST_SETS})):
        unknown = sorted({row.cells[column] for row in rows} - known)
        if unknown:
            raise LAYOUT.complaint(root, f"{column}={unknown} are none of {sorted(known)}")


def _find_recordings(table: Path) -> dict[str, Path]:
    bases = (table.parent, table.parent.parent)
    folders = (base / name for base in bases for name in AUDIO_FOLDERS)
    return next((audio_by_stem(folder) for folder in folders if folder.is_dir()), {})


def _stem(row: Row) -> str:
    return Path(row.cells["FileName"]).stem


def _clip(path: Path, row: Row, split: str) -> Clip:
    speaker = row.cells["SpkrID"]
    return Clip(
        path,
        label=LABELS[row.cells["EmoClass"]],
        speaker="" if speaker == "Unknown" else speaker,
        corpus=LAYOUT.corpus,
        split=split,
    )
