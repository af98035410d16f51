"""ESD: twenty speakers, ten of Mandarin and ten of English, in folders of speaker and emotion."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.filename_schemes import FilenameScheme
from wavshap_lightning.corpora.folders import Layout, find_files
from wavshap_lightning.corpora.labels import emotion_by_name
from wavshap_lightning.errors import CorpusError

SCHEME = FilenameScheme(
    Layout("esd", "0011/Angry/0011_000351.wav", "https://github.com/HLTSingapore/Emotional-Speech-Data"),
    re.compile(
        r"(?P<label>neutral|happy|sad|angry|surprise)/(?:[^/]+/)?(?P<speaker>00(?:0[1-9]|1\d|20))_\d{6}",
        re.IGNORECASE,
    ),
    labels=emotion_by_name("neutral", "happy", "sad", "angry", "surprise"),
)
# How transcripts end a line: with the emotion, in English or Chinese, if they do not forget it.
TRANSCRIPT_LABELS = frozenset({*SCHEME.labels, "中立", "快乐", "伤心", "生气", "惊喜"})

SPEAKERS = {"mandarin": range(1, 11), "english": range(11, 21)}

_TRANSCRIPT = re.compile(r"(?P<name>\d{4}_\d{6})\s+(?P<text>\S.*)")


def load_esd(root: Path | str, *, language: str | None = None) -> list[Clip]:
    """ESD: 35000 clips, 350 sentences in five emotions by each speaker.

    The label is the folder's (`0011/Angry`, with or without `train`, `test` and `evaluation` in it); the
    transcripts have gaps. The text is the transcript's, where that has the clip.

    Args:
        root: The folder that holds the speakers' folders, or one above.
        language: `"mandarin"` or `"english"`; both if None.

    Raises:
        CorpusError: If the language is unknown, no clip is there, a recording is there twice, or an audio
            file's name or folder is not one of the corpus.
    """
    if language not in {None, *SPEAKERS}:
        raise CorpusError(f"language={language!r} must be one of {', '.join(SPEAKERS)}, or null for both")
    texts = _read_transcripts(Path(root).expanduser())
    found = [replace(clip, text=texts.get(clip.path.stem)) for clip in SCHEME.load(root)]
    clips = [clip for clip in found if language is None or int(clip.speaker) in SPEAKERS[language]]
    if not clips:
        raise SCHEME.layout.error(root, f"none of its {len(found)} clips is of language={language!r}")
    return clips


def _read_transcripts(folder: Path) -> dict[str, str]:
    paths = [path for path in find_files(folder) if re.fullmatch(r"\d{4}\.txt", path.name)]
    lines = (line for path in paths for line in _decode(path).splitlines())
    matches = (match for line in lines if (match := _TRANSCRIPT.fullmatch(line.strip())))
    return {match["name"]: _without_label(match["text"]) for match in matches}


def _without_label(text: str) -> str:
    sentence, _, last = text.rpartition("\t") if "\t" in text else text.rpartition(" ")
    return sentence.strip() if last.strip().lower() in TRANSCRIPT_LABELS else text


def _decode(path: Path) -> str:
    """The text of a transcript; the release mixes UTF-16, UTF-8, Windows-1252 and GB 18030.

    UTF-16 leaves zero bytes between Latin letters and digits; of the last two, GB 18030 is Mandarin's.
    What still cannot be read becomes U+FFFD: the labels do not depend on it.
    """
    raw = path.read_bytes()
    if b"\x00" in raw:
        return raw.decode("utf-16", errors="replace")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("gb18030" if int(path.stem) in SPEAKERS["mandarin"] else "cp1252", errors="replace")
