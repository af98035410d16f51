"""Corpora labeled by their file names: RAVDESS, CREMA-D, EMO-DB, TESS, SAVEE and JL-Corpus."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from wavshap_lightning.audio.io import FFMPEG_SUFFIXES
from wavshap_lightning.corpora.clip import Clip, normalized
from wavshap_lightning.corpora.folders import Layout, find_audio, listed
from wavshap_lightning.corpora.labels import emotion_by_name
from wavshap_lightning.corpora.manifest import iterate_table
from wavshap_lightning.errors import CorpusError
from wavshap_lightning.files import read_text

_NAMES = frozenset({"label", "speaker", "text"})


@dataclass(frozen=True, slots=True)
class FilenameScheme:
    """Scheme by which a corpus writes label, speaker and text into its file names.

    Args:
        layout: Name of the corpus, a typical path and where to get it.
        pattern: Regular expression of the whole file name without its suffix, or else of that name with one
            or two folders before it. Its groups are `label`, `speaker` and perhaps `text`; others are values.
        labels: Emotion of each label code, in lower case. No other code may occur.
        speakers: Name of each speaker code, in lower case; a code that is not here is the name itself.
        texts: Spoken text of each text code, in lower case; without any, the code is the text.
        skip: Regular expression of the names without suffix, in any case, of files that are not clips.
        audio_folder: Folder below the root that holds the audio, where others hold copies of it.
        carrier: The whole sentence, where the text of a clip is a part of it.
        language: Language of the texts, if it is not English.
    """

    layout: Layout
    pattern: re.Pattern[str]
    labels: Mapping[str, str]
    speakers: Mapping[str, str] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    skip: str = ""
    audio_folder: str = "."
    carrier: str = "{}"
    language: str = ""

    def load(self, root: Path | str) -> list[Clip]:
        """Every clip below a folder, sorted by path; byte-identical copies are left out with a warning.

        Raises:
            CorpusError: If the root is missing, no clip is there, an audio file has a name that the scheme
                does not know, or a recording is there twice and the two differ.
        """
        folder = self.layout.checked_folder(root)
        audio_folder = folder / self.audio_folder
        found_audio = find_audio(audio_folder if audio_folder.is_dir() else folder)
        # Releases hold films of the same takes too.
        paths = [path for path in found_audio if path.suffix.lower() not in FFMPEG_SUFFIXES] or found_audio
        found = {path: self.clip_at(path) for path in paths}
        if strangers := [path for path, clip in found.items() if clip is None]:
            what = f"{len(strangers)} of {len(paths)} audio files have names that the corpus does not use"
            raise self.layout.error(root, f"{what} ({listed(strangers)}); move them elsewhere")
        clips = [
            clip
            for path, clip in found.items()
            if clip and not re.fullmatch(self.skip, path.stem, re.IGNORECASE)
        ]
        if not clips:
            raise self.layout.error(root, f"none of its {len(paths)} audio files is a clip that is asked for")
        copies = self.layout.find_copies(root, [((clip.speaker, clip.name), clip.path) for clip in clips])
        return [clip for clip in clips if clip.path not in copies]

    def clip_at(self, path: Path) -> Clip | None:
        """The clip of a file, by its name; None if this does not follow the scheme."""
        names = ("/".join(path.absolute().with_suffix("").parts[-count:]) for count in (1, 2, 3))
        match = next((found for name in names if (found := self.pattern.fullmatch(name))), None)
        if match is None or match["label"].lower() not in self.labels:
            return None
        groups = match.groupdict()
        text = groups.get("text")
        values = ((name, float(cell)) for name, cell in groups.items() if name not in _NAMES)
        if self.texts and groups["text"].lower() not in self.texts:
            return None
        return Clip(
            path,
            label=self.labels[groups["label"].lower()],
            speaker=self.speakers.get(groups["speaker"].lower(), groups["speaker"]),
            corpus=self.layout.corpus,
            text=None if text is None else self.texts.get(text.lower(), text),
            values=tuple(values),
        )


# 1440 clips of speech by 24 actors, "01" to "24"; odd numbers are men. Intensity is normal (1) or strong (2).
RAVDESS = FilenameScheme(
    Layout("ravdess", "Actor_01/03-01-05-01-02-01-01.wav", "https://zenodo.org/records/1188976"),
    re.compile(r"0[123]-0[12]-(?P<label>\d\d)-(?P<intensity>0[12])-(?P<text>\d\d)-0[12]-(?P<speaker>\d\d)"),
    labels={
        "01": "neutral",
        "02": "calm",
        "03": "happy",
        "04": "sad",
        "05": "angry",
        "06": "fearful",
        "07": "disgust",
        "08": "surprised",
    },
    texts={"01": "Kids are talking by the door", "02": "Dogs are sitting by the door"},
    # The other modalities repeat the same takes on film; the other channel is song.
    skip="(?!03-01-).*",
)

# 7440 clips by 91 actors, two broken ones left out. Labels are the emotions intended, not those perceived.
CREMA_D = FilenameScheme(
    Layout("crema-d", "AudioWAV/1001_DFA_ANG_XX.wav", "https://github.com/CheyneyComputerScience/CREMA-D"),
    re.compile(r"(?P<speaker>1\d{3})_(?P<text>[A-Z]{3})_(?P<label>[A-Z]{3})_(LO|MD|HI|XX?)", re.IGNORECASE),
    labels=emotion_by_name("ang", "dis", "fea", "hap", "neu", "sad"),
    texts={
        "dfa": "Don't forget a jacket",
        "ieo": "It's eleven o'clock",
        "iom": "I'm on my way to the meeting",
        "ith": "I think I have a doctor's appointment",
        "its": "I think I've seen this before",
        "iwl": "I would like a new alarm clock",
        "iww": "I wonder what this is about",
        "mti": "Maybe tomorrow it will be cold",
        "tai": "The airplane is almost full",
        "tie": "That is exactly what happened",
        "tsi": "The surface is slick",
        "wsi": "We'll stop in a couple of minutes",
    },
    # The first holds no sound; the second holds all the actor's emotions, one after another, in a minute.
    skip="1076_MTI_SAD_XX|1064_IEO_DIS_MD",
    # The repository holds the same clips once more as MP3.
    audio_folder="AudioWAV",
)

# How raters chose from the six emotions: a row for each clip and kind of rating, numbered from 100001 for the
# voice alone, from 200001 for the face alone and from 300001 for both.
VOTES_TABLE = "processedResults/tabulatedVotes.csv"
VOTES = {"A": "angry", "D": "disgust", "F": "fearful", "H": "happy", "N": "neutral", "S": "sad"}


def load_crema_d(root: Path | str) -> list[Clip]:
    """CREMA-D, with the votes of those who rated the voice alone if the release's table of votes is there.

    Args:
        root: Folder of the release, or the folder `AudioWAV` in it.

    Raises:
        CorpusError: As `FilenameScheme.load`, or if the table of votes is malformed.
    """
    clips = CREMA_D.load(root)
    folder = CREMA_D.layout.checked_folder(root)
    tables = [base / VOTES_TABLE for base in (folder, folder.absolute().parent)]
    votes: dict[str, tuple[tuple[str, float], ...]] = {}
    for table in filter(Path.is_file, tables):
        for row in iterate_table(table, required=["", "fileName", *VOTES]):
            if row[""].startswith("1"):
                try:
                    votes[row["fileName"]] = tuple((VOTES[code], float(row[code])) for code in VOTES)
                except ValueError as error:
                    raise CREMA_D.layout.error(root, f"{row} of {table.name}: {error}") from error
    return [replace(clip, votes=votes.get(clip.path.stem, ())) for clip in clips]


# 535 German clips by 10 actors.
EMO_DB = FilenameScheme(
    Layout("emo-db", "wav/03a01Fa.wav", "http://emodb.bilderbar.info"),
    re.compile(r"(?P<speaker>\d\d)[a-z]\d\d(?P<label>[a-z])[a-z]?", re.IGNORECASE),
    labels={
        "w": "angry",
        "l": "bored",
        "e": "disgust",
        "a": "fearful",
        "f": "happy",
        "t": "sad",
        "n": "neutral",
    },
    language="German",
)

# 2800 clips by two actresses; the text is the one word that changes.
TESS = FilenameScheme(
    Layout("tess", "OAF_angry/OAF_back_angry.wav", "https://doi.org/10.5683/SP2/E8H2MF"),
    re.compile(r"(?P<speaker>OAF?|YAF)_(?P<text>[a-z]+)_(?P<label>[a-z]+)", re.IGNORECASE),
    labels=emotion_by_name("angry", "disgust", "fear", "happy", "neutral", "ps", "sad"),
    # One file of the release is misspelled: OA_bite_neutral.
    speakers={"oa": "OAF", "oaf": "OAF", "yaf": "YAF"},
    carrier="Say the word {}",
)

# 480 clips by four men, named by the folder (`DC/a01`) or the file (`DC_a01`).
SAVEE = FilenameScheme(
    Layout("savee", "DC/a01.wav", "http://kahlan.eps.surrey.ac.uk/savee (after registration)"),
    re.compile(r"(?P<speaker>DC|JE|JK|KL)[/_](?P<label>[a-z]{1,2})\d\d", re.IGNORECASE),
    labels={
        "a": "angry",
        "d": "disgust",
        "f": "fearful",
        "h": "happy",
        "n": "neutral",
        "sa": "sad",
        "su": "surprised",
    },
    speakers={"dc": "DC", "je": "JE", "jk": "JK", "kl": "KL"},
)

_JL_PRIMARY = ("neutral", "happy", "sad", "angry", "excited")
_JL_SECONDARY = ("anxious", "apologetic", "assertive", "concerned", "encouraging")
# 2400 clips by two women and two men.
JL_CORPUS = FilenameScheme(
    Layout("jl-corpus", "female1_angry_10a_1.wav", "https://www.kaggle.com/datasets/tli725/jl-corpus"),
    re.compile(r"(?P<speaker>female[12]|male[12])_(?P<label>[a-z]+)_\d+[ab]_\d"),
    labels=emotion_by_name(*_JL_PRIMARY, *_JL_SECONDARY),
)

SCHEMES = {one.layout.corpus: one for one in (RAVDESS, CREMA_D, EMO_DB, TESS, SAVEE, JL_CORPUS)}
"""These schemes by the name of the corpus."""


def spoken_text(clip: Clip) -> str:
    """English text of a clip: its own, that of a file beside it, or that of its corpus.

    The file has the name of the recording and the suffix `.txt` or `.lab`, and counts for whole recordings
    alone. A corpus tells its sentences by its file names.

    Raises:
        CorpusError: If none is known, the file cannot be read, or the corpus is of another language.
    """
    if clip.text and clip.corpus not in SCHEMES:
        return clip.text
    beside = filter(Path.is_file, map(clip.path.with_suffix, (".txt", ".lab")))
    if clip.start_s is clip.end_s is None and (path := next(beside, None)):
        try:
            return normalized(read_text(path))
        except (OSError, ValueError) as error:
            raise CorpusError(f"text={path} cannot be read: {error}") from error
    schemes = [one for one in SCHEMES.values() if clip.corpus in ("", one.layout.corpus)]
    scheme, named = next(((one, its) for one in schemes if (its := one.clip_at(clip.path))), (None, clip))
    if scheme and scheme.language:
        told = f"corpus={scheme.layout.corpus!r} is in {scheme.language}, and the aligner knows only English"
        raise CorpusError(f"{told}; give alignments made elsewhere")
    if not (text := named.text or clip.text):
        raise CorpusError("text=None: give --text, a column text, or a .txt or .lab file of the clip's name")
    return scheme.carrier.format(text) if scheme else text
