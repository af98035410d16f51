"""MSP-Podcast: turns from podcasts, labeled by many raters in `labels_consensus.csv`."""

from __future__ import annotations

import re
from pathlib import Path

from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.folders import Layout, audio_by_stem
from wavshap_lightning.corpora.labels import NO_AGREEMENT, OTHER
from wavshap_lightning.corpora.manifest import read_table
from wavshap_lightning.errors import CorpusError

LAYOUT = Layout(
    "msp-podcast",
    "Labels/labels_consensus.csv with Audios/MSP-PODCAST_0001_0008.wav",
    "https://ecs.utdallas.edu/research/researchlabs/msp-lab/MSP-Podcast.html (signed license)",
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
    if test_set not in TEST_SETS:
        raise CorpusError(f"test_set={test_set!r} must be one of {', '.join(TEST_SETS)}")
    table = LAYOUT.find_tables(root, [TABLE])[TABLE]
    split_of = SPLITS_OF | {test_set: "test"}
    turns: list[tuple[str, Clip]] = []
    for line, cells in read_table(table, required=COLUMNS).items():
        code, split = cells["EmoClass"], split_of.get(cells["Split_Set"])
        where = f"line={line} of {TABLE}: Split_Set={cells['Split_Set']!r}"
        if split is None and not re.fullmatch(r"Test\d+", cells["Split_Set"]):
            raise LAYOUT.error(root, f"{where} must be one of {sorted({*SPLITS_OF, *TEST_SETS})}")
        if split and not code:  # of the other test sets nothing is asked, and some come without labels
            way_out = "choose another test_set" if split == "test" else "label the turn, or delete its line"
            raise LAYOUT.error(root, f"{where} is asked for and EmoClass is empty; {way_out}")
        if split:
            speaker = "" if cells["SpkrID"] == "Unknown" else cells["SpkrID"]
            turns.append((Path(cells["FileName"]).stem, Clip(table, code, speaker, LAYOUT.corpus, split)))
    folders = (base / name for base in (table.parent, table.parent.parent) for name in AUDIO_FOLDERS)
    audio = next((audio_by_stem(folder) for folder in folders if folder.is_dir()), {})
    clips = LAYOUT.recorded_clips(root, TABLE, turns, LABELS, audio)
    return sorted(clips, key=lambda clip: clip.path)
