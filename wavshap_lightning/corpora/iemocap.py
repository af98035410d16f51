"""IEMOCAP: acted dialogues in five sessions, labeled in the EmoEvaluation files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.folders import Layout, audio_by_stem
from wavshap_lightning.corpora.labels import NO_AGREEMENT, OTHER, count_votes, emotion_by_name
from wavshap_lightning.corpora.manifest import DIMENSIONS
from wavshap_lightning.errors import CorpusError

LAYOUT = Layout(
    "iemocap",
    "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt with "
    "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav or Session1/dialog/wav/Ses01F_impro01.wav",
    "https://sail.usc.edu/iemocap (form)",
)

LABELS = emotion_by_name("neu", "hap", "exc", "ang", "sad", "fru", "fea", "sur", "dis", "oth", "xxx")

FOUR_CLASSES: dict[str, str | None] = {
    "neutral": "neutral",
    "happy": "happy",
    "excited": "happy",
    "angry": "angry",
    "sad": "sad",
    **dict.fromkeys(("frustrated", "fearful", "surprised", "disgust", OTHER, NO_AGREEMENT)),
}
"""The usual four classes, with excitement as happiness: 1708, 1636, 1103 and 1084 clips."""

# A turn: [6.2901 - 8.2357]<tab>Ses01F_impro01_F000<tab>neu<tab>[2.5000, 2.5000, 2.5000]
_TURN = re.compile(
    r"\[(?P<start>[\d.]+) - (?P<end>[\d.]+)\]\s+(?P<name>Ses\d\d\w+)\s+(?P<label>[a-z]{3})\b"
    r"(?:\s+\[(?P<valence>[\d.]+), (?P<arousal>[\d.]+), (?P<dominance>[\d.]+)\])?"
)
# An annotator's vote: C-E2:<tab>Neutral; Frustration;<tab>(). Lines C-F1 and C-M1 are the actors' own words.
_VOTE = re.compile(r"C-E\d+:\s*(?P<emotions>[^(]*)")
# A line of a transcript: Ses01F_impro01_F000 [006.2901-008.2357]: Excuse me.
_TRANSCRIPT = re.compile(r"(?P<name>Ses\d\d\w+)\s+\[[^\]]*\]:\s*(?P<text>.+)")


def load_iemocap(root: Path | str) -> list[Clip]:
    """IEMOCAP with all its labels: 10039 turns by ten actors.

    Clips are the sentence files if the release has them, or else spans of the dialogues' recordings.
    Excitement and turns without agreement have labels of their own; the default label map merges
    excitement with happiness and leaves turns without agreement out.

    Args:
        root: The folder that holds `Session1` to `Session5` (some may be absent), or the one above.

    Raises:
        CorpusError: If there is no session, a label is unknown, or a turn has no recording.
    """
    folder = LAYOUT.checked_folder(root)
    pattern = "Session[1-5]/dialog/EmoEvaluation"
    found = sorted(folder.glob(pattern)) or sorted(folder.glob(f"IEMOCAP_full_release/{pattern}"))
    if not found:
        raise LAYOUT.error(root, "there is no SessionN/dialog/EmoEvaluation below it")
    clips = [clip for evaluation in found for clip in _load_session(root, evaluation.parents[1])]
    if not clips:
        raise LAYOUT.error(root, "its EmoEvaluation files hold no turn")
    return sorted(clips, key=lambda clip: (clip.path, clip.start_s or 0.0))


def _load_session(root: Path | str, session: Path) -> list[Clip]:
    turns = [pair for path in _text_files(session / "dialog" / "EmoEvaluation") for pair in read_turns(path)]
    sentences = audio_by_stem(session / "sentences" / "wav")
    dialogues = audio_by_stem(session / "dialog" / "wav")
    texts = {
        match["name"]: match["text"].strip()
        for path in _text_files(session / "dialog" / "transcriptions")
        for line in path.read_text(encoding="latin-1").splitlines()
        if (match := _TRANSCRIPT.match(line))
    }
    turns = [(name, replace(turn, text=texts.get(name))) for name, turn in turns]
    # A sentence has a file of its own, or is a span of its dialogue.
    spans = {name: dialogues[turn.dialogue] for name, turn in turns if turn.dialogue in dialogues}
    turns = [
        (name, replace(turn, start_s=None, end_s=None) if name in sentences else turn) for name, turn in turns
    ]
    return LAYOUT.recorded_clips(root, session.name, turns, LABELS, {**spans, **sentences})


def read_turns(path: Path) -> Iterator[tuple[str, Clip]]:
    """Name and clip of every turn of one EmoEvaluation file, each with the votes below it.

    The path of a clip is that file, its times are those in the dialogue, and its label is the code that most
    annotators agreed on. The actors' own judgment is not among the votes. Values are the annotators' means of
    valence, arousal and dominance, 1 to 5.

    Raises:
        CorpusError: If a line that starts like a turn is not one.
    """
    for block in re.split(r"^(?=\[)", path.read_text(encoding="latin-1"), flags=re.MULTILINE)[1:]:
        line, *notes = block.splitlines()
        turn = _TURN.match(line)
        if turn is None:
            raise CorpusError(f"file={path}: line={line!r} is not a turn; fetch a clean copy of the file")
        emotions = ";".join(vote["emotions"] for note in notes if (vote := _VOTE.match(note)))
        votes = count_votes(emotions.split(";"))
        values = tuple((name, float(turn[name])) for name in DIMENSIONS if turn[name])
        dialogue, last = turn["name"].rsplit("_", 1)
        # The session and the letter of the last token: the letter at the front tells who wears the motion
        # markers, in every turn of the dialogue alike.
        speaker = turn["name"][:5] + last[0]
        clip = Clip(path, turn["label"], speaker, LAYOUT.corpus, votes=votes, dialogue=dialogue)
        start_s, end_s = float(turn["start"]), float(turn["end"])
        yield turn["name"], replace(clip, start_s=start_s, end_s=end_s, values=values)


def _text_files(folder: Path) -> list[Path]:
    """The dialogues' files. The release also holds hidden copies that some Macs leave behind."""
    return sorted(path for path in folder.glob("Ses*.txt") if path.is_file())
