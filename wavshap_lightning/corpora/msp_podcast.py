"""MSP-Podcast: turns from podcasts, labeled by many raters together and, in another table, one by one."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.folders import Layout, audio_by_stem
from wavshap_lightning.corpora.labels import NO_AGREEMENT, OTHER, count_votes
from wavshap_lightning.corpora.manifest import iterate_table, read_table
from wavshap_lightning.errors import CorpusError

LAYOUT = Layout(
    "msp-podcast",
    "Labels/labels_consensus.csv with Audios/MSP-PODCAST_0001_0008.wav",
    "https://ecs.utdallas.edu/research/researchlabs/msp-lab/MSP-Podcast.html (signed license)",
)
TABLE = "labels_consensus.csv"
DETAILED_TABLE = "labels_detailed.csv"
COLUMNS = ("FileName", "EmoClass", "SpkrID", "Split_Set")
VALUE_COLUMNS = {"arousal": "EmoAct", "valence": "EmoVal", "dominance": "EmoDom"}
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
TEST_SETS = ("Test1", "Test2", "Test3", "none")
# Older releases write Validation.
SPLITS_OF = {"Train": "train", "Development": "validation", "Validation": "validation"}


def load_msp_podcast(root: Path | str, *, test_set: str = "Test1", votes: str = "primary") -> list[Clip]:
    """MSP-Podcast in its official splits, with one of its test sets.

    "Other" and "no agreement" keep labels of their own; the default label map leaves them out. Turns of
    one podcast may belong to several splits, which are made by speaker, so no dialogue is given. Values are
    the raters' means of arousal, valence and dominance, 1 to 7; there are votes if `labels_detailed.csv` lies
    beside the table.

    Args:
        root: The folder that holds `Labels` and `Audios`, or one above.
        test_set: Which test set becomes the split `test`; the others are left out.
        votes: `primary` counts the one emotion that each rater chose, `all` their secondary ones too.

    Raises:
        CorpusError: If the table is missing or there twice, a label or split is unknown, a value is not a
            number, or a turn has no recording.
    """
    if test_set not in TEST_SETS:
        raise CorpusError(f"test_set={test_set!r} must be one of {', '.join(TEST_SETS)}")
    if votes not in {"primary", "all"}:
        raise CorpusError(f"votes={votes!r} must be primary or all")
    table = LAYOUT.find_tables(root, [TABLE])[TABLE]
    votes_of = _read_votes(table.with_name(DETAILED_TABLE), secondary=votes == "all")
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
            name, clip = Path(cells["FileName"]).stem, Clip(table, code, speaker, LAYOUT.corpus, split)
            found = {one: cells[column] for one, column in VALUE_COLUMNS.items() if cells.get(column)}
            try:
                values = tuple((one, float(cell)) for one, cell in found.items())
                turns.append((name, replace(clip, votes=votes_of.get(name, ()), values=values)))
            except (ValueError, CorpusError) as error:
                raise LAYOUT.error(root, f"line={line} of {TABLE}: {found} must be numbers") from error
    folders = (base / name for base in (table.parent, table.parent.parent) for name in AUDIO_FOLDERS)
    audio = next((audio_by_stem(folder) for folder in folders if folder.is_dir()), {})
    clips = LAYOUT.recorded_clips(root, TABLE, turns, LABELS, audio)
    return sorted(clips, key=lambda clip: clip.path)


def _read_votes(table: Path, *, secondary: bool) -> dict[str, tuple[tuple[str, float], ...]]:
    """Votes of the raters by turn; none without the table.

    Releases have a column for each answer, or all answers of a rater in one cell:
    `WORKER00000001; Sad; Sad,Disappointed; A:3.0; V:2.0; D:4.0;`.
    """
    words: defaultdict[str, list[str]] = defaultdict(list)
    for cells in iterate_table(table, required=["FileName"]) if table.is_file() else ():
        _, major, second, *_ = [*cells.get("EmoDetail", "").split(";"), "", "", ""]
        major, second = cells.get("EmoClass_Major", major), cells.get("EmoClass_Second", second)
        chosen = dict.fromkeys(map(str.strip, [major, *second.split(",")])) if secondary else [major]
        words[Path(cells["FileName"]).stem] += chosen
    return {name: count_votes(found) for name, found in words.items()}
