"""IEMOCAP: acted dialogues in five sessions, labelled in the EmoEvaluation files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.folders import Layout, audio_by_stem, listed
from wavshap_lightning.corpora.labels import NO_AGREEMENT, OTHER
from wavshap_lightning.errors import CorpusError

LAYOUT = Layout(
    "iemocap",
    "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt with "
    "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav or Session1/dialog/wav/Ses01F_impro01.wav",
    "https://sail.usc.edu/iemocap (form)",
)
SESSIONS = (1, 2, 3, 4, 5)

LABELS = {
    "neu": "neutral",
    "hap": "happy",
    "exc": "excited",
    "ang": "angry",
    "sad": "sad",
    "fru": "frustrated",
    "fea": "fearful",
    "sur": "surprised",
    "dis": "disgust",
    "oth": OTHER,
    "xxx": NO_AGREEMENT,
}

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
_TURN = re.compile(r"\[(?P<start>[\d.]+) - (?P<end>[\d.]+)\]\s+(?P<name>Ses\d\d\w+)\s+(?P<label>[a-z]{3})\b")
# An annotator's vote: C-E2:<tab>Neutral; Frustration;<tab>(). Lines C-F1 and C-M1 are the actors' own words.
_VOTE = re.compile(r"C-E\d+:\s*(?P<emotions>[^(]*)")
# A line of a transcript: Ses01F_impro01_F000 [006.2901-008.2357]: Excuse me.
_TRANSCRIPT = re.compile(r"(?P<name>Ses\d\d\w+)\s+\[[^\]]*\]:\s*(?P<text>.+)")


@dataclass(frozen=True, slots=True)
class Turn:
    """One labelled turn of a dialogue.

    Args:
        name: Its name, such as `Ses01F_impro01_M003`.
        label: The code that most annotators agreed on.
        start_s: Where it begins in the recording of the dialogue, in seconds.
        end_s: Where it ends.
        votes: How many annotators named each emotion, in the corpus's own words; what the actors said
            of themselves is not among them.
    """

    name: str
    label: str
    start_s: float
    end_s: float
    votes: tuple[tuple[str, float], ...]

    @property
    def dialogue(self) -> str:
        """The dialogue it belongs to: its name without the last token."""
        return self.name.rsplit("_", 1)[0]

    @property
    def speaker(self) -> str:
        """Who speaks: the session and the letter of the last token.

        The letter at the front says who wears the motion markers, in every turn of the dialogue alike.

        >>> Turn("Ses01F_impro01_M003", "neu", 0.0, 1.0, ()).speaker
        'Ses01M'
        """
        return self.name[:5] + self.name.rsplit("_", 1)[1][0]


def load_iemocap(root: Path | str) -> list[Clip]:
    """IEMOCAP with all its labels: 10039 turns by ten actors.

    Takes the sentence files where the release has them, or else spans of the dialogues' recordings.
    Excitement and turns on which nobody agreed keep labels of their own; the default label map merges
    the first with happiness and leaves the second out.

    Args:
        root: The folder that holds `Session1` to `Session5` (some may be absent), or the one above.

    Raises:
        CorpusError: If there is no session, a label is unknown, or a turn has no recording.
    """
    sessions = _find_sessions(root)
    clips = [clip for session in sessions for clip in _load_session(root, session)]
    if not clips:
        raise LAYOUT.complaint(root, "its EmoEvaluation files hold no turn")
    return sorted(clips, key=lambda clip: (clip.path, clip.start_s or 0.0))


def _find_sessions(root: Path | str) -> list[Path]:
    folder = LAYOUT.checked_folder(root)
    for base in (folder, folder / "IEMOCAP_full_release"):
        sessions = [base / f"Session{number}" for number in SESSIONS]
        present = [session for session in sessions if (session / "dialog" / "EmoEvaluation").is_dir()]
        if present:
            return present
    raise LAYOUT.complaint(root, "there is no SessionN/dialog/EmoEvaluation below it")


def _load_session(root: Path | str, session: Path) -> list[Clip]:
    sentences = audio_by_stem(session / "sentences" / "wav")
    dialogues = audio_by_stem(session / "dialog" / "wav")
    turns = [turn for path in _text_files(session / "dialog" / "EmoEvaluation") for turn in read_turns(path)]
    unknown = sorted({turn.label for turn in turns} - set(LABELS))
    if unknown:
        raise LAYOUT.complaint(root, f"labels={unknown} are none of {sorted(LABELS)}")
    silent = [turn.name for turn in turns if turn.name not in sentences and turn.dialogue not in dialogues]
    if silent:
        raise LAYOUT.complaint(
            root,
            f"{len(silent)} of {len(turns)} turns of {session.name} have no recording ({listed(silent)})",
        )
    texts = _read_transcripts(session / "dialog" / "transcriptions")
    return [_clip(turn, sentences, dialogues, texts) for turn in turns]


def _clip(
    turn: Turn, sentences: Mapping[str, Path], dialogues: Mapping[str, Path], texts: Mapping[str, str]
) -> Clip:
    is_cut = turn.name in sentences
    return Clip(
        path=sentences[turn.name] if is_cut else dialogues[turn.dialogue],
        label=LABELS[turn.label],
        speaker=turn.speaker,
        corpus=LAYOUT.corpus,
        start_s=None if is_cut else turn.start_s,
        end_s=None if is_cut else turn.end_s,
        text=texts.get(turn.name),
        votes=turn.votes,
        dialogue=turn.dialogue,
    )


def read_turns(path: Path) -> list[Turn]:
    """The turns of one EmoEvaluation file, each with the votes below it.

    Raises:
        CorpusError: If a line that starts like a turn is not one.
    """
    turns: list[tuple[re.Match[str], Counter[str]]] = []
    for line in _lines(path):
        if turn := _TURN.match(line):
            turns.append((turn, Counter()))
        elif turns and (vote := _VOTE.match(line)):
            turns[-1][1].update(word.strip() for word in vote["emotions"].split(";") if word.strip())
        elif line.startswith("["):
            raise CorpusError(f"file={path}: line={line!r} is not a turn; fetch a clean copy of the file")
    return [
        Turn(
            turn["name"],
            turn["label"],
            float(turn["start"]),
            float(turn["end"]),
            tuple((word, float(count)) for word, count in sorted(votes.items())),
        )
        for turn, votes in turns
    ]


def _read_transcripts(folder: Path) -> dict[str, str]:
    lines = (line for path in _text_files(folder) for line in _lines(path))
    matches = (match for line in lines if (match := _TRANSCRIPT.match(line)))
    return {match["name"]: match["text"].strip() for match in matches}


def _text_files(folder: Path) -> Iterable[Path]:
    """The dialogues' files. The release also holds hidden copies that some Macs leave behind."""
    return sorted(path for path in folder.glob("Ses*.txt") if path.is_file())


def _lines(path: Path) -> Iterator[str]:
    yield from path.read_text(encoding="latin-1").splitlines()
